// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Sets of dirty pages against sets of numbers: what goes in, what comes out, and what is combined.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::ops::Range;

use guest_memory_bitmap::{AtomicBitmap, DirtyPages};
use proptest::prelude::*;

/// More pages than two words of the summary stand for.
const MAX_PAGES: usize = 9000;

/// A memory in pages of one size, and what was written to it.
#[derive(Clone, Debug)]
struct Case {
    byte_size: usize,
    page_size: usize,
    written: Vec<Range<usize>>,
}

impl Case {
    fn page_count(&self) -> usize {
        self.byte_size.div_ceil(self.page_size)
    }

    fn model(&self) -> BTreeSet<usize> {
        self.written
            .iter()
            .flat_map(|bytes| self.pages_of(bytes))
            .collect()
    }

    /// The pages that hold a byte of a range.
    fn pages_of(&self, bytes: &Range<usize>) -> Range<usize> {
        if bytes.is_empty() {
            return 0..0;
        }
        let end = (bytes.end - 1) / self.page_size + 1;
        bytes.start / self.page_size..end.min(self.page_count())
    }

    fn set(&self) -> DirtyPages {
        let mut set = empty(self.byte_size, self.page_size);
        self.written
            .iter()
            .cloned()
            .for_each(|bytes| set.insert_range(bytes));
        set
    }
}

fn empty(byte_size: usize, page_size: usize) -> DirtyPages {
    DirtyPages::new(byte_size, NonZeroUsize::new(page_size).unwrap()).unwrap()
}

/// Ranges of all lengths, many at the borders of words and of summary words.
fn written(byte_size: usize, page_size: usize) -> impl Strategy<Value = Vec<Range<usize>>> {
    let border = move |pages: usize| {
        (0..=byte_size / (pages * page_size), 0..=2 * page_size)
            .prop_map(move |(at, by)| (at * pages * page_size + by).saturating_sub(page_size))
    };
    let start = prop_oneof![2 => 0..=byte_size, 1 => border(64), 1 => border(64 * 64)];
    let len = prop_oneof![4 => 0..=2 * page_size, 1 => 0..=70 * page_size, 1 => 0..=byte_size];
    prop::collection::vec(
        (start, len).prop_map(|(start, len)| start..start + len),
        0..24,
    )
}

fn case() -> impl Strategy<Value = Case> {
    let pages = prop_oneof![0..200_usize, 0..MAX_PAGES];
    (0_u32..=13, pages)
        .prop_flat_map(|(shift, pages)| {
            let page_size = 1 << shift;
            (Just(page_size), 0..page_size).prop_map(move |(page_size, missing)| {
                (page_size, (pages * page_size).saturating_sub(missing))
            })
        })
        .prop_flat_map(|(page_size, byte_size)| {
            written(byte_size, page_size).prop_map(move |written| Case {
                byte_size,
                page_size,
                written,
            })
        })
}

/// Two writings to one memory, and page sizes for both.
fn pair() -> impl Strategy<Value = (Case, Case)> {
    (case(), 0_u32..=13).prop_flat_map(|(one, shift)| {
        let smallest = (one.byte_size / MAX_PAGES).next_power_of_two();
        let (byte_size, page_size) = (one.byte_size, smallest.max(1 << shift));
        written(byte_size, page_size).prop_map(move |written| {
            let other = Case {
                byte_size,
                page_size,
                written,
            };
            (one.clone(), other)
        })
    })
}

/// The bytes of a set, one by one, as ranges: for a comparison over different page sizes.
fn bytes(set: &DirtyPages) -> Vec<Range<usize>> {
    set.ranges().collect()
}

fn holds(ranges: &[Range<usize>], byte: usize) -> bool {
    let after = ranges.partition_point(|range| range.start <= byte);
    after > 0 && byte < ranges[after - 1].end
}

/// Says whether a byte of a range is missing, given that its first and last are there.
fn gaps(ranges: &[Range<usize>], bytes: Range<usize>) -> bool {
    ranges[ranges.partition_point(|range| range.end <= bytes.start)].end < bytes.end
}

fn assert_is(set: &DirtyPages, case: &Case, model: &BTreeSet<usize>) {
    assert!(set.pages().eq(model.iter().copied()));
    assert_eq!(set.count(), model.len());
    assert_eq!(set.is_empty(), model.is_empty());
    assert_eq!(
        (set.page_count(), set.byte_size()),
        (case.page_count(), case.byte_size)
    );
    let past = [case.page_count(), case.page_count() + 63, usize::MAX];
    for page in (0..case.page_count()).step_by(7).chain(past) {
        assert_eq!(set.contains(page), model.contains(&page), "page {page}");
    }
    let mut expected: Vec<Range<usize>> = Vec::new();
    for page in model {
        let start = page * case.page_size;
        let end = (start + case.page_size).min(case.byte_size);
        match expected.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => expected.push(start..end),
        }
    }
    assert_eq!(bytes(set), expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_set_holds_the_pages_of_its_ranges(case in case()) {
        let set = case.set();
        assert_is(&set, &case, &case.model());
        assert_eq!(set.clone(), set);

        let mut cleared = set.clone();
        cleared.clear();
        assert_is(&cleared, &case, &BTreeSet::new());
        assert_eq!(cleared, empty(case.byte_size, case.page_size));
    }

    #[test]
    fn a_harvest_is_what_was_marked(first in case(), second in case()) {
        // Into the same set, whatever was in it, of whatever size.
        let mut set = DirtyPages::default();
        for case in [&first, &second, &first] {
            let log = AtomicBitmap::new(case.byte_size, NonZeroUsize::new(case.page_size).unwrap());
            for _ in 0..2 {
                case.written.iter().for_each(|bytes| log.set_addr_range(bytes.start, bytes.len()));
                log.harvest_into(&mut set);
                assert_is(&set, case, &case.model());
            }
            log.harvest_into(&mut set);
            assert_is(&set, case, &BTreeSet::new());
        }
    }

    #[test]
    fn words_and_bytes_go_both_ways(case in case()) {
        let set = case.set();
        let mut of_words = empty(case.byte_size, case.page_size);
        of_words.insert_words(set.words().iter().copied());
        assert_eq!(of_words, set);

        let le_bytes = set.to_le_bytes();
        for page in (0..case.page_count()).step_by(5) {
            let is_set = le_bytes[page / 8] >> (page % 8) & 1 == 1;
            assert_eq!(is_set, set.contains(page), "page {page}");
        }
        let mut of_bytes = empty(case.byte_size, case.page_size);
        of_bytes.insert_le_bytes(&le_bytes);
        assert_eq!(of_bytes, set);
    }

    #[test]
    fn union_and_difference_are_those_of_sets((one, mut other) in pair()) {
        other.page_size = one.page_size;
        let (mut union, mut rest) = (one.set(), one.set());
        union.union_with(&other.set());
        assert_is(&union, &one, &(&one.model() | &other.model()));
        rest.subtract(&other.set());
        assert_is(&rest, &one, &(&one.model() - &other.model()));
        // What is taken away leaves no trace.
        let mut none = one.set();
        none.subtract(&one.set());
        assert_eq!(none, empty(one.byte_size, one.page_size));
    }

    #[test]
    fn another_page_size_covers_the_same_bytes_rounded_outwards((one, other) in pair()) {
        let converted = one.set().with_page_size(NonZeroUsize::new(other.page_size).unwrap()).unwrap();
        let expected: BTreeSet<usize> =
            one.set().ranges().flat_map(|bytes| other.pages_of(&bytes)).collect();
        assert_is(&converted, &other, &expected);

        let mut union = other.set();
        union.union_with(&one.set());
        assert_is(&union, &other, &(&expected | &other.model()));
    }

    #[test]
    fn taking_away_pages_of_another_size_keeps_every_other_byte((one, other) in pair()) {
        let mut rest = one.set();
        rest.subtract(&other.set());
        let (all, taken, rest) = (bytes(&one.set()), bytes(&other.set()), bytes(&rest));
        let edges = [&all, &taken, &rest].into_iter().flatten().flat_map(|range| [range.start, range.end]);
        for byte in edges.flat_map(|edge| [edge.saturating_sub(1), edge]).filter(|byte| *byte < one.byte_size) {
            let should_stay = holds(&all, byte) && !holds(&taken, byte);
            assert!(!should_stay || holds(&rest, byte), "byte {byte} is lost");
            assert!(holds(&all, byte) || !holds(&rest, byte), "byte {byte} is new");
            // A whole page that the other set covers does not stay.
            let page = byte / one.page_size * one.page_size;
            let page_end = (page + one.page_size).min(one.byte_size);
            let is_covered = holds(&taken, page) && holds(&taken, page_end - 1) && !gaps(&taken, page..page_end);
            assert!(!is_covered || !holds(&rest, byte), "byte {byte} stays");
        }
    }
}
