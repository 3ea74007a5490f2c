// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Marks and harvests in all interleavings and all reorderings that the language's memory model allows.
//!
//! loom knows no barrier for all threads of a process, so these are symmetric bitmaps, with a fence on both sides.
//! What a guest's page holds is an atomic of its own here, stored and loaded relaxed: nothing but the bitmap orders it.
//!
//! Run by `RUSTFLAGS="--cfg loom" cargo test -p guest-memory-bitmap --test loom --release`.
#![cfg(loom)]
// A helper that cannot go on is as good as a failed assertion.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::num::NonZeroUsize;

use guest_memory_bitmap::{AtomicBitmap, Bitmap, DirtyPages, MarkOrdering, Readers};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

const PAGE: usize = 4096;
/// The first page whose mark is in another leaf word than page 0's.
const FAR_PAGE: usize = 64;

/// Data in one page, and how much of it was written and marked.
struct Datum {
    page: usize,
    data: AtomicU64,
    finished: AtomicU64,
}

/// A tracked memory.
struct Memory {
    bitmap: std::sync::Arc<AtomicBitmap>,
    data: Vec<Datum>,
}

impl Memory {
    /// Data in the pages given, which start clean.
    fn new(pages: &[usize]) -> Self {
        let page_size = NonZeroUsize::new(PAGE).unwrap();
        let bitmap = AtomicBitmap::new((FAR_PAGE + 1) * PAGE, page_size)
            .with_ordering(MarkOrdering::Symmetric)
            .unwrap();
        let new_datum = |&page| Datum {
            page,
            data: AtomicU64::new(0),
            finished: AtomicU64::new(0),
        };
        Self {
            bitmap: std::sync::Arc::new(bitmap),
            data: pages.iter().map(new_datum).collect(),
        }
    }

    fn write(&self, index: usize, value: u64) {
        let datum = &self.data[index];
        datum.data.store(value, Ordering::Relaxed);
        self.bitmap.mark_dirty(datum.page * PAGE, 1);
        datum.finished.store(value, Ordering::Release);
    }

    /// Harvests, copies what is dirty, and holds the copy against what had finished before.
    fn harvest_into(&self, copy: &mut [u64]) {
        self.copy(|| self.bitmap.harvest(), copy);
    }

    fn copy(&self, harvest: impl FnOnce() -> DirtyPages, copy: &mut [u64]) {
        let finished: Vec<_> = self
            .data
            .iter()
            .map(|datum| datum.finished.load(Ordering::Acquire))
            .collect();
        let dirty = harvest();
        for ((datum, copied), finished) in self.data.iter().zip(copy).zip(finished) {
            if dirty.contains(datum.page) {
                *copied = datum.data.load(Ordering::Relaxed);
            }
            assert!(*copied >= finished, "a finished write is not in the copy");
        }
    }

    /// When all writers ended: one more harvest, and the copy equals the memory.
    fn finish(&self, copy: &mut [u64]) {
        self.harvest_into(copy);
        self.assert_equals(copy);
    }

    fn assert_equals(&self, copy: &[u64]) {
        for (datum, copied) in self.data.iter().zip(copy) {
            assert_eq!(
                datum.data.load(Ordering::Relaxed),
                *copied,
                "a write is lost"
            );
        }
    }
}

/// Explores; scenarios with three threads only as far as so many preemptions go.
fn explore(preemptions: Option<usize>, scenario: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = model.preemption_bound.or(preemptions);
    model.check(scenario);
}

#[test]
fn finished_writes_are_in_the_harvest_and_no_write_is_lost() {
    explore(None, || {
        let memory = Arc::new(Memory::new(&[0]));
        // The page is dirty already: the writer finds nothing to set.
        memory.write(0, 1);
        let writer = thread::spawn({
            let memory = Arc::clone(&memory);
            move || memory.write(0, 2)
        });
        let mut copy = [0];
        memory.harvest_into(&mut copy);
        writer.join().unwrap();
        memory.finish(&mut copy);
    });
}

#[test]
fn repeated_writes_and_harvests_lose_nothing() {
    explore(None, || {
        let memory = Arc::new(Memory::new(&[0]));
        let writer = thread::spawn({
            let memory = Arc::clone(&memory);
            move || {
                memory.write(0, 1);
                memory.write(0, 2);
            }
        });
        let mut copy = [0];
        memory.harvest_into(&mut copy);
        memory.harvest_into(&mut copy);
        writer.join().unwrap();
        memory.finish(&mut copy);
    });
}

fn two_markers(pages: &'static [usize; 2]) {
    explore(None, || {
        let memory = Arc::new(Memory::new(pages));
        let writers = [0, 1].map(|index| {
            let memory = Arc::clone(&memory);
            thread::spawn(move || memory.write(index, 1))
        });
        let mut copy = [0; 2];
        memory.harvest_into(&mut copy);
        for writer in writers {
            writer.join().unwrap();
        }
        memory.finish(&mut copy);
    });
}

#[test]
fn two_markers_of_one_page_lose_nothing() {
    two_markers(&[0, 0]);
}

#[test]
fn two_markers_of_two_leaf_words_lose_nothing() {
    two_markers(&[0, FAR_PAGE]);
}

/// The mark is made in a leaf word that is just being taken, for another page: its summary bit must not be believed.
#[test]
fn mark_beside_a_dirty_page_is_not_lost() {
    explore(None, || {
        let memory = Arc::new(Memory::new(&[0, 1]));
        memory.write(0, 1);
        let writer = thread::spawn({
            let memory = Arc::clone(&memory);
            move || memory.write(1, 1)
        });
        let mut copy = [0; 2];
        memory.harvest_into(&mut copy);
        memory.harvest_into(&mut copy);
        writer.join().unwrap();
        memory.finish(&mut copy);
    });
}

/// The same where a second marker sees the bit of a first one that has not come to the summary.
#[test]
fn mark_that_another_marker_set_in_part_is_not_lost() {
    explore(Some(3), || {
        let memory = Arc::new(Memory::new(&[0, 1, 1]));
        memory.write(0, 1);
        let writers = [1, 2].map(|index| {
            let memory = Arc::clone(&memory);
            thread::spawn(move || memory.write(index, 1))
        });
        let mut copy = [0; 3];
        memory.harvest_into(&mut copy);
        memory.harvest_into(&mut copy);
        for writer in writers {
            writer.join().unwrap();
        }
        memory.finish(&mut copy);
    });
}

#[test]
fn range_over_two_leaf_words_is_marked_whole() {
    explore(None, || {
        let memory = Arc::new(Memory::new(&[FAR_PAGE - 1, FAR_PAGE]));
        memory.write(0, 1);
        let writer = thread::spawn({
            let memory = Arc::clone(&memory);
            move || {
                for datum in &memory.data {
                    datum.data.store(2, Ordering::Relaxed);
                }
                memory.bitmap.mark_dirty((FAR_PAGE - 1) * PAGE, 2 * PAGE);
                for datum in &memory.data {
                    datum.finished.store(2, Ordering::Release);
                }
            }
        });
        let mut copy = [0; 2];
        memory.harvest_into(&mut copy);
        writer.join().unwrap();
        memory.finish(&mut copy);
    });
}

#[test]
fn write_that_races_with_the_start_of_tracking_is_seen_or_marked() {
    explore(None, || {
        let memory = Arc::new(Memory::new(&[0]));
        memory.bitmap.stop_tracking();
        let writer = thread::spawn({
            let memory = Arc::clone(&memory);
            move || {
                memory.write(0, 1);
                memory.write(0, 2);
            }
        });
        memory.bitmap.start_tracking();
        // The first copy takes everything.
        let mut copy = [memory.data[0].data.load(Ordering::Relaxed)];
        writer.join().unwrap();
        memory.finish(&mut copy);
    });
}

#[test]
fn clearing_a_range_is_ordered_as_a_harvest_is() {
    explore(None, || {
        let memory = Arc::new(Memory::new(&[0]));
        memory.write(0, 1);
        let writer = thread::spawn({
            let memory = Arc::clone(&memory);
            move || memory.write(0, 2)
        });
        memory.bitmap.reset_addr_range(0, PAGE);
        let mut copy = [memory.data[0].data.load(Ordering::Relaxed)];
        writer.join().unwrap();
        memory.finish(&mut copy);
    });
}

/// Two readers of one log, each with a copy of its own.
#[test]
fn two_readers_each_see_every_write() {
    explore(Some(3), || {
        let memory = Arc::new(Memory::new(&[0]));
        let readers = Readers::new(std::sync::Arc::clone(&memory.bitmap));
        let mut first = readers.join();
        let mut second = readers.join();
        memory.write(0, 1);
        let writer = thread::spawn({
            let memory = Arc::clone(&memory);
            move || memory.write(0, 2)
        });
        let other = thread::spawn({
            let memory = Arc::clone(&memory);
            move || {
                let mut copy = [0];
                memory.copy(|| second.harvest(), &mut copy);
                (second, copy)
            }
        });
        let mut copy = [0];
        memory.copy(|| first.harvest(), &mut copy);
        writer.join().unwrap();
        let (mut second, mut other_copy) = other.join().unwrap();
        memory.copy(|| first.harvest(), &mut copy);
        memory.assert_equals(&copy);
        memory.copy(|| second.harvest(), &mut other_copy);
        memory.assert_equals(&other_copy);
    });
}

/// What all of the above would report if the fences were missing.
#[test]
#[should_panic(expected = "a write is lost")]
fn shortcut_without_fences_is_found_out() {
    explore(None, || {
        let bit = Arc::new(AtomicU64::new(1));
        let data = Arc::new(AtomicU64::new(0));
        let writer = thread::spawn({
            let (bit, data) = (Arc::clone(&bit), Arc::clone(&data));
            move || {
                data.store(1, Ordering::Relaxed);
                if bit.load(Ordering::Acquire) == 0 {
                    bit.fetch_or(1, Ordering::AcqRel);
                }
            }
        });
        bit.swap(0, Ordering::AcqRel);
        let copy = data.load(Ordering::Relaxed);
        writer.join().unwrap();
        let is_marked = bit.load(Ordering::Relaxed) != 0;
        assert!(is_marked || copy == 1, "a write is lost");
    });
}
