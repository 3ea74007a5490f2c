// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Access to a region by offset.

use guest_memory_bitmap::BS;
use guest_memory_volatile::VolatileSlice;

use crate::address::Address;
use crate::bytes::Bytes;
use crate::bytes_ext::{BytesExt, bytes_ext_by_reach};
use crate::error::{Error, Result};
use crate::guest_address::{GuestAddress, MemoryRegionAddress};
use crate::memory::{exact_slice, room, some_exact_slice};
use crate::permissions::Permissions;
use crate::reach::{Reach, bytes_by_reach};
use crate::region::GuestMemoryRegion;

/// Marks a region whose [`Bytes`] are to be made from its slices
/// ([`GuestMemoryRegion::get_slice`]).
///
/// A region without host addresses, say one that forwards accesses to a device, implements
/// [`Bytes`] itself instead. An access by guest address through a memory goes through slices and
/// does not call that.
pub trait GuestMemoryRegionBytes: GuestMemoryRegion {}

/// A region, reached into by offsets.
struct InRegion<'m, R>(&'m R);

impl<R> Clone for InRegion<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for InRegion<'_, R> {}

impl<'m, R: GuestMemoryRegion> Reach<'m> for InRegion<'m, R> {
    type Address = MemoryRegionAddress;
    type Bitmap = BS<'m, R::B>;

    #[inline(always)]
    fn whole(
        self,
        addr: MemoryRegionAddress,
        count: usize,
        access: Permissions,
    ) -> Option<VolatileSlice<'m, Self::Bitmap>> {
        let slice = some_exact_slice(self.0, addr, count)?;
        (!access.has_write() || !slice.is_read_only()).then_some(slice)
    }

    fn first(
        self,
        _addr: MemoryRegionAddress,
        _count: usize,
        _access: Permissions,
    ) -> Option<VolatileSlice<'m, Self::Bitmap>> {
        // An access that one slice does not hold leaves the region.
        None
    }

    fn after(addr: MemoryRegionAddress, count: usize) -> Option<MemoryRegionAddress> {
        addr.checked_add(count as u64)
    }

    fn slices(
        self,
        addr: MemoryRegionAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl Iterator<Item = Result<VolatileSlice<'m, Self::Bitmap>>>> {
        if !self.0.address_in_range(addr) {
            return Err(Error::InvalidGuestAddress(self.guest_address(addr)));
        }
        let slice = exact_slice(self.0, addr, room(self.0, addr, count))?;
        Ok(core::iter::once(
            access.check(slice, self.guest_address(addr)),
        ))
    }

    fn guest_address(self, addr: MemoryRegionAddress) -> GuestAddress {
        self.0.start_addr().unchecked_add(addr.raw_value())
    }
}

impl<R: GuestMemoryRegionBytes> Bytes<MemoryRegionAddress> for R {
    bytes_by_reach!(MemoryRegionAddress, InRegion);
}

impl<R: GuestMemoryRegionBytes> BytesExt<MemoryRegionAddress> for R {
    bytes_ext_by_reach!(MemoryRegionAddress, InRegion);
}
