// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The harvester: takes the dirty pages, copies them, and compares.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use guest_memory::bitmap::DirtyPages;
use guest_memory::{
    Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
    MmapRegionBuilder,
};

use crate::writer::{self, slot_of};
use crate::{Log, PAGE, Workload, affinity};

/// What came of a run.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) writes: u64,
    pub(crate) harvests: u64,
    pub(crate) pages_copied: usize,
    /// Times that a copy was older than a write that had finished before the harvest.
    pub(crate) late: u64,
    /// Pages of the copy that differ at the end.
    pub(crate) lost: u64,
}

/// What the threads share besides the memory.
pub(crate) struct Shared {
    /// For each watched page and writer: the value whose write finished.
    finished: Vec<AtomicU64>,
    writers: usize,
    pub(crate) harvests: AtomicU64,
    pub(crate) is_over: AtomicBool,
}

impl Shared {
    /// Says that a write returned.
    pub(crate) fn finish(&self, page: usize, writer: usize, value: u64) {
        if let Some(finished) = self.finished.get(page * self.writers + writer) {
            finished.store(value, Ordering::Release);
        }
    }
}

pub(crate) fn run<L: Log>(
    workload: Workload,
    new_log: impl Fn(usize) -> L,
    time: Duration,
) -> Outcome {
    let memory = memory(workload, new_log);
    let copies: Vec<_> = (0..workload.copies).map(|_| copy_of(workload)).collect();
    let watched = workload.watched_pages * workload.writers;
    let shared = Shared {
        finished: (0..watched).map(|_| AtomicU64::new(0)).collect(),
        writers: workload.writers,
        harvests: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
    };
    let (memory, shared) = (&memory, &shared);
    // All are there before the first write.
    let mut harvesters: Vec<_> = copies
        .iter()
        .map(|copy| Harvester {
            memory,
            copy,
            takers: memory
                .iter()
                .map(|region| region.bitmap().taker())
                .collect(),
            pages: vec![DirtyPages::default(); memory.num_regions()],
            owed: vec![0; watched],
            outcome: Outcome::default(),
        })
        .collect();
    let processors = &affinity::processors();
    let pin = move |index| {
        if workload.is_pinned {
            affinity::pin(processors, index);
        }
    };
    let mut writes = 0;
    thread::scope(|scope| {
        pin(0);
        let writers: Vec<_> = (0..workload.writers)
            .map(|index| {
                scope.spawn(move || {
                    pin(1 + index);
                    writer::write(memory, shared, workload, index)
                })
            })
            .collect();
        let (first, others) = harvesters.split_first_mut().unwrap();
        for harvester in others {
            scope.spawn(move || {
                while !shared.is_over.load(Ordering::Acquire) {
                    harvester.harvest(shared);
                }
            });
        }
        let begin = Instant::now();
        while begin.elapsed() < time {
            for _ in 0..16 {
                first.harvest(shared);
            }
        }
        shared.is_over.store(true, Ordering::Release);
        writes = writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .sum();
    });
    let mut outcome = Outcome {
        writes,
        ..Outcome::default()
    };
    for mut harvester in harvesters {
        harvester.harvest(shared);
        outcome.harvests += harvester.outcome.harvests;
        outcome.pages_copied += harvester.outcome.pages_copied;
        outcome.late += harvester.outcome.late;
        outcome.lost += differing_pages(workload, memory, harvester.copy);
    }
    outcome
}

/// One copy of the memory and what keeps it up to date.
struct Harvester<'a, L: Log, T> {
    memory: &'a GuestMemoryMmap<L>,
    copy: &'a GuestMemoryMmap,
    /// For each region what takes its dirty pages.
    takers: Vec<T>,
    pages: Vec<DirtyPages>,
    owed: Vec<u64>,
    outcome: Outcome,
}

impl<L: Log, T: FnMut(&mut DirtyPages)> Harvester<'_, L, T> {
    fn harvest(&mut self, shared: &Shared) {
        for (owed, finished) in self.owed.iter_mut().zip(&shared.finished) {
            *owed = finished.load(Ordering::Acquire);
        }
        let takers = self.takers.iter_mut().zip(&mut self.pages);
        for (region, (take, pages)) in self.memory.iter().zip(takers) {
            take(pages);
            for range in pages.ranges() {
                let first = GuestAddress(region.start_addr().0 + range.start as u64);
                let whole = self.memory.get_slice(first, range.len()).unwrap();
                let target = self.copy.get_slice(first, range.len()).unwrap();
                whole.copy_to_volatile_slice(target);
            }
            self.outcome.pages_copied += pages.count();
        }
        self.outcome.harvests += 1;
        for (index, owed) in self.owed.iter().enumerate() {
            let (page, writer) = (index / shared.writers, index % shared.writers);
            let copied: u64 = self.copy.read_obj(slot_of(page, writer)).unwrap();
            self.outcome.late += u64::from(copied < *owed);
        }
        shared.harvests.fetch_add(1, Ordering::AcqRel);
    }
}

/// Two regions, one right after the other, each with a log of its own.
fn memory<L: Log>(workload: Workload, new_log: impl Fn(usize) -> L) -> GuestMemoryMmap<L> {
    let mut start = 0;
    let regions = workload.region_pages.map(|pages| {
        let bytes = pages * PAGE;
        let mapping = MmapRegionBuilder::new_with_bitmap(bytes, new_log(bytes))
            .build()
            .unwrap();
        let region = GuestRegionMmap::new(mapping, GuestAddress(start)).unwrap();
        start += bytes as u64;
        region
    });
    GuestMemoryMmap::from_regions(Vec::from(regions)).unwrap()
}

/// Memory of the same size, in one piece.
fn copy_of(workload: Workload) -> GuestMemoryMmap {
    let pages: usize = workload.region_pages.iter().sum();
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), pages * PAGE)]).unwrap()
}

fn differing_pages<L: Log>(
    workload: Workload,
    memory: &GuestMemoryMmap<L>,
    copy: &GuestMemoryMmap,
) -> u64 {
    let pages: usize = workload.region_pages.iter().sum();
    let (mut ours, mut theirs) = ([0; PAGE], [0; PAGE]);
    let mut differs = |page: usize| {
        let start = GuestAddress((page * PAGE) as u64);
        memory.read_slice(&mut ours, start).unwrap();
        copy.read_slice(&mut theirs, start).unwrap();
        ours != theirs
    };
    (0..pages).map(|page| u64::from(differs(page))).sum()
}
