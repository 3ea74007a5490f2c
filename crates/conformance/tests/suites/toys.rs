// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A bitmap, a region and a memory as a third party would write them, in their simplest form.
#![expect(unsafe_code, reason = "makes volatile slices over its own memory")]

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use guest_memory_bitmap::{ArcSlice, Bitmap, WithBitmapSlice};
use guest_memory_core::{
    GuestAddress, GuestMemory, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes,
    GuestUsize, MemoryRegionAddress,
};
use guest_memory_volatile::VolatileSlice;

/// Page size of the toys in bytes.
pub(crate) const PAGE_SIZE: NonZeroUsize = NonZeroUsize::new(128).unwrap();

/// One flag a page.
#[derive(Clone, Debug)]
pub(crate) struct ToyBitmap {
    pages: Arc<[AtomicBool]>,
}

impl ToyBitmap {
    pub(crate) fn new(len: usize) -> Self {
        let pages = (0..len.div_ceil(PAGE_SIZE.get()))
            .map(|_| AtomicBool::new(false))
            .collect();
        Self { pages }
    }

    /// Makes a page dirty or clean, if there is one of that number.
    pub(crate) fn set_page(&self, page: usize, is_dirty: bool) {
        if let Some(page) = self.pages.get(page) {
            page.store(is_dirty, Ordering::Relaxed);
        }
    }
}

impl WithBitmapSlice<'_> for ToyBitmap {
    type S = ArcSlice<Self>;
}

impl Bitmap for ToyBitmap {
    fn mark_dirty(&self, offset: usize, len: usize) {
        let pages = offset / PAGE_SIZE..offset.saturating_add(len).div_ceil(PAGE_SIZE.get());
        for (_, page) in self
            .pages
            .iter()
            .enumerate()
            .filter(|(page, _)| pages.contains(page))
        {
            page.store(len > 0 || page.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    fn dirty_at(&self, offset: usize) -> bool {
        let page = self.pages.get(offset / PAGE_SIZE);
        page.is_some_and(|page| page.load(Ordering::Relaxed))
    }

    fn slice_at(&self, offset: usize) -> ArcSlice<Self> {
        ArcSlice::new(Arc::new(self.clone()), offset)
    }
}

/// A region over words of its own.
#[derive(Debug)]
pub(crate) struct ToyRegion {
    start: GuestAddress,
    len: usize,
    words: Box<[AtomicU64]>,
    bitmap: ToyBitmap,
}

impl ToyRegion {
    pub(crate) fn new(start: GuestAddress, len: usize) -> Self {
        let words = (0..len.div_ceil(8)).map(|_| AtomicU64::new(0)).collect();
        Self {
            start,
            len,
            words,
            bitmap: ToyBitmap::new(len),
        }
    }

    /// Makes a slice of the region whose writes are marked in `bitmap`, offset 0 being the region's.
    pub(crate) fn window(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
        bitmap: ArcSlice<ToyBitmap>,
    ) -> Result<VolatileSlice<'_, ArcSlice<ToyBitmap>>, GuestMemoryError> {
        let first = self.words.as_ptr().cast_mut().cast();
        // SAFETY: the words live as long as `self`, are initialised, at least `len` bytes long and
        // atomics, which may be written through a shared reference; an allocation neither wraps nor
        // exceeds `isize::MAX` bytes.
        let whole = unsafe { VolatileSlice::with_bitmap(first, self.len, bitmap, None) };
        let offset =
            usize::try_from(offset.0).map_err(|_| GuestMemoryError::GuestAddressOverflow)?;
        Ok(whole.subslice(offset, count)?)
    }
}

impl GuestMemoryRegion for ToyRegion {
    type B = ToyBitmap;

    fn len(&self) -> GuestUsize {
        self.len as u64
    }

    fn start_addr(&self) -> GuestAddress {
        self.start
    }

    fn bitmap(&self) -> &ToyBitmap {
        &self.bitmap
    }

    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> Result<VolatileSlice<'_, ArcSlice<ToyBitmap>>, GuestMemoryError> {
        self.window(offset, count, self.bitmap.slice_at(0))
    }
}

impl GuestMemoryRegionBytes for ToyRegion {}

/// Regions in a list.
#[derive(Debug)]
pub(crate) struct ToyMemory {
    regions: Vec<ToyRegion>,
}

impl ToyMemory {
    pub(crate) fn new(ranges: &[(GuestAddress, usize)]) -> Self {
        let regions = ranges
            .iter()
            .map(|&(start, len)| ToyRegion::new(start, len))
            .collect();
        Self { regions }
    }
}

impl GuestMemory for ToyMemory {
    type R = ToyRegion;

    fn iter(&self) -> impl Iterator<Item = &ToyRegion> {
        self.regions.iter()
    }
}
