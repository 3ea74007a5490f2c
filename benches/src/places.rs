// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where the workloads go: addresses that are fixed before the clock starts, the same for every side.

use std::hint::black_box;

/// Returns `count` multiples of `step` below `end`, in a random order that is the same in every run.
pub fn random(count: usize, end: u64, step: u64) -> Vec<u64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let place_count = (end / step).max(1);
    let places = (0..count).map(|_| next(&mut state) % place_count * step);
    black_box(places.collect())
}

/// Returns each multiple of `step` below `end` once, in a random order that is the same in every run.
pub fn shuffled(end: u64, step: u64) -> Vec<u64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut places: Vec<u64> = (0..end / step).map(|number| number * step).collect();
    places.sort_by_cached_key(|_| next(&mut state));
    black_box(places)
}

/// Returns `count` times the same place, unknown to the compiler.
pub fn same(count: usize, place: u64) -> Vec<u64> {
    black_box(vec![place; count])
}

/// Returns `places`, each so many bytes further.
pub fn shifted(places: &[u64], by_bytes: u64) -> Vec<u64> {
    black_box(places.iter().map(|place| place + by_bytes).collect())
}

/// Returns a place as an offset into memory of this process.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "places are below the length of something in this process"
)]
pub fn offset(place: u64) -> usize {
    place as usize
}

/// A step of xorshift64*.
fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_places_are_multiples_below_the_end() {
        let places = random(1000, 4096, 16);
        assert!(
            places
                .iter()
                .all(|&place| place < 4096 && place.is_multiple_of(16))
        );
        assert!(places.iter().any(|&place| place != places[0]));
    }

    #[test]
    fn shuffled_places_come_once_each() {
        let mut places = shuffled(64 * 4096, 4096);
        assert!(!places.is_sorted());
        places.sort_unstable();
        assert!(places.iter().copied().eq((0..64).map(|page| page * 4096)));
    }
}
