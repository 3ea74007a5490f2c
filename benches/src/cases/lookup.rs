// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memories of many regions.

use crate::measure::Runner;
use crate::{compare, pair, places};

/// Bytes of a region.
const LEN: usize = 4096;

/// Bytes from one region's start to the next one's: each is followed by a hole.
const STRIDE: u64 = 2 * LEN as u64;

/// Places per table: more than a branch predictor learns by heart.
const LOOKUP_COUNT: usize = 8192;

/// Returns the bounds of so many regions with holes between them.
pub(super) fn ranges(region_count: u64) -> Vec<(u64, usize)> {
    (0..region_count)
        .map(|number| (number * STRIDE, LEN))
        .collect()
}

/// Returns the address of the hole behind a region.
pub(super) fn hole(number: u64) -> u64 {
    number * STRIDE + LEN as u64
}

/// `find_region` at random, and a read of eight bytes where there are many regions.
pub(super) fn regions(runner: &mut Runner) {
    for region_count in [1, 8, 64, 512, 4096] {
        let memory = pair!([access::memory::<()>](&ranges(region_count)));
        let places = places::random(LOOKUP_COUNT, region_count * STRIDE, STRIDE);
        compare!(
            runner,
            format!("find_region among {region_count}"),
            [access::find_region](memory, &places),
            None,
        );
        if region_count >= 512 {
            compare!(
                runner,
                format!("read_obj u64 among {region_count} regions"),
                [access::read_obj::<u64, ()>](memory, &places),
                None,
            );
        }
    }
}
