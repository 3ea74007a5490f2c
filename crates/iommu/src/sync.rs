// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The atomics, the lock and the exchangeable pointer of this crate, in one place, so that a model checker's can stand in
//! for them.

#[cfg(loom)]
mod modelled;
#[cfg(not(loom))]
mod native;

#[cfg(loom)]
pub(crate) use modelled::{AtomicBool, AtomicU64, Loaded, Mutex, Ordering, Slot, fence, pause};
#[cfg(not(loom))]
pub(crate) use native::{AtomicBool, AtomicU64, Loaded, Mutex, Ordering, Slot, fence, pause};
