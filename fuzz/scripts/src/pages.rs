// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The naive twin of a set of pages: a flag for each page. Sums are made in 128 bits so that none can wrap.

use std::ops::Range;

use guest_memory_bitmap::DirtyPages;

/// Pages of `byte_size` bytes; the last one may be covered in part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pages {
    byte_size: usize,
    page_size: usize,
    flags: Vec<bool>,
}

/// The empty set for no bytes, in pages of 4 KiB.
impl Default for Pages {
    fn default() -> Self {
        Self::new(0, 4096)
    }
}

impl Pages {
    pub(crate) fn new(byte_size: usize, page_size: usize) -> Self {
        let page_count = byte_size.div_ceil(page_size);
        Self {
            byte_size,
            page_size,
            flags: vec![false; page_count],
        }
    }

    pub(crate) fn byte_size(&self) -> usize {
        self.byte_size
    }

    pub(crate) fn page_size(&self) -> usize {
        self.page_size
    }

    pub(crate) fn page_count(&self) -> usize {
        self.flags.len()
    }

    pub(crate) fn contains(&self, page: usize) -> bool {
        self.flags.get(page).is_some_and(|&flag| flag)
    }

    /// Tells whether the page that holds the byte at `offset` is in the set.
    pub(crate) fn contains_byte(&self, offset: usize) -> bool {
        self.contains(offset / self.page_size)
    }

    pub(crate) fn numbers(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.flags.len()).filter(|&page| self.flags[page])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    fn count(&self) -> usize {
        self.flags.iter().map(|&flag| usize::from(flag)).sum()
    }

    /// Changes the flag of a page, if there is one.
    pub(crate) fn set(&mut self, page: usize, is_in: bool) {
        if let Some(flag) = self.flags.get_mut(page) {
            *flag = is_in;
        }
    }

    /// Changes the flags of all pages that hold a byte of `bytes`, be that tracked or not.
    pub(crate) fn set_bytes(&mut self, bytes: Range<u128>, is_in: bool) {
        if bytes.start < bytes.end {
            let first = bytes.start / self.page_size as u128;
            let last = (bytes.end - 1) / self.page_size as u128;
            let page_count = self.flags.len() as u128;
            let exist = [first, last + 1].map(|page| {
                let page = page.min(page_count);
                usize::try_from(page).expect("not more than there are")
            });
            self.flags[exist[0]..exist[1]].fill(is_in);
        }
    }

    /// Removes the pages of which no byte that is tracked lies outside `bytes`.
    pub(crate) fn remove_whole(&mut self, bytes: Range<u128>) {
        for page in 0..self.flags.len() {
            let tracked = self.tracked(page);
            if bytes.start <= tracked.start && tracked.end <= bytes.end {
                self.flags[page] = false;
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.flags.fill(false);
    }

    /// Takes all pages out.
    pub(crate) fn take(&mut self) -> Self {
        let taken = self.clone();
        self.clear();
        taken
    }

    /// Tracks more bytes; the pages keep their numbers.
    pub(crate) fn enlarge(&mut self, additional: usize) {
        let byte_size = self.byte_size.saturating_add(additional);
        let mut larger = Self::new(byte_size, self.page_size);
        larger.flags[..self.flags.len()].copy_from_slice(&self.flags);
        *self = larger;
    }

    /// Adds every page that holds a byte which `other` has.
    pub(crate) fn add(&mut self, other: &Self) {
        for page in other.numbers() {
            self.set_bytes(other.tracked(page), true);
        }
    }

    /// As [`add`](Self::add), except that a set for no bytes becomes one for what `other` tracks.
    pub(crate) fn unite(&mut self, other: &Self) {
        if self.byte_size == 0 {
            *self = Self::new(other.byte_size, other.page_size);
        }
        self.add(other);
    }

    /// Removes every page of which `other` has all bytes.
    pub(crate) fn subtract(&mut self, other: &Self) {
        let has = |byte: u128| usize::try_from(byte).is_ok_and(|byte| other.contains_byte(byte));
        for page in 0..self.flags.len() {
            let tracked = self.tracked(page);
            let steps = tracked.clone().step_by(other.page_size);
            let is_covered = steps.chain([tracked.end - 1]).all(has);
            if is_covered && tracked.end <= other.byte_size as u128 {
                self.flags[page] = false;
            }
        }
    }

    /// Tracks what `other` tracks.
    pub(crate) fn fit_to(&mut self, other: &Self) {
        let mut fitting = Self::new(other.byte_size, other.page_size);
        fitting.add(self);
        *self = fitting;
    }

    pub(crate) fn words(&self) -> Vec<u64> {
        let word = |flags: &[bool]| {
            let bits = flags.iter().enumerate();
            bits.fold(0, |word, (bit, &flag)| word | u64::from(flag) << bit)
        };
        self.flags.chunks(64).map(word).collect()
    }

    /// Returns the tracked bytes of a page.
    fn tracked(&self, page: usize) -> Range<u128> {
        let start = page as u128 * self.page_size as u128;
        start..(start + self.page_size as u128).min(self.byte_size as u128)
    }

    /// Compares with what the subject holds.
    ///
    /// # Panics
    ///
    /// When they differ.
    pub(crate) fn compare(&self, found: &DirtyPages) {
        assert_eq!(found.byte_size(), self.byte_size, "byte_size");
        assert_eq!(found.page_size().get(), self.page_size, "page_size");
        assert_eq!(found.page_count(), self.flags.len(), "page_count");
        self.compare_pages(found);
        assert!(found.pages().is_sorted(), "the pages of {found:?}");
        assert_eq!(found.count(), self.count(), "count");
        assert_eq!(found.is_empty(), self.is_empty(), "is_empty");
        self.compare_ranges(found);
        let words = self.words();
        assert_eq!(found.words(), words, "words");
        let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        assert_eq!(found.to_le_bytes(), bytes, "to_le_bytes");
        for page in self.samples() {
            assert_eq!(found.contains(page), self.contains(page), "page {page}");
        }
    }

    /// Compares the pages alone.
    ///
    /// # Panics
    ///
    /// When they differ.
    pub(crate) fn compare_pages(&self, found: &DirtyPages) {
        let mut numbered = Self::new(self.byte_size, self.page_size);
        found.pages().for_each(|page| numbered.flags[page] = true);
        assert!(numbered == *self, "the pages of {found:?}");
    }

    /// Some pages, of small sets all, and some past the end, in the same word and behind it.
    pub(crate) fn samples(&self) -> impl Iterator<Item = usize> + use<> {
        let count = self.flags.len();
        (0..count.min(130))
            .chain(count.saturating_sub(2)..count + 2)
            .chain([count + 64, count + 4096, usize::MAX])
    }

    /// Checks that ranges are of whole pages, ascending and apart, and of the pages of the set.
    fn compare_ranges(&self, found: &DirtyPages) {
        let mut ranged = Self::new(self.byte_size, self.page_size);
        let mut last_end = None;
        for Range { start, end } in found.ranges() {
            assert!(start < end, "an empty range of {found:?}");
            assert!(last_end < Some(start), "ranges of {found:?} touch");
            last_end = Some(end);
            let is_whole = end.is_multiple_of(self.page_size) || end == self.byte_size;
            assert!(
                is_whole && start.is_multiple_of(self.page_size),
                "{found:?}"
            );
            ranged.set_bytes(start as u128..end as u128, true);
        }
        assert!(ranged == *self, "the ranges of {found:?}");
    }
}
