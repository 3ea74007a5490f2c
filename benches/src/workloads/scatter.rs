// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Reads from a file into many segments of guest memory, as a chain of descriptors asks for.
//!
//! Compiled twice, see the crate's page.

use std::fs::File;
use std::hint::black_box;
use std::io::Seek;

use super::names::{GuestAddress, GuestMemory, GuestMemoryMmap, ReadVolatile};
use crate::failed;
use crate::measure::{Sample, repeat};

/// Fills a segment of `len_bytes` at each place, one call of the stream each, from the start of the file on.
pub fn read_each(
    memory: &GuestMemoryMmap<()>,
    file: &File,
    places: &[u64],
    len_bytes: usize,
    count: u64,
) -> Sample {
    let mut file = file;
    repeat(count, || {
        if black_box(&mut file).rewind().is_err() {
            failed();
        }
        for &place in places {
            let Ok(mut segment) = black_box(memory).get_slice(GuestAddress(place), len_bytes)
            else {
                failed();
            };
            match black_box(&mut file).read_volatile(&mut segment) {
                Ok(done) if done == len_bytes => {}
                _ => failed(),
            }
        }
    })
}
