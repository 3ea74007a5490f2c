// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A file given by the caller: everything that could turn into a signal later is checked first.

use std::fs::Metadata;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use guest_memory_core::FileOffset;

use super::{Prepared, base_page_size, hugetlb};
use crate::error::MmapRegionError;
use crate::sys;

/// Shared with whoever else maps the file.
const SHARED_FLAGS: i32 = libc::MAP_SHARED;
/// No swap is set aside; without effect on most file systems.
const DEFAULT_FLAGS: i32 = SHARED_FLAGS | libc::MAP_NORESERVE;
/// Huge pages are reserved when mapped: an empty pool is then an error and not a SIGBUS at first touch.
const DEFAULT_HUGETLBFS_FLAGS: i32 = SHARED_FLAGS;

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

/// Prepares `size` bytes of a file.
pub(crate) fn prepare(
    file_offset: FileOffset,
    size: usize,
    flags: Option<i32>,
) -> Result<Prepared, MmapRegionError> {
    if flags.is_some_and(|flags| flags & libc::MAP_ANONYMOUS != 0) {
        // The kernel would ignore the file.
        return Err(MmapRegionError::ConflictingOptions {
            first: "a file",
            second: "the flag MAP_ANONYMOUS",
        });
    }
    let start = file_offset.start();
    let end = u64::try_from(size)
        .ok()
        .and_then(|size| start.checked_add(size));
    let end = end.ok_or(MmapRegionError::InvalidOffsetLength)?;
    // The end is at least the start, so the start fits as well.
    let mmap_start = match (libc::off64_t::try_from(start), libc::off64_t::try_from(end)) {
        (Ok(start), Ok(_)) => start,
        _ => return Err(MmapRegionError::InvalidOffsetLength),
    };

    let file = file_offset.file();
    let metadata = file.metadata().map_err(MmapRegionError::FileMetadata)?;
    let huge_page_size = huge_page_size(&file_offset)?;
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

    let default_flags = match huge_page_size {
        Some(_) => DEFAULT_HUGETLBFS_FLAGS,
        None => DEFAULT_FLAGS,
    };
    let identity = FileIdentity::new(file, &metadata);
    let is_hugetlbfs = huge_page_size.is_some();
    Ok(Prepared {
        flags: flags.unwrap_or(default_flags),
        file: Some(BackingFile {
            file_offset,
            start: mmap_start,
            identity,
            is_hugetlbfs,
        }),
        huge_page_size,
        page_size,
    })
}

/// Returns the page size of a file on hugetlbfs, or nothing for a file elsewhere.
fn huge_page_size(file_offset: &FileOffset) -> Result<Option<usize>, MmapRegionError> {
    let answer = sys::fstatfs(file_offset.file().as_fd()).map_err(MmapRegionError::FileMetadata)?;
    // The constant's type and sign differ between C libraries; 32 bits count.
    let difference = i128::from(answer.f_type) ^ i128::from(libc::HUGETLBFS_MAGIC);
    if difference & i128::from(u32::MAX) != 0 {
        return Ok(None);
    }
    // hugetlbfs reports its page as the block.
    match usize::try_from(answer.f_bsize) {
        Ok(size) if size.is_power_of_two() => Ok(Some(size)),
        _ => Err(MmapRegionError::PageSize {
            kind: "huge page",
            source: std::io::Error::from_raw_os_error(libc::EINVAL),
        }),
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
    use std::fs::File;
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
        assert_eq!(huge_page_size(&FileOffset::new(file, 0)).unwrap(), None);
    }
}
