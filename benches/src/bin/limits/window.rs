// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A validated window: a slice of guest memory that is looked up once and then accessed by offset.

use std::hint::black_box;
use std::sync::atomic::Ordering;

use guest_memory::{
    GuestAddress, GuestMemory, GuestMemoryMmap, VolatileMemoryResult, VolatileSlice,
};
use guest_memory_benches::buffer::Buffer;
use guest_memory_benches::copies::{Copies, PLACE_COUNT};
use guest_memory_benches::limit::Window;
use guest_memory_benches::measure::{Limit, Runner, Sample, repeat_at};
use guest_memory_benches::places::offset;
use guest_memory_benches::{failed, ours, places};

use super::{MEMCPY, MEMORY_LEN, VOLATILE_READ, VOLATILE_WRITE};

/// Copies in and out; these are the copy engine and a bounds check.
pub(super) fn copies(runner: &mut Runner) {
    let memory = ours::access::memory(&[(0, MEMORY_LEN)]);
    let slice = whole(&memory);
    let window = Window::new(MEMORY_LEN);
    for copies in [
        Copies::at_lines("1 B", 1),
        Copies::at_lines("8 B", 8),
        Copies::at_lines("32 B", 32),
        Copies::at_lines("256 B", 256),
        Copies::at_lines("4096 B", 4096),
    ] {
        let places = copies.places();
        let mut buffer = Buffer::new(copies.len_bytes);
        let mut by_hand = Buffer::new(copies.len_bytes);
        runner.against_limit(
            &format!("window: read_slice {}", copies.name),
            &mut |count| read_slice(&slice, &mut buffer, &places, count),
            Limit {
                what: MEMCPY,
                run: &mut |count| window.copy_out(&mut by_hand, 1, &places, count),
            },
        );
        runner.against_limit(
            &format!("window: write_slice {}", copies.name),
            &mut |count| write_slice(&slice, &buffer, &places, count),
            Limit {
                what: MEMCPY,
                run: &mut |count| window.copy_in(&by_hand, 1, &places, count),
            },
        );
    }
}

/// What a queue does to its rings: indices loaded and stored.
pub(super) fn ring(runner: &mut Runner) {
    let memory = ours::access::memory(&[(0, MEMORY_LEN)]);
    let slice = whole(&memory);
    let window = Window::new(MEMORY_LEN);
    let places = places::random(PLACE_COUNT, 4096, 2);
    runner.against_limit(
        "window: load u16",
        &mut |count| load(&slice, &places, count),
        Limit {
            what: VOLATILE_READ,
            run: &mut |count| window.read::<u16>(&places, count),
        },
    );
    runner.against_limit(
        "window: store u16",
        &mut |count| store(&slice, &places, count),
        Limit {
            what: VOLATILE_WRITE,
            run: &mut |count| window.write::<u16>(1, &places, count),
        },
    );
}

fn read_slice(slice: &VolatileSlice<'_>, buffer: &mut [u8], places: &[u64], count: u64) -> Sample {
    repeat_at(places, count, |place| {
        done(black_box(slice).read_slice(black_box(&mut *buffer), offset(place)));
    })
}

fn write_slice(slice: &VolatileSlice<'_>, buffer: &[u8], places: &[u64], count: u64) -> Sample {
    repeat_at(places, count, |place| {
        done(black_box(slice).write_slice(black_box(buffer), offset(place)));
    })
}

fn load(slice: &VolatileSlice<'_>, places: &[u64], count: u64) -> Sample {
    repeat_at(places, count, |place| {
        let value = black_box(slice).load::<u16>(offset(place), Ordering::Acquire);
        black_box(done(value));
    })
}

fn store(slice: &VolatileSlice<'_>, places: &[u64], count: u64) -> Sample {
    repeat_at(places, count, |place| {
        done(black_box(slice).store(black_box(1u16), offset(place), Ordering::Release));
    })
}

/// Returns all of a memory of one region.
fn whole(memory: &GuestMemoryMmap<()>) -> VolatileSlice<'_> {
    memory
        .get_slice(GuestAddress(0), MEMORY_LEN)
        .unwrap_or_else(|_| failed())
}

/// Takes what an access returned, which is no error.
#[inline(always)]
fn done<T>(result: VolatileMemoryResult<T>) -> T {
    result.unwrap_or_else(|_| failed())
}
