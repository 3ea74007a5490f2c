// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What this processor can do beyond the target's baseline.

/// Says whether the processor and the operating system know 32-byte vectors.
#[cfg(feature = "std")]
#[inline(always)]
pub(super) fn has_avx() -> bool {
    std::arch::is_x86_feature_detected!("avx")
}

/// Says whether the target has 32-byte vectors: asking the processor needs the standard library.
#[cfg(not(feature = "std"))]
#[inline(always)]
pub(super) fn has_avx() -> bool {
    cfg!(target_feature = "avx")
}
