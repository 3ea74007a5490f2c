// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The dirty log of a flat memory: one bitmap, harvested by region.

use std::sync::PoisonError;

use guest_memory_bitmap::{Bitmap, DirtyLog, DirtyPages};
use guest_memory_core::{GuestDirtyPages, GuestMemory, GuestMemoryRegion};

use super::FlatGuestMemory;

/// The marks of the whole memory, in guest addresses.
///
/// A harvest takes all marks and yields those where there is a region now; others, of a region that was removed, are
/// dropped. A hypervisor's log is merged by a [`MemoryLog`](guest_memory_core::MemoryLog) of the
/// [regions](FlatGuestMemory::regions).
///
/// All versions of a memory, with regions more or less, have one log: what one harvests another does not find. Two
/// harvests take turns.
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
        let mut harvested = self
            .harvested
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.bitmap.harvest_into(&mut harvested);
        if self.are_tracked_by(pages, &harvested) {
            pages.clear();
        } else {
            *pages = self.empty_pages_like(&harvested);
        }
        let ranges = harvested.ranges().map(|bytes| {
            let start = self.span.address_at(bytes.start);
            (start, bytes.len() as u64)
        });
        pages.insert_ranges(ranges);
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
        let regions = regions.map(|region| (region.start_addr(), region.size(), true));
        tracked.eq(regions)
    }
}
