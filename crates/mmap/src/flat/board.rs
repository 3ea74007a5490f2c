// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A table from an address to the run to look at first, so that a lookup among hundreds of runs is as good as one among a
//! few.

use super::runs::Run;

/// Cells for each run, at least,
const PER_RUN: usize = 2;

/// and at most.
const MOST_PER_RUN: usize = 16;

/// The offsets up to the end of the last run, cut into cells of equal size.
///
/// # Invariants
///
/// `through[c]` is how many runs start in cells up to `c`. Empty without runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Board {
    /// The size of a cell is 2 to this.
    shift: u32,
    through: Box<[u32]>,
}

impl Board {
    /// Makes the table for runs by ascending offset. There are fewer than a `u32` counts: each is a mapping of the process.
    pub(super) fn new(runs: &[Run]) -> Self {
        let Some(last) = runs.last() else {
            return Self::default();
        };
        let last_offset = last.end().saturating_sub(1);
        let offset_bits = usize::BITS.saturating_sub(last_offset.leading_zeros());
        let shift_for = |per_run: usize| {
            let wanted = runs.len().saturating_mul(per_run).next_power_of_two();
            offset_bits.saturating_sub(wanted.ilog2())
        };
        // As fine as needed to tell all runs apart, if that is to be had.
        let distances = runs.windows(2).filter_map(|pair| match pair {
            [one, next] => next.start.checked_sub(one.start)?.checked_ilog2(),
            _ => None,
        });
        let telling_apart = distances.min().unwrap_or(u32::MAX);
        let shift = shift_for(PER_RUN)
            .min(telling_apart)
            .max(shift_for(MOST_PER_RUN));
        let mut count = 0u32;
        let mut ahead = runs.iter().peekable();
        let through = (0..=last_offset >> shift).map(|cell| {
            while ahead.next_if(|run| run.start >> shift <= cell).is_some() {
                count = count.saturating_add(1);
            }
            count
        });
        Self {
            through: through.collect(),
            shift,
        }
    }

    /// Returns the last of the runs, those the table was made for, that starts at the offset or below.
    #[inline(always)]
    pub(super) fn find<'a>(&self, runs: &'a [Run], offset: usize) -> Option<&'a Run> {
        let through = *self.through.get(offset >> self.shift)? as usize;
        let run = runs.get(through.wrapping_sub(1))?;
        if run.start <= offset {
            return Some(run);
        }
        let before = through.wrapping_sub(2);
        let run = runs.get(before)?;
        if run.start <= offset {
            return Some(run);
        }
        search(runs.get(..before)?, offset)
    }
}

/// Returns the last run that starts at the offset or below, where several start in one cell.
#[cold]
#[inline(never)]
fn search(runs: &[Run], offset: usize) -> Option<&Run> {
    let count = runs.partition_point(|run| run.start <= offset);
    runs.get(count.wrapping_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn assert_finds(runs: &[Run], offset: usize) {
        let end = runs.last().map_or(0, Run::end);
        let last = runs.iter().rev().find(|run| run.start <= offset);
        match Board::new(runs).find(runs, offset) {
            Some(found) => assert_eq!(Some(found), last),
            // Behind the last run there may be no cell.
            None => assert!(last.is_none() || offset >= end),
        }
    }

    proptest! {
        #[test]
        fn the_board_finds_what_a_walk_finds(
            sizes in prop::collection::vec((0u32..30, 0usize..8, 0u32..30, 1usize..8), 0..80),
            nudge in 0usize..3,
        ) {
            let mut end = 0;
            let mut runs = Vec::new();
            for (hole_log2, hole, log2, len) in sizes {
                let start = end + (hole << hole_log2);
                end = start + (len << log2);
                runs.push(Run { start, len_bytes: end - start, is_read_only: false });
            }
            for run in &runs {
                assert_finds(&runs, (run.start + nudge).saturating_sub(1));
                assert_finds(&runs, (run.end() + nudge).saturating_sub(1));
            }
            for offset in [0, end, usize::MAX] {
                assert_finds(&runs, offset);
            }
        }
    }

    // Addresses that 32 bits do not have.
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn the_table_is_small_whatever_the_distances() {
        let mut runs: Vec<Run> = (0..500)
            .map(|number| Run {
                start: number * 0x2000,
                len_bytes: 0x1000,
                is_read_only: false,
            })
            .collect();
        runs.push(Run {
            start: 1 << 46,
            len_bytes: 0x1000,
            is_read_only: false,
        });
        assert!(Board::new(&runs).through.len() <= 501 * MOST_PER_RUN * 2);
        for offset in [0, 0x1fff, 0x2000, 499 * 0x2000, 1 << 40, 1 << 46] {
            assert_finds(&runs, offset);
        }
    }
}
