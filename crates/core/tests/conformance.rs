// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The collection, the accesses and the default methods of the traits in the suites that are open
//! to everyone's regions and memories.
#![cfg(feature = "std")]
#![expect(
    unsafe_code,
    reason = "a region makes volatile slices over its own memory"
)]

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use guest_memory_bitmap::{AtomicBitmap, BS, Bitmap, NewBitmap};
use guest_memory_conformance::{
    Config, address_space, bytes_ext, copy, io_memory, kept, mark_order, memory, region,
};
use guest_memory_core::{
    GuestAddress, GuestMemory, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes,
    GuestRegionCollection, GuestUsize, MemoryRegionAddress, Permissions, RegionCache,
};
use guest_memory_volatile::VolatileSlice;

/// A region over words of its own, with the traits' default methods wherever there is one.
struct WordRegion<B> {
    start: GuestAddress,
    len: usize,
    words: Box<[AtomicU64]>,
    bitmap: B,
    is_read_only: bool,
}

impl<B: NewBitmap> WordRegion<B> {
    fn new(start: GuestAddress, len: usize) -> Self {
        Self::with_bitmap(start, len, B::with_len(len))
    }
}

impl<B> WordRegion<B> {
    fn with_bitmap(start: GuestAddress, len: usize, bitmap: B) -> Self {
        let words = (0..len.div_ceil(8)).map(|_| AtomicU64::new(0)).collect();
        Self {
            start,
            len,
            words,
            bitmap,
            is_read_only: false,
        }
    }
}

impl<B: Bitmap> GuestMemoryRegion for WordRegion<B> {
    type B = B;

    fn len(&self) -> GuestUsize {
        self.len as u64
    }

    fn start_addr(&self) -> GuestAddress {
        self.start
    }

    fn bitmap(&self) -> &B {
        &self.bitmap
    }

    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> Result<VolatileSlice<'_, BS<'_, B>>, GuestMemoryError> {
        let first = self.words.as_ptr().cast_mut().cast();
        let bitmap = self.bitmap.slice_at(0);
        // SAFETY: the words live as long as `self`, are initialised, at least `len` bytes long and
        // atomics, which may be written through a shared reference; an allocation neither wraps nor
        // exceeds `isize::MAX` bytes.
        let whole = unsafe { VolatileSlice::with_bitmap(first, self.len, bitmap, None) };
        let whole = if self.is_read_only {
            whole.into_read_only()
        } else {
            whole
        };
        let offset =
            usize::try_from(offset.0).map_err(|_| GuestMemoryError::GuestAddressOverflow)?;
        Ok(whole.subslice(offset, count)?)
    }
}

impl<B: Bitmap> GuestMemoryRegionBytes for WordRegion<B> {}

/// A memory with the trait's default methods.
struct ListMemory<B>(Vec<WordRegion<B>>);

impl<B: Bitmap> GuestMemory for ListMemory<B> {
    type R = WordRegion<B>;

    fn iter(&self) -> impl Iterator<Item = &WordRegion<B>> {
        self.0.iter()
    }
}

fn regions<B: NewBitmap>(ranges: &[(GuestAddress, usize)]) -> Vec<WordRegion<B>> {
    ranges
        .iter()
        .map(|&(start, len)| WordRegion::new(start, len))
        .collect()
}

#[test]
fn region_with_default_methods_behaves() {
    region::check(WordRegion::<AtomicBitmap>::new);
}

#[test]
fn read_only_region_behaves() {
    region::check_read_only(Config::default(), |start, len| WordRegion {
        is_read_only: true,
        ..WordRegion::<AtomicBitmap>::new(start, len)
    });
}

#[test]
fn untracked_region_behaves() {
    region::check_with(Config::default().untracked(), WordRegion::<()>::new);
}

#[test]
fn region_beyond_bytes_behaves() {
    bytes_ext::check_with(
        Config::default(),
        |len| WordRegion::<AtomicBitmap>::new(GuestAddress(0x1000), len),
        MemoryRegionAddress,
        |region, offset| region.bitmap.mark_dirty(offset, 1),
        |region, offset| region.bitmap.dirty_at(offset),
    );
}

#[test]
fn memory_with_default_methods_behaves() {
    memory::check(|ranges| ListMemory::<AtomicBitmap>(regions(ranges)));
}

#[test]
fn collection_behaves() {
    memory::check(|ranges| {
        GuestRegionCollection::from_regions(regions::<AtomicBitmap>(ranges)).unwrap()
    });
}

#[test]
fn untracked_collection_behaves() {
    memory::check_with(Config::default().untracked(), |ranges| {
        GuestRegionCollection::from_regions(regions::<()>(ranges)).unwrap()
    });
}

#[test]
fn collection_grown_by_insertion_in_any_order_behaves() {
    memory::check(|ranges| {
        let mut collection = GuestRegionCollection::new();
        for region in regions::<AtomicBitmap>(ranges).into_iter().rev() {
            collection = collection.insert_region(Arc::new(region)).unwrap();
        }
        collection
    });
}

#[test]
fn collection_left_after_a_removal_behaves() {
    memory::check(|ranges| {
        // One byte that no range covers: just below the first one, or above the last one.
        let first = ranges[0].0.0;
        let spare = first.checked_sub(1).unwrap_or(1 << 63);
        let whole = GuestRegionCollection::from_regions(regions::<AtomicBitmap>(ranges)).unwrap();
        let spare = WordRegion::new(GuestAddress(spare), 1);
        let (start, len) = (spare.start_addr(), spare.len());
        let more = whole.insert_region(Arc::new(spare)).unwrap();
        more.remove_region(start, len).unwrap().0
    });
}

type Collection = GuestRegionCollection<WordRegion<AtomicBitmap>>;

fn collection(ranges: &[(GuestAddress, usize)]) -> Collection {
    GuestRegionCollection::from_regions(regions(ranges)).expect("ranges without overlaps")
}

#[test]
fn references_and_counted_ones_are_handles() {
    address_space::check(|ranges| Arc::new(collection(ranges)));
    address_space::check(|ranges| Rc::new(collection(ranges)));
    address_space::check(|ranges| kept(collection(ranges)));
}

/// Returns two regions side by side of `len` bytes together, so that copies cross their border.
fn split(len: usize) -> Collection {
    let first = len / 2 / 8 * 8 + 3;
    let second = GuestAddress(first as u64);
    collection(&[(GuestAddress(0), first), (second, len - first)])
}

/// Says whether a byte of any region is dirty.
fn is_dirty_at(memory: &impl GuestMemory<R = WordRegion<AtomicBitmap>>, address: u64) -> bool {
    let found = memory.to_region_addr(GuestAddress(address));
    found.is_some_and(|(region, offset)| {
        usize::try_from(offset.0).is_ok_and(|offset| region.bitmap.dirty_at(offset))
    })
}

#[test]
fn memory_with_read_only_regions_behaves_towards_a_device() {
    let kinds = [Permissions::ReadWrite, Permissions::Read];
    let make = |ranges: &[io_memory::Range]| {
        let regions = ranges.iter().map(|&(start, len, kind)| WordRegion {
            is_read_only: kind == Permissions::Read,
            ..WordRegion::new(start, len)
        });
        GuestRegionCollection::from_regions(regions.collect()).unwrap()
    };
    io_memory::check_with(Config::default(), &kinds, make, is_dirty_at);
}

#[test]
fn view_that_keeps_a_region_behaves_towards_a_device() {
    let make = |ranges: &[io_memory::Range]| {
        let ranges: Vec<_> = ranges.iter().map(|range| (range.0, range.1)).collect();
        RegionCache::new(kept(collection(&ranges)))
    };
    let config = Config::default().cases(64);
    io_memory::check_with(config, &[Permissions::ReadWrite], make, is_dirty_at);
}

#[test]
fn every_copy_moves_its_bytes() {
    let start = GuestAddress(0);
    copy::check(
        |len| WordRegion::<AtomicBitmap>::new(start, len),
        MemoryRegionAddress,
    );
    copy::check(split, GuestAddress);
}

#[test]
fn no_aligned_word_is_torn() {
    copy::check_untorn(
        Config::default(),
        |len| collection(&[(GuestAddress(0), len)]),
        GuestAddress,
    );
}

#[test]
fn no_read_modify_write_is_lost() {
    let region = |len| WordRegion::<AtomicBitmap>::new(GuestAddress(0), len);
    bytes_ext::check_concurrent(Config::default(), region, MemoryRegionAddress);
    let memory = |len| collection(&[(GuestAddress(0), len)]);
    bytes_ext::check_concurrent(Config::default(), memory, GuestAddress);
}

#[test]
fn every_write_marks_after_its_data() {
    mark_order::check(
        |len, witness| WordRegion::with_bitmap(GuestAddress(0), len, witness),
        MemoryRegionAddress,
    );
    mark_order::check(
        |len, witness| {
            let region = WordRegion::with_bitmap(GuestAddress(0), len, witness);
            GuestRegionCollection::from_regions(vec![region]).unwrap()
        },
        GuestAddress,
    );
}
