// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Flat memory, which only this library has, beside an ordinary memory of the same regions.

use std::hint::black_box;

use guest_memory::mmap::NewBitmap;
use guest_memory::{
    Bytes, FlatGuestMemory, GuestAddress, GuestMemoryMmap, IoMemory, MmapRegionBuilder,
};

use crate::measure::{Sample, repeat_at};
use crate::{failed, ours};

/// The same regions twice.
#[derive(Debug)]
pub struct Both<B: NewBitmap> {
    /// In one range of host addresses.
    pub flat: FlatGuestMemory<B>,
    /// Wherever the kernel puts each.
    pub ordinary: GuestMemoryMmap<B>,
}

/// Maps ranges by ascending address, each an address and a size in bytes, in both ways, and touches every page.
///
/// # Panics
///
/// If they cannot be mapped.
pub fn both<B: NewBitmap>(ranges: &[(u64, usize)]) -> Both<B> {
    Both {
        flat: flat(ranges),
        ordinary: ours::access::memory(ranges),
    }
}

/// Maps a flat memory of ranges by ascending address, and touches every page.
///
/// # Panics
///
/// If it cannot be mapped.
pub fn flat<B: NewBitmap>(ranges: &[(u64, usize)]) -> FlatGuestMemory<B> {
    const PAGE: usize = 4096;
    let span = ranges.last().map_or(0, |&(start, len)| start + len as u64);
    let builder = FlatGuestMemory::<B>::builder(span);
    let builder = ranges.iter().fold(builder, |builder, &(start, len)| {
        builder.with_region(GuestAddress(start), MmapRegionBuilder::new(len))
    });
    let memory = builder.build().unwrap_or_else(|_| failed());
    for &(start, len) in ranges {
        for offset in (0..len).step_by(PAGE) {
            let place = GuestAddress(start + offset as u64);
            memory.write_obj(1u8, place).unwrap_or_else(|_| failed());
        }
    }
    memory
}

/// Reads eight bytes.
pub fn read_obj(memory: &impl IoMemory, places: &[u64], count: u64) -> Sample {
    repeat_at(places, count, |place| {
        let value = black_box(memory).read_obj::<u64>(GuestAddress(place));
        black_box(value.unwrap_or_else(|_| failed()));
    })
}

/// Writes eight bytes.
pub fn write_obj(memory: &impl IoMemory, places: &[u64], count: u64) -> Sample {
    repeat_at(places, count, |place| {
        let written = black_box(memory).write_obj(black_box(1u64), GuestAddress(place));
        written.unwrap_or_else(|_| failed());
    })
}

/// Fills a buffer from a place on.
pub fn read_slice(memory: &impl IoMemory, buffer: &mut [u8], places: &[u64], count: u64) -> Sample {
    let buffer = black_box(buffer);
    repeat_at(places, count, |place| {
        let read = black_box(memory).read_slice(&mut *buffer, GuestAddress(place));
        read.unwrap_or_else(|_| failed());
    })
}
