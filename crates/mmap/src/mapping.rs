// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The memory behind a region, and the view of it that slices are cut from.
//!
//! Kept apart from everything else: only this file can break the invariants that the slices rely on.
#![expect(unsafe_code, reason = "owns mappings and hands out slices of them")]

use std::fs::File;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use guest_memory_bitmap::{BS, Bitmap};
use guest_memory_volatile::VolatileSlice;

use crate::error::MmapRegionError;
use crate::sys;

/// Flags that name the address of a mapping.
const FIXED_FLAGS: i32 = libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE;

/// A range of mapped memory, unmapped on drop if it was mapped here.
///
/// # Invariants
///
/// 1. `[start, start + len_bytes)` stays mapped, with the protection it was made with, while this lives.
/// 2. `0 < len_bytes <= isize::MAX` and `start + len_bytes` does not wrap.
/// 3. If `is_owned`, the range is one mapping made by [`sys::mmap`] that nobody else unmaps or replaces.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len_bytes: usize,
    is_owned: bool,
}

impl Mapping {
    /// Maps `size` bytes, of a file from an offset on or of nothing.
    pub(crate) fn map(
        size: usize,
        prot: i32,
        flags: i32,
        file: Option<(&File, libc::off64_t)>,
    ) -> Result<Self, MmapRegionError> {
        check_size(size)?;
        if flags & FIXED_FLAGS != 0 {
            return Err(MmapRegionError::MapFixed);
        }
        let (file, offset) = file.map_or((None, 0), |(file, at)| (Some(file.as_fd()), at));
        // SAFETY: the flags name no fixed address, as just checked.
        let start = unsafe { sys::mmap(size, prot, flags, file, offset) };
        // Invariant 1 is what mmap promises, 2 was checked but for the wrap, which the kernel's address
        // space excludes, and 3 holds since nobody else knows the address yet.
        Ok(Self {
            start: start.map_err(MmapRegionError::Mmap)?,
            len_bytes: size,
            is_owned: true,
        })
    }

    /// Takes memory that somebody else mapped and will unmap.
    ///
    /// # Safety
    ///
    /// `[start, start + size)` must stay mapped, with the same protection, until the mapping is dropped.
    pub(crate) unsafe fn external(
        start: NonNull<u8>,
        size: usize,
    ) -> Result<Self, MmapRegionError> {
        check_size(size)?;
        let address = start.as_ptr().addr();
        if address.checked_add(size).is_none() {
            return Err(MmapRegionError::InvalidPointer);
        }
        Ok(Self {
            start,
            len_bytes: size,
            is_owned: false,
        })
    }

    /// Returns the address of the first byte.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Returns the same, for those who want to know that it is not null.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Returns the length in bytes.
    pub(crate) fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Says whether the memory is unmapped on drop.
    pub(crate) fn is_owned(&self) -> bool {
        self.is_owned
    }

    /// Returns the view that slices are cut from, given the protection of the memory.
    ///
    /// # Safety
    ///
    /// The memory must be mapped with `prot`, be initialised, and be covered by no Rust reference but
    /// those that the volatile crate's definition of a valid guest range admits, while the mapping lives.
    pub(crate) unsafe fn view(&self, prot: i32) -> View {
        let is_readable = prot & libc::PROT_READ != 0;
        View {
            start: self.start,
            len_bytes: if is_readable { self.len_bytes } else { 0 },
            is_read_only: prot & libc::PROT_WRITE == 0,
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.is_owned {
            // An error leaves the range mapped: a leak is all that can be done about it here.
            // SAFETY: by invariant 3 the range is one whole mapping of ours; whoever used it borrowed the
            // region that owns this value, or vouched for it when taking a raw pointer.
            let _ = unsafe { sys::munmap(self.start, self.len_bytes) };
        }
    }
}

// SAFETY: the value is an address and a length that no thread is special for; munmap works from any thread.
unsafe impl Send for Mapping {}
// SAFETY: through a shared reference the fields are only read.
unsafe impl Sync for Mapping {}

/// Checks that a mapping of `size` bytes makes sense.
pub(crate) fn check_size(size: usize) -> Result<(), MmapRegionError> {
    match size {
        0 => Err(MmapRegionError::ZeroSize),
        1..=MAX_SIZE => Ok(()),
        _ => Err(MmapRegionError::TooLarge { size }),
    }
}

const MAX_SIZE: usize = isize::MAX.cast_unsigned();

/// What is needed to cut slices out of a mapping: small, and the same for every bitmap.
///
/// # Invariants
///
/// While the [`Mapping`] it was taken from lives, `[start, start + len_bytes)` is a
/// [valid guest range](guest_memory_volatile#valid-guest-range), and writable unless `is_read_only`.
/// Memory that cannot be read has a view of no bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    start: NonNull<u8>,
    len_bytes: usize,
    is_read_only: bool,
}

impl View {
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

    /// Says whether slices can be had at all.
    pub(crate) fn is_readable(&self) -> bool {
        self.len_bytes != 0
    }

    /// Says whether slices can be had and written.
    pub(crate) fn is_writable(&self) -> bool {
        self.is_readable() && !self.is_read_only
    }
}

// SAFETY: a view is an address and a length; using them is unsafe and bound to the mapping's life.
unsafe impl Send for View {}
// SAFETY: through a shared reference the fields are only read.
unsafe impl Sync for View {}
