// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What guest memory can be made of, on the command line and for the library.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use clap::ValueEnum;
use guest_memory::mmap::{Seals, Sharing, ShmObject};
use guest_memory::{Backing, HugePageSize};

/// What guest memory is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackingChoice {
    /// Private anonymous memory
    Anonymous,
    /// Anonymous memory that a forked child would share
    Shared,
    /// A memory file that another process could map too
    Memfd,
    /// A memory file of huge pages (2 MiB)
    Hugetlb,
    /// Private anonymous memory of huge pages (2 MiB)
    HugetlbAnonymous,
    /// A memory file of huge pages (1 GiB); the memory module, smaller than one, is an ordinary memory file
    #[value(name = "hugetlb-1g")]
    Hugetlb1G,
    /// Files without a name on hugetlbfs, in the directory --path; the memory module as above if its pages are larger
    Hugetlbfs,
    /// The file --path, made or grown as needed; what it holds is overwritten
    File,
    /// A private copy of the file --path, which is made or grown as needed
    FilePrivate,
    /// POSIX shared memory objects
    Shm,
}

impl BackingChoice {
    /// Says what `--path` must be, if it is needed.
    pub(crate) fn path_meaning(self) -> Option<&'static str> {
        match self {
            BackingChoice::Hugetlbfs => Some("a directory on hugetlbfs"),
            BackingChoice::File | BackingChoice::FilePrivate => Some("a file"),
            _ => None,
        }
    }

    /// Returns what a region of that size can be made of instead where the pages are larger than it.
    pub(crate) fn or_smaller(self, path: &Path, len_bytes: u64) -> Self {
        let page_bytes = match self {
            BackingChoice::Hugetlb1G => HugePageSize::OneGiB.size_bytes() as u64,
            // Whatever is wrong with the directory is in the plan.
            BackingChoice::Hugetlbfs => fs::metadata(path).map_or(0, |metadata| metadata.blksize()),
            _ => 0,
        };
        if page_bytes > len_bytes {
            BackingChoice::Memfd
        } else {
            self
        }
    }

    /// Describes the memory of one region for the library; in a file it is at an offset of its own.
    pub(crate) fn of_region(self, label: &str, path: &Path, offset: u64) -> Backing {
        let anonymous = |sharing, huge_pages| Backing::Anonymous {
            sharing,
            huge_pages,
        };
        let memfd = |huge_pages| Backing::Memfd {
            name: format!("microvm-{label}"),
            seals: Seals::ALL,
            huge_pages,
        };
        let file = |sharing| Backing::File {
            path: path.to_owned(),
            offset,
            sharing,
            grow: true,
        };
        match self {
            BackingChoice::Anonymous => anonymous(Sharing::Private, None),
            BackingChoice::Shared => anonymous(Sharing::Shared, None),
            BackingChoice::Memfd => memfd(None),
            BackingChoice::Hugetlb => memfd(Some(HugePageSize::TwoMiB)),
            BackingChoice::HugetlbAnonymous => {
                anonymous(Sharing::Private, Some(HugePageSize::TwoMiB))
            }
            BackingChoice::Hugetlb1G => memfd(Some(HugePageSize::OneGiB)),
            BackingChoice::Hugetlbfs => Backing::HugetlbFile {
                directory: path.to_owned(),
            },
            BackingChoice::File => file(Sharing::Shared),
            BackingChoice::FilePrivate => file(Sharing::Private),
            BackingChoice::Shm => Backing::Shm {
                // Unlinked at once, so that a second machine may have it again.
                name: format!("/microvm-{}-{label}", std::process::id()),
                object: ShmObject::CreateUnlinked,
            },
        }
    }
}

/// As the command line says it.
impl fmt::Display for BackingChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}
