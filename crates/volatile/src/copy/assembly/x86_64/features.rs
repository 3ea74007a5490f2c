// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What this processor can do beyond the target's baseline.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// What is known of vectors of 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Avx {
    /// Nobody has looked.
    Unknown,
    /// The processor or the operating system lacks them.
    Absent,
    /// Both have them.
    Present,
}

/// An [`Avx`], kept here since asking the standard library takes a call, and with it a frame in each copy.
static AVX: AtomicU8 = AtomicU8::new(Avx::Unknown as u8);

/// Returns what is known.
#[inline(always)]
pub(super) fn avx() -> Avx {
    const PRESENT: u8 = Avx::Present as u8;
    const ABSENT: u8 = Avx::Absent as u8;
    // Relaxed: the value says all, nothing else is published with it.
    match AVX.load(Relaxed) {
        PRESENT => Avx::Present,
        ABSENT => Avx::Absent,
        _ => Avx::Unknown,
    }
}

/// Finds out, for [`avx`] to know.
#[cold]
pub(super) fn look_for_avx() {
    let found = if has_avx() { Avx::Present } else { Avx::Absent };
    AVX.store(found as u8, Relaxed);
}

#[cfg(feature = "std")]
fn has_avx() -> bool {
    std::arch::is_x86_feature_detected!("avx")
}

/// Asking the processor needs the standard library; without it only the target is known.
#[cfg(not(feature = "std"))]
fn has_avx() -> bool {
    cfg!(target_feature = "avx")
}
