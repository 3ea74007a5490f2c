// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which words of a set are not zero: a set of word numbers in two levels, walked at the cost of what is in it.

use alloc::vec;
use alloc::vec::Vec;

use crate::words;

/// A set of numbers below a bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WordSet {
    /// One bit for each number.
    bits: Vec<u64>,
    /// One bit for each word of `bits`, set exactly if the word is not zero.
    summary: Vec<u64>,
}

impl WordSet {
    /// Makes the empty set of numbers below `bound`.
    pub(super) fn new(bound: usize) -> Self {
        let count = words::count_for(bound);
        Self {
            bits: vec![0; count],
            summary: vec![0; words::count_for(count)],
        }
    }

    #[inline]
    pub(super) fn insert(&mut self, number: usize) {
        let (word, mask) = words::position(number);
        if self.bits[word] == 0 {
            let (group, named) = words::position(word);
            self.summary[group] |= named;
        }
        self.bits[word] |= mask;
    }

    #[inline]
    pub(super) fn remove(&mut self, number: usize) {
        let (word, mask) = words::position(number);
        self.bits[word] &= !mask;
        if self.bits[word] == 0 {
            let (group, named) = words::position(word);
            self.summary[group] &= !named;
        }
    }

    /// Removes all numbers and calls `visit` with each of them, ascending.
    pub(super) fn drain(&mut self, visit: impl FnMut(usize)) {
        self.drain_words(|_| u64::MAX, visit);
    }

    /// Removes all numbers and calls `visit` with each of them that is not in `other`, ascending.
    pub(super) fn drain_without(&mut self, other: &Self, visit: impl FnMut(usize)) {
        self.drain_words(|word| !other.bits[word], visit);
    }

    fn drain_words(&mut self, mask: impl Fn(usize) -> u64, mut visit: impl FnMut(usize)) {
        for (group, named) in self.summary.iter_mut().enumerate() {
            words::for_each_bit(group, core::mem::take(named), |word| {
                let numbers = core::mem::take(&mut self.bits[word]) & mask(word);
                words::for_each_bit(word, numbers, &mut visit);
            });
        }
    }

    /// Walks over the numbers, ascending.
    pub(super) fn iter(&self) -> Numbers<'_> {
        Numbers {
            set: self,
            group: 0,
            named: self.summary.first().copied().unwrap_or(0),
            word: 0,
            rest: 0,
        }
    }
}

/// The numbers of a set.
#[derive(Clone, Debug)]
pub(super) struct Numbers<'a> {
    set: &'a WordSet,
    /// The summary word that is being gone through, and which of its bits are still to come.
    group: usize,
    named: u64,
    /// The word that is being gone through, and which of its bits are still to come.
    word: usize,
    rest: u64,
}

impl Iterator for Numbers<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.rest == 0 {
            if self.named == 0 {
                let behind = self.set.summary.get(self.group + 1..)?;
                let skipped = words::first_set(behind)?;
                self.group += 1 + skipped;
                self.named = behind[skipped];
            }
            self.word = self.group * words::BITS + self.named.trailing_zeros() as usize;
            self.named &= self.named - 1;
            self.rest = self.set.bits[self.word];
        }
        let number = self.word * words::BITS + self.rest.trailing_zeros() as usize;
        self.rest &= self.rest - 1;
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_out_upwards_over_both_levels() {
        const BOUND: usize = 3 * 64 * 64 + 5;
        let numbers = [0, 1, 63, 64, 4095, 4096, 8191, 8192, BOUND - 1];
        let mut set = WordSet::new(BOUND);
        for &number in numbers.iter().rev() {
            set.insert(number);
            set.insert(number);
        }
        assert!(set.iter().eq(numbers));
        for (removed, number) in numbers.into_iter().enumerate() {
            set.remove(number);
            assert!(set.iter().eq(numbers.into_iter().skip(removed + 1)));
        }
        assert_eq!(set, WordSet::new(BOUND));
    }

    #[test]
    fn a_drained_set_is_empty() {
        let mut set = WordSet::new(10_000);
        for number in [5, 4999, 9999] {
            set.insert(number);
        }
        let mut drained = Vec::new();
        set.drain(|number| drained.push(number));
        assert_eq!(drained, [5, 4999, 9999]);
        assert_eq!(set, WordSet::new(10_000));
        assert!(WordSet::new(0).iter().next().is_none());

        let mut other = WordSet::new(10_000);
        other.insert(4999);
        other.insert(4998);
        for number in [5, 4999, 9999] {
            set.insert(number);
        }
        let mut drained = Vec::new();
        set.drain_without(&other, |number| drained.push(number));
        assert_eq!(drained, [5, 9999]);
        assert_eq!(set, WordSet::new(10_000));
    }
}
