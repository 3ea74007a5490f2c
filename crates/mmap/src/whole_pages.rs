// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Ranges of bytes as ranges of whole pages.

use std::ops::Range;

/// Returns the whole pages inside a range of bytes; where there is none, the empty range at its end.
///
/// `page_size` must be a power of two.
pub(crate) fn inside(range: Range<usize>, page_size: usize) -> Range<usize> {
    let start = range.start.checked_next_multiple_of(page_size);
    let end = floor(range.end, page_size);
    match start {
        Some(start) if start < end => start..end,
        _ => range.end..range.end,
    }
}

/// Returns the pages that a range of bytes touches, cut off at `limit`; none if the range is empty.
///
/// `page_size` must be a power of two.
pub(crate) fn around(range: Range<usize>, page_size: usize, limit: usize) -> Range<usize> {
    if range.is_empty() {
        return range;
    }
    let end = range.end.checked_next_multiple_of(page_size);
    floor(range.start, page_size)..usize::min(end.unwrap_or(limit), limit)
}

/// Joins a range to the last one of a list if it starts where that ends, or else appends it; an empty range is left out.
pub(crate) fn push(ranges: &mut Vec<Range<usize>>, range: Range<usize>) {
    match ranges.last_mut() {
        _ if range.is_empty() => {}
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

fn floor(offset: usize, page_size: usize) -> usize {
    offset & !page_size.wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A page of a model is in the answer byte by byte.
    fn bytes(range: Range<usize>) -> Vec<usize> {
        range.collect()
    }

    proptest! {
        #[test]
        fn whole_pages_are_those_of_which_no_byte_is_missing(
            start in 0usize..100, len in 0usize..100, log2 in 0u32..6,
        ) {
            let page_size = 1 << log2;
            let range = start..start + len;
            let expected: Vec<_> = range
                .clone()
                .filter(|byte| {
                    let page = byte / page_size * page_size;
                    (page..page + page_size).all(|byte| range.contains(&byte))
                })
                .collect();
            let found = inside(range.clone(), page_size);
            prop_assert_eq!(bytes(found.clone()), expected);
            prop_assert!(found.start >= range.start && found.end <= range.end);
        }

        #[test]
        fn touched_pages_are_those_of_which_a_byte_is_there(
            start in 0usize..100, len in 0usize..100, log2 in 0u32..6, room in 0usize..100,
        ) {
            let page_size = 1 << log2;
            let range = start..start + len;
            let limit = range.end + room;
            let expected: Vec<_> = (0..limit)
                .filter(|byte| {
                    let page = byte / page_size * page_size;
                    (page..page + page_size).any(|byte| range.contains(&byte))
                })
                .collect();
            prop_assert_eq!(bytes(around(range, page_size, limit)), expected);
        }

        #[test]
        fn pieces_of_a_range_join_to_what_they_cover(pieces in proptest::collection::vec((0usize..3, 0usize..3), 0..20)) {
            let mut joined = Vec::new();
            let mut expected = Vec::new();
            let mut at = 0;
            for (gap, len) in pieces {
                at += gap;
                push(&mut joined, at..at + len);
                expected.extend(at..at + len);
                at += len;
            }
            for pair in joined.windows(2) {
                prop_assert!(pair[0].end < pair[1].start, "{joined:?}");
            }
            prop_assert_eq!(joined.into_iter().flatten().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn the_top_of_the_offsets_is_no_trap() {
        assert_eq!(
            inside(usize::MAX - 1..usize::MAX, 4096),
            usize::MAX..usize::MAX
        );
        let touched = around(usize::MAX - 1..usize::MAX, 4096, usize::MAX);
        assert_eq!(touched, usize::MAX - 4095..usize::MAX);
    }
}
