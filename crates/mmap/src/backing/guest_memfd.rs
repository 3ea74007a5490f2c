// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A file of a hypervisor's that holds what only the guest sees.

use guest_memory_core::FileOffset;

use super::{base_page_size, file};
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
    let file_len = file::metadata(file_offset.file())?.len();
    if file::end_of(start, size)? > file_len {
        return Err(MmapRegionError::MappingPastEof {
            file_offset: start,
            size,
            file_len,
        });
    }
    Ok(())
}
