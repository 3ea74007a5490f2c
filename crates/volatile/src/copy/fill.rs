// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Fills, and the search for anything but zeroes.
#![expect(unsafe_code, reason = "touches guest memory through raw pointers")]

use super::Fault;
use super::engine::{fill_bulk, skip_zeroes};
use super::steps::is_aligned;
use super::word::Word;

const WORD: usize = size_of::<u64>();

/// Writes `value` to each of `len` bytes.
///
/// # Safety
///
/// `[dst, dst + len)` must be in a valid guest range that may be written.
pub(crate) unsafe fn fill(dst: *mut u8, value: u8, len: usize) -> Result<(), Fault> {
    let pattern = u64::from_ne_bytes([value; WORD]);
    let mut done = 0usize;
    while done < len {
        // SAFETY: below `len`, so within the caller's range.
        let at = unsafe { dst.add(done) };
        let words = len.wrapping_sub(done) & !WORD.wrapping_sub(1);
        if words == 0 || !is_aligned(at, WORD) {
            // SAFETY: a byte is always aligned; in the caller's range.
            unsafe { u8::store(at, value) }.map_err(|_| Fault { completed: done })?;
            done = done.wrapping_add(1);
            continue;
        }
        // SAFETY: aligned as just checked, a multiple of 8, and in the caller's range.
        let left = unsafe { fill_bulk(at, pattern, words) };
        done = done.wrapping_add(words.wrapping_sub(left));
        if left != 0 {
            return Err(Fault { completed: done });
        }
    }
    Ok(())
}

/// Says whether `len` bytes are all zero; stops at the first that is not, or close behind it.
///
/// # Safety
///
/// `[src, src + len)` must be in a valid guest range.
pub(crate) unsafe fn is_zero(src: *const u8, len: usize) -> Result<bool, Fault> {
    let mut done = 0usize;
    while done < len {
        // SAFETY: below `len`, so within the caller's range.
        let at = unsafe { src.add(done) };
        let words = len.wrapping_sub(done) & !WORD.wrapping_sub(1);
        let (count, first) = if words == 0 || !is_aligned(at, WORD) {
            // SAFETY: a byte is always aligned; in the caller's range.
            (1, unsafe { u8::load(at) }.map(u64::from))
        } else {
            // SAFETY: aligned as just checked, a multiple of 8, and in the caller's range.
            let skipped = words.wrapping_sub(unsafe { skip_zeroes(at, words) });
            if skipped != 0 {
                done = done.wrapping_add(skipped);
                continue;
            }
            // The block that starts here is not zero or not there: the word tells, or the ones after it.
            // SAFETY: as above, the first word.
            (WORD, unsafe { u64::load(at) })
        };
        if first.map_err(|_| Fault { completed: done })? != 0 {
            return Ok(false);
        }
        done = done.wrapping_add(count);
    }
    Ok(true)
}
