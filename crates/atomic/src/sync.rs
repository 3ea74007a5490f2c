// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The atomics, the locks, the exchangeable pointer and the sleep this crate uses, in one place, so that a model checker's can
//! stand in for them.

#[cfg(loom)]
mod modelled;
#[cfg(not(loom))]
mod native;

#[cfg(loom)]
pub(crate) use modelled::{
    AtomicU64, Condvar, Loaded, Mutex, MutexGuard, Ordering, Slot, loaded, sleep,
};
#[cfg(not(loom))]
pub(crate) use native::{
    AtomicU64, Condvar, Loaded, Mutex, MutexGuard, Ordering, Slot, loaded, sleep,
};
