// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Tracked writes, marks and harvests.
//!
//! Compiled twice, see the crate's page.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::names::{AtomicBitmap, Bytes, GuestAddress, GuestMemory, GuestMemoryMmap};
use crate::failed;
use crate::measure::{Sample, repeat, repeat_at};
use crate::places::offset;

/// Bytes per page of the bitmaps.
const PAGE: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// Makes a clean bitmap for so many bytes in pages of 4 KiB.
pub fn bitmap(len_bytes: usize) -> AtomicBitmap {
    AtomicBitmap::new(len_bytes, PAGE)
}

/// Marks a range of this length, in bytes.
pub fn mark(bitmap: &AtomicBitmap, len_bytes: usize, places: &[u64], count: u64) -> Sample {
    repeat_at(places, count, |place| {
        black_box(bitmap).set_addr_range(offset(place), black_box(len_bytes));
    })
}

/// Takes all marks; before each harvest, off the clock, the pages at `dirty` are marked.
pub fn harvest(bitmap: &AtomicBitmap, dirty: &[u64], count: u64) -> Sample {
    let mut elapsed = Duration::ZERO;
    let operations = count.max(1);
    for _ in 0..operations {
        for &place in dirty {
            bitmap.set_addr_range(offset(place), 1);
        }
        elapsed += repeat(1, || {
            black_box(black_box(bitmap).get_and_reset());
        })
        .elapsed;
    }
    Sample {
        elapsed,
        operations,
    }
}

/// Writes eight bytes to each place in turn; before each turn, off the clock, all pages are made clean.
pub fn write_to_clean_pages(
    memory: &GuestMemoryMmap<AtomicBitmap>,
    places: &[u64],
    count: u64,
) -> Sample {
    let mut elapsed = Duration::ZERO;
    let mut operations = 0;
    while operations < count.max(1) {
        for region in memory.iter() {
            region.get_mmap().bitmap().reset();
        }
        let turn = repeat_at(places, 1, |place| {
            if black_box(memory)
                .write_obj(black_box(1u64), GuestAddress(place))
                .is_err()
            {
                failed();
            }
        });
        elapsed += turn.elapsed;
        operations += turn.operations;
    }
    Sample {
        elapsed,
        operations,
    }
}

/// Writes eight bytes from each of two threads, to different cache lines of one page; counts those of one thread.
pub fn write_by_two_threads(memory: &GuestMemoryMmap<AtomicBitmap>, count: u64) -> Sample {
    let barrier = Barrier::new(2);
    let write = |place: u64| {
        barrier.wait();
        let start = Instant::now();
        repeat(count, || {
            if black_box(memory)
                .write_obj(black_box(1u64), GuestAddress(black_box(place)))
                .is_err()
            {
                failed();
            }
        });
        (start, Instant::now())
    };
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(|| write(1024));
        (write(0), other.join().unwrap_or_else(|_| failed()))
    });
    Sample {
        elapsed: one.1.max(other.1) - one.0.min(other.0),
        operations: count.max(1),
    }
}
