// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memories as devices see them.

use std::vec;

use guest_memory_bitmap::{ArcSlice, Bitmap};
use guest_memory_conformance::io_memory::Range;
use guest_memory_core::{
    FaultCause, GuestAddress, GuestMemoryError, GuestMemoryRegion, GuestMemorySliceIterator,
    IoMemory, IovaRange, MemoryRegionAddress, Permissions, TranslationError,
};
use guest_memory_volatile::VolatileSlice;

use crate::toys::{ToyBitmap, ToyMemory, ToyRegion};

/// What is wrong with a memory that devices see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IoFault {
    CheckRangeForgetsPermissions,
    CheckRangeLooksAtBothEnds,
    EmptyRangeIsRefused,
    SlicesIgnorePermissions,
    SlicesSkipWhatIsRefused,
    SlicesEndWithoutError,
    SlicesGoOnAfterError,
    SlicesBeginWithTheError,
    SlicesAreReadOnly,
    SlicesLoseMarks,
    SingleSliceIgnoresPermissions,
    SingleSliceIsShort,
    SingleSliceIsElsewhere,
    FirstSliceIsEmpty,
    FirstSliceIsElsewhere,
    FirstSliceIgnoresPermissions,
    PhysicalMemoryIsAnother,
}

impl IoFault {
    /// Each fault and a word that the report has to hold.
    pub(crate) const ALL: [(Self, &str); 17] = [
        (Self::CheckRangeForgetsPermissions, "check_range"),
        (Self::CheckRangeLooksAtBothEnds, "check_range"),
        (Self::EmptyRangeIsRefused, "check_range"),
        (Self::SlicesIgnorePermissions, "get_slices"),
        (Self::SlicesSkipWhatIsRefused, "get_slices"),
        (Self::SlicesEndWithoutError, "get_slices"),
        (Self::SlicesGoOnAfterError, "get_slices"),
        (Self::SlicesBeginWithTheError, "get_slices"),
        (Self::SlicesAreReadOnly, "is_read_only"),
        (Self::SlicesLoseMarks, "expected dirty"),
        (Self::SingleSliceIgnoresPermissions, "single_slice"),
        (Self::SingleSliceIsShort, "single_slice"),
        (Self::SingleSliceIsElsewhere, "expected"),
        (Self::FirstSliceIsEmpty, "first_slice"),
        (Self::FirstSliceIsElsewhere, "expected"),
        (Self::FirstSliceIgnoresPermissions, "first_slice"),
        (Self::PhysicalMemoryIsAnother, "physical_memory"),
    ];
}

/// A region for each range, with what a device may do there.
#[derive(Debug)]
pub(crate) struct FaultyIo {
    parts: Vec<(ToyRegion, Permissions)>,
    elsewhere: ToyBitmap,
    another: ToyMemory,
    fault: Option<IoFault>,
}

type Window<'a> = VolatileSlice<'a, ArcSlice<ToyBitmap>>;

impl FaultyIo {
    pub(crate) fn new(fault: Option<IoFault>, ranges: &[Range]) -> Self {
        let part = |&(start, len, kind): &Range| (ToyRegion::new(start, len), kind);
        Self {
            parts: ranges.iter().map(part).collect(),
            elsewhere: ToyBitmap::new(0),
            another: ToyMemory::new(&[]),
            fault,
        }
    }

    pub(crate) fn dirty_at(&self, address: u64) -> bool {
        let address = GuestAddress(address);
        let found = self.parts.iter().find_map(|(region, _)| {
            let offset = region.to_region_addr(address)?;
            Some(region.bitmap().dirty_at(super::offset_of(offset.0)))
        });
        found.unwrap_or(false)
    }

    fn has(&self, fault: IoFault) -> bool {
        self.fault == Some(fault)
    }

    /// Returns a window on the start of a range, if there is memory and it may be accessed so.
    fn window(
        &self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<Window<'_>, FaultCause> {
        let found = self.parts.iter().find_map(|(region, kind)| {
            let offset = region.to_region_addr(addr)?;
            Some((region, offset, *kind))
        });
        let (region, offset, kind) = found.ok_or(FaultCause::NotMapped)?;
        if !kind.allow(access) {
            return Err(FaultCause::NotAllowed);
        }
        let rest = super::offset_of(region.len() - offset.0);
        let bitmap = if self.has(IoFault::SlicesLoseMarks) {
            self.elsewhere.slice_at(0)
        } else {
            region.bitmap().slice_at(0)
        };
        let window = region.window(offset, rest.min(count), bitmap);
        Ok(window.expect("in the region"))
    }

    /// Returns the window on the start of a range as if it lay at the start of its region.
    fn elsewhere(&self, addr: GuestAddress, count: usize) -> Option<Window<'_>> {
        let mut regions = self.parts.iter();
        let (region, _) = regions.find(|(region, _)| region.to_region_addr(addr).is_some())?;
        region.get_slice(MemoryRegionAddress(0), count).ok()
    }
}

/// The windows of a range.
pub(crate) struct FaultySlices<'a>(vec::IntoIter<Result<Window<'a>, GuestMemoryError>>);

impl<'a> Iterator for FaultySlices<'a> {
    type Item = Result<Window<'a>, GuestMemoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl std::iter::FusedIterator for FaultySlices<'_> {}

impl<'a> GuestMemorySliceIterator<'a, ArcSlice<ToyBitmap>> for FaultySlices<'a> {}

impl IoMemory for FaultyIo {
    type PhysicalMemory = ToyMemory;
    type Bitmap = ToyBitmap;

    fn check_range(&self, addr: GuestAddress, count: usize, access: Permissions) -> bool {
        let access = if self.has(IoFault::CheckRangeForgetsPermissions) {
            Permissions::No
        } else {
            access
        };
        if self.has(IoFault::CheckRangeLooksAtBothEnds) && count > 0 {
            let last = addr.0.checked_add(count as u64 - 1);
            let is_in = |at| self.window(GuestAddress(at), 1, access).is_ok();
            return is_in(addr.0) && last.is_some_and(is_in);
        }
        if self.has(IoFault::EmptyRangeIsRefused) && count == 0 {
            return self.window(addr, 1, access).is_ok();
        }
        let mut done = 0;
        while done < count {
            let here = addr.0.checked_add(done as u64).map(GuestAddress);
            match here.map(|here| self.window(here, count - done, access)) {
                Some(Ok(window)) => done += window.len(),
                _ => return false,
            }
        }
        true
    }

    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, ArcSlice<ToyBitmap>>, GuestMemoryError> {
        let allowed = if self.has(IoFault::SlicesIgnorePermissions) {
            Permissions::No
        } else {
            access
        };
        let mut slices = Vec::new();
        let mut done = 0;
        while done < count {
            let here = addr.0.checked_add(done as u64).map(GuestAddress);
            let window = here
                .ok_or(FaultCause::NotMapped)
                .and_then(|here| self.window(here, count - done, allowed));
            match window {
                Ok(window) => {
                    done += window.len();
                    let is_rom = self.has(IoFault::SlicesAreReadOnly);
                    slices.push(Ok(if is_rom {
                        window.into_read_only()
                    } else {
                        window
                    }));
                }
                Err(FaultCause::NotAllowed) if self.has(IoFault::SlicesSkipWhatIsRefused) => {
                    let here = here.unwrap_or_default();
                    let skipped = self.window(here, count - done, Permissions::No);
                    done += skipped.map_or(count, |window| window.len());
                }
                Err(cause) => {
                    let iova_range = IovaRange {
                        base: here.unwrap_or_default(),
                        length: count - done,
                    };
                    let error = || {
                        Err(GuestMemoryError::IommuError(TranslationError::Fault {
                            iova_range: iova_range.clone(),
                            access,
                            cause,
                        }))
                    };
                    match self.fault {
                        Some(IoFault::SlicesEndWithoutError) => {}
                        Some(IoFault::SlicesBeginWithTheError) => slices.insert(0, error()),
                        Some(IoFault::SlicesGoOnAfterError) => slices.extend([error(), error()]),
                        _ => slices.push(error()),
                    }
                    break;
                }
            }
        }
        Ok(FaultySlices(slices.into_iter()))
    }

    fn single_slice(
        &self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Option<Window<'_>> {
        let access = if self.has(IoFault::SingleSliceIgnoresPermissions) {
            Permissions::No
        } else {
            access
        };
        let window = self.window(addr, count, access).ok()?;
        if self.has(IoFault::SlicesAreReadOnly) {
            return None;
        }
        if self.has(IoFault::SingleSliceIsShort) {
            return Some(window);
        }
        if self.has(IoFault::SingleSliceIsElsewhere) && window.len() == count {
            return self.elsewhere(addr, count);
        }
        (window.len() == count).then_some(window)
    }

    fn first_slice(
        &self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Option<Window<'_>> {
        match self.fault {
            Some(IoFault::SlicesAreReadOnly) => None,
            Some(IoFault::FirstSliceIgnoresPermissions) => {
                let window = self.window(addr, count, Permissions::No).ok()?;
                (!window.is_empty()).then_some(window)
            }
            Some(IoFault::FirstSliceIsElsewhere) => {
                let window = self.window(addr, count, access).ok()?;
                self.elsewhere(addr, Some(window.len()).filter(|&len| len > 0)?)
            }
            Some(IoFault::FirstSliceIsEmpty) => self.window(addr, 0, access).ok(),
            _ => {
                let window = self.window(addr, count, access).ok()?;
                (!window.is_empty()).then_some(window)
            }
        }
    }

    fn physical_memory(&self) -> Option<&ToyMemory> {
        let is_another = self.has(IoFault::PhysicalMemoryIsAnother);
        is_another.then_some(&self.another)
    }
}
