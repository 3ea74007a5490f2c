// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a region of guest memory is.

use guest_memory_bitmap::{BS, Bitmap};
use guest_memory_volatile::VolatileSlice;

use crate::address::Address;
use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::file_offset::FileOffset;
use crate::guest_address::{GuestAddress, GuestUsize, MemoryRegionAddress};

/// A contiguous range of guest-physical memory.
///
/// The region covers `[start_addr, start_addr + len)`; it is not empty and may end exactly at 2^64.
/// To implement it give [`len`](Self::len), [`start_addr`](Self::start_addr),
/// [`bitmap`](Self::bitmap) and usually [`get_slice`](Self::get_slice), and add
/// [`GuestMemoryRegionBytes`](crate::GuestMemoryRegionBytes) for the access methods of [`Bytes`].
///
/// The trait is safe to implement, so nothing unsafe relies on what an implementation returns.
#[expect(clippy::len_without_is_empty, reason = "a region is never empty")]
pub trait GuestMemoryRegion: Bytes<MemoryRegionAddress, E = Error> {
    /// Type of the dirty bitmap.
    type B: Bitmap;

    /// Returns the region's size in bytes, which is not 0 and does not change.
    fn len(&self) -> GuestUsize;

    /// Returns the region's first address, which does not change.
    fn start_addr(&self) -> GuestAddress;

    /// Borrows the region's dirty bitmap, whose offset 0 is the region's first byte.
    fn bitmap(&self) -> &Self::B;

    /// Returns the region's last address, which is still in it (inclusive, so that a region may end at 2^64).
    #[inline]
    fn last_addr(&self) -> GuestAddress {
        self.start_addr()
            .unchecked_add(self.len().saturating_sub(1))
    }

    /// Returns `addr` if it is in the region.
    #[inline]
    fn check_address(&self, addr: MemoryRegionAddress) -> Option<MemoryRegionAddress> {
        self.address_in_range(addr).then_some(addr)
    }

    /// Says whether `addr` is in the region.
    #[inline]
    fn address_in_range(&self, addr: MemoryRegionAddress) -> bool {
        addr.raw_value() < self.len()
    }

    /// Returns `base + offset`, in bytes, if it is in the region; what lies between need not be looked at.
    #[inline]
    fn checked_offset(
        &self,
        base: MemoryRegionAddress,
        offset: usize,
    ) -> Option<MemoryRegionAddress> {
        base.checked_add(offset as u64)
            .and_then(|addr| self.check_address(addr))
    }

    /// Returns where in the region the guest's `addr` is, or `None` if it is not in the region.
    #[inline]
    fn to_region_addr(&self, addr: GuestAddress) -> Option<MemoryRegionAddress> {
        addr.checked_offset_from(self.start_addr())
            .and_then(|offset| self.check_address(MemoryRegionAddress(offset)))
    }

    /// Returns the host address of one byte of the region.
    ///
    /// It says nothing about the bytes after it; [`get_slice`](Self::get_slice) vouches for a
    /// length. Others may write the memory at any time, so no Rust reference should be made of
    /// the pointer.
    ///
    /// # Errors
    ///
    /// [`Error::HostAddressNotAvailable`] if the region has no host addresses, which is the
    /// default; [`Error::InvalidGuestAddress`] if `addr` is not in the region.
    fn get_host_address(&self, _addr: MemoryRegionAddress) -> Result<*mut u8> {
        Err(Error::HostAddressNotAvailable)
    }

    /// Returns the file behind the region, and where in it the region starts, in bytes; `None`, which is the default, if there is no
    /// file or it is not known.
    fn file_offset(&self) -> Option<&FileOffset> {
        None
    }

    /// Returns the region's bytes as a slice; `None`, which is the default, if it cannot.
    ///
    /// # Safety
    ///
    /// While the slice lives nobody may write the region: no guest, no device, no other thread.
    #[expect(
        unsafe_code,
        reason = "declares an unsafe method, whose caller vouches for exclusiveness"
    )]
    unsafe fn as_slice(&self) -> Option<&[u8]> {
        None
    }

    /// Returns the region's bytes as a slice that can be changed; `None`, which is the default, if
    /// it cannot.
    ///
    /// # Safety
    ///
    /// While the slice lives nobody else may read or write the region.
    ///
    /// # Dirty tracking
    ///
    /// What is written through the slice is not seen; the caller marks it in
    /// [`bitmap`](Self::bitmap).
    #[expect(
        unsafe_code,
        reason = "declares an unsafe method, whose caller vouches for exclusiveness"
    )]
    #[expect(
        clippy::mut_from_ref,
        reason = "exclusiveness is what the caller vouches for"
    )]
    unsafe fn as_mut_slice(&self) -> Option<&mut [u8]> {
        None
    }

    /// Returns a window on the bytes `[offset, offset + count)` of the region, whose marks go to its [`bitmap`](Self::bitmap).
    ///
    /// It has exactly `count` bytes. An implementation may refuse an empty one at or past the end.
    ///
    /// # Errors
    ///
    /// [`Error::HostAddressNotAvailable`] if the region has no host addresses, which is the
    /// default; an error with the cause if the range reaches past the region's end.
    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> Result<VolatileSlice<'_, BS<'_, Self::B>>> {
        let _ = (offset, count);
        Err(Error::HostAddressNotAvailable)
    }

    /// Returns a window on the whole region.
    ///
    /// # Errors
    ///
    /// [`Error::GuestAddressOverflow`] if the region is larger than the host's address space, and
    /// those of [`get_slice`](Self::get_slice).
    fn as_volatile_slice(&self) -> Result<VolatileSlice<'_, BS<'_, Self::B>>> {
        let count = usize::try_from(self.len()).map_err(|_| Error::GuestAddressOverflow)?;
        self.get_slice(MemoryRegionAddress(0), count)
    }

    /// Says whether the region lies on a hugetlbfs file system; `None`, which is the default, if
    /// that is not known.
    fn is_hugetlbfs(&self) -> Option<bool> {
        None
    }
}
