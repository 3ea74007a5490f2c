// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Lists of processors and NUMA nodes: as the kernel writes them, `0,2-3`, and as it takes them, by bits.

use std::ops::RangeInclusive;

/// Parses numbers up to `most`, and ranges of them with both ends included, with commas between; no text is no number.
///
/// The error is the part between two commas that is wrong.
pub(crate) fn parse(text: &str, most: u32) -> Result<Vec<RangeInclusive<u32>>, &str> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let number = |digits: &str| {
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.parse().ok().filter(|_| is_number);
        number.filter(|number| *number <= most)
    };
    let part = |part| {
        let (first, last) = str::split_once(part, '-').unwrap_or((part, part));
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Ok(first..=last),
            _ => Err(part),
        }
    };
    text.split(',').map(part).collect()
}

/// Returns words with bit `n % c_ulong::BITS` of word `n / c_ulong::BITS` set for each number `n`, as many as the largest needs.
pub(crate) fn mask(numbers: impl IntoIterator<Item = usize>) -> Vec<libc::c_ulong> {
    const BITS: usize = libc::c_ulong::BITS as usize;
    let mut words = Vec::new();
    for number in numbers {
        let word = number / BITS;
        if words.len() <= word {
            words.resize(word.saturating_add(1), 0);
        }
        if let Some(word) = words.get_mut(word) {
            *word |= 1 << (number % BITS);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_numbers_and_ranges() {
        assert_eq!(parse("0-3,8,10-11", 11), Ok(vec![0..=3, 8..=8, 10..=11]));
        assert_eq!(parse("7", 7), Ok(vec![7..=7]));
        assert_eq!(parse("", 7), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_list_is_refused_with_the_part_that_is_wrong() {
        let table = [
            ("x", "x"),
            ("0,3-1", "3-1"),
            ("1,,2", ""),
            ("-", "-"),
            ("+1", "+1"),
            ("1,8", "8"),
            ("0-99999999999", "0-99999999999"),
        ];
        for (text, part) in table {
            assert_eq!(parse(text, 7), Err(part), "{text}");
        }
    }

    #[test]
    fn a_mask_has_a_bit_for_each_number() {
        assert_eq!(mask([]), [0; 0]);
        assert_eq!(mask([0, 3, 2]), [0b1101]);
        let bits = libc::c_ulong::BITS as usize;
        assert_eq!(mask([bits + 1, 2]), [0b100, 0b10]);
    }
}
