// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A table from an address's upper bits to the regions that start thereabouts, so that a lookup among thousands of
//! regions is as good as one among a few.

use alloc::vec;
use alloc::vec::Vec;

use super::Entry;

/// Buckets for each region, at least.
const PER_REGION: usize = 2;

/// Regions that start in one bucket and are still looked at one by one.
const FEW: usize = 2;

/// The addresses from the first region's start to the last one's, cut into buckets of equal size.
///
/// # Invariants
///
/// `counts[b]` is how many regions start in buckets before `b`; the last of them is all regions. Empty without regions, or with more
/// than a `u32` counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Buckets {
    /// Where the first bucket starts.
    base: u64,
    /// The size of a bucket is 2 to this, below 64.
    shift: u32,
    counts: Vec<u32>,
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
        let span = last.start - first.start;
        let wanted = (entries.len() * PER_REGION).next_power_of_two();
        // The bits of the span that the buckets' numbers do not have.
        let shift = (u64::BITS - span.leading_zeros()).saturating_sub(wanted.ilog2());
        let mut buckets = Self {
            base: first.start,
            shift,
            counts: Vec::new(),
        };
        // The last bucket is that of the last start; one count more says how many there are behind it.
        let Some(last_bucket) = buckets.bucket_of(last.start) else {
            return Self::default();
        };
        buckets.counts = vec![0; last_bucket + 2];
        buckets.count(entries);
        buckets
    }

    /// Makes the table for `entries`, which are those of this table and a region at `start` more or less.
    pub(super) fn changed(&self, entries: &[Entry], start: u64) -> Self {
        let bucket_count = self.counts.len();
        // Not too coarse for what it holds, nor larger than it pays.
        let is_fit = (entries.len()..=entries.len() * PER_REGION * 4).contains(&bucket_count);
        // The first region's start is the base.
        let bucket = self
            .bucket_of(start)
            .filter(|_| is_fit && start > self.base);
        let Some(first_behind) = bucket
            .and_then(|bucket| bucket.checked_add(1))
            .filter(|&behind| behind < bucket_count)
        else {
            return Self::new(entries);
        };
        let mut counts = self.counts.clone();
        let is_more = self
            .counts
            .last()
            .is_some_and(|&count| entries.len() > count as usize);
        let change = if is_more { 1 } else { u32::MAX };
        for count in counts.iter_mut().skip(first_behind) {
            *count = count.wrapping_add(change);
        }
        Self { counts, ..*self }
    }

    /// Returns how many regions start at `addr` or below.
    #[inline(always)]
    pub(super) fn count_up_to(&self, entries: &[Entry], addr: u64) -> usize {
        if addr < self.base {
            return 0;
        }
        let bounds = self
            .bucket_of(addr)
            .and_then(|bucket| self.counts.get(bucket..)?.first_chunk());
        let Some(&[before, through]) = bounds else {
            return self.past_all(entries, addr);
        };
        let (before, through) = (before as usize, through as usize);
        if through - before <= FEW {
            // Whoever starts in a later bucket starts above the address, so that there is no need to stop at `through`.
            let is_counted = |number| {
                usize::from(
                    entries
                        .get(number)
                        .is_some_and(|entry: &Entry| entry.start <= addr),
                )
            };
            before + is_counted(before) + is_counted(before + 1)
        } else {
            let within = entries.get(before..through).unwrap_or_default();
            before + within.partition_point(|entry| entry.start <= addr)
        }
    }

    /// The count for an address above all buckets, or without any.
    #[inline]
    fn past_all(&self, entries: &[Entry], addr: u64) -> usize {
        if self.counts.is_empty() {
            entries.partition_point(|entry| entry.start <= addr)
        } else {
            entries.len()
        }
    }

    /// The bucket of an address that is not below the base; there may be none of that number.
    #[inline(always)]
    fn bucket_of(&self, addr: u64) -> Option<usize> {
        usize::try_from(addr.wrapping_sub(self.base) >> self.shift).ok()
    }

    /// Counts the starts: first those in each bucket, then those in all before it.
    fn count(&mut self, entries: &[Entry]) {
        for entry in entries {
            let bucket = self.bucket_of(entry.start);
            let behind = bucket.and_then(|bucket| self.counts.get_mut(bucket + 1));
            if let Some(count) = behind {
                *count += 1;
            }
        }
        let mut sum = 0;
        for count in &mut self.counts {
            sum += *count;
            *count = sum;
        }
    }
}
