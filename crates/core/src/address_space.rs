// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Handles from which devices get the memory of the moment.

use alloc::rc::Rc;
use alloc::sync::Arc;
use core::ops::Deref;

use crate::io_memory::IoMemory;

/// A handle on memory whose layout may change.
///
/// A device keeps the handle and asks it for the memory at the start of each request. What it gets
/// stays as it is for as long as it is kept.
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
