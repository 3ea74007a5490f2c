// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Arithmetic on bitmaps of 64-bit words: from bits to words and masks, and scanning for set words.
//!
//! Bit `b` of word `w` is bit `64 * w + b` of the bitmap. Nothing here knows of pages or of atomics.

use core::ops::Range;

/// Bits in one word.
pub(crate) const BITS: usize = 64;

/// Words looked at together when a scan skips clean ones: one cache line.
const BLOCK: usize = 8;

/// How many words hold `bits` bits.
#[inline]
pub(crate) const fn count_for(bits: usize) -> usize {
    bits.div_ceil(BITS)
}

/// The word that holds `bit`, and the mask of the bit in that word.
#[inline]
pub(crate) const fn position(bit: usize) -> (usize, u64) {
    (bit / BITS, 1 << (bit % BITS))
}

/// The bits of word `word` that are among bits `first` to `last`, both included, given that the word holds some of these.
#[inline]
pub(crate) const fn mask_in(word: usize, first: usize, last: usize) -> u64 {
    let mut mask = u64::MAX;
    if word == first / BITS {
        mask &= u64::MAX << (first % BITS);
    }
    if word == last / BITS {
        mask &= u64::MAX >> (BITS - 1 - last % BITS);
    }
    mask
}

/// Calls `visit` with the number of each bit that is set in word `index`, in ascending order.
#[inline]
pub(crate) fn for_each_bit(index: usize, word: u64, mut visit: impl FnMut(usize)) {
    let mut rest = word;
    while rest != 0 {
        visit(index * BITS + rest.trailing_zeros() as usize);
        rest &= rest - 1;
    }
}

/// Calls `visit(word, mask)` once for every word that `bits`, a half-open range, touches, in
/// ascending order. The masks are never zero; an empty range visits nothing.
#[inline]
pub(crate) fn for_each_mask(bits: Range<usize>, mut visit: impl FnMut(usize, u64)) {
    if bits.is_empty() {
        return;
    }
    let last_bit = bits.end - 1;
    for word in bits.start / BITS..last_bit / BITS + 1 {
        visit(word, mask_in(word, bits.start, last_bit));
    }
}

/// The number of the first word that is not zero.
#[inline]
pub(crate) fn first_set(words: &[u64]) -> Option<usize> {
    let (blocks, rest) = words.as_chunks::<BLOCK>();
    let is_set = |word: &u64| *word != 0;
    match blocks
        .iter()
        .position(|block| block.iter().fold(0, |any, word| any | word) != 0)
    {
        Some(block) => words[block * BLOCK..]
            .iter()
            .position(is_set)
            .map(|at| block * BLOCK + at),
        None => rest
            .iter()
            .position(is_set)
            .map(|at| blocks.len() * BLOCK + at),
    }
}

/// Calls `visit(index, word)` for every word for which `load` gives a value other than zero, in
/// ascending order. Clean words cost one load each and a branch per block.
///
/// Where words change meanwhile, one that is visited may read as zero by then.
#[inline]
pub(crate) fn for_each_set_word<W>(
    words: &[W],
    load: impl Fn(&W) -> u64,
    mut visit: impl FnMut(usize, &W),
) {
    let (blocks, rest) = words.as_chunks::<BLOCK>();
    let mut visit_set = |first: usize, words: &[W]| {
        for (index, word) in words.iter().enumerate() {
            if load(word) != 0 {
                visit(first + index, word);
            }
        }
    };
    for (index, block) in blocks.iter().enumerate() {
        if block.iter().fold(0, |any, word| any | load(word)) != 0 {
            visit_set(index * BLOCK, block);
        }
    }
    visit_set(blocks.len() * BLOCK, rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;

    fn masks(bits: Range<usize>) -> Vec<(usize, u64)> {
        let mut visited = Vec::new();
        for_each_mask(bits, |word, mask| visited.push((word, mask)));
        visited
    }

    #[test]
    fn word_counts_round_up() {
        for (bits, words) in [
            (0, 0),
            (1, 1),
            (63, 1),
            (64, 1),
            (65, 2),
            (128, 2),
            (129, 3),
        ] {
            assert_eq!(count_for(bits), words, "{bits} bits");
        }
        assert_eq!(count_for(usize::MAX), usize::MAX / 64 + 1);
    }

    #[test]
    fn a_bit_has_one_word_and_one_mask() {
        for (bit, expected) in [
            (0, (0, 1)),
            (1, (0, 2)),
            (63, (0, 1 << 63)),
            (64, (1, 1)),
            (130, (2, 4)),
            (usize::MAX, (usize::MAX / 64, 1 << 63)),
        ] {
            assert_eq!(position(bit), expected, "bit {bit}");
        }
    }

    #[test]
    fn masks_of_known_ranges() {
        const ALL: u64 = u64::MAX;
        type Masks = &'static [(usize, u64)];
        let table: &[(Range<usize>, Masks)] = &[
            (0..0, &[]),
            (64..64, &[]),
            (usize::MAX..usize::MAX, &[]),
            (0..1, &[(0, 1)]),
            (0..63, &[(0, ALL >> 1)]),
            (0..64, &[(0, ALL)]),
            (0..65, &[(0, ALL), (1, 1)]),
            (1..64, &[(0, ALL << 1)]),
            (63..64, &[(0, 1 << 63)]),
            (63..65, &[(0, 1 << 63), (1, 1)]),
            (64..65, &[(1, 1)]),
            (64..128, &[(1, ALL)]),
            (60..68, &[(0, 0xf << 60), (1, 0xf)]),
            (3..5, &[(0, 0b11000)]),
            (63..193, &[(0, 1 << 63), (1, ALL), (2, ALL), (3, 1)]),
            (64..192, &[(1, ALL), (2, ALL)]),
            (
                usize::MAX - 64..usize::MAX,
                &[(usize::MAX / 64 - 1, 1 << 63), (usize::MAX / 64, ALL >> 1)],
            ),
        ];
        for (bits, expected) in table {
            assert_eq!(&masks(bits.clone()), expected, "{bits:?}");
        }
    }

    #[test]
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is tested")]
    fn a_reversed_range_visits_nothing() {
        assert_eq!(masks(5..3), []);
        assert_eq!(masks(1..0), []);
        assert_eq!(masks(usize::MAX..0), []);
    }

    #[test]
    fn bits_of_a_word_are_visited_upwards() {
        for word in [0, 1, 1 << 63, 0b1011, u64::MAX, 1 | 1 << 63] {
            let mut visited = Vec::new();
            for_each_bit(3, word, |bit| visited.push(bit));
            let expected: Vec<_> = (0..BITS).filter(|bit| word >> bit & 1 == 1).collect();
            assert!(
                visited
                    .iter()
                    .copied()
                    .eq(expected.iter().map(|bit| 192 + bit)),
                "{word:#x}"
            );
        }
    }

    #[test]
    fn masks_hold_exactly_the_bits_of_the_range() {
        for start in 0..200 {
            for end in start..200 {
                let mut bits = BTreeSet::new();
                for (word, mask) in masks(start..end) {
                    assert_ne!(mask, 0, "{start}..{end}");
                    for bit in (0..BITS).filter(|bit| mask >> bit & 1 == 1) {
                        assert!(bits.insert(word * BITS + bit), "{start}..{end}: twice");
                    }
                }
                assert!(bits.into_iter().eq(start..end), "{start}..{end}");
            }
        }
    }

    #[test]
    fn words_are_visited_once_and_upwards() {
        for end in 0..=1000 {
            let words: Vec<_> = masks(0..end).into_iter().map(|(word, _)| word).collect();
            assert!(words.into_iter().eq(0..count_for(end)), "0..{end}");
        }
    }

    #[test]
    fn a_scan_visits_the_set_words_only() {
        // Every place of one or two set words in whole blocks and in the rest.
        for len in 0..=3 * BLOCK + 1 {
            for one in 0..len {
                for two in one..len {
                    let mut words = alloc::vec![0_u64; len];
                    words[one] = 1 << 63;
                    words[two] |= 1;
                    let mut visited = Vec::new();
                    for_each_set_word(
                        &words,
                        |word| *word,
                        |index, word| {
                            visited.push((index, *word));
                        },
                    );
                    let expected: Vec<_> = words
                        .iter()
                        .copied()
                        .enumerate()
                        .filter(|(_, word)| *word != 0)
                        .collect();
                    assert_eq!(visited, expected);
                }
            }
        }
    }

    #[test]
    fn a_scan_of_clean_words_visits_nothing() {
        for len in 0..=2 * BLOCK + 1 {
            let words = alloc::vec![0_u64; len];
            for_each_set_word(&words, |word| *word, |index, _| panic!("visited {index}"));
        }
    }
}
