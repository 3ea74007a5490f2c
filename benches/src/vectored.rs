// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Many segments filled by one call, which `vm-memory` does not have.

use std::fs::File;
use std::hint::black_box;

use guest_memory::io::ReadVolatileAt;
use guest_memory::{GuestAddress, GuestMemory, GuestMemoryMmap, VolatileSlice};

use crate::failed;
use crate::measure::{Sample, repeat};

/// Fills a segment of `len_bytes` at each place by one call of the stream, from the start of the file on.
pub fn read_at_once(
    memory: &GuestMemoryMmap<()>,
    file: &File,
    places: &[u64],
    len_bytes: usize,
    count: u64,
) -> Sample {
    let mut segments: Vec<VolatileSlice<'_>> = Vec::with_capacity(places.len());
    repeat(count, || {
        segments.clear();
        for &place in places {
            match black_box(memory).get_slice(GuestAddress(place), len_bytes) {
                Ok(segment) => segments.push(segment),
                Err(_) => failed(),
            }
        }
        match black_box(file).read_vectored_volatile_at(black_box(&mut segments), 0) {
            Ok(done) if done == places.len() * len_bytes => {}
            _ => failed(),
        }
    })
}
