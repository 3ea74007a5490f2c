// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Reads and writes by guest address, lookups, and accesses through the swappable map.
//!
//! Compiled twice, see the crate's page. The memory goes through `black_box` each time, so that nothing about it is
//! known from the access before.

use std::hint::black_box;
use std::sync::atomic::Ordering;

use super::names::{
    AtomicAccess, ByteValued, Bytes, GuestAddress, GuestAddressSpace, GuestMemory,
    GuestMemoryAtomic, GuestMemoryMmap, NewBitmap,
};
use crate::failed;
use crate::measure::{Sample, repeat, repeat_at};

/// Bytes between two touched places of fresh memory.
const PAGE: usize = 4096;

/// Maps a memory of ranges, each an address and a size in bytes, and touches every page.
///
/// # Panics
///
/// If it cannot be mapped.
pub fn memory<B: NewBitmap>(ranges: &[(u64, usize)]) -> GuestMemoryMmap<B> {
    let bounds: Vec<(GuestAddress, usize)> = ranges
        .iter()
        .map(|&(start, len_bytes)| (GuestAddress(start), len_bytes))
        .collect();
    let memory = GuestMemoryMmap::<B>::from_ranges(&bounds).unwrap_or_else(|_| failed());
    for &(start, len_bytes) in ranges {
        for offset in (0..len_bytes).step_by(PAGE) {
            done(memory.write_obj(1u8, GuestAddress(start + offset as u64)));
        }
    }
    memory
}

/// Makes a memory swappable.
pub fn swappable(memory: GuestMemoryMmap<()>) -> GuestMemoryAtomic<GuestMemoryMmap<()>> {
    GuestMemoryAtomic::new(memory)
}

/// Reads an object.
pub fn read_obj<T: ByteValued, B: NewBitmap>(
    memory: &GuestMemoryMmap<B>,
    places: &[u64],
    count: u64,
) -> Sample {
    repeat_at(places, count, |place| {
        black_box(done(black_box(memory).read_obj::<T>(GuestAddress(place))));
    })
}

/// Writes an object.
pub fn write_obj<T: ByteValued, B: NewBitmap>(
    memory: &GuestMemoryMmap<B>,
    value: T,
    places: &[u64],
    count: u64,
) -> Sample {
    repeat_at(places, count, |place| {
        done(black_box(memory).write_obj(black_box(value), GuestAddress(place)));
    })
}

/// Loads an atomic, acquiring.
pub fn load<T: AtomicAccess, B: NewBitmap>(
    memory: &GuestMemoryMmap<B>,
    places: &[u64],
    count: u64,
) -> Sample {
    repeat_at(places, count, |place| {
        black_box(done(
            black_box(memory).load::<T>(GuestAddress(place), Ordering::Acquire),
        ));
    })
}

/// Stores an atomic, releasing.
pub fn store<T: AtomicAccess, B: NewBitmap>(
    memory: &GuestMemoryMmap<B>,
    value: T,
    places: &[u64],
    count: u64,
) -> Sample {
    repeat_at(places, count, |place| {
        done(black_box(memory).store(black_box(value), GuestAddress(place), Ordering::Release));
    })
}

/// Reads into a buffer of this length, which is hidden once: an address and a length that are hidden in each access go
/// through memory together and come back apart, which can cost more than the access.
pub fn read_slice<B: NewBitmap>(
    memory: &GuestMemoryMmap<B>,
    buffer: &mut [u8],
    places: &[u64],
    count: u64,
) -> Sample {
    let buffer = black_box(buffer);
    repeat_at(places, count, |place| {
        done(black_box(memory).read_slice(&mut *buffer, GuestAddress(place)));
    })
}

/// Writes from a buffer of this length, hidden once.
pub fn write_slice<B: NewBitmap>(
    memory: &GuestMemoryMmap<B>,
    buffer: &[u8],
    places: &[u64],
    count: u64,
) -> Sample {
    let buffer = black_box(buffer);
    repeat_at(places, count, |place| {
        done(black_box(memory).write_slice(buffer, GuestAddress(place)));
    })
}

/// Finds the region of an address.
pub fn find_region<B: NewBitmap>(
    memory: &GuestMemoryMmap<B>,
    places: &[u64],
    count: u64,
) -> Sample {
    repeat_at(places, count, |place| {
        match black_box(memory).find_region(GuestAddress(place)) {
            Some(region) => {
                black_box(region);
            }
            None => failed(),
        }
    })
}

/// Takes the map of the moment and lets it go.
pub fn load_map(memory: &GuestMemoryAtomic<GuestMemoryMmap<()>>, count: u64) -> Sample {
    repeat(count, || {
        black_box(&*black_box(memory).memory());
    })
}

/// Takes the map of the moment and keeps it.
pub fn hold_map<S: GuestAddressSpace>(memory: &S) -> S::T {
    memory.memory()
}

/// Takes the map of the moment, reads an object and lets it go.
pub fn read_obj_by_map<T: ByteValued>(
    memory: &GuestMemoryAtomic<GuestMemoryMmap<()>>,
    places: &[u64],
    count: u64,
) -> Sample {
    repeat_at(places, count, |place| {
        let map = black_box(memory).memory();
        black_box(done(map.read_obj::<T>(GuestAddress(place))));
    })
}

/// Takes what an access returned, which is no error.
#[inline(always)]
fn done<T, E>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(_) => failed(),
    }
}
