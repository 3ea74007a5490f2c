// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a lookup at random costs, by the number of regions: a table and a plot in Markdown.

use std::error::Error;
use std::process::ExitCode;

use guest_memory_benches::command_line::{Options, Program};
use guest_memory_benches::record::Record;
use guest_memory_benches::report::LOOKUPS;
use guest_memory_benches::statistics::median;
use guest_memory_benches::{ours, pair, places, theirs};

/// Bytes of a region, and from one region's start to the next one's.
const LEN: usize = 4096;
const STRIDE: u64 = 2 * LEN as u64;

/// Places per table, and lookups of a round.
const PLACES: usize = 8192;
const LOOKUP_COUNT: u64 = 1 << 19;

const REGION_COUNTS: [u64; 8] = [1, 2, 8, 32, 128, 512, 4096, 16_384];

fn main() -> ExitCode {
    Program {
        name: "lookups",
        round_count: 11,
        size_mib: None,
        measure: run,
        print: |record| LOOKUPS.table_and_plot(record),
    }
    .main()
}

fn run(options: &Options) -> Result<Record, Box<dyn Error>> {
    let mut record = LOOKUPS.record();
    for region_count in REGION_COUNTS {
        let name = region_count.to_string();
        if options.wants(&name) {
            eprintln!("{name} regions");
            let (ours, theirs) = measure(region_count, options.round_count);
            LOOKUPS.push(&mut record, &[name], ours, theirs);
        }
    }
    Ok(record)
}

/// Returns the medians of both sides, in nanoseconds.
fn measure(region_count: u64, rounds: usize) -> (f64, f64) {
    let ranges: Vec<(u64, usize)> = (0..region_count)
        .map(|number| (number * STRIDE, LEN))
        .collect();
    let memory = pair!([access::memory::<()>](&ranges));
    let places = places::random(PLACES, region_count * STRIDE, STRIDE);
    let (mut of_ours, mut of_theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let one = ours::access::find_region(&memory.ours, &places, LOOKUP_COUNT);
        let other = theirs::access::find_region(&memory.theirs, &places, LOOKUP_COUNT);
        of_ours.push(one.nanoseconds_each());
        of_theirs.push(other.nanoseconds_each());
    }
    (median(&of_ours), median(&of_theirs))
}
