// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Access to a memory by guest address.

use guest_memory_bitmap::BS;
use guest_memory_volatile::VolatileSlice;

use crate::address::Address;
use crate::bytes::Bytes;
use crate::bytes_ext::{BytesExt, bytes_ext_by_reach};
use crate::error::Result;
use crate::guest_address::GuestAddress;
use crate::io_memory::IoMemory;
use crate::permissions::Permissions;
use crate::reach::{Reach, bytes_by_reach};

/// A memory, reached into by guest addresses.
struct InMemory<'m, M: ?Sized>(&'m M);

impl<M: ?Sized> Clone for InMemory<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: ?Sized> Copy for InMemory<'_, M> {}

impl<'m, M: IoMemory + ?Sized> Reach<'m> for InMemory<'m, M> {
    type Address = GuestAddress;
    type Bitmap = BS<'m, M::Bitmap>;

    #[inline(always)]
    fn whole(
        self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Option<VolatileSlice<'m, Self::Bitmap>> {
        self.0.single_slice(addr, count, access)
    }

    #[inline(always)]
    fn first(
        self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Option<VolatileSlice<'m, Self::Bitmap>> {
        self.0.first_slice(addr, count, access)
    }

    #[inline(always)]
    fn after(addr: GuestAddress, count: usize) -> Option<GuestAddress> {
        addr.checked_add(count as u64)
    }

    fn slices(
        self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl Iterator<Item = Result<VolatileSlice<'m, Self::Bitmap>>>> {
        self.0.get_slices(addr, count, access)
    }

    fn guest_address(self, addr: GuestAddress) -> GuestAddress {
        addr
    }
}

impl<M: IoMemory + ?Sized> Bytes<GuestAddress> for M {
    bytes_by_reach!(GuestAddress, InMemory);
}

impl<M: IoMemory + ?Sized> BytesExt<GuestAddress> for M {
    bytes_ext_by_reach!(GuestAddress, InMemory);
}
