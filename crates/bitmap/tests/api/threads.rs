// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Writers mark while a harvester takes: no write is lost, and each copy is new enough.

use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

use guest_memory_bitmap::{AtomicBitmap, Bitmap};

const WRITERS: usize = 3;
/// Pages of one writer; those of different writers share every word of the bitmap.
const PAGES_EACH: usize = 100;
const PAGES: usize = WRITERS * PAGES_EACH;
const PAGE_SIZE: usize = 64;

fn bitmap() -> AtomicBitmap {
    AtomicBitmap::new(PAGES * PAGE_SIZE, NonZeroUsize::new(PAGE_SIZE).unwrap())
}

fn zeroes() -> Vec<AtomicU64> {
    (0..PAGES).map(|_| AtomicU64::new(0)).collect()
}

fn harvested_pages(bitmap: &AtomicBitmap) -> impl Iterator<Item = usize> {
    let words = bitmap.get_and_reset();
    (0..PAGES).filter(move |page| words[page / 64] >> (page % 64) & 1 == 1)
}

#[test]
fn a_write_finished_before_a_harvest_is_in_the_copy() {
    const ROUNDS: u64 = 1500;
    let bitmap = bitmap();
    // The "guest memory": one value per page, rising.
    let memory = zeroes();
    // The last value whose mark has returned.
    let finished = zeroes();
    let running = AtomicUsize::new(WRITERS);
    let start = Barrier::new(WRITERS + 1);

    let write = |writer: usize| {
        start.wait();
        for value in 1..=ROUNDS {
            for page in (writer..PAGES).step_by(WRITERS) {
                memory[page].store(value, Ordering::Relaxed);
                bitmap.mark_dirty(page * PAGE_SIZE + page % PAGE_SIZE, 1);
                finished[page].store(value, Ordering::Release);
            }
        }
        running.fetch_sub(1, Ordering::Release);
    };

    let copied = thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || write(writer));
        }
        let mut copied = vec![0; PAGES];
        start.wait();
        loop {
            let is_last = running.load(Ordering::Acquire) == 0;
            let promised: Vec<_> = finished
                .iter()
                .map(|value| value.load(Ordering::Acquire))
                .collect();
            for page in harvested_pages(&bitmap) {
                copied[page] = memory[page].load(Ordering::Relaxed);
            }
            for (page, (copied, promised)) in copied.iter().zip(&promised).enumerate() {
                assert!(copied >= promised, "page {page}: {copied} < {promised}");
            }
            if is_last {
                break copied;
            }
        }
    });
    assert_eq!(copied, vec![ROUNDS; PAGES]);
}

#[test]
fn marks_of_ranges_and_bits_all_arrive_in_some_harvest() {
    const ROUNDS: u64 = 200;
    let bitmap = bitmap();
    // Relaxed throughout: only the bitmap's own ordering carries the values to the harvester.
    let memory = zeroes();
    let done = AtomicBool::new(false);
    let start = Barrier::new(WRITERS + 1);

    for round in 1..=ROUNDS {
        done.store(false, Ordering::Relaxed);
        let seen = thread::scope(|scope| {
            let harvester = scope.spawn(|| {
                let mut seen = vec![0_usize; PAGES];
                start.wait();
                loop {
                    let is_last = done.load(Ordering::Acquire);
                    for page in harvested_pages(&bitmap) {
                        seen[page] += 1;
                        assert_eq!(memory[page].load(Ordering::Relaxed), round, "page {page}");
                    }
                    if is_last {
                        break seen;
                    }
                }
            });
            // Every page is marked exactly once: by a bit, by a range over words, or by a slice.
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let (bitmap, memory, start) = (&bitmap, &memory, &start);
                    scope.spawn(move || {
                        let first = writer * PAGES_EACH;
                        let pages = first..first + PAGES_EACH;
                        let store = |page: usize| memory[page].store(round, Ordering::Relaxed);
                        start.wait();
                        match writer {
                            0 => pages.for_each(|page| {
                                store(page);
                                bitmap.set_bit(page);
                            }),
                            1 => {
                                pages.for_each(store);
                                bitmap.set_addr_range(first * PAGE_SIZE, PAGES_EACH * PAGE_SIZE);
                            }
                            _ => pages.for_each(|page| {
                                store(page);
                                let slice = bitmap.slice_at(first * PAGE_SIZE);
                                slice.mark_dirty((page - first) * PAGE_SIZE, PAGE_SIZE);
                            }),
                        }
                    })
                })
                .collect();
            writers
                .into_iter()
                .for_each(|writer| writer.join().unwrap());
            done.store(true, Ordering::Release);
            harvester.join().unwrap()
        });
        // Once each: marks are neither lost nor taken twice.
        assert_eq!(seen, vec![1; PAGES], "round {round}");
    }
}
