// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Long copies, fills and searches, word by word.
#![expect(unsafe_code, reason = "touches guest memory through raw pointers")]

use crate::copy::steps::Direction;
use crate::copy::word::Word;

/// Bytes of the word that everything here moves.
const STEP: usize = size_of::<u64>();

/// Copies `len` bytes, a multiple of 8, and returns how many are left when a page could not be accessed, else 0.
///
/// # Safety
///
/// As the functions of the direction; the guest's side must be aligned to 8.
#[inline(always)]
pub(crate) unsafe fn copy_bulk<D: Direction>(dst: *mut u8, src: *const u8, len: usize) -> usize {
    let mut done = 0usize;
    while done < len {
        // SAFETY: below `len`, so within the caller's range.
        let to = unsafe { dst.add(done) };
        // SAFETY: as above.
        let from = unsafe { src.add(done) };
        // SAFETY: 8 bytes are left, as `len` is a multiple of 8, and the guest's side is aligned to 8.
        if unsafe { D::piece::<u64>(to, from) }.is_err() {
            break;
        }
        done = done.wrapping_add(STEP);
    }
    len.wrapping_sub(done)
}

/// Writes a pattern of 8 bytes over `len` bytes, a multiple of 8, and returns how many are left as [`copy_bulk`] does.
///
/// # Safety
///
/// `[dst, dst + len)` must be in a valid guest range that may be written, `dst` aligned to 8.
#[inline(always)]
pub(crate) unsafe fn fill_bulk(dst: *mut u8, pattern: u64, len: usize) -> usize {
    let mut done = 0usize;
    while done < len {
        // SAFETY: below `len`, so within the caller's range.
        let to = unsafe { dst.add(done) };
        // SAFETY: 8 bytes are left, as `len` is a multiple of 8, and `dst` is aligned to 8.
        if unsafe { u64::store(to, pattern) }.is_err() {
            break;
        }
        done = done.wrapping_add(STEP);
    }
    len.wrapping_sub(done)
}

/// Reads `len` bytes, a multiple of 8, until a word is not zero or a page cannot be accessed; returns how many are left.
///
/// # Safety
///
/// `[src, src + len)` must be in a valid guest range, `src` aligned to 8.
#[inline(always)]
pub(crate) unsafe fn skip_zeroes(src: *const u8, len: usize) -> usize {
    let mut done = 0usize;
    while done < len {
        // SAFETY: below `len`, so within the caller's range.
        let from = unsafe { src.add(done) };
        // SAFETY: 8 bytes are left, as `len` is a multiple of 8, and `src` is aligned to 8.
        if !matches!(unsafe { u64::load(from) }, Ok(0)) {
            break;
        }
        done = done.wrapping_add(STEP);
    }
    len.wrapping_sub(done)
}
