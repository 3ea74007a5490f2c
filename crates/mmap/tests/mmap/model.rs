// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A region against a naive twin: a vector of bytes and a set of dirty pages.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use guest_memory_bitmap::{AtomicBitmap, Bitmap};
use guest_memory_core::{Bytes, GuestAddress, GuestMemoryRegion, MemoryRegionAddress};
use guest_memory_mmap::{GuestRegionMmap, MmapRegionBuilder};
use guest_memory_volatile::VolatileMemory;
use proptest::prelude::*;

const PAGE: usize = 4096;
const MAX_SIZE: usize = 5 * PAGE;

fn region(size: usize) -> GuestRegionMmap<AtomicBitmap> {
    let bitmap = AtomicBitmap::new(size, NonZeroUsize::new(PAGE).expect("not zero"));
    let mapping = MmapRegionBuilder::new_with_bitmap(size, bitmap)
        .build()
        .expect("memory");
    GuestRegionMmap::new(mapping, GuestAddress(0x1000)).expect("it fits")
}

/// Mostly around the region, sometimes anywhere.
fn offsets() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 0..MAX_SIZE + 64, 1 => any::<usize>(), 1 => usize::MAX - 64..=usize::MAX]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_slice_exists_exactly_if_it_fits(
        size in 1..MAX_SIZE, offset in offsets(), count in offsets(),
    ) {
        let region = region(size);
        let fits = offset.checked_add(count).is_some_and(|end| end <= size);
        let slice = GuestMemoryRegion::get_slice(&region, MemoryRegionAddress(offset as u64), count);
        prop_assert_eq!(slice.is_ok(), fits);
        if let Ok(slice) = slice {
            prop_assert_eq!(slice.len(), count);
            prop_assert_eq!(slice.ptr_guard().as_ptr().addr(), region.as_ptr().addr() + offset);
        }
        let slice = VolatileMemory::get_slice(&*region, offset, count);
        prop_assert_eq!(slice.is_ok(), fits);
    }

    #[test]
    fn writes_land_where_the_model_says(
        size in 1..MAX_SIZE,
        writes in prop::collection::vec((offsets(), 0..2 * PAGE, any::<u8>()), 1..16),
    ) {
        let region = region(size);
        let mut bytes = vec![0u8; size];
        let mut dirty_pages = BTreeSet::new();
        for (offset, len, byte) in writes {
            let done = size.saturating_sub(offset).min(len);
            let result = region.write(&vec![byte; len], MemoryRegionAddress(offset as u64));
            if done > 0 {
                prop_assert_eq!(result.ok(), Some(done));
                bytes[offset..offset + done].fill(byte);
                dirty_pages.extend(offset / PAGE..=(offset + done - 1) / PAGE);
            } else if len > 0 {
                prop_assert!(result.is_err());
            }
        }
        let mut copy = vec![0u8; size];
        region.read_slice(&mut copy, MemoryRegionAddress(0)).expect("all of it");
        prop_assert!(copy == bytes);
        for page in 0..size.div_ceil(PAGE) {
            prop_assert_eq!(region.bitmap().dirty_at(page * PAGE), dirty_pages.contains(&page));
        }
    }
}
