// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Accesses of a device thread that keeps a handle of its own on the swappable map, which `vm-memory` does not have.

use std::hint::black_box;

use guest_memory::atomic::{GuestMemoryReader, MemoryWindow};
use guest_memory::{
    ByteValued, Bytes, GuestAddress, GuestMemoryMmap, GuestRegionMmap, VolatileSlice,
};

use crate::failed;
use crate::measure::{Sample, repeat, repeat_at};
use crate::places::offset;

/// Takes the map of the moment from a reader.
pub fn load_map_by_reader(
    reader: &mut GuestMemoryReader<GuestMemoryMmap<()>>,
    count: u64,
) -> Sample {
    repeat(count, || {
        black_box(black_box(&mut *reader).memory());
    })
}

/// Takes the map of the moment from a reader and reads an object.
pub fn read_obj_by_reader<T: ByteValued>(
    reader: &mut GuestMemoryReader<GuestMemoryMmap<()>>,
    places: &[u64],
    count: u64,
) -> Sample {
    repeat_at(places, count, |place| {
        let map = black_box(&mut *reader).memory();
        black_box(done(map.read_obj::<T>(GuestAddress(place))));
    })
}

/// Reads an object through a window that starts at address 0.
pub fn read_obj_by_window<T: ByteValued>(
    window: &mut MemoryWindow<GuestRegionMmap<()>>,
    places: &[u64],
    count: u64,
) -> Sample {
    repeat_at(places, count, |place| {
        let value = black_box(&mut *window).read_obj::<T>(offset(place));
        black_box(done(value));
    })
}

/// Takes the slice of a window that starts at address 0 and reads an object in it.
pub fn read_obj_by_window_slice<T: ByteValued>(
    window: &mut MemoryWindow<GuestRegionMmap<()>>,
    places: &[u64],
    count: u64,
) -> Sample {
    repeat_at(places, count, |place| {
        let slice = done(black_box(&mut *window).slice());
        black_box(done(slice.read_obj::<T>(offset(place))));
    })
}

/// Reads an object through a slice, which knows of no change.
pub fn read_obj_by_slice<T: ByteValued>(
    slice: &VolatileSlice<'_>,
    places: &[u64],
    count: u64,
) -> Sample {
    repeat_at(places, count, |place| {
        black_box(done(black_box(slice).read_obj::<T>(offset(place))));
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
