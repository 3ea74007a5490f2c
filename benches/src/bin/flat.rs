// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Runs flat memory and an ordinary memory of the same regions in turn, by the number of regions, and prints a table.

use std::process::ExitCode;

use guest_memory::bitmap::AtomicBitmap;
use guest_memory_benches::command_line::{Program, of_cases};
use guest_memory_benches::flat_memory::{Both, both, read_obj, read_slice, write_obj};
use guest_memory_benches::measure::{Limit, Runner};
use guest_memory_benches::{places, report};

/// Bytes of a region.
const LEN: usize = 4096;

/// Places per table: more than a branch predictor learns by heart.
const PLACES: usize = 8192;

const REGION_COUNTS: [u64; 3] = [1, 8, 512];

/// How far apart regions start.
const LAYOUTS: [(&str, u64); 2] = [
    ("side by side", LEN as u64),
    ("holes between", 2 * LEN as u64),
];

const ORDINARY: &str = "ordinary memory";

fn main() -> ExitCode {
    Program {
        name: "flat",
        round_count: 41,
        size_mib: None,
        measure: |options| Ok(of_cases(options, cases)),
        print: report::flat,
    }
    .main()
}

fn cases(runner: &mut Runner) {
    for (layout, stride) in LAYOUTS {
        for region_count in REGION_COUNTS {
            let ranges = ranges(region_count, stride);
            let places = places::random(PLACES, region_count * stride, stride);
            let memory: Both<()> = both(&ranges);
            runner.against_limit(
                &format!("read u64, {region_count} regions, {layout}"),
                &mut |count| read_obj(&memory.flat, &places, count),
                Limit {
                    what: ORDINARY,
                    run: &mut |count| read_obj(&memory.ordinary, &places, count),
                },
            );
            let tracked: Both<AtomicBitmap> = both(&ranges);
            runner.against_limit(
                &format!("write u64 tracked, {region_count} regions, {layout}"),
                &mut |count| write_obj(&tracked.flat, &places, count),
                Limit {
                    what: ORDINARY,
                    run: &mut |count| write_obj(&tracked.ordinary, &places, count),
                },
            );
        }
    }
    seams(runner);
}

/// Reads of 64 bytes over the border of two regions.
fn seams(runner: &mut Runner) {
    let stride = LEN as u64;
    let memory: Both<()> = both(&ranges(512, stride));
    let places = places::random(PLACES, 511 * stride, stride);
    let places = places::shifted(&places, stride - 32);
    let (mut one, mut other) = ([0; 64], [0; 64]);
    runner.against_limit(
        "read 64 bytes over a border, 512 regions",
        &mut |count| read_slice(&memory.flat, &mut one, &places, count),
        Limit {
            what: ORDINARY,
            run: &mut |count| read_slice(&memory.ordinary, &mut other, &places, count),
        },
    );
}

fn ranges(region_count: u64, stride: u64) -> Vec<(u64, usize)> {
    let starts = (0..region_count).map(|number| number * stride);
    starts.map(|start| (start, LEN)).collect()
}
