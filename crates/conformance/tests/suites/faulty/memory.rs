// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memories.

use guest_memory_bitmap::ArcSlice;
use guest_memory_core::{
    GuestAddress, GuestMemory, GuestMemoryError, GuestMemoryRegion, MemoryRegionAddress,
};
use guest_memory_volatile::VolatileSlice;

use super::offset_of;
use crate::toys::{ToyBitmap, ToyMemory, ToyRegion};

/// What is wrong with a memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemoryFault {
    NumRegionsCountsOneMore,
    LastAddrIsOfFirstRegion,
    FindRegionMissesLastByte,
    RegionAddrIsOneLess,
    CheckRangeSkipsHoles,
    CheckedOffsetWraps,
    SliceIsCutAtBorder,
    TryAccessStopsAtBorder,
    FindRegionTakesNeighbour,
    HolesAreInRange,
    RegionsInWrongOrder,
    HostAddressIsOff,
    CheckedOffsetTakesEnd,
    SpanReachesPastEnd,
    RangeAddressIsOff,
    LastAddrIsOneMore,
    SliceIsLong,
    TryAccessTakesShortForWhole,
    TryAccessGoesOnAfterNothing,
    TryAccessTakesAnyCount,
    TryAccessHidesError,
    EmptyRangeInHoleIsNone,
    EmptySliceInHole,
    HoleHasAnotherError,
    HostAddressIsRefused,
}

impl MemoryFault {
    /// Each fault and a word that the report has to hold.
    pub(crate) const ALL: [(Self, &str); 25] = [
        (Self::NumRegionsCountsOneMore, "num_regions"),
        (Self::LastAddrIsOfFirstRegion, "last_addr"),
        (Self::FindRegionMissesLastByte, "expected"),
        (Self::RegionAddrIsOneLess, "expected"),
        (Self::CheckRangeSkipsHoles, "check_range"),
        (Self::CheckedOffsetWraps, "checked_offset"),
        (Self::SliceIsCutAtBorder, "get_slice"),
        (Self::TryAccessStopsAtBorder, "try_access"),
        (Self::FindRegionTakesNeighbour, "find_region"),
        (Self::HolesAreInRange, "address_in_range"),
        (Self::RegionsInWrongOrder, "iter"),
        (Self::HostAddressIsOff, "get_host_address"),
        (Self::CheckedOffsetTakesEnd, "checked_offset"),
        (Self::SpanReachesPastEnd, "to_region_span"),
        (Self::RangeAddressIsOff, "get_host_address_range"),
        (Self::LastAddrIsOneMore, "last_addr"),
        (Self::SliceIsLong, "the length of the slice"),
        (Self::TryAccessTakesShortForWhole, "try_access"),
        (Self::TryAccessGoesOnAfterNothing, "try_access"),
        (Self::TryAccessTakesAnyCount, "try_access"),
        (Self::TryAccessHidesError, "try_access"),
        (Self::EmptyRangeInHoleIsNone, "check_range"),
        (Self::EmptySliceInHole, "get_slice"),
        (Self::HoleHasAnotherError, "get_slice"),
        (Self::HostAddressIsRefused, "get_host_address"),
    ];
}

/// A memory with a fault.
#[derive(Debug)]
pub(crate) struct FaultyMemory {
    inner: ToyMemory,
    fault: Option<MemoryFault>,
}

impl FaultyMemory {
    pub(crate) fn new(fault: Option<MemoryFault>, ranges: &[(GuestAddress, usize)]) -> Self {
        Self {
            inner: ToyMemory::new(ranges),
            fault,
        }
    }

    fn has(&self, fault: MemoryFault) -> bool {
        self.fault == Some(fault)
    }
}

impl GuestMemory for FaultyMemory {
    type R = ToyRegion;

    fn iter(&self) -> impl Iterator<Item = &ToyRegion> {
        let mut regions: Vec<_> = self.inner.iter().collect();
        if self.has(MemoryFault::RegionsInWrongOrder) {
            regions.reverse();
        }
        regions.into_iter()
    }

    fn num_regions(&self) -> usize {
        self.inner.num_regions() + usize::from(self.has(MemoryFault::NumRegionsCountsOneMore))
    }

    fn last_addr(&self) -> GuestAddress {
        if self.has(MemoryFault::LastAddrIsOfFirstRegion) {
            return self.iter().next().expect("a region").last_addr();
        }
        let more = u64::from(self.has(MemoryFault::LastAddrIsOneMore));
        GuestAddress(self.inner.last_addr().0.wrapping_add(more))
    }

    fn find_region(&self, addr: GuestAddress) -> Option<&ToyRegion> {
        if self.has(MemoryFault::FindRegionTakesNeighbour) && self.inner.find_region(addr).is_none()
        {
            let is_before =
                |region: &&ToyRegion| region.last_addr().0.checked_add(1) == Some(addr.0);
            return self.inner.iter().find(is_before);
        }
        let region = self.inner.find_region(addr)?;
        let is_missed =
            self.has(MemoryFault::FindRegionMissesLastByte) && addr == region.last_addr();
        (!is_missed).then_some(region)
    }

    fn to_region_addr(&self, addr: GuestAddress) -> Option<(&ToyRegion, MemoryRegionAddress)> {
        let region = self.find_region(addr)?;
        let offset = region.to_region_addr(addr)?;
        let less = u64::from(self.has(MemoryFault::RegionAddrIsOneLess) && offset.0 > 0);
        Some((region, MemoryRegionAddress(offset.0 - less)))
    }

    fn to_region_span(
        &self,
        addr: GuestAddress,
        count: usize,
    ) -> Option<(&ToyRegion, MemoryRegionAddress)> {
        if self.has(MemoryFault::SpanReachesPastEnd) && count > 0 {
            return self.to_region_addr(addr);
        }
        self.inner.to_region_span(addr, count)
    }

    fn address_in_range(&self, addr: GuestAddress) -> bool {
        if self.has(MemoryFault::HolesAreInRange) {
            return addr <= self.last_addr();
        }
        self.inner.address_in_range(addr)
    }

    fn get_host_address(&self, addr: GuestAddress) -> Result<*mut u8, GuestMemoryError> {
        if self.has(MemoryFault::HostAddressIsRefused) {
            return Err(GuestMemoryError::InvalidGuestAddress(addr));
        }
        let more = usize::from(self.has(MemoryFault::HostAddressIsOff));
        let (region, offset) = self
            .inner
            .to_region_addr(addr)
            .ok_or(GuestMemoryError::InvalidGuestAddress(addr))?;
        let first = region.as_volatile_slice()?.ptr_guard_mut().as_ptr();
        Ok(first.wrapping_add(offset_of(offset.0)).wrapping_add(more))
    }

    fn get_host_address_range(
        &self,
        addr: GuestAddress,
        len: usize,
    ) -> Result<*mut u8, GuestMemoryError> {
        let more = usize::from(self.has(MemoryFault::RangeAddressIsOff));
        let first = self.get_slice(addr, len)?.ptr_guard_mut().as_ptr();
        Ok(first.wrapping_add(more))
    }

    fn check_range(&self, base: GuestAddress, len: usize) -> bool {
        if self.has(MemoryFault::CheckRangeSkipsHoles) {
            let last = base.0.checked_add((len as u64).saturating_sub(1));
            let is_mapped = |addr| self.address_in_range(GuestAddress(addr));
            return len == 0 || is_mapped(base.0) && last.is_some_and(is_mapped);
        }
        if self.has(MemoryFault::EmptyRangeInHoleIsNone) && len == 0 {
            return self.address_in_range(base);
        }
        self.inner.check_range(base, len)
    }

    fn checked_offset(&self, base: GuestAddress, offset: usize) -> Option<GuestAddress> {
        if self.has(MemoryFault::CheckedOffsetWraps) {
            return self.check_address(GuestAddress(base.0.wrapping_add(offset as u64)));
        }
        if self.has(MemoryFault::CheckedOffsetTakesEnd) {
            let sum = base.0.checked_add(offset as u64)?;
            let is_in = self.address_in_range(GuestAddress(sum));
            let is_end = sum > 0 && self.address_in_range(GuestAddress(sum - 1));
            return (is_in || is_end).then_some(GuestAddress(sum));
        }
        self.inner.checked_offset(base, offset)
    }

    fn get_slice(
        &self,
        addr: GuestAddress,
        count: usize,
    ) -> Result<VolatileSlice<'_, ArcSlice<ToyBitmap>>, GuestMemoryError> {
        if self.has(MemoryFault::SliceIsCutAtBorder)
            && let Some((region, offset)) = self.to_region_addr(addr)
        {
            let rest = offset_of(region.len() - offset.0);
            return region.get_slice(offset, rest.min(count));
        }
        if self.has(MemoryFault::SliceIsLong) {
            let longer = self.inner.get_slice(addr, count.saturating_add(1));
            return longer.or_else(|_| self.inner.get_slice(addr, count));
        }
        if self.has(MemoryFault::EmptySliceInHole) && count == 0 {
            let region = self.iter().next().expect("a region");
            return region.get_slice(MemoryRegionAddress(0), 0);
        }
        if self.has(MemoryFault::HoleHasAnotherError) && !self.inner.address_in_range(addr) {
            return Err(GuestMemoryError::HostAddressNotAvailable);
        }
        self.inner.get_slice(addr, count)
    }

    fn try_access<F>(
        &self,
        count: usize,
        addr: GuestAddress,
        mut f: F,
    ) -> Result<usize, GuestMemoryError>
    where
        F: FnMut(usize, usize, MemoryRegionAddress, &ToyRegion) -> Result<usize, GuestMemoryError>,
    {
        let mut pieces = 0;
        self.inner
            .try_access(count, addr, |done, len, offset, region| {
                pieces += 1;
                if self.has(MemoryFault::TryAccessStopsAtBorder) && pieces > 1 {
                    return Ok(0);
                }
                let taken = f(done, len, offset, region);
                match (self.fault, taken) {
                    (Some(MemoryFault::TryAccessTakesShortForWhole), Ok(_)) => Ok(len),
                    (Some(MemoryFault::TryAccessGoesOnAfterNothing), Ok(0)) => Ok(len),
                    (Some(MemoryFault::TryAccessTakesAnyCount), Ok(taken)) => Ok(taken.min(len)),
                    (Some(MemoryFault::TryAccessHidesError), Err(_)) => Ok(0),
                    (_, taken) => taken,
                }
            })
    }
}
