// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Walking a set: the words that are not zero, and runs of neighbouring bits.

use core::ops::Range;

use crate::words;

/// The words that are not zero with their numbers, ascending, found by the summary.
#[derive(Clone, Debug)]
pub(super) struct SetWords<'a> {
    words: &'a [u64],
    summary: &'a [u64],
    /// The summary word that is being gone through,
    group: usize,
    /// and which of its bits are still to come.
    named: u64,
}

impl<'a> SetWords<'a> {
    pub(super) fn new(words: &'a [u64], summary: &'a [u64]) -> Self {
        Self {
            words,
            summary,
            group: 0,
            named: summary.first().copied().unwrap_or(0),
        }
    }
}

impl Iterator for SetWords<'_> {
    type Item = (usize, u64);

    #[inline]
    fn next(&mut self) -> Option<(usize, u64)> {
        if self.named == 0 {
            let rest = self.summary.get(self.group + 1..)?;
            let skipped = words::first_set(rest)?;
            self.group += 1 + skipped;
            self.named = rest[skipped];
        }
        let index = self.group * words::BITS + self.named.trailing_zeros() as usize;
        self.named &= self.named - 1;
        Some((index, self.words[index]))
    }
}

/// Runs of neighbouring bits, as half-open ranges, ascending; no two touch.
#[derive(Clone, Debug)]
pub(super) struct Runs<'a> {
    words: SetWords<'a>,
    /// Number of the first bit of the word that is being gone through,
    start: usize,
    /// and what is left of that word.
    rest: u64,
}

impl<'a> Runs<'a> {
    pub(super) fn new(words: SetWords<'a>) -> Self {
        Self {
            words,
            start: 0,
            rest: 0,
        }
    }

    /// Goes on to the next word; says whether there is one.
    #[inline]
    fn advance(&mut self) -> bool {
        match self.words.next() {
            Some((index, word)) => {
                self.start = index * words::BITS;
                self.rest = word;
                true
            }
            None => false,
        }
    }
}

impl Iterator for Runs<'_> {
    type Item = Range<usize>;

    #[inline]
    fn next(&mut self) -> Option<Range<usize>> {
        if self.rest == 0 && !self.advance() {
            return None;
        }
        let first_bit = self.rest.trailing_zeros();
        let first = self.start + first_bit as usize;
        // The bits below are clear: filled up, the run reaches down to bit 0 and ends where the ones end.
        let mut end_bit = (self.rest | (self.rest - 1)).trailing_ones();
        loop {
            let end = self.start + end_bit as usize;
            self.rest &= u64::MAX.checked_shl(end_bit).unwrap_or(0);
            // A run that ends within the word ends for good, and so does one that the next set word does not go on with.
            if end_bit < u64::BITS || !self.advance() || self.start != end || self.rest & 1 == 0 {
                return Some(first..end);
            }
            end_bit = self.rest.trailing_ones();
        }
    }
}
