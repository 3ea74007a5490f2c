// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A file of a hypervisor's that holds what only the guest sees.

use std::fs::File;

use guest_memory_core::FileOffset;

use super::base_page_size;
use crate::error::MmapRegionError;

/// Checks that a file has bytes for a region of `size` bytes, from whole pages on.
///
/// It is kept beside the region's own memory; nothing of it is mapped here.
pub(crate) fn check(file_offset: &FileOffset, size: usize) -> Result<(), MmapRegionError> {
    let page_size = base_page_size()?;
    let start = file_offset.start();
    if !usize::try_from(start).is_ok_and(|start| start.is_multiple_of(page_size)) {
        return Err(MmapRegionError::UnalignedFileOffset {
            file_offset: start,
            page_size,
        });
    }
    let file: &File = file_offset.file();
    let file_len = file
        .metadata()
        .map_err(MmapRegionError::FileMetadata)?
        .len();
    let end = u64::try_from(size)
        .ok()
        .and_then(|size| start.checked_add(size));
    match end {
        None => Err(MmapRegionError::InvalidOffsetLength),
        Some(end) if end > file_len => Err(MmapRegionError::MappingPastEof {
            file_offset: start,
            size,
            file_len,
        }),
        Some(_) => Ok(()),
    }
}
