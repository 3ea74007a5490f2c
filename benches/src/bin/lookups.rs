// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a lookup at random costs, by the number of regions: a table and a plot in Markdown.
//!
//! `lookups [ROUNDS]` takes the median of so many rounds, 11 if it is not said.

use std::process::ExitCode;

use guest_memory_benches::plot::{Line, Plot};
use guest_memory_benches::statistics::median;
use guest_memory_benches::{ours, pair, places, theirs};

/// Bytes of a region, and from one region's start to the next one's.
const LEN: usize = 4096;
const STRIDE: u64 = 2 * LEN as u64;

/// Places per table, and lookups of a round.
const PLACES: usize = 8192;
const LOOKUPS: u64 = 1 << 19;

const REGION_COUNTS: [u64; 8] = [1, 2, 8, 32, 128, 512, 4096, 16_384];

fn main() -> ExitCode {
    let rounds = match std::env::args().nth(1).map(|text| text.parse()) {
        None => 11,
        Some(Ok(rounds)) if rounds > 0 => rounds,
        Some(_) => {
            eprintln!("usage: lookups [ROUNDS]");
            return ExitCode::from(2);
        }
    };
    let lines: Vec<Line> = REGION_COUNTS
        .into_iter()
        .map(|count| {
            eprintln!("{count} regions");
            measure(count, rounds)
        })
        .collect();
    let plot = Plot {
        head: "regions",
        origin: 1.0,
        decade: 24,
    };
    print!("{}", plot.markdown(&lines));
    ExitCode::SUCCESS
}

fn measure(region_count: u64, rounds: u32) -> Line {
    let ranges: Vec<(u64, usize)> = (0..region_count)
        .map(|number| (number * STRIDE, LEN))
        .collect();
    let memory = pair!([access::memory::<()>](&ranges));
    let places = places::random(PLACES, region_count * STRIDE, STRIDE);
    let (mut of_ours, mut of_theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let one = ours::access::find_region(&memory.ours, &places, LOOKUPS);
        let other = theirs::access::find_region(&memory.theirs, &places, LOOKUPS);
        of_ours.push(one.nanoseconds_each());
        of_theirs.push(other.nanoseconds_each());
    }
    Line {
        name: region_count.to_string(),
        ours: median(&of_ours),
        theirs: median(&of_theirs),
    }
}
