// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Dirty tracking under real threads: the copy that a harvester keeps is never behind what was written.
//!
//! Writers store increasing values in random pages, in every way there is to write a guest's memory. A harvester takes
//! the dirty pages and copies them to a second memory, again and again. Before each harvest it notes which writes had
//! finished; after the copy, the copy must be at least as new. When the writers have ended, one more harvest must
//! make the copy equal to the memory.
//!
//! There are two workloads: *wide*, with writers on every processor, all ways to write and many pages, and *tight*, with
//! a handful of pages and writers that stop after a few writes to let a loss show. The tight one is also run with a
//! bitmap that is wrong on purpose, to see that it finds what it looks for.
//!
//! A normal run takes about two seconds; `STRESS_SECONDS` asks for so many, for all runs together.

// A helper that cannot go on is as good as a failed assertion.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use guest_memory::bitmap::{AtomicBitmap, Bitmap, DirtyPages, MarkOrdering};

mod affinity;
mod exchanged;
mod harvester;
mod read_twice;
mod shortcut;
mod writer;

use exchanged::Exchanged;
use harvester::{Outcome, run};
use read_twice::ReadTwice;
use shortcut::Shortcut;

const PAGE: usize = 4096;
/// How many times a test calls [`run`], in all.
const RUNS: f64 = 7.0;

/// A bitmap that can be harvested.
trait Log: Bitmap + Send + Sync + 'static {
    /// What takes the dirty pages; several of them, if the log can have that, take them independently.
    fn taker(&self) -> impl FnMut(&mut DirtyPages) + Send;
}

impl Log for AtomicBitmap {
    fn taker(&self) -> impl FnMut(&mut DirtyPages) + Send {
        |pages| self.harvest_into(pages)
    }
}

/// What is written where, and by how many.
#[derive(Clone, Copy, Debug)]
struct Workload {
    name: &'static str,
    /// Pages of the two regions, the second one right after the first one.
    region_pages: [usize; 2],
    /// The first so many pages get half of the writes, and are looked at after each harvest.
    watched_pages: usize,
    writers: usize,
    /// Harvesters, each with a copy of its own.
    copies: usize,
    /// Writes after which a writer waits for two harvests; 0 for never.
    burst: u64,
    /// Whether each thread gets a processor of its own.
    is_pinned: bool,
    writes: Writes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writes {
    /// In every way, also over the borders of pages and regions.
    All,
    /// Single words, in the fastest ways.
    Words,
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

fn wide() -> Workload {
    Workload {
        name: "wide",
        // More leaf words than a summary word names.
        region_pages: [64 * 64 + 100, 300],
        watched_pages: 16,
        writers: processors(),
        copies: 1,
        burst: 0,
        is_pinned: false,
        writes: Writes::All,
    }
}

fn tight() -> Workload {
    Workload {
        name: "tight",
        region_pages: [2, 2],
        watched_pages: 4,
        // One processor is the harvester's.
        writers: processors().saturating_sub(1).max(1),
        copies: 1,
        burst: 16,
        is_pinned: true,
        writes: Writes::Words,
    }
}

/// One run at a time: two would share the processors.
static PROCESSORS: Mutex<()> = Mutex::new(());

fn run_alone<L: Log>(
    form: &str,
    workload: Workload,
    new_log: impl Fn(usize) -> L + Send,
) -> Outcome {
    let _alone = PROCESSORS.lock().unwrap_or_else(PoisonError::into_inner);
    let seconds = match std::env::var("STRESS_SECONDS") {
        Ok(seconds) => seconds.parse().expect("STRESS_SECONDS is a number"),
        Err(_) => 2.0,
    };
    let time = Duration::from_secs_f64(seconds / RUNS);
    // In a thread of its own, which may be pinned.
    let outcome = thread::scope(|scope| {
        let runner = scope.spawn(|| run(workload, new_log, time));
        runner.join().unwrap()
    });
    println!("{form}, {}: {outcome:?}", workload.name);
    outcome
}

fn page_size() -> NonZeroUsize {
    NonZeroUsize::new(PAGE).unwrap()
}

/// Runs both workloads with the ordering, if it is granted here.
fn assert_nothing_is_lost(ordering: MarkOrdering) {
    let new_log = |bytes| AtomicBitmap::new(bytes, page_size()).with_ordering(ordering);
    if let Err(error) = new_log(PAGE) {
        println!("skipped: {error}");
        return;
    }
    for workload in [wide(), tight()] {
        let form = format!("{ordering:?}");
        let outcome = run_alone(&form, workload, |bytes| new_log(bytes).unwrap());
        assert_eq!((outcome.late, outcome.lost), (0, 0), "{form}, {workload:?}");
        assert!(outcome.writes > 0 && outcome.harvests > 0);
    }
}

#[test]
fn asymmetric_bitmap_loses_no_write() {
    assert_nothing_is_lost(MarkOrdering::Asymmetric);
}

#[test]
fn symmetric_bitmap_loses_no_write() {
    assert_nothing_is_lost(MarkOrdering::Symmetric);
}

#[test]
fn two_readers_each_have_a_complete_copy() {
    let workload = Workload {
        copies: 2,
        ..wide()
    };
    let outcome = run_alone("two readers", workload, ReadTwice::new);
    assert_eq!((outcome.late, outcome.lost), (0, 0));
}

#[test]
fn log_that_is_exchanged_under_writers_loses_no_write() {
    let outcome = run_alone("exchanged log", wide(), Exchanged::new);
    assert_eq!((outcome.late, outcome.lost), (0, 0));
}

#[test]
fn bitmap_without_a_barrier_loses_writes() {
    let outcome = run_alone("shortcut without a barrier", tight(), Shortcut::new);
    if outcome.late + outcome.lost == 0 {
        println!(
            "unable: this machine, with {} processors, or this build shows no loss",
            processors()
        );
    }
}
