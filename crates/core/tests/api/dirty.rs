// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The dirty log of a whole memory against a set of pages: several regions, a hypervisor's slots and rings, readers.
#![expect(clippy::cast_possible_truncation, reason = "the numbers are small")]
#![expect(
    clippy::single_range_in_vec_init,
    reason = "lists of ranges, some with one"
)]

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use guest_memory_bitmap::{AtomicBitmap, DirtyPages, Readers};
use guest_memory_core::{
    Bytes, GuestAddress, GuestAddressSpace, GuestDirtyPages, GuestMemory, GuestMemoryRegion,
    GuestRegionCollection, MemoryLog, MemorySlot, MemorySlots, SlotError,
};
use proptest::prelude::*;

use crate::toy::{PAGE, Toy};

/// Start and length of the regions: two that touch, a hole, one more that ends within a page.
const REGIONS: [(u64, usize); 3] = [(0x100, 0x400), (0x500, 0x300), (0x1000, 0x7c)];

fn memory() -> GuestRegionCollection<Toy> {
    let regions = REGIONS.map(|(start, len)| {
        let bitmap = AtomicBitmap::new(len, NonZeroUsize::new(PAGE).unwrap());
        Toy::with_bitmap(start, len, bitmap)
    });
    GuestRegionCollection::from_regions(regions.into()).unwrap()
}

fn slot(start: u64, len_bytes: u64, page_size: usize) -> MemorySlot {
    MemorySlot {
        start: GuestAddress(start),
        len_bytes,
        page_size: NonZeroUsize::new(page_size).unwrap(),
    }
}

/// The first addresses of the pages of all regions that hold a byte of one of the ranges.
fn pages_of(ranges: impl IntoIterator<Item = Range<u64>>) -> BTreeSet<u64> {
    let ranges: Vec<_> = ranges
        .into_iter()
        .filter(|range| !range.is_empty())
        .collect();
    let pages = REGIONS.into_iter().flat_map(|(start, len)| {
        let end = start + len as u64;
        (start..end)
            .step_by(PAGE)
            .map(move |page| page..(page + PAGE as u64).min(end))
    });
    pages
        .filter(|page| {
            ranges
                .iter()
                .any(|range| range.start < page.end && page.start < range.end)
        })
        .map(|page| page.start)
        .collect()
}

fn harvested(pages: &GuestDirtyPages) -> BTreeSet<u64> {
    pages
        .regions()
        .flat_map(|(start, pages)| {
            pages
                .pages()
                .map(move |page| start.0 + (page * PAGE) as u64)
        })
        .collect()
}

fn assert_is(pages: &GuestDirtyPages, expected: &BTreeSet<u64>) {
    assert_eq!(&harvested(pages), expected);
    assert_eq!(pages.count(), expected.len());
    assert_eq!(pages.is_empty(), expected.is_empty());
    for address in 0..0x1100 {
        let page = REGIONS.iter().find_map(|&(start, len)| {
            let offset = u64::checked_sub(address, start).filter(|offset| *offset < len as u64)?;
            Some(start + offset / PAGE as u64 * PAGE as u64)
        });
        let is_dirty = page.is_some_and(|page| expected.contains(&page));
        assert_eq!(
            pages.contains(GuestAddress(address)),
            is_dirty,
            "{address:#x}"
        );
    }
    // The ranges are the same bytes; no two touch.
    let ranges: Vec<_> = pages
        .ranges()
        .map(|(start, len)| start.0..start.0 + len)
        .collect();
    assert_eq!(&pages_of(ranges.iter().cloned()), expected);
    assert!(
        ranges.windows(2).all(|pair| pair[0].end < pair[1].start),
        "{ranges:?}"
    );
    let len: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    assert_eq!(pages.len_bytes(), len);
}

#[test]
fn a_range_over_the_border_of_two_regions_is_one() {
    let memory = memory();
    let log = MemoryLog::new(&memory);
    memory.write_slice(&[1; 0x20], GuestAddress(0x4f0)).unwrap();
    memory.write_obj(1u8, GuestAddress(0x107b)).unwrap();
    let pages = log.harvest();
    assert!(
        pages
            .ranges()
            .eq([(GuestAddress(0x4f0), 0x20), (GuestAddress(0x1078), 4)])
    );
    assert_is(&pages, &pages_of([0x4f0..0x510, 0x107b..0x107c]));
    assert!(log.harvest().is_empty());
}

#[test]
fn tracking_is_switched_for_all_regions() {
    let memory = memory();
    let log = MemoryLog::new(&memory);
    assert!(log.is_tracking());
    log.stop_tracking();
    assert!(!log.is_tracking());
    let write_all = || {
        for (start, _) in REGIONS {
            memory.write_obj(1u8, GuestAddress(start)).unwrap();
        }
    };
    write_all();
    assert!(log.harvest().is_empty());
    log.start_tracking();
    write_all();
    assert_eq!(log.harvest().count(), REGIONS.len());
}

#[test]
fn a_harvest_into_a_set_of_other_regions_leaves_nothing_of_them() {
    let memory = memory();
    let log = MemoryLog::new(&memory);
    let page_size = NonZeroUsize::new(1).unwrap();
    let mut pages = GuestDirtyPages::from_regions((0..9).rev().map(|at| {
        (
            GuestAddress(at * 0x100),
            DirtyPages::new(0x100, page_size).unwrap(),
        )
    }));
    pages.insert_all();
    assert!(pages.ranges().eq([(GuestAddress(0), 0x900)]));
    memory.write_obj(1u8, GuestAddress(0x123)).unwrap();
    log.harvest_into(&mut pages);
    assert_is(&pages, &pages_of([0x123..0x124]));
    pages.insert_all();
    assert_is(&pages, &pages_of([0..u64::MAX]));
    let mut all = log.empty_pages();
    assert_is(&all, &BTreeSet::new());
    all.insert_all();
    assert_eq!(all, pages);
    // A set for nothing takes over the regions of what is added.
    let mut sum = GuestDirtyPages::default();
    sum |= &all;
    assert_eq!(sum, all);
    sum -= &all;
    assert_eq!(sum, log.empty_pages());
    pages.clear();
    assert_is(&pages, &BTreeSet::new());
}

#[test]
fn pages_that_no_region_holds_are_errors_and_the_others_are_merged() {
    let memory = memory();
    let log = MemoryLog::new(&memory);
    // From before the first region to past the last one, in pages of 0x80.
    let wide = slot(0, 0x2000, 0x80);
    assert_eq!(
        log.merge_words(&wide, [u64::MAX]),
        Err(SlotError::NoMemory {
            address: GuestAddress(0)
        })
    );
    assert_is(&log.harvest(), &pages_of([0..0x2000]));
    assert_eq!(
        log.merge_page(&wide, 0x1000 / 0x80 + 1),
        Err(SlotError::NoMemory {
            address: GuestAddress(0x1080)
        })
    );
    // A page past the slot's end, next to one that is in it.
    let short = slot(0x100, 0x300, 0x100);
    let outside = SlotError::OutsideSlot {
        page: 3,
        start: GuestAddress(0x100),
        len_bytes: 0x300,
    };
    assert_eq!(log.merge_words(&short, [0b1100]), Err(outside));
    assert_is(&log.harvest(), &pages_of([0x300..0x400]));
    assert_eq!(log.merge_page(&short, 3), Err(outside));
    assert_eq!(
        log.merge_page(&short, u64::MAX).unwrap_err().to_string(),
        "page 18446744073709551615 is outside the memory slot of 768 bytes at gpa 0x100"
    );
    // A slot at the top of the addresses that claims more than there is.
    let top = slot(u64::MAX - 0xff, 0x1000, 0x100);
    assert!(matches!(
        log.merge_words(&top, [0b11]),
        Err(SlotError::OutsideSlot { .. })
    ));
    assert!(log.harvest().is_empty());
}

#[test]
fn a_region_that_is_replaced_takes_its_marks_with_it() {
    let first = memory();
    let region = first.iter().nth(1).unwrap();
    let (start, len) = (region.start_addr(), region.len());
    first.write_obj(1u8, GuestAddress(0x600)).unwrap();
    first.write_obj(1u8, GuestAddress(0x108)).unwrap();
    let (second, _removed) = first.remove_region(start, len).unwrap();
    assert_eq!(
        harvested(&MemoryLog::new(&second).harvest()),
        BTreeSet::from([0x108])
    );
}

/// A handle on memory that a test exchanges.
#[derive(Clone, Default)]
struct Exchanged(Arc<Mutex<Arc<GuestRegionCollection<Toy>>>>);

impl GuestAddressSpace for Exchanged {
    type M = GuestRegionCollection<Toy>;
    type T = Arc<GuestRegionCollection<Toy>>;

    fn memory(&self) -> Self::T {
        Arc::clone(&self.0.lock().unwrap())
    }
}

#[test]
fn a_reader_is_given_no_page_of_a_region_that_is_gone() {
    let space = Exchanged::default();
    let exchange = |memory| *space.0.lock().unwrap() = Arc::new(memory);
    let whole = memory();
    let (start, len) = REGIONS[0];
    let (rest, _) = whole
        .remove_region(GuestAddress(start), len as u64)
        .unwrap();
    exchange(whole);
    let readers = Readers::new(MemoryLog::new(space.clone()));
    let (mut fast, mut slow) = (readers.join(), readers.join());
    let write = |address| {
        space
            .memory()
            .write_obj(1u8, GuestAddress(address))
            .unwrap()
    };
    write(0x100);
    write(0x508);
    assert_eq!(harvested(&fast.harvest()), BTreeSet::from([0x100, 0x508]));
    exchange(rest);
    assert_eq!(harvested(&slow.harvest()), BTreeSet::from([0x508]));
    // All of it goes, between the harvests of the two, and before any.
    write(0x510);
    assert_eq!(harvested(&fast.harvest()), BTreeSet::from([0x510]));
    exchange(GuestRegionCollection::new());
    for reader in [&mut slow, &mut fast] {
        assert_eq!(reader.harvest(), GuestDirtyPages::default());
    }
}

/// Slots that divide memory otherwise than the regions do, with a page size each.
fn slots() -> impl Strategy<Value = Vec<MemorySlot>> {
    let page_size = || (0_u32..9).prop_map(|shift| 1_usize << shift);
    (0x100_u64..=0x800, page_size(), page_size()).prop_map(|(border, one, two)| {
        vec![
            slot(0x100, border - 0x100, one),
            slot(border, 0x800 - border, two),
            slot(0x1000, 0x7c, one),
        ]
    })
}

proptest! {
    #[test]
    fn a_harvest_is_the_union_of_writes_and_logs(
        slots in slots(),
        writes in prop::collection::vec((0x100_u64..0x800, 1..64_usize), 0..8),
        logged in prop::collection::vec((0..3_usize, any::<prop::sample::Index>()), 0..24),
        use_ring in any::<bool>(),
    ) {
        let memory = memory();
        let log = MemoryLog::new(&memory);
        let mut table = MemorySlots::default();
        for (number, slot) in slots.iter().enumerate() {
            table.insert(number as u32, *slot);
        }

        let mut expected = Vec::new();
        for (start, len) in writes {
            let len = len.min((0x800 - start) as usize);
            memory.write_slice(&vec![1; len], GuestAddress(start)).unwrap();
            expected.push(start..start + len as u64);
        }
        let mut words = vec![vec![0_u64; 0x1000 / 64]; slots.len()];
        for (number, index) in logged {
            let slot = slots[number];
            let page_count = slot.len_bytes.div_ceil(slot.page_size.get() as u64) as usize;
            if page_count == 0 {
                continue;
            }
            let page = index.index(page_count);
            let start = slot.start.0 + (page * slot.page_size.get()) as u64;
            let end = (start + slot.page_size.get() as u64).min(slot.start.0 + slot.len_bytes);
            expected.push(start..end);
            if use_ring {
                log.merge_page(table.get(number as u32).unwrap(), page as u64).unwrap();
            } else {
                words[number][page / 64] |= 1 << (page % 64);
            }
        }
        for (slot, words) in slots.iter().zip(words) {
            log.merge_words(slot, words).unwrap();
        }
        assert_is(&log.harvest(), &pages_of(expected));
    }

    #[test]
    fn readers_of_a_memory_each_see_every_page(
        script in prop::collection::vec((0..3_usize, 0x100_u64..0x800), 0..40),
    ) {
        let memory = memory();
        let readers = Readers::new(MemoryLog::new(&memory));
        let mut each = [(readers.join(), BTreeSet::new()), (readers.join(), BTreeSet::new())];
        for (what, address) in script {
            match each.get_mut(what) {
                Some((reader, unseen)) => {
                    assert_eq!(harvested(&reader.harvest()), *unseen);
                    unseen.clear();
                }
                None => {
                    memory.write_obj(1u8, GuestAddress(address)).unwrap();
                    let page = pages_of([address..address + 1]);
                    each.iter_mut().for_each(|(_, unseen)| unseen.extend(page.iter().copied()));
                }
            }
        }
    }

    #[test]
    fn sets_of_the_same_and_of_other_regions_are_combined(
        one in prop::collection::vec((0_u64..0x1100, 0..0x200_u64), 0..8),
        other in prop::collection::vec((0_u64..0x1100, 0..0x200_u64), 0..8),
        split in 0x108_u64..0x500,
    ) {
        let page_size = NonZeroUsize::new(PAGE).unwrap();
        let split = split / PAGE as u64 * PAGE as u64;
        let of = |regions: &[(u64, usize)], ranges: &[(u64, u64)]| {
            let mut pages = GuestDirtyPages::from_regions(regions.iter().map(|&(start, len)| {
                (GuestAddress(start), DirtyPages::new(len, page_size).unwrap())
            }));
            ranges.iter().for_each(|&(start, len)| pages.insert_range(GuestAddress(start), len));
            pages
        };
        let model = |ranges: &[(u64, u64)]| pages_of(ranges.iter().map(|&(start, len)| start..start + len));
        // The same memory, once with its first region cut in two.
        let mut cut = vec![(0x100, (split - 0x100) as usize), (split, (0x500 - split) as usize)];
        cut.extend(&REGIONS[1..]);
        for regions in [&REGIONS[..], &cut] {
            let mut union = of(&REGIONS, &one);
            union.union_with(&of(regions, &other));
            assert_is(&union, &(&model(&one) | &model(&other)));
            // Both sets' ranges by ascending address, into regions that they may not be of.
            let mut at_once = of(regions, &one);
            at_once.insert_ranges(of(&REGIONS, &other).ranges());
            assert_is(&at_once, &(&model(&one) | &model(&other)));
            let mut rest = of(&REGIONS, &one);
            rest.subtract(&of(regions, &other));
            assert_is(&rest, &(&model(&one) - &model(&other)));
        }
    }
}
