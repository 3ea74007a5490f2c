// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The standard library's atomics, locks and sleep, and arc-swap.

use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
pub(crate) use std::thread::sleep;

use arc_swap::{ArcSwap, Guard};

/// What a load gave, without a count of its own as long as the thread has few of them.
pub(crate) type Loaded<T> = Guard<Arc<T>>;

/// Makes it of a count of its own.
pub(crate) fn loaded<T>(value: Arc<T>) -> Loaded<T> {
    Guard::from_inner(value)
}

/// A pointer that is exchanged while others load it.
pub(crate) struct Slot<T>(ArcSwap<T>);

impl<T> Slot<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self(ArcSwap::new(value))
    }

    #[inline]
    pub(crate) fn load(&self) -> Loaded<T> {
        self.0.load()
    }

    pub(crate) fn load_full(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Exchanges the pointer; each guard of the old value has a count of its own from then on.
    pub(crate) fn swap(&self, value: Arc<T>) -> Arc<T> {
        self.0.swap(value)
    }
}
