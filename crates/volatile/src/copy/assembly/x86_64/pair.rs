// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Two words at once on x86-64.
#![expect(unsafe_code, reason = "touches guest memory in assembly")]

use core::arch::x86_64::__m128i;

use crate::copy::Fault;
use crate::copy::assembly::guard::guarded_access;

/// Two words in one register. Written to memory as two and read back as one they would wait for each other.
pub(in crate::copy) type Pair = __m128i;

/// Loads two words of 8 bytes by an access each.
///
/// # Safety
///
/// `at` must be aligned to 8 and `[at, at + 16)` in a valid guest range.
#[inline(always)]
pub(in crate::copy) unsafe fn load_pair(at: *const u8) -> Result<Pair, Fault> {
    let pair: __m128i;
    // SAFETY: reads the two words at `at`, which the caller vouches for, and nothing else.
    let faulted = unsafe {
        guarded_access!([
            "movq {pair}, qword ptr [{at}]",
            "movhps {pair}, qword ptr [{at} + 8]",
        ]
            at = in(reg) at,
            pair = out(xmm_reg) pair,
            options(nostack, preserves_flags, readonly))
    };
    if faulted {
        return Err(Fault { completed: 0 });
    }
    Ok(pair)
}
