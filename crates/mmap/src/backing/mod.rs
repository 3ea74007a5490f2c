// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where a region's bytes come from: one file per kind, each prepares what the mapping needs.

pub(crate) mod anonymous;
pub(crate) mod dax;
pub(crate) mod external;
pub(crate) mod file;
pub(crate) mod file_by_path;
pub(crate) mod guest_memfd;
pub(crate) mod hugetlb;
mod inspect;
pub(crate) mod kind;
pub(crate) mod memfd;
pub(crate) mod seals;
pub(crate) mod shm;

use std::path::PathBuf;

use crate::error::MmapRegionError;
use crate::mapping::Mapping;
use crate::placement::Placement;
use crate::reservation::Contents;
use crate::{BackingKind, HugePageSize, Seals, Sharing, ShmObject, sys};
use file::BackingFile;

/// Where a region's memory comes from, as plain data: what can be written into a configuration.
///
/// A file that is open already is given to [`with_file_offset`](crate::MmapRegionBuilder::with_file_offset) instead, memory that
/// is mapped already to [`with_raw_mmap_pointer`](crate::MmapRegionBuilder::with_raw_mmap_pointer).
///
/// Whatever the backing, pages of huge pages are set aside in the system's pool when the region is built: an
/// empty pool is an error then, not a signal later. New memory reads as zero, a file that was there as what it holds.
///
/// # Examples
///
/// ```
/// use guest_memory_mmap::{Backing, BackingKind, MmapRegion, MmapRegionBuilder, Sharing};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// let nvdimm = Backing::File {
///     path: folder.path().join("nvdimm"),
///     offset: 0,
///     sharing: Sharing::Shared,
///     grow: true,
/// };
/// let region: MmapRegion = MmapRegionBuilder::new(1 << 20).with_backing(nvdimm).build()?;
/// assert_eq!(region.backing(), BackingKind::File);
/// assert_eq!(std::fs::metadata(folder.path().join("nvdimm"))?.len(), 1 << 20);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(
        rename_all = "kebab-case",
        rename_all_fields = "kebab-case",
        deny_unknown_fields
    )
)]
#[non_exhaustive]
pub enum Backing {
    /// Fresh zeroed memory without a file. Only a forked child can share it.
    Anonymous {
        /// Whether a forked child shares it or gets a copy.
        #[cfg_attr(feature = "serde", serde(default))]
        sharing: Sharing,
        /// Pages of the system's pool in place of ordinary ones.
        #[cfg_attr(feature = "serde", serde(default))]
        huge_pages: Option<HugePageSize>,
    },
    /// A new memory file (memfd), which can be passed to other processes.
    Memfd {
        /// What `/proc` calls it; at most 249 bytes, none of them zero.
        name: String,
        /// What nobody can do to the file any more.
        #[cfg_attr(feature = "serde", serde(default))]
        seals: Seals,
        /// Pages of the system's pool in place of ordinary ones.
        #[cfg_attr(feature = "serde", serde(default))]
        huge_pages: Option<HugePageSize>,
    },
    /// A new file without a name on a mounted hugetlbfs, whose mount says how large the pages are and how many there are.
    HugetlbFile {
        /// The mount, or a directory in it.
        directory: PathBuf,
    },
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
        /// Where in the file the region starts, in bytes: a multiple of the page.
        #[cfg_attr(feature = "serde", serde(default))]
        offset: u64,
        /// Whether writes go to the file, or to a private copy of the pages they touch.
        sharing: Sharing,
        /// Whether a file that does not exist is made, and one that is too short extended. It stays so, also if the region cannot be
        /// built then.
        #[cfg_attr(feature = "serde", serde(default))]
        grow: bool,
    },
    /// A POSIX shared memory object.
    Shm {
        /// Its name: a slash and at most 254 further bytes, neither slash nor zero.
        name: String,
        /// Whether the object is made, and whether it keeps its name.
        object: ShmObject,
    },
    /// A device of persistent or special-purpose memory, `/dev/dax*`.
    Dax {
        /// Its path.
        path: PathBuf,
        /// Where in the device the region starts, in bytes: a multiple of the device's alignment.
        #[cfg_attr(feature = "serde", serde(default))]
        offset: u64,
    },
}

impl Default for Backing {
    /// Returns private anonymous memory of ordinary pages.
    fn default() -> Self {
        Self::Anonymous {
            sharing: Sharing::Private,
            huge_pages: None,
        }
    }
}

impl Backing {
    /// Checks the source and opens or makes what is behind it.
    pub(crate) fn prepare(&self, size: usize, prot: i32) -> Result<Prepared, MmapRegionError> {
        match self {
            Self::Anonymous {
                sharing,
                huge_pages,
            } => anonymous::prepare(size, Some(anonymous::flags(*sharing, *huge_pages))),
            Self::Memfd {
                name,
                seals,
                huge_pages,
            } => {
                let file = match huge_pages {
                    Some(page_size) => hugetlb::create(name, size, *page_size, *seals)?,
                    None => memfd::create(name, size, None, *seals)?,
                };
                Ok(file::prepare(file, size, None, prot)?.of_kind(BackingKind::Memfd))
            }
            Self::HugetlbFile { directory } => {
                let file = hugetlb::create_in(directory, size)?;
                Ok(file::prepare(file, size, None, prot)?.of_kind(BackingKind::HugetlbFile))
            }
            Self::File {
                path,
                offset,
                sharing,
                grow,
            } => file_by_path::prepare(path, *offset, *sharing, *grow, size, prot),
            Self::Shm { name, object } => {
                let file = shm::open(name, *object, size, prot)?;
                Ok(file::prepare(file, size, None, prot)?.of_kind(BackingKind::Shm))
            }
            Self::Dax { path, offset } => dax::prepare(path, *offset, size, prot),
        }
    }
}

/// A checked source of memory, ready to be mapped.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Flags for mmap.
    pub(crate) flags: i32,
    /// The file that holds the bytes, if any.
    pub(crate) file: Option<BackingFile>,
    /// Size of the huge pages that the memory surely consists of.
    pub(crate) huge_page_size: Option<usize>,
    /// Size of the pages that the kernel maps it by, in bytes.
    pub(crate) page_size: usize,
    /// What it is.
    pub(crate) kind: BackingKind,
}

impl Prepared {
    /// Maps the source. An empty pool of huge pages shows here, not at the first touch.
    pub(crate) fn map(
        &self,
        size: usize,
        prot: i32,
        placement: &Placement,
    ) -> Result<Mapping, MmapRegionError> {
        Mapping::map(size, &self.contents(prot), self.page_size, placement)
            .map_err(|error| self.explain(error, size))
    }

    /// Returns what is to be mapped, as mmap takes it.
    pub(crate) fn contents(&self, prot: i32) -> Contents<'_> {
        Contents {
            prot,
            flags: self.flags,
            file: self
                .file
                .as_ref()
                .map(|file| (file.file_offset.file(), file.start())),
        }
    }

    /// Says why it could not be mapped, if huge pages are the reason.
    pub(crate) fn explain(&self, error: MmapRegionError, size: usize) -> MmapRegionError {
        match self.huge_page_size {
            Some(page_size) => hugetlb::explain(error, size, page_size),
            None => error,
        }
    }

    /// Notes what it is where that is better known than by looking at the file.
    pub(crate) fn of_kind(self, kind: BackingKind) -> Self {
        Self { kind, ..self }
    }
}

/// Returns the size of the system's pages in bytes.
pub(crate) fn base_page_size() -> Result<usize, MmapRegionError> {
    sys::page_size().map_err(|source| MmapRegionError::PageSize {
        kind: "page",
        source,
    })
}
