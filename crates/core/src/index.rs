// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where regions start and end, in a flat sorted array, so that a lookup touches no region.

mod buckets;

use alloc::vec::Vec;

use self::buckets::Buckets;

/// The bounds of regions that do not overlap, by ascending address, and where each region is kept.
///
/// # Invariants
///
/// `entries[i].start <= entries[i].last < entries[i + 1].start`; `buckets` knows these starts. The copies of the first
/// region's bounds are 0 without regions.
#[derive(Clone, Debug, Default)]
pub(crate) struct RegionIndex {
    /// The first region's first address. Most guests have most of their memory there, so it is looked at first.
    first_start: u64,
    /// The first region's size, less one.
    first_len_less_one: u64,
    entries: Vec<Entry>,
    buckets: Buckets,
}

/// A region's bounds and place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// First address.
    pub(crate) start: u64,
    /// Last address, still in the region, so that a region may end at 2^64.
    pub(crate) last: u64,
    /// Where the region is kept, for whoever keeps it.
    pub(crate) place: usize,
}

/// Why a region cannot follow the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutOfOrder {
    /// It starts below the one before.
    Unsorted,
    /// It starts within the one before.
    Overlap,
}

impl RegionIndex {
    /// Makes the index of regions in order, which are kept at places 0, 1 and so on. For each the first address must not be above
    /// the last.
    pub(crate) fn new<E: From<OutOfOrder>>(
        bounds: impl ExactSizeIterator<Item = Result<(u64, u64), E>>,
    ) -> Result<Self, E> {
        let mut entries: Vec<Entry> = Vec::with_capacity(bounds.len());
        for (place, bounds) in bounds.enumerate() {
            let (start, last) = bounds?;
            debug_assert!(start <= last);
            if let Some(before) = entries.last() {
                if start < before.start {
                    return Err(OutOfOrder::Unsorted.into());
                }
                if start <= before.last {
                    return Err(OutOfOrder::Overlap.into());
                }
            }
            entries.push(Entry { start, last, place });
        }
        let mut index = Self {
            buckets: Buckets::new(&entries),
            entries,
            ..Self::default()
        };
        index.copy_first();
        Ok(index)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the bounds and places of all regions, by ascending address.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the offset of `addr` in the first region, if it is in it. Without regions address 0 may seem to be.
    #[inline(always)]
    pub(crate) fn offset_in_first(&self, addr: u64) -> Option<u64> {
        let offset = addr.wrapping_sub(self.first_start);
        // Below the start the difference wraps to something larger than any region that starts there.
        (offset <= self.first_len_less_one).then_some(offset)
    }

    /// Returns whether `count` bytes, not none, from this offset on are in the first region, which has the offset.
    #[inline(always)]
    pub(crate) fn first_has(&self, offset: u64, count: u64) -> bool {
        count
            .checked_sub(1)
            .is_some_and(|to_last| to_last <= self.first_len_less_one.wrapping_sub(offset))
    }

    /// Returns the place of the region with `addr` in it, and the offset in it.
    #[inline(always)]
    pub(crate) fn find(&self, addr: u64) -> Option<(usize, u64)> {
        let entry = self.entry_by_search(addr)?;
        let offset = addr.wrapping_sub(entry.start);
        (addr <= entry.last).then_some((entry.place, offset))
    }

    /// As [`find`](Self::find), if all of `[addr, addr + count)` is in the region; an empty range is in none.
    #[inline(always)]
    pub(crate) fn find_span(&self, addr: u64, count: u64) -> Option<(usize, u64)> {
        let to_last = count.checked_sub(1)?;
        let entry = self.entry_by_search(addr)?;
        let offset = addr.wrapping_sub(entry.start);
        let is_in = addr <= entry.last && to_last <= entry.last.wrapping_sub(addr);
        is_in.then_some((entry.place, offset))
    }

    /// Returns the last region that starts at `addr` or below.
    #[inline(always)]
    fn entry_by_search(&self, addr: u64) -> Option<&Entry> {
        self.buckets.find(&self.entries, addr)
    }

    /// Keeps the copies of the first region's bounds.
    fn copy_first(&mut self) {
        let (start, last) = match self.entries.first() {
            Some(first) => (first.start, first.last),
            None => (0, 0),
        };
        self.first_start = start;
        self.first_len_less_one = last.wrapping_sub(start);
    }

    /// Makes the index with one more region, which is kept at `place`; its first address must not be above its last.
    pub(crate) fn with(&self, start: u64, last: u64, place: usize) -> Result<Self, OutOfOrder> {
        debug_assert!(start <= last);
        let number = self.number_of(start);
        let (before, after) = self.entries.split_at(number);
        let reaches_in = before.last().is_some_and(|before| start <= before.last);
        if reaches_in || after.first().is_some_and(|after| after.start <= last) {
            return Err(OutOfOrder::Overlap);
        }
        let mut entries = Vec::with_capacity(self.entries.len().saturating_add(1));
        entries.extend_from_slice(before);
        entries.push(Entry { start, last, place });
        entries.extend_from_slice(after);
        Ok(Self::changed(&self.buckets, entries, start))
    }

    /// Makes the index without the region of this number, which must exist.
    pub(crate) fn without(&self, number: usize) -> Self {
        let mut entries = self.entries.clone();
        let removed = entries.remove(number);
        Self::changed(&self.buckets, entries, removed.start)
    }

    /// Joins entries that differ in a region at `start` from those of `buckets`.
    fn changed(buckets: &Buckets, entries: Vec<Entry>, start: u64) -> Self {
        let mut index = Self {
            buckets: buckets.changed(&entries, start),
            entries,
            ..Self::default()
        };
        index.copy_first();
        index
    }

    /// Returns the number of the region of `len` bytes at `start`.
    pub(crate) fn find_exact(&self, start: u64, len: u64) -> Option<usize> {
        let number = self.number_of(start);
        let entry = self.entries.get(number)?;
        let is_exact = entry.start == start && Some(entry.last - start) == len.checked_sub(1);
        is_exact.then_some(number)
    }

    /// Returns how many regions start below `start`.
    fn number_of(&self, start: u64) -> usize {
        self.entries.partition_point(|other| other.start < start)
    }

    /// Returns the holes between the regions, the one below the first and the one above the last, by ascending address: the
    /// first and the last address of each.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = (u64, u64)> + Clone + '_ {
        let below = core::iter::once(Some(0)).chain(self.entries.iter().map(Entry::above));
        let above = self.entries.iter().map(|entry| entry.start.checked_sub(1));
        below
            .zip(above.chain([Some(u64::MAX)]))
            .filter_map(|(first, last)| Some((first?, last?)))
            .filter(|(first, last)| first <= last)
    }
}

impl Entry {
    /// The first address above the region.
    fn above(&self) -> Option<u64> {
        self.last.checked_add(1)
    }
}

#[cfg(test)]
mod tests;
