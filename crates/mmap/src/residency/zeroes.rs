// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which pages read as zero, found without making the kernel allocate any.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use guest_memory_bitmap::Bitmap;
use guest_memory_volatile::VolatileMemory;

use super::{ResidencyError, data, in_memory};
use crate::extent::Extent;
use crate::whole_pages;
use crate::{BackingKind, MmapRegion, Sharing};

/// Bytes of a file that are read at once.
const FILE_CHUNK: usize = 1 << 18;

/// A run of whole pages that read as zero.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ZeroRun {
    pub(super) range: Range<usize>,
    /// Whether memory was found behind it: it was read through the mapping.
    pub(super) is_in_use: bool,
}

/// Finds the whole pages of `pages` that are known to read as zero.
pub(super) fn find<B: Bitmap>(
    region: &MmapRegion<B>,
    pages: Range<usize>,
) -> Result<Vec<ZeroRun>, ResidencyError> {
    let extent = region.extent();
    let plan = if region.backing() == BackingKind::External {
        plan_unknown(&extent, pages.clone())
    } else {
        plan(&extent, pages.clone())
    };
    let plan = plan.map_err(|source| ResidencyError::Query {
        operation: "learn which pages are in use",
        offset: pages.start,
        length: pages.len(),
        source,
    })?;
    let mut runs = Vec::new();
    for (range, how) in plan {
        match how {
            How::Known => runs.push(ZeroRun {
                range,
                is_in_use: false,
            }),
            How::Mapped => read_mapped(region, range, extent.details().page_size, &mut runs)?,
            How::File(file, start) => {
                let (offset, length) = (range.start, range.len());
                let read = read_file(file, start, range, extent.details().page_size, &mut runs);
                read.map_err(|source| ResidencyError::Query {
                    operation: "read the file",
                    offset,
                    length,
                    source,
                })?;
            }
        }
    }
    Ok(runs)
}

/// How pages are looked at.
#[derive(Clone, Copy, Debug)]
enum How<'a> {
    /// Not at all: they are zero.
    Known,
    /// Through the mapping, which has pages there.
    Mapped,
    /// Through the file, where the region starts at the offset: a touch of the mapping would take a page of the pool.
    File(BorrowedFd<'a>, u64),
}

/// Decides how to look at each of the pages; what is left out cannot be looked at without allocating memory.
fn plan<'a>(extent: &Extent<'a>, pages: Range<usize>) -> io::Result<Vec<(Range<usize>, How<'a>)>> {
    let details = extent.details();
    let file = match details.file {
        Some((file, start)) if data::file_len(file)?.is_some() => Some((file, start)),
        _ => None,
    };
    let without_memory = match (file, details.sharing) {
        (Some((file, start)), _) if details.is_hugetlb => Some(How::File(file, start)),
        (Some(_), _) => Some(How::Known),
        (None, Sharing::Private) if details.file.is_none() => Some(How::Known),
        // Pages of shared memory may be swapped out or used by another process, and a device is not ours to guess about.
        (None, _) => None,
    };
    let has_memory = match (file, details.sharing) {
        (Some(_), _) if details.is_hugetlb => in_memory::used_ranges(extent, pages.clone())?,
        (Some((file, start)), sharing) => {
            let file_start = start.saturating_add(u64::try_from(pages.start).unwrap_or(u64::MAX));
            let in_file = data::data_ranges(file, file_start, pages.len())?;
            let in_file = in_file.into_iter().map(|range| {
                range.start.saturating_add(pages.start)..range.end.saturating_add(pages.start)
            });
            let mut ranges: Vec<_> = in_file.collect();
            if sharing == Sharing::Private {
                ranges.extend(in_memory::used_ranges(extent, pages.clone())?);
            }
            ranges
        }
        (None, Sharing::Private) => in_memory::used_ranges(extent, pages.clone())?,
        (None, Sharing::Shared) => in_memory::resident_ranges(extent, pages.clone())?,
    };
    Ok(split(pages, has_memory, details.page_size, without_memory))
}

/// Likewise for memory that somebody else mapped: nothing is known of it but what is in memory.
fn plan_unknown<'a>(
    extent: &Extent<'a>,
    pages: Range<usize>,
) -> io::Result<Vec<(Range<usize>, How<'a>)>> {
    let has_memory = in_memory::resident_ranges(extent, pages.clone())?;
    Ok(split(pages, has_memory, extent.details().page_size, None))
}

/// Splits pages into those that touch one of the ranges, which are in any order, and the others.
fn split<'a>(
    pages: Range<usize>,
    mut has_memory: Vec<Range<usize>>,
    page_size: usize,
    without_memory: Option<How<'a>>,
) -> Vec<(Range<usize>, How<'a>)> {
    has_memory.sort_unstable_by_key(|range| range.start);
    let mut plan = Vec::new();
    let mut at = pages.start;
    let add_gap = |plan: &mut Vec<_>, gap: Range<usize>| {
        if let Some(how) = without_memory
            && !gap.is_empty()
        {
            plan.push((gap, how));
        }
    };
    for range in has_memory {
        let touched = whole_pages::around(range, page_size, pages.end);
        let start = usize::max(touched.start, at);
        if start >= touched.end {
            continue;
        }
        add_gap(&mut plan, at..start);
        at = touched.end;
        plan.push((start..touched.end, How::Mapped));
    }
    add_gap(&mut plan, at..pages.end);
    plan
}

fn read_mapped<B: Bitmap>(
    region: &MmapRegion<B>,
    range: Range<usize>,
    page_size: usize,
    runs: &mut Vec<ZeroRun>,
) -> Result<(), ResidencyError> {
    for page in pages_of(range, page_size) {
        let is_zero = region
            .get_slice(page.start, page.len())
            .and_then(|slice| slice.is_zero())
            .map_err(|source| ResidencyError::Access {
                offset: page.start,
                source,
            })?;
        if is_zero {
            push(runs, page, true);
        }
    }
    Ok(())
}

fn read_file(
    file: BorrowedFd<'_>,
    start: u64,
    range: Range<usize>,
    page_size: usize,
    runs: &mut Vec<ZeroRun>,
) -> io::Result<()> {
    let file = File::from(file.try_clone_to_owned()?);
    let mut buffer = vec![0; usize::min(page_size, FILE_CHUNK)];
    'pages: for page in pages_of(range, page_size) {
        for chunk in pages_of(page.clone(), buffer.len()) {
            let place = start.saturating_add(u64::try_from(chunk.start).unwrap_or(u64::MAX));
            file.read_exact_at(&mut buffer, place)?;
            if buffer.iter().any(|byte| *byte != 0) {
                continue 'pages;
            }
        }
        push(runs, page, false);
    }
    Ok(())
}

/// Cuts a range of whole pages into them.
fn pages_of(range: Range<usize>, page_size: usize) -> impl Iterator<Item = Range<usize>> {
    range
        .step_by(page_size)
        .map(move |start| start..start.saturating_add(page_size))
}

fn push(runs: &mut Vec<ZeroRun>, range: Range<usize>, is_in_use: bool) {
    match runs.last_mut() {
        Some(last) if last.range.end == range.start && last.is_in_use == is_in_use => {
            last.range.end = range.end;
        }
        _ => runs.push(ZeroRun { range, is_in_use }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_read_where_a_byte_has_memory_and_known_elsewhere() {
        let plan = split(
            0x1000..0x8000,
            vec![0x4800..0x4900, 0x1000..0x1001, 0x4000..0x5001],
            0x1000,
            Some(How::Known),
        );
        let plan: Vec<_> = plan
            .into_iter()
            .map(|(range, how)| (range, matches!(how, How::Mapped)))
            .collect();
        let expected = [
            (0x1000..0x2000, true),
            (0x2000..0x4000, false),
            (0x4000..0x6000, true),
            (0x6000..0x8000, false),
        ];
        assert_eq!(plan, expected);
    }

    #[test]
    fn what_cannot_be_known_is_left_out() {
        let plan = split(0..0x4000, vec![0..0x1000, 0x2000..0x3000], 0x1000, None);
        let ranges: Vec<_> = plan.into_iter().map(|(range, _)| range).collect();
        assert_eq!(ranges, [0..0x1000, 0x2000..0x3000]);
    }
}
