// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A file given by the caller: everything that could turn into a signal later is checked first.

use std::fs::{File, Metadata};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use guest_memory_core::FileOffset;

use super::{Prepared, base_page_size, hugetlb};
use crate::error::MmapRegionError;
use crate::interrupted::again;
use crate::{BackingKind, Seals, Sharing, sys};

/// A file that holds a region's bytes.
///
/// `file_offset.start()` plus the region's size is at most the largest file offset.
#[derive(Debug)]
pub(crate) struct BackingFile {
    /// The file and where in it the region starts.
    pub(crate) file_offset: FileOffset,
    /// The same as a type that mmap takes.
    start: libc::off64_t,
    /// What tells the file from other files.
    pub(crate) identity: FileIdentity,
    /// What its file system said.
    pub(crate) is_hugetlbfs: bool,
}

impl BackingFile {
    /// Returns where in the file the region starts.
    pub(crate) fn start(&self) -> libc::off64_t {
        self.start
    }
}

/// What two descriptors of one file have in common, however they were opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FileIdentity {
    /// A file of a file system.
    Inode { device: u64, inode: u64 },
    /// A block device, by its number: several nodes may lead to it.
    BlockDevice(u64),
    /// A character device, by its number.
    CharacterDevice(u64),
    /// A file without a type of its own. The kernel lets unrelated ones share an inode.
    Descriptor(RawFd),
}

impl FileIdentity {
    fn new(file: &impl AsRawFd, metadata: &Metadata) -> Self {
        let kind = metadata.file_type();
        if kind.is_block_device() {
            Self::BlockDevice(metadata.rdev())
        } else if kind.is_char_device() {
            Self::CharacterDevice(metadata.rdev())
        } else if metadata.mode() & libc::S_IFMT != 0 {
            Self::Inode {
                device: metadata.dev(),
                inode: metadata.ino(),
            }
        } else {
            Self::Descriptor(file.as_raw_fd())
        }
    }
}

/// Prepares `size` bytes of a file, to be mapped with the given protection.
pub(crate) fn prepare(
    file_offset: FileOffset,
    size: usize,
    flags: Option<i32>,
    prot: i32,
) -> Result<Prepared, MmapRegionError> {
    if flags.is_some_and(|flags| flags & libc::MAP_ANONYMOUS != 0) {
        // The kernel would ignore the file.
        return Err(MmapRegionError::ConflictingOptions {
            first: "a file",
            second: "the flag MAP_ANONYMOUS",
        });
    }
    let start = file_offset.start();
    let end = end_of(start, size)?;
    // The end is at least the start, so the start fits as well.
    let mmap_start = match (libc::off64_t::try_from(start), libc::off64_t::try_from(end)) {
        (Ok(start), Ok(_)) => start,
        _ => return Err(MmapRegionError::InvalidOffsetLength),
    };

    let file = file_offset.file();
    let metadata = metadata(file)?;
    let huge_page_size = hugetlb::page_size_of(file)?;
    let page_size = huge_page_size.map_or_else(base_page_size, Ok)?;
    if !u64::try_from(page_size).is_ok_and(|page_size| start.is_multiple_of(page_size)) {
        return Err(MmapRegionError::UnalignedFileOffset {
            file_offset: start,
            page_size,
        });
    }
    if let Some(huge_page_size) = huge_page_size {
        hugetlb::check_multiple(size, huge_page_size)?;
    }
    if let Some(file_len) = known_len(&file_offset, &metadata)?
        && end > file_len
    {
        return Err(MmapRegionError::MappingPastEof {
            file_offset: start,
            size,
            file_len,
        });
    }

    let flags = match flags {
        Some(flags) => flags,
        None => flags_for(&file_offset, Sharing::Shared)?,
    };
    check_access(file, flags, prot)?;
    let identity = FileIdentity::new(file, &metadata);
    let is_hugetlbfs = huge_page_size.is_some();
    Ok(Prepared {
        flags,
        file: Some(BackingFile {
            file_offset,
            start: mmap_start,
            identity,
            is_hugetlbfs,
        }),
        huge_page_size,
        page_size,
        kind: BackingKind::File,
    })
}

/// Returns the flags that a file is mapped with unless the caller gives some.
pub(crate) fn flags_for(
    file_offset: &FileOffset,
    sharing: Sharing,
) -> Result<i32, MmapRegionError> {
    let reserved = match hugetlb::page_size_of(file_offset.file())? {
        // Huge pages are set aside when mapped: an empty pool is then an error and not a SIGBUS at first touch.
        Some(_) => 0,
        // No swap is set aside; without effect on most file systems.
        None => libc::MAP_NORESERVE,
    };
    Ok(sharing.flag() | reserved)
}

/// Extends a file so that it holds `size` bytes from its offset on, if it is shorter.
pub(crate) fn grow(file_offset: &FileOffset, size: usize) -> Result<(), MmapRegionError> {
    let file = file_offset.file();
    let end = end_of(file_offset.start(), size)?;
    let metadata = metadata(file)?;
    if !metadata.file_type().is_file() || metadata.len() >= end {
        return Ok(());
    }
    file.set_len(end)
        .map_err(|source| MmapRegionError::GrowFile {
            file_len: metadata.len(),
            needed_len: end,
            seals: Seals::of(file),
            source,
        })
}

/// Returns the size as a length of a file.
pub(crate) fn writable_len(size: usize) -> Result<u64, MmapRegionError> {
    u64::try_from(size).map_err(|_| MmapRegionError::InvalidOffsetLength)
}

/// Returns the offset in a file behind `size` bytes from `start` on.
pub(super) fn end_of(start: u64, size: usize) -> Result<u64, MmapRegionError> {
    writable_len(size)?
        .checked_add(start)
        .ok_or(MmapRegionError::InvalidOffsetLength)
}

/// Asks what a file is and how long.
pub(super) fn metadata(file: &File) -> Result<Metadata, MmapRegionError> {
    again(|| file.metadata()).map_err(MmapRegionError::FileMetadata)
}

/// Checks that the descriptor was opened for what the mapping does with it.
fn check_access(file: &File, flags: i32, prot: i32) -> Result<(), MmapRegionError> {
    let status = sys::status_flags(file.as_fd()).map_err(MmapRegionError::FileMetadata)?;
    let (needed, has) = match status & libc::O_ACCMODE {
        libc::O_WRONLY => ("reading", false),
        libc::O_RDONLY => (
            "writing",
            Sharing::from_flags(flags) == Sharing::Private || prot & libc::PROT_WRITE == 0,
        ),
        _ => return Ok(()),
    };
    if has {
        Ok(())
    } else {
        Err(MmapRegionError::FileNotOpenFor { access: needed })
    }
}

/// Returns the length of files that have one. A touch past it would be a SIGBUS.
fn known_len(
    file_offset: &FileOffset,
    metadata: &Metadata,
) -> Result<Option<u64>, MmapRegionError> {
    let kind = metadata.file_type();
    if kind.is_file() {
        Ok(Some(metadata.len()))
    } else if kind.is_block_device() {
        sys::block_device_len(file_offset.file().as_fd())
            .map(Some)
            .map_err(MmapRegionError::FileMetadata)
    } else {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    fn identity(file: &File) -> FileIdentity {
        FileIdentity::new(file, &file.metadata().unwrap())
    }

    #[test]
    fn a_file_is_told_by_its_inode_and_not_by_its_descriptor() {
        let (file, other) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        assert!(matches!(identity(&file), FileIdentity::Inode { .. }));
        assert_eq!(identity(&file), identity(&file.try_clone().unwrap()));
        assert_ne!(identity(&file), identity(&other));
    }

    #[test]
    fn a_device_is_told_by_its_number() {
        let (zero, null) = (
            File::open("/dev/zero").unwrap(),
            File::open("/dev/null").unwrap(),
        );
        assert!(matches!(identity(&zero), FileIdentity::CharacterDevice(_)));
        assert_eq!(identity(&zero), identity(&File::open("/dev/zero").unwrap()));
        assert_ne!(identity(&zero), identity(&null));
    }

    #[test]
    fn a_file_without_a_type_is_told_by_its_descriptor() {
        // Every epoll instance has the same inode.
        let (one, other) = (epoll(), epoll());
        assert_eq!(
            one.metadata().unwrap().ino(),
            other.metadata().unwrap().ino()
        );
        assert_eq!(identity(&one), identity(&one));
        assert_ne!(identity(&one), identity(&other));
    }

    #[expect(unsafe_code, reason = "makes a file that std cannot make")]
    fn epoll() -> File {
        use std::os::fd::FromRawFd;
        // SAFETY: takes an integer, returns a descriptor or -1.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert_ne!(fd, -1);
        // SAFETY: the descriptor is new and ours.
        File::from(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    #[test]
    fn only_files_and_disks_have_a_known_length() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(77).unwrap();
        let known = |file: File| {
            let metadata = file.metadata().unwrap();
            known_len(&FileOffset::new(file, 0), &metadata).unwrap()
        };
        assert_eq!(known(file), Some(77));
        assert_eq!(known(File::open("/dev/zero").unwrap()), None);
    }

    #[test]
    fn the_files_of_proc_are_on_no_hugetlbfs() {
        let file = File::open("/proc/self/maps").unwrap();
        assert_eq!(hugetlb::page_size_of(&file).unwrap(), None);
    }
}
