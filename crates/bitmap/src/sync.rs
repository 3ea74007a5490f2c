// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The atomics and the locks this crate uses, in one place, so that a model checker's can stand in for them.

#[cfg(feature = "std")]
mod lock;
#[cfg(loom)]
mod modelled;
#[cfg(not(loom))]
mod native;
#[cfg(any(test, not(feature = "std")))]
mod spin;

#[cfg(feature = "std")]
pub(crate) use lock::Turn;
#[cfg(not(feature = "std"))]
pub(crate) use spin::Turn;

#[cfg(all(loom, feature = "std"))]
pub(crate) use modelled::{Mutex, MutexGuard};
#[cfg(all(not(loom), feature = "std"))]
pub(crate) use native::{Mutex, MutexGuard};

#[cfg(loom)]
pub(crate) use modelled::{AtomicU8, AtomicU64, Ordering, compiler_fence, fence, zeroed};
#[cfg(not(loom))]
pub(crate) use native::{AtomicU8, AtomicU64, Ordering, compiler_fence, fence, zeroed};
