// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Many segments filled from one file.

use std::fs::File;

use memfd::MemfdOptions;

use super::MEMORY_LEN;
use crate::limit::Window;
use crate::measure::{Limit, Runner};
use crate::vectored::read_at_once;
use crate::{compare, failed, pair, places, theirs};

/// Segments of one read.
const SEGMENT_COUNT: u64 = 64;

/// Bytes from one place for a segment to the next: no two segments are adjacent.
const STRIDE: u64 = 8192;

/// Reads of a file in the page cache into segments in a random order, the way to the file's start included.
pub(super) fn files(runner: &mut Runner) {
    let memory = pair!([access::memory::<()>](&[(0, MEMORY_LEN)]));
    let window = Window::new(MEMORY_LEN);
    let places = places::shuffled(SEGMENT_COUNT * STRIDE, STRIDE);
    let file = cached_file(SEGMENT_COUNT * STRIDE);
    for len_bytes in [64, 512] {
        compare!(
            runner,
            format!("64 reads from a file, {len_bytes} B each"),
            [scatter::read_each](memory, &file, &places, len_bytes),
            Some(Limit {
                what: "one preadv",
                run: &mut |count| window.read_file(&file, &places, len_bytes, count),
            }),
        );
        runner.compare(
            &format!("64-segment read from a file, {len_bytes} B each"),
            &mut |count| read_at_once(&memory.ours, &file, &places, len_bytes, count),
            &mut |count| {
                theirs::scatter::read_each(&memory.theirs, &file, &places, len_bytes, count)
            },
            Some(Limit {
                what: "one preadv",
                run: &mut |count| window.read_file(&file, &places, len_bytes, count),
            }),
        );
    }
}

/// Makes a file that has no disk, all of it written.
fn cached_file(len_bytes: u64) -> File {
    let file = MemfdOptions::new()
        .create("scatter")
        .unwrap_or_else(|_| failed())
        .into_file();
    let bytes = vec![1; places::offset(len_bytes)];
    std::io::Write::write_all(&mut &file, &bytes).unwrap_or_else(|_| failed());
    file
}
