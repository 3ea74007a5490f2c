// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The standard library's atomics and lock, and arc-swap.

use std::sync::Arc;
pub(crate) use std::sync::Mutex;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::thread;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};

/// Looks before a waiter begins to sleep in between.
const LOOKS: u32 = 200;

/// Lets others go on, for longer after many looks.
pub(crate) fn pause(looks: u32) {
    match looks < LOOKS {
        true => thread::yield_now(),
        false => thread::sleep(Duration::from_micros(50)),
    }
}

/// What a load gave, without a count of its own as long as the thread has few of them.
pub(crate) type Loaded<T> = Guard<Arc<T>>;

/// A pointer that is exchanged while others load it.
#[derive(Debug, Default)]
pub(crate) struct Slot<T>(ArcSwap<T>);

impl<T> Slot<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(ArcSwap::from_pointee(value))
    }

    #[inline]
    pub(crate) fn load(&self) -> Loaded<T> {
        self.0.load()
    }

    pub(crate) fn load_full(&self) -> Arc<T> {
        self.0.load_full()
    }

    pub(crate) fn store(&self, value: T) {
        self.0.store(Arc::new(value));
    }
}
