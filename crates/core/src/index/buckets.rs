// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A table from an address's upper bits to the regions that start thereabouts, so that a lookup among thousands of
//! regions is as good as one among a few.

use alloc::vec;
use alloc::vec::Vec;

use super::Entry;

/// Buckets for each region, at least,
const PER_REGION: usize = 2;

/// and at most.
const MOST_PER_REGION: usize = 16;

/// The addresses from the first region's start to the last one's, cut into buckets of equal size.
///
/// # Invariants
///
/// `through[b]` is how many regions start in buckets up to `b`, so not 0; the last is all regions. Empty for one region, which
/// needs no table, without any, or with more than a `u32` counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Buckets {
    /// The first region's start, where the first bucket starts.
    base: u64,
    /// The size of a bucket is 2 to this, below 64.
    shift: u32,
    /// Whether no two regions start in one bucket.
    is_single: bool,
    through: Vec<u32>,
}

impl Buckets {
    /// Makes the table for sorted entries.
    pub(super) fn new(entries: &[Entry]) -> Self {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Self::default();
        };
        if u32::try_from(entries.len()).is_err() {
            return Self::default();
        }
        if let [alone] = entries {
            return Self {
                base: alone.start,
                is_single: true,
                ..Self::default()
            };
        }
        let span_bits = u64::BITS - (last.start - first.start).leading_zeros();
        let shift_for = |per_region: usize| {
            let wanted = (entries.len() * per_region).next_power_of_two();
            span_bits.saturating_sub(wanted.ilog2())
        };
        // As fine as needed to tell all regions apart, if that is to be had.
        let distances = entries.windows(2).map(|pair| pair[1].start - pair[0].start);
        let smallest = distances.min().unwrap_or(u64::MAX);
        let coarse = shift_for(PER_REGION);
        let shift = coarse.min(smallest.ilog2()).max(shift_for(MOST_PER_REGION));
        let mut buckets = Self {
            base: first.start,
            shift: if smallest >> shift == 0 {
                coarse
            } else {
                shift
            },
            is_single: smallest >> shift != 0,
            through: Vec::new(),
        };
        buckets.count(entries, last.start);
        buckets
    }

    /// Makes the table for `entries`, which are those of this table and a region at `start` more or less.
    pub(super) fn changed(&self, entries: &[Entry], start: u64) -> Self {
        self.with_change(entries, start)
            .unwrap_or_else(|| Self::new(entries))
    }

    fn with_change(&self, entries: &[Entry], start: u64) -> Option<Self> {
        let bucket = self.bucket_of(start);
        let through = *self.through.get(bucket)? as usize;
        let before = bucket
            .checked_sub(1)
            .map_or(0, |before| self.through[before] as usize);
        let all = *self.through.last()? as usize;
        let is_more = entries.len() > all;
        // Not too coarse for what it holds, nor larger than it pays.
        let sizes = entries.len()..=entries.len() * MOST_PER_REGION * 2;
        let is_fit = sizes.contains(&self.through.len()) && start > self.base;
        let stays_single = !is_more || through == before;
        // Without the last region the last bucket would count no more than the one before, which does no harm.
        if !is_fit || (self.is_single && !stays_single) {
            return None;
        }
        let mut counts = self.through.clone();
        let change = if is_more { 1 } else { u32::MAX };
        for count in counts.iter_mut().skip(bucket) {
            *count = count.wrapping_add(change);
        }
        Some(Self {
            through: counts,
            ..*self
        })
    }

    /// Returns the last entry that starts at `addr` or below.
    #[inline(always)]
    pub(super) fn find<'a>(&self, entries: &'a [Entry], addr: u64) -> Option<&'a Entry> {
        if addr < self.base {
            return None;
        }
        let bucket = self.bucket_of(addr);
        if !self.is_single {
            return self.find_in_crowd(entries, addr, bucket);
        }
        // Above the last bucket is as good as in it.
        let through = match self.through.get(bucket) {
            Some(&through) => through as usize,
            None => entries.len(),
        };
        let number = through.wrapping_sub(1);
        let entry = entries.get(number)?;
        if entry.start <= addr {
            return Some(entry);
        }
        // The first region starts at the base, so that there is one before.
        entries.get(number.wrapping_sub(1))
    }

    /// As [`find`](Self::find), where several regions may start in one bucket, or there is no table.
    #[inline(never)]
    fn find_in_crowd<'a>(
        &self,
        entries: &'a [Entry],
        addr: u64,
        bucket: usize,
    ) -> Option<&'a Entry> {
        let bucket = bucket.min(self.through.len().saturating_sub(1));
        let count_through = |bucket: usize| self.through.get(bucket).map(|&count| count as usize);
        let through = count_through(bucket).unwrap_or(entries.len());
        let before = bucket.checked_sub(1).and_then(count_through).unwrap_or(0);
        let within = entries.get(before..through)?;
        let count = before + within.partition_point(|entry| entry.start <= addr);
        entries.get(count.wrapping_sub(1))
    }

    /// The bucket of an address that is not below the base; there may be none of that number.
    #[inline(always)]
    fn bucket_of(&self, addr: u64) -> usize {
        usize::try_from(addr.wrapping_sub(self.base) >> self.shift).unwrap_or(usize::MAX)
    }

    /// Makes the counts: first of the starts in each bucket, then of those in all up to it.
    fn count(&mut self, entries: &[Entry], last_start: u64) {
        // At most as many as were wanted, so the sum fits.
        let mut counts = vec![0; self.bucket_of(last_start) + 1];
        for entry in entries {
            counts[self.bucket_of(entry.start)] += 1;
        }
        let mut sum = 0;
        for count in &mut counts {
            sum += *count;
            *count = sum;
        }
        self.through = counts;
    }
}
