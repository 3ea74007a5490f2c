// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Regions.

use guest_memory_bitmap::{ArcSlice, Bitmap};
use guest_memory_core::{
    GuestAddress, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes, GuestUsize,
    MemoryRegionAddress,
};
use guest_memory_volatile::VolatileSlice;

use super::offset_of;
use crate::toys::{ToyBitmap, ToyRegion};

/// What is wrong with a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RegionFault {
    LastAddrIsPastEnd,
    AddressInRangeTakesEnd,
    CheckedOffsetWraps,
    ToRegionAddrWraps,
    SliceIsShort,
    SliceIsElsewhere,
    SliceIsCutAtEnd,
    WholeSliceIsShort,
    SliceLosesMarks,
    SliceMarksTooFar,
    HostAddressPastEnd,
    BitmapIsTooSmall,
    LenIsOneMore,
    CheckAddressTakesEnd,
    CheckedOffsetTakesEnd,
    HostAddressIsOff,
    SliceIsLong,
    SliceMarksAtStart,
    HostAddressIsRefused,
}

impl RegionFault {
    /// Each fault and a word that the report has to hold.
    pub(crate) const ALL: [(Self, &str); 19] = [
        (Self::LastAddrIsPastEnd, "last_addr"),
        (Self::AddressInRangeTakesEnd, "address_in_range"),
        (Self::CheckedOffsetWraps, "checked_offset"),
        (Self::ToRegionAddrWraps, "to_region_addr"),
        (Self::SliceIsShort, "expected"),
        (Self::SliceIsElsewhere, "expected"),
        (Self::SliceIsCutAtEnd, "expected"),
        (Self::WholeSliceIsShort, "as_volatile_slice"),
        (Self::SliceLosesMarks, "expected dirty"),
        (Self::SliceMarksTooFar, "expected"),
        (Self::HostAddressPastEnd, "get_host_address"),
        (Self::BitmapIsTooSmall, "expected dirty"),
        (Self::LenIsOneMore, "len is"),
        (Self::CheckAddressTakesEnd, "check_address"),
        (Self::CheckedOffsetTakesEnd, "checked_offset"),
        (Self::HostAddressIsOff, "get_host_address"),
        (Self::SliceIsLong, "the length of"),
        (Self::SliceMarksAtStart, "expected"),
        (Self::HostAddressIsRefused, "get_host_address"),
    ];
}

/// A region with a fault.
#[derive(Debug)]
pub(crate) struct FaultyRegion {
    inner: ToyRegion,
    elsewhere: ToyBitmap,
    fault: Option<RegionFault>,
}

impl FaultyRegion {
    pub(crate) fn new(fault: Option<RegionFault>, start: GuestAddress, len: usize) -> Self {
        let is_small = fault == Some(RegionFault::BitmapIsTooSmall);
        let elsewhere = ToyBitmap::new(if is_small { 1 } else { len });
        Self {
            inner: ToyRegion::new(start, len),
            elsewhere,
            fault,
        }
    }
}

impl GuestMemoryRegion for FaultyRegion {
    type B = ToyBitmap;

    fn len(&self) -> GuestUsize {
        self.inner.len() + u64::from(self.fault == Some(RegionFault::LenIsOneMore))
    }

    fn start_addr(&self) -> GuestAddress {
        self.inner.start_addr()
    }

    fn bitmap(&self) -> &ToyBitmap {
        match self.fault {
            Some(RegionFault::BitmapIsTooSmall) => &self.elsewhere,
            _ => self.inner.bitmap(),
        }
    }

    fn last_addr(&self) -> GuestAddress {
        let more = u64::from(self.fault == Some(RegionFault::LastAddrIsPastEnd));
        GuestAddress(self.inner.last_addr().0.wrapping_add(more))
    }

    fn address_in_range(&self, addr: MemoryRegionAddress) -> bool {
        let more = u64::from(self.fault == Some(RegionFault::AddressInRangeTakesEnd));
        addr.0 < self.len() + more
    }

    fn check_address(&self, addr: MemoryRegionAddress) -> Option<MemoryRegionAddress> {
        if self.fault == Some(RegionFault::CheckAddressTakesEnd) && addr.0 == self.len() {
            return Some(addr);
        }
        self.inner.check_address(addr)
    }

    fn checked_offset(
        &self,
        base: MemoryRegionAddress,
        offset: usize,
    ) -> Option<MemoryRegionAddress> {
        if self.fault == Some(RegionFault::CheckedOffsetWraps) {
            return self.check_address(MemoryRegionAddress(base.0.wrapping_add(offset as u64)));
        }
        if self.fault == Some(RegionFault::CheckedOffsetTakesEnd) {
            let sum = base.0.checked_add(offset as u64)?;
            return (sum <= self.len()).then_some(MemoryRegionAddress(sum));
        }
        self.inner.checked_offset(base, offset)
    }

    fn to_region_addr(&self, addr: GuestAddress) -> Option<MemoryRegionAddress> {
        if self.fault == Some(RegionFault::ToRegionAddrWraps) {
            let offset = addr.0.wrapping_sub(self.start_addr().0);
            return (offset <= self.len()).then_some(MemoryRegionAddress(offset));
        }
        self.inner.to_region_addr(addr)
    }

    fn get_host_address(&self, addr: MemoryRegionAddress) -> Result<*mut u8, GuestMemoryError> {
        if self.fault == Some(RegionFault::HostAddressPastEnd) {
            let first = self.as_volatile_slice()?.ptr_guard_mut().as_ptr();
            return Ok(first.wrapping_add(offset_of(addr.0)));
        }
        if self.fault == Some(RegionFault::HostAddressIsOff) && self.address_in_range(addr) {
            let first = self.as_volatile_slice()?.ptr_guard_mut().as_ptr();
            return Ok(first.wrapping_add(offset_of(addr.0)).wrapping_add(1));
        }
        if self.fault == Some(RegionFault::HostAddressIsRefused) {
            let address = GuestAddress(self.start_addr().0.wrapping_add(addr.0));
            return Err(GuestMemoryError::InvalidGuestAddress(address));
        }
        self.inner.get_host_address(addr)
    }

    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> Result<VolatileSlice<'_, ArcSlice<ToyBitmap>>, GuestMemoryError> {
        let right = self.inner.get_slice(offset, count);
        let start = MemoryRegionAddress(0);
        let offset_bytes = offset_of(offset.0);
        match self.fault {
            Some(RegionFault::SliceIsShort) if count > 1 => Ok(right?.subslice(0, count - 1)?),
            Some(RegionFault::SliceIsLong) => self
                .inner
                .get_slice(offset, count.saturating_add(1))
                .or(right),
            Some(RegionFault::SliceMarksAtStart) => {
                Ok(right?.replace_bitmap(self.bitmap().slice_at(0)))
            }
            Some(RegionFault::SliceIsElsewhere) if right.is_ok() => {
                self.inner.get_slice(start, count)
            }
            Some(RegionFault::SliceIsCutAtEnd) if right.is_err() => {
                let rest = offset_of(self.len().saturating_sub(offset.0));
                self.inner.get_slice(offset, rest.min(count))
            }
            Some(RegionFault::SliceLosesMarks | RegionFault::BitmapIsTooSmall) => {
                self.inner.window(offset, count, self.elsewhere.slice_at(0))
            }
            Some(RegionFault::SliceMarksTooFar) => {
                let bitmap = self.bitmap().slice_at(offset_bytes);
                self.inner.window(offset, count, bitmap)
            }
            _ => right,
        }
    }

    fn as_volatile_slice(
        &self,
    ) -> Result<VolatileSlice<'_, ArcSlice<ToyBitmap>>, GuestMemoryError> {
        let whole = self.inner.as_volatile_slice()?;
        let less = usize::from(self.fault == Some(RegionFault::WholeSliceIsShort));
        Ok(whole.subslice(0, whole.len() - less)?)
    }
}

impl GuestMemoryRegionBytes for FaultyRegion {}
