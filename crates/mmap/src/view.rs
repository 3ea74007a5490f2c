// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The view of a mapping that slices are cut from.
#![expect(unsafe_code, reason = "hands out slices of mappings")]

use std::ptr::NonNull;

use guest_memory_bitmap::{BS, Bitmap};
use guest_memory_volatile::VolatileSlice;

use crate::mapping::MAX_SIZE;

/// What is needed to cut slices out of a mapping: small, and the same for every bitmap.
///
/// # Invariants
///
/// While the [`Mapping`](crate::mapping::Mapping) it was taken from lives, `[start, start + len_bytes)` is a
/// [valid guest range](guest_memory_volatile#valid-guest-range), and writable unless `is_read_only`.
/// Memory that cannot be read, or whose protection has to be looked up for each access, has a view of no bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    start: NonNull<u8>,
    len_bytes: usize,
    is_read_only: bool,
}

impl View {
    /// Makes the view of `[start, start + len_bytes)`.
    ///
    /// # Safety
    ///
    /// The type's invariant must hold; `len_bytes` is at most `isize::MAX`.
    pub(crate) unsafe fn new(start: NonNull<u8>, len_bytes: usize, is_read_only: bool) -> Self {
        Self {
            start,
            len_bytes,
            is_read_only,
        }
    }

    /// Returns `[offset, offset + count)`, or nothing if that does not fit.
    ///
    /// # Safety
    ///
    /// The mapping that the view was taken from must live for `'a`.
    #[inline(always)]
    pub(crate) unsafe fn slice<'a, B: Bitmap>(
        &self,
        offset: usize,
        count: usize,
        bitmap: &'a B,
    ) -> Option<VolatileSlice<'a, BS<'a, B>>> {
        let last_offset = self.len_bytes.checked_sub(count)?;
        if offset > last_offset {
            return None;
        }
        // Lets the compiler see that the slice's length, which has a flag in its top bit, is `count`.
        // SAFETY: `count <= len_bytes` was just checked, and a view is at most `isize::MAX` bytes.
        unsafe { std::hint::assert_unchecked(count <= MAX_SIZE) };
        // SAFETY: `offset + count <= len_bytes` was just checked; the caller keeps the mapping.
        Some(unsafe { self.slice_unchecked(offset, count, bitmap) })
    }

    /// Returns a slice of the whole view, empty if the memory cannot be read.
    ///
    /// # Safety
    ///
    /// The mapping that the view was taken from must live for `'a`.
    #[inline(always)]
    pub(crate) unsafe fn whole<'a, B: Bitmap>(
        &self,
        bitmap: &'a B,
    ) -> VolatileSlice<'a, BS<'a, B>> {
        // SAFETY: `0 + len_bytes <= len_bytes`; the caller keeps the mapping.
        unsafe { self.slice_unchecked(0, self.len_bytes, bitmap) }
    }

    /// # Safety
    ///
    /// `offset + count` must be at most `len_bytes`, and the mapping must live for `'a`.
    #[inline(always)]
    unsafe fn slice_unchecked<'a, B: Bitmap>(
        &self,
        offset: usize,
        count: usize,
        bitmap: &'a B,
    ) -> VolatileSlice<'a, BS<'a, B>> {
        // SAFETY: the caller keeps `offset` within the view, which is one mapping of at most `isize::MAX`
        // bytes that does not wrap.
        let start = unsafe { self.start.as_ptr().add(offset) };
        // SAFETY: the range is part of the view, which is a valid guest range for `'a` since the mapping
        // lives that long; if it is not writable, the slice is made read-only before anyone sees it.
        let slice =
            unsafe { VolatileSlice::with_bitmap(start, count, bitmap.slice_at(offset), None) };
        if self.is_read_only {
            slice.into_read_only()
        } else {
            slice
        }
    }
}

// SAFETY: a view is an address and a length; using them is unsafe and bound to the mapping's life.
unsafe impl Send for View {}
// SAFETY: through a shared reference the fields are only read.
unsafe impl Sync for View {}
