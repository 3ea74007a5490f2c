// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where a region's bytes come from: one file per kind, each prepares what the mapping needs.

pub(crate) mod anonymous;
pub(crate) mod external;
pub(crate) mod file;
pub(crate) mod hugetlb;
pub(crate) mod memfd;

use crate::error::MmapRegionError;
use crate::mapping::Mapping;
use crate::sys;
use file::BackingFile;

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
}

/// Returns the size of the system's pages in bytes.
pub(crate) fn base_page_size() -> Result<usize, MmapRegionError> {
    sys::page_size().map_err(|source| MmapRegionError::PageSize {
        kind: "page",
        source,
    })
}

impl Prepared {
    /// Maps the source. An empty pool of huge pages shows here, not at the first touch.
    pub(crate) fn map(&self, size: usize, prot: i32) -> Result<Mapping, MmapRegionError> {
        let file = self
            .file
            .as_ref()
            .map(|file| (file.file_offset.file(), file.start()));
        Mapping::map(size, prot, self.flags, file).map_err(|error| match self.huge_page_size {
            Some(page_size) => hugetlb::explain(error, size, page_size),
            None => error,
        })
    }
}
