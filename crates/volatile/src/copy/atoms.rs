// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Single accesses, and copies cut into them and a bulk.
//!
//! A copy of 1, 2, 4 or 8 bytes at an aligned guest address is one relaxed atomic access. Any other is cut at
//! the guest side's natural boundaries: small steps up to an aligned address, the bulk, small steps for
//! the rest.
#![expect(unsafe_code, reason = "touches guest memory through raw pointers")]

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

use super::bulk::{BULK_ALIGN, BULK_STEP, copy_bulk};
use crate::atomic_integer::AtomicInteger;

/// Which of the two sides is the guest's.
pub(super) trait Direction {
    /// Returns the guest's side.
    fn guest(dst: *mut u8, src: *const u8) -> *const u8;

    /// Moves one atom. The ordering is relaxed: a plain copy promises none.
    ///
    /// # Safety
    ///
    /// As the copy, with the size of `A` as length; the guest's side must be aligned for `A`.
    unsafe fn atom<A: AtomicInteger>(dst: *mut u8, src: *const u8);
}

pub(super) struct FromGuest;

impl Direction for FromGuest {
    #[inline(always)]
    fn guest(_dst: *mut u8, src: *const u8) -> *const u8 {
        src
    }

    #[inline(always)]
    unsafe fn atom<A: AtomicInteger>(dst: *mut u8, src: *const u8) {
        // SAFETY: aligned and in a valid guest range by this function's contract; there references
        // to atomics are allowed, and a relaxed load of at most 8 bytes needs no write
        // access.
        let value = unsafe { &*src.cast::<A>() }.load(Relaxed);
        // SAFETY: the host's side has room for the value; an unaligned write needs no alignment.
        unsafe { dst.cast::<A::V>().write_unaligned(value) }
    }
}

pub(super) struct ToGuest;

impl Direction for ToGuest {
    #[inline(always)]
    fn guest(dst: *mut u8, _src: *const u8) -> *const u8 {
        dst
    }

    #[inline(always)]
    unsafe fn atom<A: AtomicInteger>(dst: *mut u8, src: *const u8) {
        // SAFETY: the host's side has these initialised bytes; an unaligned read needs no
        // alignment, and the value of an atomic integer is plain bytes.
        let value = unsafe { src.cast::<A::V>().read_unaligned() };
        // SAFETY: aligned and in a valid, writable guest range by this function's contract; there
        // references to atomics are allowed.
        unsafe { &*dst.cast::<A>() }.store(value, Relaxed);
    }
}

/// Says whether an address is a multiple of a power of two.
#[inline(always)]
fn is_aligned(address: *const u8, size: usize) -> bool {
    address.addr() & size.wrapping_sub(1) == 0
}

/// Copies `len` bytes.
///
/// # Safety
///
/// As [`super::from_guest`] or [`super::to_guest`], according to the direction.
#[inline(always)]
pub(super) unsafe fn copy<D: Direction>(dst: *mut u8, src: *const u8, len: usize) {
    let guest = D::guest(dst, src);
    match len {
        // SAFETY: the length is the atom's and the guest's side aligned, as the pattern says.
        1 => unsafe { D::atom::<AtomicU8>(dst, src) },
        // SAFETY: likewise.
        2 if is_aligned(guest, 2) => unsafe { D::atom::<AtomicU16>(dst, src) },
        // SAFETY: likewise.
        4 if is_aligned(guest, 4) => unsafe { D::atom::<AtomicU32>(dst, src) },
        // SAFETY: likewise.
        8 if is_aligned(guest, 8) => unsafe { D::atom::<AtomicU64>(dst, src) },
        // Descriptors of devices have this size.
        16 if is_aligned(guest, 8) => {
            // SAFETY: the first half of the length, aligned.
            unsafe { D::atom::<AtomicU64>(dst, src) };
            // SAFETY: within the caller's range.
            let dst = unsafe { dst.add(8) };
            // SAFETY: within the caller's range.
            let src = unsafe { src.add(8) };
            // SAFETY: the second half, aligned as the first.
            unsafe { D::atom::<AtomicU64>(dst, src) };
        }
        // SAFETY: the same contract.
        _ => unsafe {
            copy_long::<D>(Cursor {
                dst,
                src,
                left: len,
            })
        },
    }
}

/// What is left of a copy.
///
/// # Invariants
///
/// `dst` and `src` are good for a copy of `left` bytes.
struct Cursor {
    dst: *mut u8,
    src: *const u8,
    left: usize,
}

impl Cursor {
    /// Moves one atom if there is that much left.
    ///
    /// # Safety
    ///
    /// As the copy of what is left; the guest's side must be aligned for `A` if that much is left.
    #[inline(always)]
    unsafe fn step<D: Direction, A: AtomicInteger>(&mut self) {
        let Some(left) = self.left.checked_sub(size_of::<A>()) else {
            return;
        };
        // SAFETY: at least the atom's size is left (just checked), and the caller says it is
        // aligned.
        unsafe { D::atom::<A>(self.dst, self.src) };
        // SAFETY: at most the end of what was left.
        self.dst = unsafe { self.dst.add(size_of::<A>()) };
        // SAFETY: as above.
        self.src = unsafe { self.src.add(size_of::<A>()) };
        self.left = left;
    }

    /// Moves all whole steps of the bulk.
    ///
    /// # Safety
    ///
    /// As the copy of what is left; the guest's side must be aligned to [`BULK_ALIGN`] if a step is left.
    #[inline(always)]
    unsafe fn bulk<D: Direction>(&mut self) {
        let len = self.left & !BULK_STEP.wrapping_sub(1);
        if len == 0 {
            return;
        }
        // SAFETY: a multiple of the step, at most what is left; the caller says it is aligned.
        unsafe { copy_bulk::<D>(self.dst, self.src, len) };
        // SAFETY: at most the end of what was left.
        self.dst = unsafe { self.dst.add(len) };
        // SAFETY: as above.
        self.src = unsafe { self.src.add(len) };
        self.left = self.left.wrapping_sub(len);
    }

    #[inline(always)]
    fn is_aligned<D: Direction>(&self, size: usize) -> bool {
        is_aligned(D::guest(self.dst, self.src), size)
    }
}

/// Copies any length at any alignment.
///
/// # Safety
///
/// As [`copy`] for what the cursor has left.
#[inline(never)]
unsafe fn copy_long<D: Direction>(mut rest: Cursor) {
    if !rest.is_aligned::<D>(2) {
        // SAFETY: a byte is always aligned.
        unsafe { rest.step::<D, AtomicU8>() };
    }
    if !rest.is_aligned::<D>(4) {
        // SAFETY: aligned to 2 by the step before, unless nothing is left.
        unsafe { rest.step::<D, AtomicU16>() };
    }
    if !rest.is_aligned::<D>(8) {
        // SAFETY: aligned to 4 by the step before, unless less than 2 bytes are left.
        unsafe { rest.step::<D, AtomicU32>() };
    }
    if !rest.is_aligned::<D>(BULK_ALIGN) {
        // SAFETY: aligned to 8 by the step before, unless less than 4 bytes are left.
        unsafe { rest.step::<D, AtomicU64>() };
    }
    // From here on the guest's side is aligned for the bulk, or to each power of two that is at most `left`.
    // SAFETY: as just said; what the bulk leaves is still aligned so.
    unsafe { rest.bulk::<D>() };
    // SAFETY: aligned to 8 if 8 bytes are left, as said above.
    unsafe { rest.step::<D, AtomicU64>() };
    // SAFETY: aligned to 4 if 4 bytes are left, as said above.
    unsafe { rest.step::<D, AtomicU32>() };
    // SAFETY: aligned to 2 if 2 bytes are left: the step before took 4 bytes or none.
    unsafe { rest.step::<D, AtomicU16>() };
    // SAFETY: a byte is always aligned.
    unsafe { rest.step::<D, AtomicU8>() };
}
