// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The dirty log of a flat memory: one bitmap, harvested by region.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::PoisonError;

use guest_memory_bitmap::{Bitmap, DirtyLog, DirtyPages};
use guest_memory_core::{
    GuestAddress, GuestDirtyPages, GuestMemory, GuestMemoryRegion, GuestUsize,
};

use super::FlatGuestMemory;

/// What was taken out of the bitmap that all versions of a memory share.
#[derive(Debug, Default)]
pub(super) struct Harvested {
    /// By the last harvest.
    taken: DirtyPages,
    /// By any harvest, where the version that was harvested has no region but another may have one. In pages of the system's
    /// size, which no two regions share.
    unclaimed: DirtyPages,
}

/// The marks of the whole memory, in guest addresses.
///
/// A harvest yields the marks where this version of the memory has a region. Others stay for the harvest of a version that
/// has one there, so that a harvest of an old version loses none of a region plugged meanwhile; a region that is plugged
/// where there was another may have marks of that one. Harvests of all versions take turns, and what one yields no other
/// does. Who harvests the [bitmap](FlatGuestMemory::bitmap) itself takes marks away from all.
///
/// A hypervisor's log is merged by a [`MemoryLog`](guest_memory_core::MemoryLog) of the [regions](FlatGuestMemory::regions).
impl<B: Bitmap + DirtyLog<Pages = DirtyPages>> DirtyLog for FlatGuestMemory<B> {
    type Pages = GuestDirtyPages;

    fn start_tracking(&self) {
        self.bitmap.start_tracking();
    }

    fn stop_tracking(&self) {
        self.bitmap.stop_tracking();
    }

    fn is_tracking(&self) -> bool {
        self.bitmap.is_tracking()
    }

    fn empty_pages(&self) -> GuestDirtyPages {
        self.empty_pages_like(&self.bitmap.empty_pages())
    }

    fn harvest_into(&self, pages: &mut GuestDirtyPages) {
        let harvested = self.harvested.lock();
        let mut harvested = harvested.unwrap_or_else(PoisonError::into_inner);
        let Harvested { taken, unclaimed } = &mut *harvested;
        self.bitmap.harvest_into(taken);
        if self.are_tracked_by(pages, taken) {
            pages.clear();
        } else {
            *pages = self.empty_pages_like(taken);
        }
        pages.insert_ranges(self.guest_ranges(taken));
        if !unclaimed.is_empty() {
            pages.insert_ranges(self.guest_ranges(unclaimed));
            for places in self.places() {
                unclaimed.remove_range(places);
            }
        }
        self.outside_regions(taken.ranges(), |bytes| {
            if unclaimed.byte_size() == 0 {
                *unclaimed = self.no_pages();
            }
            unclaimed.insert_range(bytes);
        });
    }
}

impl<B: Bitmap> FlatGuestMemory<B> {
    /// Makes an empty set of the regions, in pages of the same size.
    fn empty_pages_like(&self, whole: &DirtyPages) -> GuestDirtyPages {
        let page_size = whole.page_size();
        GuestDirtyPages::from_regions(self.regions.iter().map(|region| {
            // A page size that a set has is one.
            let pages = DirtyPages::new(region.size(), page_size).unwrap_or_default();
            (region.start_addr(), pages)
        }))
    }

    /// Says whether a set tracks the regions, in pages of the same size.
    fn are_tracked_by(&self, pages: &GuestDirtyPages, whole: &DirtyPages) -> bool {
        let page_size = whole.page_size();
        let tracked = pages.regions().map(|(start, pages)| {
            let is_same_size = pages.page_size() == page_size;
            (start, pages.byte_size(), is_same_size)
        });
        let regions = self.regions.iter();
        tracked.eq(regions.map(|region| (region.start_addr(), region.size(), true)))
    }

    /// Makes an empty set of the span, in pages of the system's size.
    fn no_pages(&self) -> DirtyPages {
        // A span that is reserved has a length in this process, and the system's page size is one.
        let len_bytes = usize::try_from(self.span()).unwrap_or(usize::MAX);
        let page_size = NonZeroUsize::new(self.span.page_size);
        let pages = page_size.and_then(|page_size| DirtyPages::new(len_bytes, page_size).ok());
        pages.unwrap_or_default()
    }

    /// Returns the ranges of a set of the span in guest addresses.
    fn guest_ranges(&self, pages: &DirtyPages) -> impl Iterator<Item = (GuestAddress, GuestUsize)> {
        pages.ranges().map(|bytes| {
            let start = self.span.address_at(bytes.start);
            (start, bytes.len() as GuestUsize)
        })
    }

    /// Walks over the offsets of the regions' pages, by ascending address.
    fn places(&self) -> impl Iterator<Item = Range<usize>> {
        self.regions.iter().filter_map(|region| {
            let start = self.runs.offset(region.start_addr())?;
            let end = start.checked_add(region.size())?;
            Some(start..end.checked_next_multiple_of(self.span.page_size)?)
        })
    }

    /// Calls `visit` for what of ascending ranges of offsets is in no region's pages.
    fn outside_regions(
        &self,
        ranges: impl Iterator<Item = Range<usize>>,
        mut visit: impl FnMut(Range<usize>),
    ) {
        let mut places = self.places().peekable();
        for Range { mut start, end } in ranges {
            while start < end {
                while places.next_if(|place| place.end <= start).is_some() {}
                let next = places.peek();
                let hole_end = next.map_or(end, |place| place.start.min(end));
                if start < hole_end {
                    visit(start..hole_end);
                    start = hole_end;
                } else {
                    start = next.map_or(end, |place| place.end);
                }
            }
        }
    }
}
