// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The bulk of a copy in relaxed atomics: for every target that has them at 8 bytes.
#![expect(unsafe_code, reason = "touches guest memory through raw pointers")]

use core::sync::atomic::AtomicU64;

use super::atoms::Direction;

/// Alignment of the guest's side that [`copy_bulk`] needs, in bytes.
pub(super) const BULK_ALIGN: usize = 8;
/// What the length of a bulk copy is a multiple of, in bytes.
pub(super) const BULK_STEP: usize = 8;

/// Copies `len` bytes, a multiple of [`BULK_STEP`], where the guest's side is aligned to
/// [`BULK_ALIGN`].
///
/// # Safety
///
/// As [`super::from_guest`] or [`super::to_guest`], according to the direction.
#[inline(always)]
pub(super) unsafe fn copy_bulk<D: Direction>(dst: *mut u8, src: *const u8, len: usize) {
    let mut done = 0usize;
    while done < len {
        // SAFETY: below `len`, so within the caller's range.
        let to = unsafe { dst.add(done) };
        // SAFETY: as above.
        let from = unsafe { src.add(done) };
        // SAFETY: 8 bytes are left, as `len` is a multiple of 8, and the guest's side is aligned to 8.
        unsafe { D::atom::<AtomicU64>(to, from) };
        done = done.wrapping_add(BULK_STEP);
    }
}
