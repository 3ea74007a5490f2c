// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One bitmap has the marks of all regions, whichever way a write goes.

use std::num::NonZeroUsize;

use guest_memory_bitmap::{AtomicBitmap, Bitmap, DirtyLog};
use guest_memory_core::{
    Bytes, GuestAddress, GuestDirtyPages, GuestMemory, GuestMemoryRegion, MemoryLog,
    MemoryRegionAddress, MemorySlot,
};
use guest_memory_mmap::{FlatGuestMemory, FlatGuestMemoryBuilder};

use super::{PAGE, page, ram};
use crate::files::BIG_PAGE;

/// A page of the bitmap, in bytes.
const SMALL_PAGE: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// Base of the memory: the bitmap's offsets are no guest addresses.
const BASE: u64 = 0x100 * PAGE;

fn at(number: u64) -> GuestAddress {
    GuestAddress(BASE + number * PAGE)
}

/// Regions of a page each in pages 0 and 1, and one of two in pages 4 and 5.
fn memory() -> FlatGuestMemory<AtomicBitmap> {
    let bitmap = AtomicBitmap::new(8 * BIG_PAGE, SMALL_PAGE);
    FlatGuestMemoryBuilder::new_with_bitmap(8 * PAGE, bitmap)
        .with_base(GuestAddress(BASE))
        .with_region(at(0), ram(1))
        .with_region(at(1), ram(1))
        .with_region(at(4), ram(2))
        .build()
        .expect("a flat memory")
}

fn harvest(memory: &FlatGuestMemory<AtomicBitmap>) -> Vec<(u64, u64)> {
    let mut pages = GuestDirtyPages::default();
    memory.harvest_into(&mut pages);
    pages
        .ranges()
        .map(|(start, len)| (start.0 - BASE, len))
        .collect()
}

#[test]
fn marks_are_seen_both_ways() {
    let memory = memory();
    let region = memory.regions().find_region(at(4)).unwrap();
    // Through the memory: the region has the mark.
    memory
        .write_obj(1u8, GuestAddress(at(4).0 + 0x5000))
        .unwrap();
    assert!(region.bitmap().dirty_at(0x5000) && !region.bitmap().dirty_at(0x4fff));
    // Through the regions' memory, and the region itself: the whole has it.
    memory.regions().write_obj(1u8, at(1)).unwrap();
    region.write_obj(1u8, MemoryRegionAddress(PAGE)).unwrap();
    region.bitmap().mark_dirty(BIG_PAGE + 0x2000, 1);
    let whole = |offset: u64| memory.bitmap().dirty_at(usize::try_from(offset).unwrap());
    assert!(whole(PAGE) && whole(5 * PAGE) && whole(5 * PAGE + 0x2000));
    // Of a slice of a slice as well.
    let slice = memory.get_slice(at(0), 2 * BIG_PAGE).unwrap();
    slice
        .subslice(0x1ff0, 0x20)
        .unwrap()
        .write_obj([1u8; 0x20], 0)
        .unwrap();
    assert_eq!(
        harvest(&memory),
        [
            (0x1000, 0x2000),
            (PAGE, 0x1000),
            (4 * PAGE + 0x5000, 0x1000),
            (5 * PAGE, 0x1000),
            (5 * PAGE + 0x2000, 0x1000)
        ]
    );
    assert_eq!(harvest(&memory), []);
    assert!(!region.bitmap().dirty_at(0x5000));
    assert_eq!(region.bitmap().start(), 4 * BIG_PAGE);
    assert!(std::sync::Arc::ptr_eq(
        region.bitmap().whole(),
        memory.bitmap()
    ));
    assert_eq!(region.bitmap().tracked_bytes(), Some(4 * BIG_PAGE));
}

#[test]
fn a_write_over_the_seam_marks_both_sides() {
    let memory = memory();
    memory.write_obj(1u64, GuestAddress(at(1).0 - 4)).unwrap();
    // One range over the border, though the regions' sets are two.
    assert_eq!(harvest(&memory), [(PAGE - 0x1000, 0x2000)]);
}

#[test]
fn reads_and_refused_writes_mark_nothing() {
    let memory = memory();
    memory.read_obj::<u64>(GuestAddress(at(1).0 - 4)).unwrap();
    assert!(memory.write_obj(1u64, at(2)).is_err());
    assert_eq!(
        memory.write(&[1; 16], GuestAddress(at(2).0 - 2)).unwrap(),
        2
    );
    assert_eq!(harvest(&memory), [(2 * PAGE - 0x1000, 0x1000)]);
}

#[test]
fn tracking_is_switched_for_all() {
    let memory = memory();
    assert!(memory.is_tracking());
    memory.stop_tracking();
    memory.write_obj(1u8, at(0)).unwrap();
    memory.regions().write_obj(1u8, at(4)).unwrap();
    assert!(!memory.is_tracking());
    memory.start_tracking();
    assert_eq!(harvest(&memory), []);
}

#[test]
fn the_set_tracks_regions_and_no_holes() {
    let memory = memory();
    let mut pages = memory.empty_pages();
    pages.insert_all();
    let ranges: Vec<_> = pages.ranges().collect();
    assert_eq!(ranges, [(at(0), 2 * PAGE), (at(4), 2 * PAGE)]);
    assert_eq!(pages.regions().count(), 3);
    // What was in the set is replaced.
    memory.write_obj(1u8, at(5)).unwrap();
    memory.harvest_into(&mut pages);
    let ranges: Vec<_> = pages.ranges().collect();
    assert_eq!(ranges, [(at(5), 0x1000)]);
}

#[test]
fn marks_of_a_region_that_is_gone_are_not_in_a_harvest_and_the_log_goes_on() {
    let memory = memory();
    let mut pages = GuestDirtyPages::default();
    memory.write_obj(1u8, at(0)).unwrap();
    memory.harvest_into(&mut pages);
    memory.write_obj(1u8, at(4)).unwrap();
    memory.write_obj(1u8, at(1)).unwrap();
    let (memory, region) = memory.with_region_removed(at(4)).unwrap();
    memory.harvest_into(&mut pages);
    assert_eq!(pages.ranges().collect::<Vec<_>>(), [(at(1), 0x1000)]);
    assert_eq!(pages.regions().count(), 2);
    drop(region);
    let memory = memory.with_region_inserted(at(3), ram(1)).unwrap();
    memory.write_obj(1u8, at(3)).unwrap();
    memory.harvest_into(&mut pages);
    assert_eq!(pages.ranges().collect::<Vec<_>>(), [(at(3), 0x1000)]);
}

#[test]
fn a_hypervisors_log_is_merged() {
    let memory = memory();
    let slot = MemorySlot {
        start: at(0),
        len_bytes: 2 * PAGE,
        page_size: SMALL_PAGE,
    };
    // The last page of the first region and the first of the second.
    let log = MemoryLog::new(memory.regions());
    log.merge_words(&slot, [0b11 << 15]).unwrap();
    log.merge_page(&slot, 3).unwrap();
    assert_eq!(
        harvest(&memory),
        [(0x3000, 0x1000), (PAGE - 0x1000, 0x2000)]
    );
    let outside = MemorySlot {
        start: page(0),
        ..slot
    };
    assert!(log.merge_page(&outside, 0).is_err());
}

#[test]
fn a_harvest_of_an_older_version_loses_no_mark_of_a_newer_one() {
    // Pages of the bitmap that several regions share, and those that none does.
    for page_size in [SMALL_PAGE, NonZeroUsize::new(4 * BIG_PAGE).unwrap()] {
        let bitmap = AtomicBitmap::new(8 * BIG_PAGE, page_size);
        let old = FlatGuestMemoryBuilder::new_with_bitmap(8 * PAGE, bitmap)
            .with_base(GuestAddress(BASE))
            .with_region(at(0), ram(1))
            .with_region(at(2), ram(1))
            .build()
            .unwrap();
        let new = old.with_region_inserted(at(1), ram(1)).unwrap();
        let new = new.with_region_inserted(at(6), ram(2)).unwrap();
        new.write_obj(1u64, GuestAddress(at(1).0 - 4)).unwrap();
        new.write_obj(1u8, at(7)).unwrap();
        let taken = |memory: &FlatGuestMemory<AtomicBitmap>| {
            let mut pages = GuestDirtyPages::default();
            memory.harvest_into(&mut pages);
            (0..8)
                .map(|number| {
                    // The last byte of page 0, the first of the others.
                    pages.contains(GuestAddress(at(number).0.max(BASE + PAGE - 1)))
                })
                .collect::<Vec<_>>()
        };
        let first = taken(&old);
        assert_eq!(
            (first[0], first[1], first[6], first[7]),
            (true, false, false, false)
        );
        assert_eq!(taken(&old), [false; 8]);
        // Not while tracking is off either.
        new.stop_tracking();
        let second = taken(&new);
        assert_eq!((second[0], second[1], second[7]), (false, true, true));
        assert_eq!(taken(&new), [false; 8]);
        assert_eq!(taken(&old), [false; 8]);
    }
}

#[test]
fn marks_that_nobody_claims_do_not_make_a_neighbour_dirty() {
    // One page of the bitmap, a region in its first quarter, and a region that goes in its last.
    let bitmap = AtomicBitmap::new(4 * BIG_PAGE, NonZeroUsize::new(4 * BIG_PAGE).unwrap());
    let memory = FlatGuestMemoryBuilder::new_with_bitmap(4 * PAGE, bitmap)
        .with_base(GuestAddress(BASE))
        .with_region(at(0), ram(1))
        .with_region(at(3), ram(1))
        .build()
        .unwrap();
    memory.write_obj(1u8, at(3)).unwrap();
    let (memory, _) = memory.with_region_removed(at(3)).unwrap();
    assert_eq!(harvest(&memory), [(0, PAGE)]);
    assert_eq!(harvest(&memory), []);
    let memory = memory.with_region_inserted(at(1), ram(1)).unwrap();
    // Nobody can know that the mark was not for this one.
    assert_eq!(harvest(&memory), [(PAGE, PAGE)]);
    assert_eq!(harvest(&memory), []);
}

#[test]
fn a_bitmap_of_larger_pages_than_the_regions_loses_nothing() {
    let page_size = NonZeroUsize::try_from(4 * BIG_PAGE).unwrap();
    let bitmap = AtomicBitmap::new(8 * BIG_PAGE, page_size);
    let memory = FlatGuestMemoryBuilder::new_with_bitmap(8 * PAGE, bitmap)
        .with_region(page(1), ram(2))
        .with_region(page(3), ram(4))
        .build()
        .unwrap();
    memory.write_obj(1u8, page(2)).unwrap();
    let mut pages = GuestDirtyPages::default();
    memory.harvest_into(&mut pages);
    for dirty in [page(1), page(2), page(3)] {
        assert!(pages.contains(dirty));
    }
    assert!(!pages.contains(page(0)) && !pages.contains(page(7)));
}
