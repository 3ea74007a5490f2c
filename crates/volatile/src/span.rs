// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The pointer and length under every slice, with the invariants that unsafe code relies on.
//!
//! Kept apart from everything else: only these few functions can break the invariants.
#![expect(unsafe_code, reason = "does pointer arithmetic on guest ranges")]

use core::marker::PhantomData;
use core::mem::offset_of;

use crate::error::{Error, Result};

/// Top bit of the length: set when the bytes must not be written.
///
/// A length never needs it (invariant 2), and keeping it there leaves the span as large as an
/// `iovec`.
const READ_ONLY: usize = 1 << (usize::BITS - 1);

/// A range of guest bytes in this process.
///
/// # Invariants
///
/// 1. `[base, base + len)` is a valid guest range for `'a`, as the crate's documentation defines
///    it.
/// 2. `len <= isize::MAX`.
/// 3. Without the flag [`READ_ONLY`] the range may be written.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct HostSpan<'a> {
    base: *mut u8,
    flagged_len: usize,
    life: PhantomData<&'a ()>,
}

impl<'a> HostSpan<'a> {
    /// Where the host address stands in a span, in bytes.
    pub(crate) const OFFSET_OF_BASE: usize = offset_of!(Self, base);

    /// Where the length with its flag stands in a span, in bytes.
    pub(crate) const OFFSET_OF_LEN: usize = offset_of!(Self, flagged_len);

    /// Makes a writable span.
    ///
    /// # Safety
    ///
    /// `[base, base + len_bytes)` must be a valid guest range for `'a`.
    #[inline(always)]
    pub(crate) const unsafe fn new(base: *mut u8, len_bytes: usize) -> Self {
        Self {
            base,
            flagged_len: len_bytes,
            life: PhantomData,
        }
    }

    /// Returns the same bytes, not to be written any more.
    #[inline(always)]
    pub(crate) const fn read_only(self) -> Self {
        Self {
            flagged_len: self.flagged_len | READ_ONLY,
            ..self
        }
    }

    /// Says whether the bytes must not be written.
    #[inline(always)]
    pub(crate) const fn is_read_only(&self) -> bool {
        self.flagged_len & READ_ONLY != 0
    }

    /// Returns the length in bytes.
    #[inline(always)]
    pub(crate) const fn len(&self) -> usize {
        self.flagged_len & !READ_ONLY
    }

    /// Returns the host address of the first byte.
    #[inline(always)]
    pub(crate) const fn base(&self) -> *mut u8 {
        self.base
    }

    /// Returns `count` bytes from `offset` on, or the error of a range that does not fit.
    #[inline(always)]
    pub(crate) fn sub(&self, offset: usize, count: usize) -> Result<Self> {
        let len = self.len();
        match len.checked_sub(count) {
            Some(last_offset) if offset <= last_offset => {
                // SAFETY: `offset + count <= len` was just checked.
                Ok(unsafe { self.sub_unchecked(offset, count) })
            }
            _ => Err(out_of_range(offset, count)),
        }
    }

    /// Returns what lies from `offset` to the end, or an error if `offset` is past the end.
    #[inline(always)]
    pub(crate) fn tail(&self, offset: usize) -> Result<Self> {
        match self.len().checked_sub(offset) {
            // SAFETY: `offset + count` is the span's length.
            Some(count) => Ok(unsafe { self.sub_unchecked(offset, count) }),
            None => Err(Error::OutOfBounds { addr: offset }),
        }
    }

    /// # Safety
    ///
    /// `offset + count` must be at most `self.len()`.
    #[inline(always)]
    unsafe fn sub_unchecked(&self, offset: usize, count: usize) -> Self {
        Self {
            // SAFETY: the caller keeps `offset` within the span, which by invariants 1 and 2 lies
            // in one mapping, is no longer than `isize::MAX` and does not wrap.
            base: unsafe { self.base.add(offset) },
            // Invariant 2 holds for the part because it holds for the whole; the flag is inherited.
            flagged_len: count | (self.flagged_len & READ_ONLY),
            life: PhantomData,
        }
    }

    /// Returns the address of the first byte if it is aligned for `T`.
    #[inline(always)]
    pub(crate) fn aligned<T>(&self) -> Result<*mut T> {
        let ptr = self.base.cast::<T>();
        if !ptr.is_aligned() {
            return Err(misaligned(ptr.addr(), align_of::<T>()));
        }
        Ok(ptr)
    }

    /// Checks that a write may start at `offset`.
    #[inline(always)]
    pub(crate) fn check_writable(&self, offset: usize) -> Result<()> {
        if self.is_read_only() {
            return Err(read_only(offset));
        }
        Ok(())
    }
}

#[cold]
#[inline(never)]
fn out_of_range(offset: usize, count: usize) -> Error {
    match offset.checked_add(count) {
        Some(end) => Error::OutOfBounds { addr: end },
        None => Error::Overflow {
            base: offset,
            offset: count,
        },
    }
}

#[cold]
#[inline(never)]
fn misaligned(addr: usize, alignment: usize) -> Error {
    Error::Misaligned { addr, alignment }
}

#[cold]
#[inline(never)]
fn read_only(offset: usize) -> Error {
    Error::ReadOnly { addr: offset }
}

// SAFETY: a span is an address and a length; the bytes behind it may be used from every thread,
// since a valid guest range is written by others at any time anyhow and is only touched by the copy
// engine.
unsafe impl Send for HostSpan<'_> {}
// SAFETY: as for `Send`: nothing behind `&HostSpan` is changed without the copy engine.
unsafe impl Sync for HostSpan<'_> {}
