// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The limits: the same work by hand, without bounds checks, lookup or tracking.
#![expect(
    unsafe_code,
    reason = "reads and writes a mapping of its own through raw pointers, which is what a limit is"
)]

use std::fs::File;
use std::hint::black_box;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use guest_memory::{GuestAddress, GuestMemory, GuestMemoryMmap};

use crate::failed;
use crate::measure::{Sample, repeat, repeat_at};
use crate::places::offset;

/// A touched mapping that nobody else uses.
///
/// # Invariants
///
/// `[base, base + len_bytes)` is the mapping behind `_memory`, readable and writable, and nothing but the methods of
/// this type touches it.
#[derive(Debug)]
pub struct Window {
    base: *mut u8,
    len_bytes: usize,
    _memory: GuestMemoryMmap<()>,
}

impl Window {
    /// Maps a window of so many bytes and touches it.
    pub fn new(len_bytes: usize) -> Self {
        let memory = crate::ours::access::memory(&[(0, len_bytes)]);
        let base = memory
            .get_host_address(GuestAddress(0))
            .unwrap_or_else(|_| failed());
        Self {
            base,
            len_bytes,
            _memory: memory,
        }
    }

    /// Reads a value by one volatile access a place.
    pub fn read<T: Copy>(&self, places: &[u64], count: u64) -> Sample {
        self.check(places, size_of::<T>(), align_of::<T>());
        repeat_at(places, count, |place| {
            // SAFETY: `check` keeps the place within the window.
            let source = unsafe { black_box(self.base).add(offset(place)) };
            // SAFETY: `check` keeps the value within the window, readable and initialised by the invariant, and
            // aligned; the callers take integers and structs of integers for `T`.
            black_box(unsafe { source.cast::<T>().read_volatile() });
        })
    }

    /// Writes a value by one volatile access a place.
    pub fn write<T: Copy>(&self, value: T, places: &[u64], count: u64) -> Sample {
        self.check(places, size_of::<T>(), align_of::<T>());
        repeat_at(places, count, |place| {
            // SAFETY: `check` keeps the place within the window.
            let target = unsafe { black_box(self.base).add(offset(place)) };
            // SAFETY: `check` keeps the value within the window, writable by the invariant, and aligned.
            unsafe { target.cast::<T>().write_volatile(black_box(value)) };
        })
    }

    /// Copies each part of the buffer out of the window by `memcpy`, one behind the other.
    pub fn copy_out(
        &self,
        buffer: &mut [u8],
        part_count: usize,
        places: &[u64],
        count: u64,
    ) -> Sample {
        self.check(places, buffer.len(), 1);
        let part_len = buffer.len() / part_count;
        repeat_at(places, count, |place| {
            for part in 0..part_count {
                // SAFETY: the part's start is in the buffer, since `part < part_count`.
                let target = unsafe { black_box(buffer.as_mut_ptr()).add(part * part_len) };
                let start = offset(place) + part * part_len;
                // SAFETY: `check` keeps the place and the buffer's length after it within the window.
                let source = unsafe { black_box(self.base).add(start) };
                // SAFETY: both have `part_len` bytes as said above and are different memory; the window is
                // initialised; the compiler does not know the length, as in the other sides.
                unsafe { ptr::copy_nonoverlapping(source, target, black_box(part_len)) };
            }
        })
    }

    /// Copies each part of the buffer into the window by `memcpy`, one behind the other.
    pub fn copy_in(&self, buffer: &[u8], part_count: usize, places: &[u64], count: u64) -> Sample {
        self.check(places, buffer.len(), 1);
        let part_len = buffer.len() / part_count;
        repeat_at(places, count, |place| {
            for part in 0..part_count {
                // SAFETY: the part's start is in the buffer, since `part < part_count`.
                let source = unsafe { black_box(buffer.as_ptr()).add(part * part_len) };
                let start = offset(place) + part * part_len;
                // SAFETY: `check` keeps the place and the buffer's length after it within the window.
                let target = unsafe { black_box(self.base).add(start) };
                // SAFETY: as in `copy_out`, the other way round; the window is writable.
                unsafe { ptr::copy_nonoverlapping(source, target, black_box(part_len)) };
            }
        })
    }

    /// Fills `len_bytes` at each of the places by one system call, from the start of the file on.
    pub fn read_file(&self, file: &File, places: &[u64], len_bytes: usize, count: u64) -> Sample {
        self.check(places, len_bytes, 1);
        let segments: Vec<libc::iovec> = places
            .iter()
            .map(|&place| libc::iovec {
                // SAFETY: `check` keeps the place within the window.
                iov_base: unsafe { self.base.add(offset(place)) }.cast(),
                iov_len: len_bytes,
            })
            .collect();
        let segment_count = i32::try_from(segments.len()).unwrap_or_else(|_| failed());
        let total = Some(len_bytes * segments.len());
        repeat(count, || {
            let segments = black_box(&segments).as_ptr();
            // SAFETY: `check` keeps every segment within the window, which is writable by the invariant; there are
            // `segment_count` of them.
            let done = unsafe { libc::preadv(file.as_raw_fd(), segments, segment_count, 0) };
            if usize::try_from(done).ok() != total {
                failed();
            }
        })
    }

    /// Checks that `len_bytes` at every place are in the window, and the places aligned; off the clock.
    ///
    /// # Panics
    ///
    /// If not.
    fn check(&self, places: &[u64], len_bytes: usize, alignment: usize) {
        let last = self
            .len_bytes
            .checked_sub(len_bytes)
            .unwrap_or_else(|| failed());
        for &place in places {
            let place = offset(place);
            assert!(
                place <= last && place.is_multiple_of(alignment),
                "place {place:#x} is not in the window"
            );
        }
    }
}

/// Words by hand: a bitmap without pages, ranges or an end.
#[derive(Debug)]
pub struct Words {
    words: Vec<AtomicU64>,
}

impl Words {
    /// Makes so many zero words.
    pub fn new(word_count: usize) -> Self {
        Self {
            words: (0..word_count).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Sets one bit of one word by one read-modify-write; `places` are bytes, 4 KiB a bit.
    pub fn set_bit(&self, places: &[u64], count: u64) -> Sample {
        repeat_at(places, count, |place| {
            let page = offset(place) / 4096;
            if let Some(word) = black_box(&self.words).get(page / 64) {
                word.fetch_or(1 << (page % 64), Ordering::Release);
            }
        })
    }

    /// Stores the first `word_count` words.
    pub fn store(&self, word_count: usize, count: u64) -> Sample {
        repeat(count, || {
            for word in black_box(&self.words).iter().take(word_count) {
                word.store(u64::MAX, Ordering::Relaxed);
            }
        })
    }

    /// Reads all words once.
    pub fn read(&self, count: u64) -> Sample {
        repeat(count, || {
            let words = black_box(&self.words);
            black_box(
                words
                    .iter()
                    .fold(0, |all, word| all | word.load(Ordering::Relaxed)),
            );
        })
    }

    /// Stores a word from each of two threads, in different cache lines; counts those of one thread.
    ///
    /// # Panics
    ///
    /// If there are fewer than 129 words.
    pub fn store_by_two_threads(&self, count: u64) -> Sample {
        let barrier = Barrier::new(2);
        let store = |number: usize| {
            let word = &self.words[number];
            barrier.wait();
            let start = Instant::now();
            repeat(count, || {
                black_box(word).store(black_box(1), Ordering::Relaxed);
            });
            (start, Instant::now())
        };
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(|| store(128));
            (store(0), other.join().unwrap_or_else(|_| failed()))
        });
        Sample {
            elapsed: one.1.max(other.1) - one.0.min(other.0),
            operations: count.max(1),
        }
    }
}
