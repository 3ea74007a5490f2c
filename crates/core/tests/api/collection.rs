// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Collections of regions: what is found, holes, and views that keep the last region.

use std::collections::BTreeMap;
use std::sync::Arc;

use guest_memory_bitmap::AtomicBitmap;
use guest_memory_core::{
    Bytes, GuestAddress, GuestMemory, GuestMemoryRegion, GuestRegionCollection, RegionCache,
};
use proptest::prelude::*;

use crate::toy::{Kind, Toy};

fn collection(bounds: &[(u64, usize)]) -> GuestRegionCollection<Toy> {
    let regions = bounds
        .iter()
        .map(|&(start, len)| Toy::new(start, len, Kind::Ram));
    GuestRegionCollection::from_regions(regions.collect()).unwrap()
}

fn starts(memory: &GuestRegionCollection<Toy>) -> Vec<u64> {
    memory.iter().map(|region| region.start_addr().0).collect()
}

#[test]
fn collections_that_differ_in_a_region_share_the_others() {
    let bounds: Vec<(u64, usize)> = (0..200).map(|at| (at * 0x100, 0x80)).collect();
    let memory = collection(&bounds);
    let (without, removed) = memory.remove_region(GuestAddress(0x6400), 0x80).unwrap();
    assert_eq!(removed.start_addr(), GuestAddress(0x6400));
    let with = without
        .insert_region(Arc::new(Toy::new(0x6480, 0x10, Kind::Ram)))
        .unwrap();
    assert_eq!(
        (
            memory.num_regions(),
            without.num_regions(),
            with.num_regions()
        ),
        (200, 199, 200)
    );
    assert!(without.find_region(GuestAddress(0x6400)).is_none());
    assert!(with.find_region(GuestAddress(0x648f)).is_some());
    let kept: BTreeMap<u64, &Arc<Toy>> = memory
        .arc_regions()
        .map(|region| (region.start_addr().0, region))
        .collect();
    for region in without.arc_regions() {
        assert!(Arc::ptr_eq(region, kept[&region.start_addr().0]));
    }
    let owned: Vec<u64> = with
        .clone()
        .into_iter()
        .map(|region| region.start_addr().0)
        .collect();
    assert_eq!(owned, starts(&with));
    assert!(owned.is_sorted());
    assert_eq!(memory.total_size(), 200 * 0x80);
}

#[test]
fn holes_and_places_for_more_memory_are_found() {
    let memory = collection(&[(0x1000, 0x1000), (0x2000, 0x800), (0x1_0000, 0x1000)]);
    let all = || GuestAddress(0)..=GuestAddress(u64::MAX);
    let gaps: Vec<(u64, u64)> = memory
        .gaps()
        .map(|(first, last)| (first.0, last.0))
        .collect();
    assert_eq!(gaps, [(0, 0xfff), (0x2800, 0xffff), (0x1_1000, u64::MAX)]);
    for (size, align, within, lowest, highest) in [
        (0x1000, 1, all(), Some(0), Some(u64::MAX - 0xfff)),
        (0x1001, 1, all(), Some(0x2800), Some(u64::MAX - 0x1000)),
        (
            0x1000,
            0x1000,
            GuestAddress(1)..=GuestAddress(0xffff),
            Some(0x3000),
            Some(0xf000),
        ),
        (
            0xd000,
            0x1000,
            GuestAddress(0)..=GuestAddress(0xffff),
            Some(0x3000),
            Some(0x3000),
        ),
        (
            0xd001,
            0x1000,
            GuestAddress(0)..=GuestAddress(0xffff),
            None,
            None,
        ),
        (
            1,
            1,
            GuestAddress(0x1fff)..=GuestAddress(0x27ff),
            None,
            None,
        ),
        (1, 1, GuestAddress(5)..=GuestAddress(4), None, None),
        (u64::MAX, 1, all(), None, None),
        (1 << 63, 1 << 63, all(), Some(1 << 63), Some(1 << 63)),
        (0, 1, all(), None, None),
        (1, 3, all(), None, None),
        (1, 0, all(), None, None),
    ] {
        let place = |found: Option<GuestAddress>| found.map(|address| address.0);
        assert_eq!(
            place(memory.find_gap(size, align, within.clone())),
            lowest,
            "{size:#x} {align:#x}"
        );
        let from_above = memory.find_gap_from_above(size, align, within);
        assert_eq!(place(from_above), highest, "{size:#x} {align:#x}");
    }
    assert_eq!(
        GuestRegionCollection::<Toy>::new().find_gap(u64::MAX, 1, all()),
        Some(GuestAddress(0))
    );
}

#[test]
fn a_view_that_keeps_the_last_region_is_the_memory() {
    let memory = collection(&[(0x1000, 0x100), (0x1100, 0x100), (0x2000, 0x10)]);
    let view = RegionCache::new(&memory);
    for address in [
        0x1000,
        0x10ff,
        0x1100,
        0xfff,
        0x11ff,
        0x1200,
        0x200f,
        0x2010,
        0x1000,
        u64::MAX,
        0x2000,
    ] {
        let address = GuestAddress(address);
        let bounds = |found: Option<(&Toy, guest_memory_core::MemoryRegionAddress)>| {
            found.map(|(region, offset)| (region.start_addr(), offset))
        };
        let expected = bounds(memory.to_region_addr(address));
        // Twice: found, and kept.
        assert_eq!(bounds(view.to_region_addr(address)), expected, "{address}");
        assert_eq!(bounds(view.to_region_addr(address)), expected, "{address}");
    }
    // An access over the border of two regions, and its marks.
    view.write_slice(&[7; 0x20], GuestAddress(0x10f0)).unwrap();
    assert_eq!(memory.read_obj::<u8>(GuestAddress(0x110f)).unwrap(), 7);
    let dirty = |address| {
        let region = memory.find_region(GuestAddress(address)).unwrap();
        let bitmap: &AtomicBitmap = region.bitmap();
        bitmap.is_addr_set(usize::try_from(address - region.start_addr().0).unwrap())
    };
    assert!(dirty(0x10f0) && dirty(0x110f) && !dirty(0x1110));
    assert_eq!(view.num_regions(), 3);
    assert!(std::ptr::eq(view.memory(), &memory));
}

proptest! {
    #[test]
    fn a_memory_is_found_as_a_map_of_regions_is(
        script in prop::collection::vec((0_u64..120, 1_usize..24, any::<bool>()), 1..150),
    ) {
        let mut memory = GuestRegionCollection::<Toy>::new();
        let mut model = BTreeMap::<u64, u64>::new();
        for (slot, len, is_plug) in script {
            // Regions of 1 to 23 bytes at multiples of 16: some touch, some overlap.
            let start = slot * 16;
            if is_plug {
                let region = Arc::new(Toy::new(start, len, Kind::Ram));
                let end = start + len as u64;
                let is_free = model.iter().all(|(&other, &other_end)| end <= other || other_end <= start);
                match memory.insert_region(region) {
                    Ok(with) => {
                        prop_assert!(is_free);
                        memory = with;
                        model.insert(start, end);
                    }
                    Err(_) => prop_assert!(!is_free),
                }
            } else if let Some((&start, &end)) = model.range(start..).next() {
                model.remove(&start);
                memory = memory.remove_region(GuestAddress(start), end - start).unwrap().0;
                prop_assert!(memory.remove_region(GuestAddress(start), end - start).is_err());
            }
        }
        prop_assert!(starts(&memory).into_iter().eq(model.keys().copied()));
        prop_assert_eq!(memory.total_size(), model.iter().map(|(start, end)| u128::from(end - start)).sum());
        let view = RegionCache::new(&memory);
        for address in 0..125 * 16 {
            let expected = model.range(..=address).next_back().filter(|&(_, &end)| address < end);
            let expected = expected.map(|(&start, _)| start);
            let start = |found: Option<&Toy>| found.map(|region| region.start_addr().0);
            prop_assert_eq!(start(memory.find_region(GuestAddress(address))), expected);
            prop_assert_eq!(start(view.find_region(GuestAddress(address))), expected);
        }
    }
}
