// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What can go wrong when memory is populated.

use std::fmt;
use std::io;

use crate::bytes_text::count_text;

/// Error of populating memory. Offsets are from the start of their region; sizes are in bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrefaultError {
    /// The range reaches past the end of the region.
    #[error(
        "{length} bytes at offset {offset:#x} reach past the end of the region of {size} bytes"
    )]
    OutOfBounds {
        /// Where the range starts.
        offset: usize,
        /// Its length.
        length: usize,
        /// Size of the region: the range must end there or before.
        size: usize,
    },
    /// Some of the memory can neither be read nor written by this process.
    #[error("memory of region {region} is mapped without PROT_READ and cannot be populated")]
    NoAccess {
        /// Which of the regions, counted from 0; 0 if there was but one.
        region: usize,
    },
    /// More would be populated than the control group of this process may have: the kernel would kill it.
    #[error(
        "populating {missing} bytes exceeds the limit of the control group: {limit} bytes, of which {used} are in use"
    )]
    OverLimit {
        /// Bytes to populate that are not in memory yet, without huge pages of the pool.
        missing: u64,
        /// What the group may have.
        limit: u64,
        /// What it has, without the caches of files, which make room.
        used: u64,
    },
    /// A page could not be had.
    #[error(
        "cannot populate {length} bytes at offset {offset:#x} of region {region}: {reason} ({done} bytes done of {total})"
    )]
    Populate {
        /// Which of the regions, counted from 0; 0 if there was but one.
        region: usize,
        /// Offset of the first page that could not be had.
        offset: usize,
        /// Bytes from there on that were tried together: one page, unless the kernel changed its mind meanwhile.
        length: usize,
        /// Bytes that all threads had populated before, of this region and the others. They stay populated.
        done: usize,
        /// Bytes to populate in all.
        total: usize,
        /// What the errno means here.
        reason: PrefaultReason,
        /// What the kernel said.
        source: io::Error,
    },
    /// The caller called it off.
    #[error("populating was cancelled ({done} bytes done of {total})")]
    Cancelled {
        /// Bytes populated before. They stay populated.
        done: usize,
        /// Bytes to populate in all.
        total: usize,
    },
    /// A thread could not be started, or not be bound to its processors.
    #[error("cannot {operation}")]
    Thread {
        /// What failed.
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl PrefaultError {
    /// Corrects the progress to what all threads had done when the last of them ended.
    pub(super) fn with_done(mut self, bytes: usize) -> Self {
        if let Self::Populate { done, .. } | Self::Cancelled { done, .. } = &mut self {
            *done = bytes;
        }
        self
    }
}

/// Why a page could not be had.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PrefaultReason {
    /// The system's pool of huge pages, or the share of it that a control group or a memory policy leaves, is too small.
    HugePagePool {
        /// Pages from the one that failed to the end of the range, this included; some may be there already.
        needed_pages: usize,
        /// Pages of the pool that were neither used nor reserved just after the failure.
        free_pages: usize,
        /// Size of a huge page in bytes.
        page_size: usize,
    },
    /// The file has become shorter than the mapping.
    FileTooShort {
        /// Where in the file the page starts.
        file_offset: u64,
        /// Length of the file in bytes.
        file_len: u64,
    },
    /// The file gives no page: its file system is full, or its device failed to read.
    File,
    /// The page's memory is broken (EHWPOISON).
    HardwareError,
    /// The system has no memory left.
    OutOfMemory,
    /// The kernel cannot populate such a mapping, a device's for instance.
    NotPopulatable,
    /// What the errno says.
    Other,
}

impl fmt::Display for PrefaultReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HugePagePool {
                needed_pages,
                free_pages,
                page_size,
            } => write!(
                f,
                "{} of {page_size} bytes needed from there on, {free_pages} free in the pool",
                count_text(*needed_pages, "huge page")
            ),
            Self::FileTooShort {
                file_offset,
                file_len,
            } => write!(
                f,
                "the file of {file_len} bytes has no page at {file_offset:#x}"
            ),
            Self::File => f.write_str("the file gives no page, its file system may be full"),
            Self::HardwareError => f.write_str("the page's memory is broken"),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::NotPopulatable => f.write_str("memory of this kind cannot be populated"),
            Self::Other => f.write_str("the kernel refused"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_has_the_place_the_reason_and_the_progress() {
        let error = PrefaultError::Populate {
            region: 1,
            offset: 0x40_0000,
            length: 1 << 21,
            done: 4 << 20,
            total: 8 << 20,
            reason: PrefaultReason::HugePagePool {
                needed_pages: 2,
                free_pages: 0,
                page_size: 1 << 21,
            },
            source: io::Error::from_raw_os_error(libc::EFAULT),
        };
        assert_eq!(
            error.to_string(),
            "cannot populate 2097152 bytes at offset 0x400000 of region 1: 2 huge pages of 2097152 bytes needed from \
             there on, 0 free in the pool (4194304 bytes done of 8388608)"
        );
    }
}
