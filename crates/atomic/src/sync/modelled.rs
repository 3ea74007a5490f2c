// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The atomics and the locks of the model checker loom, and a pointer behind one of them.
//!
//! loom cannot look into arc-swap. Its stand-in gives the order that arc-swap's page promises, and no more than it: a
//! load that sees a value sees what was done before it was put there.

use std::ops::Deref;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};

/// Lets others go on; there is no time.
pub(crate) fn sleep(_: Duration) {
    loom::thread::yield_now();
}

/// What a load gave.
pub(crate) struct Loaded<T>(Arc<T>);

impl<T> Deref for Loaded<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.0
    }
}

/// Makes it of a count of its own.
pub(crate) fn loaded<T>(value: Arc<T>) -> Loaded<T> {
    Loaded(value)
}

/// A pointer that is exchanged while others load it.
pub(crate) struct Slot<T>(Mutex<Arc<T>>);

impl<T> Slot<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn load(&self) -> Loaded<T> {
        Loaded(self.load_full())
    }

    pub(crate) fn load_full(&self) -> Arc<T> {
        Arc::clone(&self.lock())
    }

    pub(crate) fn swap(&self, value: Arc<T>) -> Arc<T> {
        std::mem::replace(&mut *self.lock(), value)
    }

    fn lock(&self) -> MutexGuard<'_, Arc<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
