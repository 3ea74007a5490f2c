// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a harvest costs, by the size of the log and by what is dirty: a table and a plot in Markdown.
//!
//! `harvests [ROUNDS]` takes the median of so many harvests of each log, 15 if it is not said.

use std::num::NonZeroUsize;
use std::process::ExitCode;

use guest_memory::bitmap::{AtomicBitmap as OurBitmap, DirtyPages};
use guest_memory_benches::harvest::{mark_ours, mark_theirs, take, take_theirs};
use guest_memory_benches::plot::{Line, Plot};
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
    let rounds = match std::env::args().nth(1).map(|text| text.parse()) {
        None => 15,
        Some(Ok(rounds)) if rounds > 0 => rounds,
        Some(_) => {
            eprintln!("usage: harvests [ROUNDS]");
            return ExitCode::from(2);
        }
    };
    let mut lines = Vec::new();
    for gib in SIZES_GIB {
        for share in SHARES {
            eprintln!("{gib} GiB, {} dirty", share.name());
            lines.push(measure(gib, share, rounds));
        }
    }
    let plot = Plot {
        head: "log, dirty",
        origin: 10.0,
        decade: 7,
    };
    print!("{}", plot.markdown(&lines));
    ExitCode::SUCCESS
}

fn measure(gib: usize, share: Dirty, rounds: u64) -> Line {
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
    Line {
        name: format!("{gib} GiB, {}", share.name()),
        ours: median(&ours),
        theirs: median(&theirs),
    }
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
