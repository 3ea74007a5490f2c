// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What can go wrong when memory is mapped.

use std::io;
use std::path::PathBuf;

use guest_memory_core::GuestRegionCollectionError;

use crate::bytes_text::count_text;
use crate::{PolicyError, Seals};

/// Error of building one mapping. Sizes are in bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MmapRegionError {
    /// The file offset plus the size exceeds the largest file offset.
    #[error("file offset plus size exceeds the largest file offset")]
    InvalidOffsetLength,
    /// The pointer is null, not aligned to a page, or the range behind it would wrap.
    #[error("pointer is null, not aligned to a page, or its range wraps")]
    InvalidPointer,
    /// A fixed address was asked for; it could replace memory that is in use.
    #[error("a mapping at a fixed address is not supported")]
    MapFixed,
    /// The mapping covers bytes of a file that another mapping covers as well.
    ///
    /// This crate does not return it: overlap may be wanted. It is for callers that
    /// forbid what [`MmapRegion::fds_overlap`](crate::MmapRegion::fds_overlap) finds.
    #[error("mapping overlaps another mapping of the same file")]
    MappingOverlap,
    /// The file ends before the mapping does.
    #[error(
        "mapping of {size} bytes at file offset {file_offset:#x} reaches past the end of the file \
         of {file_len} bytes"
    )]
    MappingPastEof {
        /// Where in the file the mapping starts.
        file_offset: u64,
        /// Size of the mapping.
        size: usize,
        /// Length of the file.
        file_len: u64,
    },
    /// The operating system refused the mapping, or to put it in its place.
    #[error("mmap failed")]
    Mmap(#[source] io::Error),
    /// The size is zero.
    #[error("size is zero")]
    ZeroSize,
    /// The size exceeds `isize::MAX`, the most that one allocation can have.
    #[error(
        "size of {size} bytes exceeds the largest object of {} bytes",
        isize::MAX
    )]
    TooLarge {
        /// Size that was asked for.
        size: usize,
    },
    /// Memory of huge pages holds whole huge pages only.
    #[error("size of {size} bytes is no multiple of the huge page of {huge_page_size} bytes")]
    SizeNotMultipleOfHugePage {
        /// Size that was asked for.
        size: usize,
        /// Size of a huge page.
        huge_page_size: usize,
    },
    /// A mapping starts at a page of the file, at a huge page on hugetlbfs.
    #[error("file offset {file_offset:#x} is not aligned to the page of {page_size} bytes")]
    UnalignedFileOffset {
        /// Where in the file the mapping was to start.
        file_offset: u64,
        /// Size of a page of this file.
        page_size: usize,
    },
    /// The system's pool of huge pages is too small.
    #[error(
        "{} of {page_size} bytes needed, {free_pages} free in the pool",
        count_text(*needed_pages, "huge page")
    )]
    HugePagePool {
        /// Pages that the mapping needs.
        needed_pages: usize,
        /// Pages that were neither used nor reserved when the mapping had failed.
        free_pages: usize,
        /// Size of a huge page.
        page_size: usize,
        /// What mmap said.
        source: io::Error,
    },
    /// The dirty bitmap cannot record writes to the end of the region.
    #[error("dirty bitmap tracks {tracked} bytes of a region of {size} bytes")]
    BitmapTooShort {
        /// Bytes from the start that the bitmap can record.
        tracked: usize,
        /// Size of the region.
        size: usize,
    },
    /// Two options of the builder contradict each other.
    #[error("{first} cannot be combined with {second}")]
    ConflictingOptions {
        /// One of them.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// The file's type, length or file system could not be read.
    #[error("cannot inspect the file to map")]
    FileMetadata(#[source] io::Error),
    /// The memory file (memfd) could not be made.
    #[error("cannot {operation} the memory file")]
    MemoryFile {
        /// What failed: create, resize or seal.
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A file could not be opened, made or resized.
    #[error("cannot {operation} {}", path.display())]
    File {
        /// What failed: open, create, resize or unlink.
        operation: &'static str,
        /// The file's path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A shared memory object could not be opened, made or resized.
    #[error("cannot {operation} the shared memory object {name:?}")]
    SharedMemory {
        /// What failed: use the name of, open, create, resize or unlink. A valid name is a slash and up to 254
        /// further bytes without slash and zero.
        operation: &'static str,
        /// The object's name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The directory that should be on hugetlbfs is on another file system.
    #[error("{} is not on hugetlbfs; mount one there: mount -t hugetlbfs", path.display())]
    NotHugetlbfs {
        /// The directory.
        path: PathBuf,
    },
    /// The file is no device of memory.
    #[error("{} is no dax device", path.display())]
    NotDax {
        /// The file.
        path: PathBuf,
    },
    /// The system has no huge pages of this size.
    #[error(
        "huge pages of {page_size} bytes are not supported here; supported sizes: {supported:?}"
    )]
    HugePagesUnsupported {
        /// Size that was asked for.
        page_size: usize,
        /// Sizes that the system has.
        supported: Vec<usize>,
    },
    /// Memory of this backing holds whole multiples only.
    #[error("size of {size} bytes is no multiple of {multiple} bytes")]
    SizeNotMultiple {
        /// Size that was asked for.
        size: usize,
        /// What it should be a multiple of.
        multiple: usize,
    },
    /// The descriptor was not opened for what the mapping does with it.
    #[error("the file to map was not opened for {access}")]
    FileNotOpenFor {
        /// What is missing: reading (needed by every mapping) or writing (by a shared writable one).
        access: &'static str,
    },
    /// The file is too short and cannot be extended.
    #[error(
        "cannot extend the file from {file_len} to {needed_len} bytes; seals of the file: {seals}"
    )]
    GrowFile {
        /// Length of the file.
        file_len: u64,
        /// Length that the mapping needs.
        needed_len: u64,
        /// Its seals; one against growing is a reason.
        seals: Seals,
        /// What the system said.
        source: io::Error,
    },
    /// The file lacks seals that were asked for: somebody could resize it under the mapping.
    #[error("the file to map lacks seals: {missing}")]
    SealsMissing {
        /// Those that are missing.
        missing: Seals,
    },
    /// A policy that is required does not hold.
    #[error(transparent)]
    Policy(Box<PolicyError>),
    /// The size of a page could not be learned.
    #[error("cannot learn the size of a {kind}")]
    PageSize {
        /// Which page: page or huge page.
        kind: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl From<PolicyError> for MmapRegionError {
    fn from(error: PolicyError) -> Self {
        Self::Policy(Box::new(error))
    }
}

/// Error of building a guest memory from ranges.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FromRangesError {
    /// The regions do not form a memory map.
    #[error(transparent)]
    Collection(#[from] GuestRegionCollectionError),
    /// A region reaches past the last guest address.
    #[error("region reaches past the end of the guest's address space")]
    InvalidGuestRegion,
    /// A region could not be mapped.
    #[error(transparent)]
    MmapRegion(#[from] MmapRegionError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn messages_give_addresses_in_hex_and_sizes_in_decimal() {
        let table = [
            (
                MmapRegionError::MappingPastEof {
                    file_offset: 0x1000,
                    size: 8192,
                    file_len: 5000,
                },
                "mapping of 8192 bytes at file offset 0x1000 reaches past the end of the file of 5000 bytes",
            ),
            (
                MmapRegionError::UnalignedFileOffset {
                    file_offset: 0x10,
                    page_size: 4096,
                },
                "file offset 0x10 is not aligned to the page of 4096 bytes",
            ),
            (
                MmapRegionError::BitmapTooShort {
                    tracked: 0,
                    size: 4096,
                },
                "dirty bitmap tracks 0 bytes of a region of 4096 bytes",
            ),
            (
                MmapRegionError::ConflictingOptions {
                    first: "a file",
                    second: "a memfd",
                },
                "a file cannot be combined with a memfd",
            ),
        ];
        for (error, message) in table {
            assert_eq!(error.to_string(), message);
            assert_eq!(FromRangesError::from(error).to_string(), message);
        }
    }

    #[test]
    fn the_errno_stays_reachable_through_every_conversion() {
        let cause = || io::Error::from_raw_os_error(libc::ENOMEM);
        let errors = [
            MmapRegionError::Mmap(cause()),
            MmapRegionError::FileMetadata(cause()),
            MmapRegionError::MemoryFile {
                operation: "create",
                source: cause(),
            },
            MmapRegionError::HugePagePool {
                needed_pages: 2,
                free_pages: 1,
                page_size: 1 << 21,
                source: cause(),
            },
        ];
        for error in errors {
            let outer = FromRangesError::from(error);
            let source = outer.source().expect("a cause");
            let io = source.downcast_ref::<io::Error>().expect("an io::Error");
            assert_eq!(io.raw_os_error(), Some(libc::ENOMEM));
        }
    }
}
