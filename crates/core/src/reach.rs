// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a region and a memory have in common for an access: they find slices by addresses.

use guest_memory_bitmap::BitmapSlice;
use guest_memory_volatile::VolatileSlice;

use crate::error::Result;
use crate::guest_address::GuestAddress;
use crate::permissions::Permissions;

/// What an address reaches into, for as long as `'m`.
pub(crate) trait Reach<'m>: Copy {
    /// The address.
    type Address: Copy;
    /// The dirty bitmap of the slices.
    type Bitmap: BitmapSlice;

    /// Returns the one slice that is the whole access, if there is one: the short path.
    fn whole(
        self,
        addr: Self::Address,
        count: usize,
        access: Permissions,
    ) -> Option<VolatileSlice<'m, Self::Bitmap>>;

    /// Returns a slice of the start of the access, not empty, if one can be found at once.
    fn first(
        self,
        addr: Self::Address,
        count: usize,
        access: Permissions,
    ) -> Option<VolatileSlice<'m, Self::Bitmap>>;

    /// Returns the address so many bytes on, if there is one.
    fn after(addr: Self::Address, count: usize) -> Option<Self::Address>;

    /// Walks over the slices that together are the access; one that cannot be had is an error and
    /// the last.
    fn slices(
        self,
        addr: Self::Address,
        count: usize,
        access: Permissions,
    ) -> Result<impl Iterator<Item = Result<VolatileSlice<'m, Self::Bitmap>>>>;

    /// Returns the address as the guest knows it, for errors.
    fn guest_address(self, addr: Self::Address) -> GuestAddress;
}

/// Writes `Bytes` in terms of the functions in `access` and `stream`; `$reach` makes the [`Reach`] of `self`.
macro_rules! bytes_by_reach {
    ($address:ty, $reach:path) => {
        type E = $crate::error::Error;

        #[inline(always)]
        fn write(&self, buf: &[u8], addr: $address) -> $crate::error::Result<usize> {
            $crate::access::write($reach(self), buf, addr)
        }

        #[inline(always)]
        fn read(&self, buf: &mut [u8], addr: $address) -> $crate::error::Result<usize> {
            $crate::access::read($reach(self), buf, addr)
        }

        #[inline(always)]
        fn write_slice(&self, buf: &[u8], addr: $address) -> $crate::error::Result<()> {
            $crate::access::write_slice($reach(self), buf, addr)
        }

        #[inline(always)]
        fn read_slice(&self, buf: &mut [u8], addr: $address) -> $crate::error::Result<()> {
            $crate::access::read_slice($reach(self), buf, addr)
        }

        #[inline(always)]
        fn write_obj<T: guest_memory_volatile::ByteValued>(
            &self,
            val: T,
            addr: $address,
        ) -> $crate::error::Result<()> {
            $crate::access::write_obj($reach(self), val, addr)
        }

        #[inline(always)]
        fn read_obj<T: guest_memory_volatile::ByteValued>(
            &self,
            addr: $address,
        ) -> $crate::error::Result<T> {
            $crate::access::read_obj($reach(self), addr)
        }

        #[cfg(feature = "std")]
        fn read_volatile_from<F>(
            &self,
            addr: $address,
            src: &mut F,
            count: usize,
        ) -> $crate::error::Result<usize>
        where
            F: guest_memory_volatile::ReadVolatile,
        {
            $crate::stream::read_volatile_from($reach(self), addr, src, count)
        }

        #[cfg(feature = "std")]
        fn read_exact_volatile_from<F>(
            &self,
            addr: $address,
            src: &mut F,
            count: usize,
        ) -> $crate::error::Result<()>
        where
            F: guest_memory_volatile::ReadVolatile,
        {
            $crate::stream::read_exact_volatile_from($reach(self), addr, src, count)
        }

        #[cfg(feature = "std")]
        fn write_volatile_to<F>(
            &self,
            addr: $address,
            dst: &mut F,
            count: usize,
        ) -> $crate::error::Result<usize>
        where
            F: guest_memory_volatile::WriteVolatile,
        {
            $crate::stream::write_volatile_to($reach(self), addr, dst, count)
        }

        #[cfg(feature = "std")]
        fn write_all_volatile_to<F>(
            &self,
            addr: $address,
            dst: &mut F,
            count: usize,
        ) -> $crate::error::Result<()>
        where
            F: guest_memory_volatile::WriteVolatile,
        {
            $crate::stream::write_all_volatile_to($reach(self), addr, dst, count)
        }

        #[inline(always)]
        fn store<T: guest_memory_volatile::AtomicAccess>(
            &self,
            val: T,
            addr: $address,
            order: core::sync::atomic::Ordering,
        ) -> $crate::error::Result<()> {
            $crate::access::store($reach(self), val, addr, order)
        }

        #[inline(always)]
        fn load<T: guest_memory_volatile::AtomicAccess>(
            &self,
            addr: $address,
            order: core::sync::atomic::Ordering,
        ) -> $crate::error::Result<T> {
            $crate::access::load($reach(self), addr, order)
        }
    };
}
pub(crate) use bytes_by_reach;
