// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Two words at once, for engines that have no register for both.
#![expect(unsafe_code, reason = "touches guest memory through raw pointers")]

use crate::copy::Fault;
use crate::copy::word::Word;

/// Two words.
pub(in crate::copy) type Pair = [u64; 2];

/// Loads two words of 8 bytes by an access each.
///
/// # Safety
///
/// `at` must be aligned to 8 and `[at, at + 16)` in a valid guest range.
#[inline(always)]
pub(in crate::copy) unsafe fn load_pair(at: *const u8) -> Result<Pair, Fault> {
    // SAFETY: the first half of the caller's range.
    let low = unsafe { u64::load(at) }?;
    // SAFETY: within the caller's range.
    let half = unsafe { at.add(size_of::<u64>()) };
    // SAFETY: the second half, aligned as the first.
    let high = unsafe { u64::load(half) }?;
    Ok([low, high])
}
