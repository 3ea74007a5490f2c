// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The engine in relaxed atomics: for every target that has them at 8 bytes.
//!
//! A copy of 1, 2, 4 or 8 bytes at an aligned guest address is one atomic access. Any other is cut
//! at the guest side's natural boundaries: small steps up to an 8-byte boundary, words, small steps
//! for the rest.
#![expect(unsafe_code, reason = "touches guest memory through raw pointers")]

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::atomic_integer::AtomicInteger;

/// Copies `len` bytes from guest memory to the host's.
///
/// # Safety
///
/// As [`super::from_guest`].
#[inline(always)]
pub(super) unsafe fn from_guest(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: the same contract.
    unsafe { copy::<FromGuest>(dst, src, len) }
}

/// Copies `len` bytes from the host's memory to the guest's.
///
/// # Safety
///
/// As [`super::to_guest`].
#[inline(always)]
pub(super) unsafe fn to_guest(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: the same contract.
    unsafe { copy::<ToGuest>(dst, src, len) }
}

/// Which of the two sides is the guest's.
trait Direction {
    /// Returns the guest's side.
    fn guest(dst: *mut u8, src: *const u8) -> *const u8;

    /// Moves one atom. The ordering is relaxed: a plain copy promises none.
    ///
    /// # Safety
    ///
    /// As the copy, with the size of `A` as length; the guest's side must be aligned for `A`.
    unsafe fn atom<A: AtomicInteger>(dst: *mut u8, src: *const u8);
}

struct FromGuest;

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

struct ToGuest;

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

/// # Safety
///
/// As [`from_guest`] or [`to_guest`].
#[inline(always)]
unsafe fn copy<D: Direction>(dst: *mut u8, src: *const u8, len: usize) {
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

    #[inline(always)]
    fn is_aligned<D: Direction>(&self, size: usize) -> bool {
        is_aligned(D::guest(self.dst, self.src), size)
    }
}

/// Copies any length at any alignment.
///
/// # Safety
///
/// As [`from_guest`] or [`to_guest`] for what the cursor has left.
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
    // From here on the guest's side is aligned to 8, or to each power of two that is at most
    // `left`.
    while rest.left >= 8 {
        // SAFETY: aligned as just said; a step of 8 keeps that.
        unsafe { rest.step::<D, AtomicU64>() };
    }
    // SAFETY: aligned to 4 if 4 bytes are left, as said above.
    unsafe { rest.step::<D, AtomicU32>() };
    // SAFETY: aligned to 2 if 2 bytes are left: the step before took 4 bytes or none.
    unsafe { rest.step::<D, AtomicU16>() };
    // SAFETY: a byte is always aligned.
    unsafe { rest.step::<D, AtomicU8>() };
}
