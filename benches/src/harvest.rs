// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Harvests that end in a list of ranges: by one call of this library into a set that is used again, and as every user
//! of `vm-memory` writes it by hand.

use std::hint::black_box;
use std::ops::Range;
use std::time::Duration;

use guest_memory::bitmap::{AtomicBitmap as OurBitmap, DirtyPages};
use vm_memory::bitmap::AtomicBitmap as TheirBitmap;

use crate::measure::{Sample, repeat};
use crate::places::offset;

/// Bytes per page of the bitmaps.
const PAGE: usize = 4096;

/// Takes all marks into `pages` and lists the ranges; before each harvest, off the clock, the pages at `dirty` are marked.
pub fn list(bitmap: &OurBitmap, pages: &mut DirtyPages, dirty: &[u64], count: u64) -> Sample {
    with_marks(
        count,
        || mark_ours(bitmap, dirty),
        || {
            black_box(bitmap).harvest_into(pages);
            pages.ranges().for_each(|range| {
                black_box(range);
            });
        },
    )
}

/// As [`list`], from the words of `vm-memory`.
pub fn list_by_hand(bitmap: &TheirBitmap, dirty: &[u64], count: u64) -> Sample {
    with_marks(
        count,
        || mark_theirs(bitmap, dirty),
        || {
            let words = black_box(bitmap).get_and_reset();
            list_words(&words, |range| {
                black_box(range);
            });
        },
    )
}

/// Takes all marks into `pages`; before each harvest, off the clock, `mark` marks.
pub fn take(bitmap: &OurBitmap, pages: &mut DirtyPages, mark: impl FnMut(), count: u64) -> Sample {
    with_marks(count, mark, || black_box(bitmap).harvest_into(pages))
}

/// As [`take`], by `vm-memory`.
pub fn take_theirs(bitmap: &TheirBitmap, mark: impl FnMut(), count: u64) -> Sample {
    with_marks(count, mark, || {
        black_box(black_box(bitmap).get_and_reset());
    })
}

/// Marks the pages at `dirty`.
pub fn mark_ours(bitmap: &OurBitmap, dirty: &[u64]) {
    dirty
        .iter()
        .for_each(|&place| bitmap.set_addr_range(offset(place), 1));
}

/// Marks the pages at `dirty`.
pub fn mark_theirs(bitmap: &TheirBitmap, dirty: &[u64]) {
    dirty
        .iter()
        .for_each(|&place| bitmap.set_addr_range(offset(place), 1));
}

fn with_marks(count: u64, mut mark: impl FnMut(), mut harvest: impl FnMut()) -> Sample {
    let mut elapsed = Duration::ZERO;
    let operations = count.max(1);
    for _ in 0..operations {
        mark();
        elapsed += repeat(1, &mut harvest).elapsed;
    }
    Sample {
        elapsed,
        operations,
    }
}

/// Visits the byte ranges of the bits that are set, neighbours joined.
fn list_words(words: &[u64], mut visit: impl FnMut(Range<usize>)) {
    let mut run = 0..0;
    for (index, &word) in words.iter().enumerate() {
        let mut rest = word;
        while rest != 0 {
            let start = (index * 64 + rest.trailing_zeros() as usize) * PAGE;
            rest &= rest - 1;
            if start != run.end {
                if !run.is_empty() {
                    visit(run.clone());
                }
                run.start = start;
            }
            run.end = start + PAGE;
        }
    }
    if !run.is_empty() {
        visit(run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroUsize;

    #[test]
    fn both_sides_list_the_same_ranges() {
        const LEN: usize = 1 << 30;
        let page_size = NonZeroUsize::new(PAGE).unwrap();
        let mut dirty = crate::places::random(5000, LEN as u64, PAGE as u64);
        dirty.extend((0..300).map(|page| page * PAGE as u64));
        let ours = OurBitmap::new(LEN, page_size);
        let theirs = TheirBitmap::new(LEN, page_size);
        mark_ours(&ours, &dirty);
        mark_theirs(&theirs, &dirty);
        let mut by_hand = Vec::new();
        list_words(&theirs.get_and_reset(), |range| by_hand.push(range));
        assert!(by_hand.len() > 3000);
        assert!(ours.harvest().ranges().eq(by_hand));
    }
}
