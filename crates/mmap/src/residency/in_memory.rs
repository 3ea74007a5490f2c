// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which pages of a range are in memory, and which this process has used.

use std::fs::File;
use std::io;
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

use crate::extent::Extent;
use crate::sys;
use crate::whole_pages;

/// Pages asked about by one call: an answer takes a byte, or eight of the page table's.
const PAGES_PER_CALL: usize = 1 << 15;

/// Lists what of `range` is in memory.
pub(crate) fn resident_ranges(
    extent: &Extent<'_>,
    range: Range<usize>,
) -> io::Result<Vec<Range<usize>>> {
    let mut ranges = Vec::new();
    visit_resident(extent, range, |run, is_resident| {
        if is_resident {
            whole_pages::push(&mut ranges, run);
        }
        ControlFlow::Continue(())
    })?;
    Ok(ranges)
}

/// Counts the bytes of `range` that are in memory.
pub(crate) fn resident_bytes(extent: &Extent<'_>, range: Range<usize>) -> io::Result<usize> {
    let mut bytes = 0usize;
    visit_resident(extent, range, |run, is_resident| {
        if is_resident {
            // The runs are disjoint parts of one range.
            bytes = bytes.saturating_add(run.len());
        }
        ControlFlow::Continue(())
    })?;
    Ok(bytes)
}

/// Says whether all of `range` is in memory.
pub(crate) fn is_resident(extent: &Extent<'_>, range: Range<usize>) -> io::Result<bool> {
    let mut all = true;
    visit_resident(extent, range, |_, is_resident| {
        all = is_resident;
        if all {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    Ok(all)
}

/// Lists what of `range` this process's page table has something for: a page in memory or one that was swapped out.
///
/// What is missing was never touched, or was given back since, as far as private memory goes.
pub(crate) fn used_ranges(
    extent: &Extent<'_>,
    range: Range<usize>,
) -> io::Result<Vec<Range<usize>>> {
    let page_table = File::open("/proc/self/pagemap")?;
    let mut ranges = Vec::new();
    let ask = |start: NonNull<u8>, page_size: usize, answers: &mut [u8]| {
        read_page_table(&page_table, start, page_size, answers)
    };
    visit_runs(extent, range, ask, |run, is_used| {
        if is_used {
            whole_pages::push(&mut ranges, run);
        }
        ControlFlow::Continue(())
    })?;
    Ok(ranges)
}

fn visit_resident(
    extent: &Extent<'_>,
    range: Range<usize>,
    visit: impl FnMut(Range<usize>, bool) -> ControlFlow<()>,
) -> io::Result<()> {
    visit_runs(extent, range, sys::mincore, visit)
}

/// Asks about all pages that `range` touches and visits the runs of equal answers in order, cut to the range.
///
/// `ask` gets the address of the first page, the size of a page and one byte per page, whose lowest bit is the answer.
/// Answers of one call are joined, those of different calls are not.
fn visit_runs(
    extent: &Extent<'_>,
    range: Range<usize>,
    mut ask: impl FnMut(NonNull<u8>, usize, &mut [u8]) -> io::Result<()>,
    mut visit: impl FnMut(Range<usize>, bool) -> ControlFlow<()>,
) -> io::Result<()> {
    let page_size = sys::page_size()?;
    let touched = whole_pages::around(range.clone(), page_size, extent.len_bytes());
    let mut answers = vec![0; usize::min(touched.len().div_ceil(page_size), PAGES_PER_CALL)];
    let mut at = touched.start;
    while at < touched.end {
        let left = touched.end.saturating_sub(at);
        let pages = usize::min(left.div_ceil(page_size), answers.len());
        let answers = answers.get_mut(..pages).unwrap_or_default();
        let start = extent
            .part(at, left)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?
            .start();
        ask(start, page_size, answers)?;
        for run in answers.chunk_by(|one, next| one & 1 == next & 1) {
            let end = at.saturating_add(run.len().saturating_mul(page_size));
            let cut = usize::max(at, range.start)..usize::min(end, range.end);
            let answer = run.first().is_some_and(|answer| answer & 1 == 1);
            if visit(cut, answer).is_break() {
                return Ok(());
            }
            at = end;
        }
    }
    Ok(())
}

/// Reads which pages from `start` on are present or swapped out.
///
/// See [proc_pid_pagemap(5)](https://man7.org/linux/man-pages/man5/proc_pid_pagemap.5.html).
fn read_page_table(
    page_table: &File,
    start: NonNull<u8>,
    page_size: usize,
    answers: &mut [u8],
) -> io::Result<()> {
    const ENTRY_BYTES: usize = 8;
    const PRESENT_OR_SWAPPED: u64 = 1 << 63 | 1 << 62;
    let mut entries = vec![0; answers.len().saturating_mul(ENTRY_BYTES)];
    let first_page = start.addr().get().checked_div(page_size).unwrap_or(0);
    let place = u64::try_from(first_page.saturating_mul(ENTRY_BYTES)).map_err(io::Error::other)?;
    page_table.read_exact_at(&mut entries, place)?;
    let (entries, _) = entries.as_chunks::<ENTRY_BYTES>();
    for (answer, entry) in answers.iter_mut().zip(entries) {
        *answer = u8::from(u64::from_ne_bytes(*entry) & PRESENT_OR_SWAPPED != 0);
    }
    Ok(())
}
