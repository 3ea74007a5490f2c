// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Walking a set: the words that are not zero, and runs of neighbouring bits.

use core::ops::Range;

use super::word_set::Numbers;
use crate::words;

/// The words that are not zero with their numbers, ascending.
#[derive(Clone, Debug)]
pub(super) struct SetWords<'a> {
    words: &'a [u64],
    numbers: Numbers<'a>,
}

impl<'a> SetWords<'a> {
    pub(super) fn new(words: &'a [u64], numbers: Numbers<'a>) -> Self {
        Self { words, numbers }
    }
}

impl Iterator for SetWords<'_> {
    type Item = (usize, u64);

    #[inline]
    fn next(&mut self) -> Option<(usize, u64)> {
        let index = self.numbers.next()?;
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
