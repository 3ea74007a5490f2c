// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The atomics and the lock this crate uses, in one place, so that a model checker's can stand in for them.

#[cfg(loom)]
mod modelled;
#[cfg(not(loom))]
mod native;

#[cfg(all(loom, feature = "std"))]
pub(crate) use modelled::{Mutex, MutexGuard};
#[cfg(all(not(loom), feature = "std"))]
pub(crate) use native::{Mutex, MutexGuard};

#[cfg(loom)]
pub(crate) use modelled::{AtomicU8, AtomicU64, Ordering, compiler_fence, fence, zeroed};
#[cfg(not(loom))]
pub(crate) use native::{AtomicU8, AtomicU64, Ordering, compiler_fence, fence, zeroed};
