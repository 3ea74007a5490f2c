// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The atomics and the lock of the model checker loom.

use alloc::boxed::Box;

pub(crate) use loom::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};
#[cfg(feature = "std")]
pub(crate) use loom::sync::{Mutex, MutexGuard};

/// Nothing: loom runs one thread at a time and reorders no plain code.
pub(crate) fn compiler_fence(_ordering: Ordering) {}

/// Returns so many words of zero.
pub(crate) fn zeroed(count: usize) -> Box<[AtomicU64]> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}
