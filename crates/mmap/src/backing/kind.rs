// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a region's memory is, for whoever looks at one.

use std::fmt;

/// What is behind a region.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum BackingKind {
    /// Memory without a file.
    Anonymous,
    /// A memory file (memfd) made here.
    Memfd,
    /// A file on a hugetlbfs mount made here.
    HugetlbFile,
    /// A file that was given, by path or open; also a memory file of somebody else's.
    File,
    /// A POSIX shared memory object.
    Shm,
    /// A device of memory, `/dev/dax*`.
    Dax,
    /// Memory that somebody else mapped.
    External,
}

impl fmt::Display for BackingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Anonymous => "anonymous",
            Self::Memfd => "memfd",
            Self::HugetlbFile => "hugetlbfs",
            Self::File => "file",
            Self::Shm => "shm",
            Self::Dax => "dax",
            Self::External => "external",
        })
    }
}
