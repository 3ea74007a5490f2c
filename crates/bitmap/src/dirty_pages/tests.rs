// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Edges of sets of pages; random ones stand in the tests of the public API.
#![expect(
    clippy::single_range_in_vec_init,
    reason = "lists of ranges, some with one"
)]

use super::*;
use alloc::format;

const PAGE: usize = 4096;

fn pages(byte_size: usize, page_size: usize) -> DirtyPages {
    DirtyPages::new(byte_size, NonZeroUsize::new(page_size).unwrap()).unwrap()
}

fn ranges(pages: &DirtyPages) -> Vec<Range<usize>> {
    pages.ranges().collect()
}

#[test]
fn a_set_for_no_bytes_stays_empty() {
    for mut set in [DirtyPages::default(), pages(0, 1)] {
        set.insert(0);
        set.insert_range(0..usize::MAX);
        set.insert_words([u64::MAX]);
        set.insert_le_bytes(&[0xff; 9]);
        assert!(set.is_empty() && !set.contains(0));
        assert_eq!((set.count(), set.page_count(), set.byte_size()), (0, 0, 0));
        assert!(set.to_le_bytes().is_empty() && set.words().is_empty());
        set.clear();
        set.subtract(&set.clone());
        assert_eq!(ranges(&set), [] as [Range<usize>; 0]);
    }
}

#[test]
fn a_set_for_no_bytes_gets_the_page_size_asked_for() {
    let converted = pages(0, 1).with_page_size(NonZeroUsize::new(PAGE).unwrap());
    assert_eq!(converted, Ok(pages(0, PAGE)));
}

#[test]
fn runs_join_over_words_and_over_summary_words() {
    const SUMMARY: usize = 64 * 64;
    let mut set = pages(3 * SUMMARY, 1);
    for bytes in [
        0..1,
        62..64,
        64..65,
        127..130,
        191..193,
        200..SUMMARY,
        SUMMARY..SUMMARY + 1,
        2 * SUMMARY - 1..2 * SUMMARY,
        3 * SUMMARY - 1..3 * SUMMARY,
    ] {
        set.insert_range(bytes);
    }
    assert_eq!(
        ranges(&set),
        [
            0..1,
            62..65,
            127..130,
            191..193,
            200..SUMMARY + 1,
            2 * SUMMARY - 1..2 * SUMMARY,
            3 * SUMMARY - 1..3 * SUMMARY,
        ]
    );
    set.insert_range(0..usize::MAX);
    assert_eq!(ranges(&set), [0..3 * SUMMARY]);
}

#[test]
fn the_last_page_ends_with_the_memory() {
    let mut set = pages(2 * PAGE + 1, PAGE);
    set.insert(2);
    set.insert(3);
    assert_eq!(ranges(&set), [2 * PAGE..2 * PAGE + 1]);
    set.insert_range(PAGE - 1..PAGE);
    assert_eq!(ranges(&set), [0..PAGE, 2 * PAGE..2 * PAGE + 1]);
    assert_eq!(set.words(), [0b101]);
}

#[test]
fn empty_and_reversed_ranges_add_nothing() {
    let mut set = pages(10 * PAGE, PAGE);
    set.insert_range(5..5);
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is tested")]
    set.insert_range(PAGE..0);
    set.insert_range(10 * PAGE..usize::MAX);
    assert!(set.is_empty());
}

#[test]
fn words_and_bytes_of_a_hypervisor_are_taken_as_far_as_there_are_pages() {
    let mut set = pages(70 * PAGE, PAGE);
    set.insert_words([1 << 63, u64::MAX, u64::MAX]);
    assert_eq!(set.words(), [1 << 63, 0b11_1111]);
    assert_eq!(set.to_le_bytes(), {
        let mut bytes = [0; 16];
        (bytes[7], bytes[8]) = (0x80, 0x3f);
        bytes
    });
    let mut same = pages(70 * PAGE, PAGE);
    // The ninth byte, past the last whole word, counts.
    same.insert_le_bytes(&set.to_le_bytes()[..9]);
    assert_eq!(same, set);
    assert!(set.pages().eq(63..70));
}

#[test]
fn taking_away_coarser_or_finer_pages_loses_no_dirty_byte() {
    let coarse_with = |bytes: Range<usize>| {
        let mut set = pages(10 * PAGE + 1, 4 * PAGE);
        set.insert_range(bytes);
        set
    };
    let mut fine = pages(10 * PAGE + 1, PAGE);
    fine.insert_range(3 * PAGE..10 * PAGE + 1);
    // Fine pages that a coarse one covers are gone.
    let mut rest = fine.clone();
    rest.subtract(&coarse_with(4 * PAGE..4 * PAGE + 1));
    assert_eq!(ranges(&rest), [3 * PAGE..4 * PAGE, 8 * PAGE..10 * PAGE + 1]);
    // Of the coarse pages only those go that are covered wholly; the last one ends with the memory.
    let mut rest = coarse_with(0..usize::MAX);
    rest.subtract(&fine);
    assert_eq!(ranges(&rest), [0..4 * PAGE]);
}

#[test]
fn sets_of_different_sizes_are_not_equal() {
    assert_eq!(pages(64, 1), pages(64, 1));
    assert_ne!(pages(64, 1), pages(63, 1));
    assert_ne!(pages(64, 1), pages(64, 2));
}

#[test]
fn debug_output_is_short_and_names_ranges() {
    let mut set = pages(1 << 30, PAGE);
    (0..1 << 18).step_by(2).for_each(|page| set.insert(page));
    let text = format!("{set:?}");
    assert!(
        text.contains("count: 131072") && text.len() < 2000,
        "{text}"
    );
    assert!(text.contains("0x2000..0x3000"), "{text}");
}

#[test]
fn a_default_set_takes_over_what_is_added_to_it() {
    let mut one = pages(10 * PAGE, PAGE);
    one.insert(3);
    let mut sum = DirtyPages::default();
    sum |= &one;
    assert_eq!(sum, one);
    let mut other = pages(10 * PAGE, PAGE);
    other.insert(4);
    sum |= &other;
    assert_eq!(ranges(&sum), [3 * PAGE..5 * PAGE]);
    sum -= &one;
    assert_eq!(sum, other);
    // A set for something stays one for that.
    let mut small = pages(PAGE, PAGE);
    small |= &one;
    assert_eq!((small.byte_size(), small.count()), (PAGE, 0));
}
