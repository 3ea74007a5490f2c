// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guests that come and go, and regions that are plugged and unplugged.
//!
//! Compiled twice, see the crate's page.

use std::hint::black_box;
use std::sync::Arc;

use super::names::{
    GuestAddress, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap, MmapRegion, NewBitmap,
};
use crate::failed;
use crate::life::{Part, time_part};
use crate::measure::{Sample, repeat};

/// Builds and drops guests of these ranges, in batches of `batch_len`; times one of the two.
pub fn guest<B: NewBitmap>(
    ranges: &[(u64, usize)],
    batch_len: usize,
    part: Part,
    count: u64,
) -> Sample {
    let bounds: Vec<(GuestAddress, usize)> = ranges
        .iter()
        .map(|&(start, len_bytes)| (GuestAddress(start), len_bytes))
        .collect();
    time_part(batch_len, part, count, || {
        GuestMemoryMmap::<B>::from_ranges(black_box(&bounds)).unwrap_or_else(|_| failed())
    })
}

/// Makes a region of 4 KiB at an address.
pub fn region<B: NewBitmap>(start: u64) -> Arc<GuestRegionMmap<B>> {
    let region = MmapRegion::new(4096)
        .ok()
        .and_then(|mapping| GuestRegionMmap::new(mapping, GuestAddress(start)));
    Arc::new(region.unwrap_or_else(|| failed()))
}

/// Plugs one more region into a memory and unplugs it again; the region itself stays mapped.
pub fn plug_and_unplug(
    memory: &GuestMemoryMmap<()>,
    region: &Arc<GuestRegionMmap<()>>,
    count: u64,
) -> Sample {
    repeat(count, || {
        let plugged = match black_box(memory).insert_region(Arc::clone(region)) {
            Ok(plugged) => plugged,
            Err(_) => failed(),
        };
        match plugged.remove_region(region.start_addr(), region.len()) {
            Ok(unplugged) => drop(black_box(unplugged)),
            Err(_) => failed(),
        }
    })
}
