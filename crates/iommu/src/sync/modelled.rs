// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The atomics and the lock of the model checker loom, and a pointer behind such a lock.
//!
//! loom cannot look into arc-swap. Its stand-in gives the order that arc-swap's page promises, and no more than it: a
//! load that sees a value sees what was done before it was put there.

use std::ops::Deref;
use std::sync::{Arc, PoisonError};

pub(crate) use loom::sync::Mutex;
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

/// Lets others go on.
pub(crate) fn pause(_looks: u32) {
    loom::thread::yield_now();
}

/// What a load gave.
#[derive(Debug)]
pub(crate) struct Loaded<T>(Arc<T>);

impl<T> Deref for Loaded<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.0
    }
}

/// A pointer that is exchanged while others load it.
#[derive(Debug, Default)]
pub(crate) struct Slot<T>(Mutex<Arc<T>>);

impl<T> Slot<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(Arc::new(value)))
    }

    pub(crate) fn load(&self) -> Loaded<T> {
        Loaded(self.load_full())
    }

    pub(crate) fn load_full(&self) -> Arc<T> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn store(&self, value: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}
