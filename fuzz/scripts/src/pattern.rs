// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Bytes to write, that tell where they come from.

/// Returns `len` bytes of which no two stretches near each other are alike: a shift by any number of words shows.
pub(crate) fn pattern(first: u8, len: usize) -> Vec<u8> {
    let byte = |index: usize| first.wrapping_add((index * 31 + index / 251).to_le_bytes()[0]);
    (0..len).map(byte).collect()
}
