// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The language's own atomics and lock.
#![expect(unsafe_code, reason = "takes zeroed memory as atomics that are zero")]

use alloc::boxed::Box;

pub(crate) use core::sync::atomic::{AtomicU8, AtomicU64, Ordering, compiler_fence, fence};
#[cfg(feature = "std")]
pub(crate) use std::sync::{Mutex, MutexGuard};

/// Returns so many words of zero, in memory that comes zeroed from the allocator and is not touched.
pub(crate) fn zeroed(count: usize) -> Box<[AtomicU64]> {
    let words = Box::<[AtomicU64]>::new_zeroed_slice(count);
    // SAFETY: each element must be initialised, that is, be a valid `AtomicU64`. All bytes are zero, and `AtomicU64`
    // "has the same size and bit validity as the underlying integer type, u64" (its documentation, Rust 1.95).
    unsafe { words.assume_init() }
}
