// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory that somebody else mapped.
#![expect(unsafe_code, reason = "takes the caller's word for a pointer")]

use std::ptr::NonNull;

use super::{Prepared, base_page_size};
use crate::BackingKind;
use crate::error::MmapRegionError;
use crate::mapping::Mapping;

/// Checks what can be checked of `[pointer, pointer + size)` and uses it; it stays mapped when the mapping is dropped.
///
/// # Safety
///
/// As for [`Mapping::external`].
pub(crate) unsafe fn adopt(pointer: *mut u8, size: usize) -> Result<Mapping, MmapRegionError> {
    let page_size = base_page_size()?;
    let start = NonNull::new(pointer).ok_or(MmapRegionError::InvalidPointer)?;
    if !pointer.addr().is_multiple_of(page_size) {
        return Err(MmapRegionError::InvalidPointer);
    }
    // SAFETY: the caller vouches for the same.
    unsafe { Mapping::external(start, size) }
}

/// Describes memory whose flags the caller knows.
pub(crate) fn describe(flags: i32) -> Result<Prepared, MmapRegionError> {
    Ok(Prepared {
        flags,
        file: None,
        huge_page_size: None,
        page_size: base_page_size()?,
        kind: BackingKind::External,
    })
}
