// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Tables for the atomic bitmap's edges.

use super::*;
use alloc::format;
use core::ops::Range;

const TOP_BIT: usize = 1 << (usize::BITS - 1);

fn bitmap(byte_size: usize, page_size: usize) -> AtomicBitmap {
    AtomicBitmap::new(byte_size, NonZeroUsize::new(page_size).unwrap())
}

/// The marked pages, by asking for every bit and for some past the end.
fn marked(bitmap: &AtomicBitmap) -> Vec<usize> {
    (0..bitmap.len() + 130)
        .filter(|page| bitmap.is_bit_set(*page))
        .collect()
}

#[test]
fn sizes_round_up_to_pages() {
    for (byte_size, page_size, pages) in [
        (0, 4096, 0),
        (1, 4096, 1),
        (4096, 4096, 1),
        (4097, 4096, 2),
        (1000, 1, 1000),
        (1 << 20, 128, 8192),
        (usize::MAX, TOP_BIT, 2),
    ] {
        let bitmap = bitmap(byte_size, page_size);
        assert_eq!(bitmap.len(), pages, "{byte_size} / {page_size}");
        assert_eq!(bitmap.is_empty(), pages == 0);
        assert_eq!(bitmap.byte_size(), byte_size);
        assert_eq!(bitmap.page_size().get(), page_size);
        assert_eq!(bitmap.tracked_bytes(), Some(byte_size));
        assert_eq!(bitmap.get_and_reset().len(), pages.div_ceil(64));
    }
}

#[test]
#[should_panic(expected = "page size of 3000 bytes is not a power of two")]
fn new_panics_on_a_page_size_that_is_no_power_of_two() {
    bitmap(1 << 20, 3000);
}

#[test]
fn try_new_refuses_a_page_size_that_is_no_power_of_two() {
    let page_size = NonZeroUsize::new(3000).unwrap();
    let error = AtomicBitmap::try_new(1 << 20, page_size).unwrap_err();
    assert_eq!(error.page_size(), page_size);
    // An empty bitmap is no excuse.
    assert!(AtomicBitmap::try_new(0, page_size).is_err());
}

#[test]
fn a_default_bitmap_records_nothing() {
    let bitmap = AtomicBitmap::default();
    assert!(bitmap.is_empty());
    bitmap.set_bit(0);
    bitmap.mark_dirty(0, usize::MAX);
    assert!(!bitmap.dirty_at(0));
    assert_eq!(bitmap.get_and_reset(), []);
    assert_eq!(bitmap.tracked_bytes(), Some(0));
}

#[test]
fn a_new_bitmap_from_a_length_has_the_page_size_of_the_host() {
    let bitmap = AtomicBitmap::with_len(1 << 20);
    assert_eq!(bitmap.byte_size(), 1 << 20);
    assert_eq!(bitmap.page_size(), AtomicBitmap::default().page_size());
    assert_eq!(bitmap.page_size(), PageSize::of_host().bytes());
}

#[test]
fn bits_are_set_and_reset_one_by_one() {
    let bitmap = bitmap(200, 1);
    for page in [0, 63, 64, 127, 128, 199] {
        bitmap.set_bit(page);
        assert_eq!(marked(&bitmap), [page]);
        bitmap.set_bit(page);
        assert_eq!(marked(&bitmap), [page]);
        bitmap.reset_bit(page);
        assert_eq!(marked(&bitmap), []);
    }
}

#[test]
fn bits_past_the_end_are_ignored_even_within_the_last_word() {
    let bitmap = bitmap(70, 1);
    for page in [70, 71, 127, 128, 1 << 20, usize::MAX] {
        bitmap.set_bit(page);
        assert!(!bitmap.is_bit_set(page), "page {page}");
        bitmap.reset_bit(page);
    }
    assert_eq!(bitmap.get_and_reset(), [0, 0]);
}

#[test]
fn ranges_mark_every_page_they_touch() {
    // 100 pages of 16 bytes, the last with 4 bytes of its own.
    let table: &[(usize, usize, Range<usize>)] = &[
        (0, 0, 0..0),
        (17, 0, 0..0),
        (usize::MAX, 0, 0..0),
        (0, 1, 0..1),
        (15, 1, 0..1),
        (15, 2, 0..2),
        (16, 16, 1..2),
        (16, 17, 1..3),
        (0, 16 * 64, 0..64),
        (1, 16 * 64, 0..65),
        (16 * 63, 17, 63..65),
        (16 * 64 - 1, 1, 63..64),
        (16 * 64, 1, 64..65),
        (0, 1588, 0..100),
        (1587, 1, 99..100),
        // The rest of the last page belongs to it, the byte after it does not.
        (1599, 1, 99..100),
        (1599, 100, 99..100),
        (1600, 1, 0..0),
        (1600, usize::MAX, 0..0),
        (0, usize::MAX, 0..100),
        (1, usize::MAX, 0..100),
        (16 * 98, usize::MAX, 98..100),
        (usize::MAX, 1, 0..0),
        (usize::MAX, usize::MAX, 0..0),
        (usize::MAX - 15, 16, 0..0),
        (usize::MAX - 15, 17, 0..0),
        (TOP_BIT, TOP_BIT, 0..0),
    ];
    for (start, len, pages) in table {
        let bitmap = bitmap(1588, 16);
        bitmap.set_addr_range(*start, *len);
        let expected: Vec<_> = pages.clone().collect();
        assert_eq!(marked(&bitmap), expected, "set {start:#x} + {len:#x}");

        bitmap.set_addr_range(0, usize::MAX);
        bitmap.reset_addr_range(*start, *len);
        let expected: Vec<_> = (0..100).filter(|page| !pages.contains(page)).collect();
        assert_eq!(marked(&bitmap), expected, "reset {start:#x} + {len:#x}");
    }
}

#[test]
fn ranges_at_the_top_of_the_addresses_are_marked() {
    let bitmap = bitmap(usize::MAX, TOP_BIT);
    for (start, len, word) in [
        (0, 1, 0b01),
        (TOP_BIT - 1, 2, 0b11),
        (usize::MAX - 1, 1, 0b10),
        (usize::MAX - 1, usize::MAX, 0b10),
        (0, usize::MAX, 0b11),
        (1, usize::MAX, 0b11),
    ] {
        bitmap.set_addr_range(start, len);
        assert_eq!(bitmap.get_and_reset(), [word], "{start:#x} + {len:#x}");
    }
}

#[test]
fn an_address_is_dirty_with_its_page() {
    let bitmap = bitmap(100, 64);
    bitmap.set_addr_range(70, 1);
    for (addr, dirty) in [
        (0, false),
        (63, false),
        (64, true),
        (99, true),
        (127, true),
        (128, false),
        (usize::MAX, false),
    ] {
        assert_eq!(bitmap.is_addr_set(addr), dirty, "address {addr}");
        assert_eq!(bitmap.dirty_at(addr), dirty, "offset {addr}");
    }
}

#[test]
fn harvested_words_hold_no_bit_past_the_end() {
    let bitmap = bitmap(130, 1);
    bitmap.mark_dirty(0, usize::MAX);
    assert_eq!(bitmap.get_and_reset(), [u64::MAX, u64::MAX, 0b11]);
    assert_eq!(bitmap.get_and_reset(), [0, 0, 0]);
    assert_eq!(marked(&bitmap), []);
}

#[test]
fn reset_clears_every_mark() {
    let bitmap = bitmap(1000, 1);
    bitmap.set_addr_range(3, 990);
    bitmap.reset();
    assert_eq!(marked(&bitmap), []);
}

#[test]
fn enlarging_keeps_marks_and_adds_clean_pages() {
    let mut bitmap = bitmap(60, 1);
    bitmap.set_addr_range(50, usize::MAX);
    for (additional, byte_size) in [(0, 60), (3, 63), (1, 64), (1, 65), (1000, 1065)] {
        bitmap.enlarge(additional);
        assert_eq!(bitmap.byte_size(), byte_size);
        assert_eq!(bitmap.len(), byte_size);
        assert_eq!(marked(&bitmap), (50..60).collect::<Vec<_>>());
    }
    bitmap.set_bit(1064);
    assert!(bitmap.is_bit_set(1064));
}

#[test]
fn enlarging_fills_the_last_page_first() {
    let mut bitmap = bitmap(100, 64);
    bitmap.set_bit(1);
    bitmap.enlarge(28);
    assert_eq!((bitmap.len(), bitmap.byte_size()), (2, 128));
    assert!(bitmap.is_addr_set(127));
    bitmap.enlarge(1);
    assert_eq!((bitmap.len(), bitmap.byte_size()), (3, 129));
    assert!(!bitmap.is_addr_set(128));
}

#[test]
fn enlarging_past_the_top_saturates() {
    let mut bitmap = bitmap(TOP_BIT, TOP_BIT);
    bitmap.set_bit(0);
    bitmap.enlarge(usize::MAX);
    assert_eq!((bitmap.len(), bitmap.byte_size()), (2, usize::MAX));
    assert_eq!(bitmap.get_and_reset(), [0b01]);
}

#[test]
fn a_clone_is_a_snapshot() {
    let bitmap = bitmap(1000, 1);
    bitmap.set_addr_range(100, 300);
    let clone = bitmap.clone();
    bitmap.reset();
    assert_eq!(marked(&clone), (100..400).collect::<Vec<_>>());
    clone.set_bit(0);
    assert_eq!(marked(&bitmap), []);
    assert_eq!(clone.byte_size(), bitmap.byte_size());
    assert_eq!(clone.page_size(), bitmap.page_size());
}

#[test]
fn debug_output_is_short_and_counts_marks() {
    let bitmap = bitmap((1 << 20) - 1, 1 << 10);
    bitmap.set_addr_range(1 << 12, 1 << 18);
    assert_eq!(
        format!("{bitmap:?}"),
        format!(
            "AtomicBitmap {{ byte_size: 1048575, page_size: 1024, pages: 1024, dirty_pages: 256, \
             is_tracking: true, mark_ordering: {:?} }}",
            MarkOrdering::preferred()
        )
    );
}

#[test]
fn both_orderings_mark_and_keep_what_is_marked() {
    let page_size = NonZeroUsize::new(1).unwrap();
    for ordering in [MarkOrdering::preferred(), MarkOrdering::Symmetric] {
        let bitmap = AtomicBitmap::new(1000, page_size);
        bitmap.set_bit(7);
        let bitmap = bitmap.with_ordering(ordering).unwrap();
        bitmap.set_addr_range(100, 100);
        let mut bitmap = bitmap.clone();
        bitmap.enlarge(5);
        assert_eq!(bitmap.mark_ordering(), ordering);
        let marked: Vec<_> = core::iter::once(7).chain(100..200).collect();
        assert!(bitmap.harvest().pages().eq(marked.iter().copied()));
    }
}

#[test]
fn nothing_is_marked_while_tracking_is_off() {
    for ordering in [MarkOrdering::preferred(), MarkOrdering::Symmetric] {
        let bitmap = bitmap(10_000, 1).with_ordering(ordering).unwrap();
        bitmap.set_bit(1);
        bitmap.stop_tracking();
        assert!(!bitmap.is_tracking());
        bitmap.set_bit(2);
        bitmap.set_addr_range(3, 1);
        bitmap.mark_dirty(0, usize::MAX);
        assert_eq!(marked(&bitmap), [1]);
        // A copy does not track either.
        assert!(!bitmap.clone().is_tracking());
        bitmap.start_tracking();
        assert!(bitmap.is_tracking());
        bitmap.set_bit(4);
        assert_eq!(marked(&bitmap), [1, 4]);
    }
}

#[test]
fn a_harvest_takes_what_several_summary_words_name() {
    let bitmap = bitmap(3 * 64 * 64 * 4096 + 1, 4096);
    let group = 64 * 64 * 4096;
    bitmap.mark_dirty(group - 1, 2);
    bitmap.mark_dirty(3 * group, 1);
    let mut pages = DirtyPages::default();
    bitmap.harvest_into(&mut pages);
    let expected = [group - 4096..group + 4096, 3 * group..3 * group + 1];
    assert!(pages.ranges().eq(expected), "{pages:?}");
    // A mark that is cleared leaves nothing behind.
    bitmap.set_bit(5);
    bitmap.reset_bit(5);
    bitmap.harvest_into(&mut pages);
    assert!(pages.is_empty());
    bitmap.mark_dirty(group, group);
    bitmap.reset_addr_range(group, group - 4096);
    assert!(bitmap.harvest().pages().eq([2 * 64 * 64 - 1]));
}
