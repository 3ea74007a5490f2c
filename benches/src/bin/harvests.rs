// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a harvest costs, by the size of the log and by what is dirty: a table and a plot in Markdown.

use std::error::Error;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use guest_memory::bitmap::{AtomicBitmap as OurBitmap, DirtyPages};
use guest_memory_benches::command_line::{Options, Program};
use guest_memory_benches::harvest::{mark_ours, mark_theirs, take, take_theirs};
use guest_memory_benches::record::Record;
use guest_memory_benches::report::HARVESTS;
use guest_memory_benches::statistics::median;
use guest_memory_benches::{ours, places, theirs};

const PAGE: u64 = 4096;

/// How much of a log is dirty.
#[derive(Clone, Copy)]
enum Dirty {
    Pages(usize),
    Percent(usize),
}

const SIZES_GIB: [usize; 4] = [1, 16, 64, 1024];
const SHARES: [Dirty; 4] = [
    Dirty::Pages(0),
    Dirty::Pages(100),
    Dirty::Percent(1),
    Dirty::Percent(100),
];

fn main() -> ExitCode {
    Program {
        name: "harvests",
        round_count: 15,
        size_mib: None,
        measure: run,
        print: |record| HARVESTS.table_and_plot(record),
    }
    .main()
}

fn run(options: &Options) -> Result<Record, Box<dyn Error>> {
    let mut record = HARVESTS.record();
    for gib in SIZES_GIB {
        for share in SHARES {
            let name = format!("{gib} GiB, {}", share.name());
            if options.wants(&name) {
                eprintln!("{name}");
                let (ours, theirs) = measure(gib, share, options.round_count);
                HARVESTS.push(&mut record, &[gib.to_string(), share.name()], ours, theirs);
            }
        }
    }
    Ok(record)
}

/// Returns the medians of both sides, in nanoseconds.
fn measure(gib: usize, share: Dirty, rounds: usize) -> (f64, f64) {
    let log_len = gib << 30;
    let dirty = share.places(log_len as u64);
    let ours_log = ours::dirty::bitmap(log_len);
    let theirs_log = theirs::dirty::bitmap(log_len);
    let mut pages = DirtyPages::new(log_len, page_size()).expect("a power of two");
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    // One harvest of each in turn; the first warms up.
    for round in 0..=rounds {
        let one = take(
            &ours_log,
            &mut pages,
            || mark_all_ours(&ours_log, &dirty),
            1,
        );
        let other = take_theirs(&theirs_log, || mark_all_theirs(&theirs_log, &dirty), 1);
        if round > 0 {
            ours.push(one.nanoseconds_each());
            theirs.push(other.nanoseconds_each());
        }
    }
    (median(&ours), median(&theirs))
}

/// The dirty pages; `None` for all.
fn mark_all_ours(log: &OurBitmap, dirty: &Option<Vec<u64>>) {
    match dirty {
        Some(places) => mark_ours(log, places),
        None => log.set_addr_range(0, log.byte_size()),
    }
}

fn mark_all_theirs(log: &vm_memory::bitmap::AtomicBitmap, dirty: &Option<Vec<u64>>) {
    match dirty {
        Some(places) => mark_theirs(log, places),
        None => log.set_addr_range(0, log.byte_size()),
    }
}

impl Dirty {
    fn name(self) -> String {
        match self {
            Self::Pages(count) => format!("{count} pages"),
            Self::Percent(share) => format!("{share} %"),
        }
    }

    fn places(self, log_len: u64) -> Option<Vec<u64>> {
        let count = match self {
            Self::Pages(count) => count,
            Self::Percent(100) => return None,
            Self::Percent(share) => places::offset(log_len / PAGE) / 100 * share,
        };
        Some(places::random(count, log_len, PAGE))
    }
}

fn page_size() -> NonZeroUsize {
    NonZeroUsize::new(places::offset(PAGE)).expect("not zero")
}
