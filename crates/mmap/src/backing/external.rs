// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory that somebody else mapped and will unmap.
#![expect(unsafe_code, reason = "takes the caller's word for a pointer")]

use std::ptr::NonNull;

use crate::error::MmapRegionError;
use crate::mapping::Mapping;
use crate::sys;

/// Checks what can be checked of `[pointer, pointer + size)` and takes it over, not owned.
///
/// # Safety
///
/// As for [`Mapping::external`].
pub(crate) unsafe fn adopt(pointer: *mut u8, size: usize) -> Result<Mapping, MmapRegionError> {
    let page_size = sys::page_size().map_err(|source| MmapRegionError::PageSize {
        kind: "page",
        source,
    })?;
    let start = NonNull::new(pointer).ok_or(MmapRegionError::InvalidPointer)?;
    if !pointer.addr().is_multiple_of(page_size) {
        return Err(MmapRegionError::InvalidPointer);
    }
    // SAFETY: the caller vouches for the same.
    unsafe { Mapping::external(start, size) }
}
