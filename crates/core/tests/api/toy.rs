// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A region that behaves as a test wants.
#![expect(
    unsafe_code,
    reason = "makes volatile slices over the region's own memory"
)]

use std::num::NonZeroUsize;
use std::sync::atomic::AtomicU64;

use guest_memory_bitmap::{AtomicBitmap, BS, Bitmap};
use guest_memory_core::{
    GuestAddress, GuestMemory, GuestMemoryRegion, GuestMemoryRegionBytes, GuestMemoryResult,
    GuestRegionCollection, GuestUsize, MemoryRegionAddress,
};
use guest_memory_volatile::VolatileSlice;

/// Bytes per page of a toy's dirty bitmap.
pub(crate) const PAGE: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Ram,
    Rom,
    /// Its slices have a byte less than asked for.
    Short,
    /// Its slices have a byte more than asked for.
    Long,
}

#[derive(Debug)]
pub(crate) struct Toy {
    start: u64,
    len: usize,
    kind: Kind,
    words: Vec<AtomicU64>,
    bitmap: AtomicBitmap,
}

impl Toy {
    pub(crate) fn new(start: u64, len: usize, kind: Kind) -> Self {
        let bitmap = AtomicBitmap::new(len, NonZeroUsize::new(PAGE).unwrap());
        Self {
            kind,
            ..Self::with_bitmap(start, len, bitmap)
        }
    }

    pub(crate) fn with_bitmap(start: u64, len: usize, bitmap: AtomicBitmap) -> Self {
        // One word more than needed, for the slices that are too long.
        let words = (0..len / 8 + 2).map(|_| AtomicU64::new(0)).collect();
        Self {
            start,
            len,
            kind: Kind::Ram,
            words,
            bitmap,
        }
    }
}

impl GuestMemoryRegion for Toy {
    type B = AtomicBitmap;

    fn len(&self) -> GuestUsize {
        self.len as u64
    }

    fn start_addr(&self) -> GuestAddress {
        GuestAddress(self.start)
    }

    fn bitmap(&self) -> &AtomicBitmap {
        &self.bitmap
    }

    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> GuestMemoryResult<VolatileSlice<'_, BS<'_, AtomicBitmap>>> {
        let first = self.words.as_ptr().cast_mut().cast();
        let (len, count) = match self.kind {
            Kind::Ram | Kind::Rom => (self.len, count),
            Kind::Short => (self.len, count.saturating_sub(1)),
            Kind::Long => (self.len + 1, count + 1),
        };
        // SAFETY: the words are at least `len` initialised bytes, live as long as `self` and are atomics,
        // which may be written through a shared reference.
        let whole =
            unsafe { VolatileSlice::with_bitmap(first, len, self.bitmap.slice_at(0), None) };
        let slice = whole.subslice(usize::try_from(offset.0).unwrap_or(usize::MAX), count)?;
        Ok(match self.kind {
            Kind::Rom => slice.into_read_only(),
            _ => slice,
        })
    }
}

impl GuestMemoryRegionBytes for Toy {}

/// A memory of toys, each a first address, a length and a kind.
pub(crate) fn memory(toys: &[(u64, usize, Kind)]) -> GuestRegionCollection<Toy> {
    let toys = toys
        .iter()
        .map(|&(start, len, kind)| Toy::new(start, len, kind));
    GuestRegionCollection::from_regions(toys.collect()).unwrap()
}

/// The addresses of dirty pages.
pub(crate) fn dirty(memory: &GuestRegionCollection<Toy>) -> Vec<u64> {
    let pages = |toy: &Toy| {
        let dirty = (0..toy.len)
            .step_by(PAGE)
            .filter(|&at| toy.bitmap.dirty_at(at));
        let start = toy.start;
        dirty.map(|at| start + at as u64).collect::<Vec<_>>()
    };
    memory.iter().flat_map(pages).collect()
}
