// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Sets of written pages and the ranges they make.

use std::collections::BTreeSet;
use std::ops::Range;

use guest_memory::{GuestAddress, GuestMemoryRegion};

use crate::layout::{PAGE_BYTES, Region};

/// A set of written guest pages of 4 KiB, the page size of KVM's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DirtyPages {
    page_numbers: BTreeSet<u64>,
}

impl DirtyPages {
    /// Adds the page that holds `address`.
    pub(crate) fn insert(&mut self, address: u64) {
        self.page_numbers.insert(address / PAGE_BYTES);
    }

    /// Adds a log of one bit per page, lowest bit first, whose first page is at `start`.
    pub(crate) fn insert_log(&mut self, start: GuestAddress, words: &[u64]) {
        let first_page = start.0 / PAGE_BYTES;
        for (&word, word_page) in words.iter().zip((first_page..).step_by(64)) {
            let mut rest = word;
            while rest != 0 {
                self.page_numbers
                    .insert(word_page + u64::from(rest.trailing_zeros()));
                rest &= rest - 1;
            }
        }
    }

    /// Takes the pages that the library's bitmap of a region has recorded.
    pub(crate) fn insert_bitmap(&mut self, region: &Region) {
        self.insert_log(region.start_addr(), &region.bitmap().get_and_reset());
    }

    /// Returns the pages that are in either set.
    pub(crate) fn union(&self, other: &DirtyPages) -> DirtyPages {
        DirtyPages {
            page_numbers: self
                .page_numbers
                .union(&other.page_numbers)
                .copied()
                .collect(),
        }
    }

    /// Returns the pages of this set that are missing in another.
    pub(crate) fn difference(&self, other: &DirtyPages) -> DirtyPages {
        DirtyPages {
            page_numbers: self
                .page_numbers
                .difference(&other.page_numbers)
                .copied()
                .collect(),
        }
    }

    /// Returns whether a page of this set lies in `[range.start, range.end)`.
    pub(crate) fn intersects(&self, range: &Range<u64>) -> bool {
        let pages = range.start / PAGE_BYTES..range.end.div_ceil(PAGE_BYTES);
        self.page_numbers.range(pages).next().is_some()
    }

    /// Returns the number of pages.
    pub(crate) fn page_count(&self) -> usize {
        self.page_numbers.len()
    }

    /// Returns the pages as guest address ranges `[start, end)`, neighbours joined, ascending.
    pub(crate) fn ranges(&self) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for start in self.page_numbers.iter().map(|number| number * PAGE_BYTES) {
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end += PAGE_BYTES,
                _ => ranges.push(start..start + PAGE_BYTES),
            }
        }
        ranges
    }
}

impl FromIterator<u64> for DirtyPages {
    /// Collects the pages that hold the given addresses.
    fn from_iter<T: IntoIterator<Item = u64>>(addresses: T) -> Self {
        let mut pages = DirtyPages::default();
        addresses
            .into_iter()
            .for_each(|address| pages.insert(address));
        pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_pages_join_across_words_and_logs() {
        let mut pages = DirtyPages::default();
        pages.insert_log(GuestAddress(0x10_0000), &[1 << 63, 0b1]);
        pages.insert_log(GuestAddress(0x10_0000 + 65 * PAGE_BYTES), &[0b101]);
        let first = 0x10_0000 + 63 * PAGE_BYTES;
        assert_eq!(
            pages.ranges(),
            [
                first..first + 3 * PAGE_BYTES,
                first + 4 * PAGE_BYTES..first + 5 * PAGE_BYTES
            ]
        );
        assert_eq!(pages.page_count(), 4);
    }

    #[test]
    fn sets_tell_what_is_missing_and_where_they_meet() {
        let both: DirtyPages = [0x1000, 0x1fff, 0x5000].into_iter().collect();
        let one: DirtyPages = [0x1234].into_iter().collect();
        assert_eq!(both.page_count(), 2);
        assert_eq!(both.difference(&one).ranges(), [0x5000..0x6000]);
        assert_eq!(both.union(&one), both);
        assert!(both.intersects(&(0x5fff..0x6000)));
        assert!(!both.intersects(&(0x2000..0x5000)));
    }
}
