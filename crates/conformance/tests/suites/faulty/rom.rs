// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Regions that must not be written.

use guest_memory_bitmap::ArcSlice;
use guest_memory_core::{
    GuestAddress, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes, GuestUsize,
    MemoryRegionAddress,
};
use guest_memory_volatile::VolatileSlice;

use crate::toys::{ToyBitmap, ToyRegion};

/// What is wrong with a region that must not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RomFault {
    SliceMayBeWritten,
    WholeSliceMayBeWritten,
    RestMayBeWritten,
    LastByteMayBeWritten,
    LenIsOneMore,
}

impl RomFault {
    /// Each fault and a word that the report has to hold.
    pub(crate) const ALL: [(Self, &str); 5] = [
        (Self::SliceMayBeWritten, "is_read_only"),
        (Self::WholeSliceMayBeWritten, "is_read_only"),
        (Self::RestMayBeWritten, "is_read_only"),
        (Self::LastByteMayBeWritten, "is_read_only"),
        (Self::LenIsOneMore, "len is"),
    ];
}

/// A region that must not be written, with a fault.
#[derive(Debug)]
pub(crate) struct FaultyRom {
    inner: ToyRegion,
    fault: Option<RomFault>,
}

impl FaultyRom {
    pub(crate) fn new(fault: Option<RomFault>, start: GuestAddress, len: usize) -> Self {
        let inner = ToyRegion::new(start, len);
        Self { inner, fault }
    }
}

impl GuestMemoryRegion for FaultyRom {
    type B = ToyBitmap;

    fn len(&self) -> GuestUsize {
        self.inner.len() + u64::from(self.fault == Some(RomFault::LenIsOneMore))
    }

    fn start_addr(&self) -> GuestAddress {
        self.inner.start_addr()
    }

    fn bitmap(&self) -> &ToyBitmap {
        self.inner.bitmap()
    }

    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> Result<VolatileSlice<'_, ArcSlice<ToyBitmap>>, GuestMemoryError> {
        let slice = self.inner.get_slice(offset, count)?;
        let may_be_written = match self.fault {
            Some(RomFault::SliceMayBeWritten) => true,
            Some(RomFault::RestMayBeWritten) => offset.0 > 0,
            Some(RomFault::LastByteMayBeWritten) => offset.0 + 1 == self.len() && offset.0 > 0,
            _ => false,
        };
        Ok(if may_be_written {
            slice
        } else {
            slice.into_read_only()
        })
    }

    fn as_volatile_slice(
        &self,
    ) -> Result<VolatileSlice<'_, ArcSlice<ToyBitmap>>, GuestMemoryError> {
        let slice = self.inner.as_volatile_slice()?;
        Ok(if self.fault == Some(RomFault::WholeSliceMayBeWritten) {
            slice
        } else {
            slice.into_read_only()
        })
    }
}

impl GuestMemoryRegionBytes for FaultyRom {}
