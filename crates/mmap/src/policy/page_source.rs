// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What kind of memory a policy is for, as far as the kernel treats kinds differently.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::Refusal;
use crate::Sharing;
use crate::extent::Extent;
use crate::interrupted::again;
use crate::sys;

/// What the kernel takes the pages from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PageSource {
    /// Private memory without a file.
    Anonymous,
    /// A memory file, or shared memory without a file, which is one that only the kernel sees.
    MemoryFile,
    /// A file on a tmpfs that somebody mounted.
    Tmpfs,
    /// Huge pages from the pool.
    HugePages,
    /// The page cache of a file elsewhere.
    File,
}

impl PageSource {
    /// Says what kind of memory it is.
    pub(crate) fn of(extent: Extent<'_>) -> Result<Self, Refusal> {
        Self::ask(extent).map_err(|error| Refusal::kernel(&error, "cannot inspect the memory"))
    }

    fn ask(extent: Extent<'_>) -> io::Result<Self> {
        let details = extent.details();
        if details.is_hugetlb {
            return Ok(Self::HugePages);
        }
        match (details.file, details.sharing) {
            (None, Sharing::Private) => Ok(Self::Anonymous),
            (None, Sharing::Shared) => Ok(Self::MemoryFile),
            (Some((file, _)), _) if !is_on_tmpfs(file)? => Ok(Self::File),
            (Some((file, _)), _) if is_memory_file(file)? => Ok(Self::MemoryFile),
            (Some(_), _) => Ok(Self::Tmpfs),
        }
    }
}

fn is_on_tmpfs(file: BorrowedFd<'_>) -> io::Result<bool> {
    let kind = i128::from(again(|| sys::fstatfs(file))?.f_type);
    // The constant's type and sign differ between C libraries; 32 bits count.
    Ok((kind ^ i128::from(libc::TMPFS_MAGIC)) & i128::from(u32::MAX) == 0)
}

/// Tells memory files from other files on a tmpfs by the name that the kernel gives them.
fn is_memory_file(file: BorrowedFd<'_>) -> io::Result<bool> {
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    Ok(path.as_os_str().as_encoded_bytes().starts_with(b"/memfd:"))
}
