// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Handles from which devices get the memory of the moment.

use alloc::rc::Rc;
use alloc::sync::Arc;
use core::ops::Deref;

use crate::io_memory::IoMemory;

/// A handle on memory whose layout may change.
///
/// A device keeps the handle and asks it for the memory at the start of each request. What it gets
/// stays as it is for as long as it is kept. References, [`Rc`] and [`Arc`] are handles on memory that does not change.
///
/// ```
/// use guest_memory_core::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryResult};
///
/// struct Clock<S> {
///     space: S,
///     page: GuestAddress,
/// }
///
/// impl<S: GuestAddressSpace> Clock<S> {
///     fn tick(&self, time: u64) -> GuestMemoryResult<()> {
///         // One map for both writes, also if regions are plugged meanwhile.
///         let memory = self.space.memory();
///         memory.write_obj(time, self.page)?;
///         memory.write_obj(1u32, GuestAddress(self.page.0 + 8))
///     }
/// }
#[doc = include_str!("examples/two_regions.md")]
///
/// let memory = std::sync::Arc::new(two_regions::<()>());
/// let clock = Clock { space: memory.clone(), page: GuestAddress(0x1000) };
/// clock.tick(77)?;
/// assert_eq!(memory.read_obj::<u64>(GuestAddress(0x1000))?, 77);
/// # GuestMemoryResult::Ok(())
/// ```
pub trait GuestAddressSpace: Clone {
    /// The memory.
    type M: IoMemory;
    /// What keeps the memory of the moment.
    type T: Clone + Deref<Target = Self::M>;

    /// Returns the memory of the moment.
    fn memory(&self) -> Self::T;
}

impl<M: IoMemory> GuestAddressSpace for &M {
    type M = M;
    type T = Self;

    #[inline]
    fn memory(&self) -> Self {
        self
    }
}

impl<M: IoMemory> GuestAddressSpace for Rc<M> {
    type M = M;
    type T = Self;

    #[inline]
    fn memory(&self) -> Self {
        self.clone()
    }
}

impl<M: IoMemory> GuestAddressSpace for Arc<M> {
    type M = M;
    type T = Self;

    #[inline]
    fn memory(&self) -> Self {
        self.clone()
    }
}
