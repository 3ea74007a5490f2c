// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The copy engine: the only code of the workspace that touches guest bytes, atomics aside.
//!
//! Everything goes through three functions: guest to host, host to guest, guest to guest. They
//! never use `ptr::copy*` or references to bytes, since another party may write the guest side
//! meanwhile. The guarantees they give (width, tearing) are those of the crate's documentation.
//!
//! The portable engine uses relaxed atomics, which Rust defines under races. A faster one for an
//! architecture goes behind the same three names.
#![expect(unsafe_code, reason = "touches guest memory through raw pointers")]

mod guest_to_guest;
mod portable;

pub(crate) use guest_to_guest::guest_to_guest;
use portable as engine;

/// Copies `len` bytes from guest memory to the host's.
///
/// # Safety
///
/// `[src, src + len)` must be in a valid guest range; `dst` must be valid for writes of `len` bytes
/// that nobody else accesses meanwhile.
#[inline(always)]
pub(crate) unsafe fn from_guest(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: the same contract.
    unsafe { engine::from_guest(dst, src, len) }
}

/// Copies `len` bytes from the host's memory to the guest's.
///
/// # Safety
///
/// `[dst, dst + len)` must be in a valid guest range that may be written; `src` must be valid for
/// reads of `len` initialised bytes that nobody writes meanwhile.
#[inline(always)]
pub(crate) unsafe fn to_guest(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: the same contract.
    unsafe { engine::to_guest(dst, src, len) }
}

#[cfg(test)]
mod tests;
