// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where regions start and end, in flat sorted arrays, so that a lookup touches no region.

use alloc::vec::Vec;

/// The bounds of regions that do not overlap, by ascending address.
///
/// # Invariants
///
/// Both arrays have the same length; `starts[i] <= lasts[i] < starts[i + 1]`. The copies of the first region's bounds
/// are 0 without regions.
#[derive(Clone, Debug, Default)]
pub(crate) struct RegionIndex {
    /// The first region's first address. Most guests have most of their memory there, so it is looked at first.
    first_start: u64,
    /// The first region's size, less one.
    first_len_less_one: u64,
    /// First address of each region.
    starts: Vec<u64>,
    /// Last address of each region, still in it, so that a region may end at 2^64.
    lasts: Vec<u64>,
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
    /// Adds a region behind the others; its first address must not be above its last.
    pub(crate) fn push(&mut self, start: u64, last: u64) -> Result<(), OutOfOrder> {
        debug_assert!(start <= last);
        if let (Some(&previous_start), Some(&previous_last)) =
            (self.starts.last(), self.lasts.last())
        {
            if start < previous_start {
                return Err(OutOfOrder::Unsorted);
            }
            if start <= previous_last {
                return Err(OutOfOrder::Overlap);
            }
        }
        self.starts.push(start);
        self.lasts.push(last);
        self.copy_first();
        Ok(())
    }

    /// Returns the number of the region with `addr` in it, and the offset in it.
    ///
    /// Without regions it may be number 0, which does not exist.
    #[inline(always)]
    pub(crate) fn find(&self, addr: u64) -> Option<(usize, u64)> {
        let offset = addr.wrapping_sub(self.first_start);
        // Below the start the difference wraps to something larger than any region that starts there.
        if offset <= self.first_len_less_one {
            return Some((0, offset));
        }
        let number = self.number_by_search(addr);
        self.offset_in(number, addr).map(|offset| (number, offset))
    }

    /// Returns the offset of `addr` in the region of this number, if both are there.
    #[inline(always)]
    fn offset_in(&self, number: usize, addr: u64) -> Option<u64> {
        let (start, last) = (self.starts.get(number)?, self.lasts.get(number)?);
        let offset = addr.wrapping_sub(*start);
        (offset <= last.wrapping_sub(*start)).then_some(offset)
    }

    /// As [`find`](Self::find), if all of `[addr, addr + count)` is in the region; an empty range is in none.
    #[inline(always)]
    pub(crate) fn find_span(&self, addr: u64, count: u64) -> Option<(usize, u64)> {
        let last_offset = count.checked_sub(1)?;
        let offset = addr.wrapping_sub(self.first_start);
        if offset <= self.first_len_less_one {
            return (last_offset <= self.first_len_less_one.wrapping_sub(offset))
                .then_some((0, offset));
        }
        // Apart, so that the code around each access stays small.
        let number = self.number_apart(addr);
        let offset = self.offset_in(number, addr)?;
        let last = *self.lasts.get(number)?;
        (last_offset <= last.wrapping_sub(addr)).then_some((number, offset))
    }

    /// Returns the number of the last region that starts at `addr` or below; below all regions one that none has.
    #[inline(always)]
    fn number_by_search(&self, addr: u64) -> usize {
        self.starts
            .partition_point(|&start| start <= addr)
            .wrapping_sub(1)
    }

    /// As [`number_by_search`](Self::number_by_search), not inlined.
    #[inline(never)]
    fn number_apart(&self, addr: u64) -> usize {
        self.number_by_search(addr)
    }

    /// Keeps the copies of the first region's bounds.
    fn copy_first(&mut self) {
        let first = self.starts.first().zip(self.lasts.first());
        let (start, last) = first.map_or((0, 0), |(&start, &last)| (start, last));
        self.first_start = start;
        self.first_len_less_one = last.wrapping_sub(start);
    }

    /// Adds a region in its place and returns its number; its first address must not be above its last.
    pub(crate) fn insert(&mut self, start: u64, last: u64) -> Result<usize, OutOfOrder> {
        debug_assert!(start <= last);
        let number = self.starts.partition_point(|&other| other < start);
        let ends_below = |before: usize| self.lasts.get(before).is_none_or(|&other| other < start);
        let next_is_above = self.starts.get(number).is_none_or(|&next| last < next);
        if !next_is_above || !number.checked_sub(1).is_none_or(ends_below) {
            return Err(OutOfOrder::Overlap);
        }
        self.starts.insert(number, start);
        self.lasts.insert(number, last);
        self.copy_first();
        Ok(number)
    }

    /// Takes out the region of this number, which must exist.
    pub(crate) fn remove(&mut self, number: usize) {
        self.starts.remove(number);
        self.lasts.remove(number);
        self.copy_first();
    }

    /// Returns the number of the region of `len` bytes at `start`.
    pub(crate) fn find_exact(&self, start: u64, len: u64) -> Option<usize> {
        let number = self.starts.binary_search(&start).ok()?;
        let last = *self.lasts.get(number)?;
        (Some(last.wrapping_sub(start)) == len.checked_sub(1)).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(bounds: &[(u64, u64)]) -> RegionIndex {
        let mut index = RegionIndex::default();
        for &(start, last) in bounds {
            index.push(start, last).expect("in order");
        }
        index
    }

    fn found(index: &RegionIndex, addr: u64) -> Option<(usize, u64)> {
        index
            .find(addr)
            .filter(|&(number, _)| number < index.starts.len())
    }

    #[test]
    fn an_address_is_found_in_its_region_only() {
        let tables: [&[(u64, u64)]; 5] = [
            &[],
            &[(10, 19)],
            &[(0, u64::MAX)],
            &[(0, 0), (1, 1), (3, u64::MAX - 1), (u64::MAX, u64::MAX)],
            &[(5, 9), (10, 14), (20, 29)],
        ];
        let probes = (0..40).chain(u64::MAX - 3..=u64::MAX);
        for bounds in tables {
            let index = index(bounds);
            for addr in probes.clone() {
                let expected = bounds
                    .iter()
                    .position(|&(start, last)| start <= addr && addr <= last)
                    .map(|number| (number, addr - bounds[number].0));
                assert_eq!(found(&index, addr), expected, "{addr} in {bounds:?}");
            }
        }
    }

    #[test]
    fn a_span_is_found_if_one_region_has_all_of_it() {
        let index = index(&[(5, 9), (10, 14), (20, u64::MAX)]);
        for (addr, count, expected) in [
            (5, 0, None),
            (5, 5, Some((0, 0))),
            (5, 6, None),
            (9, 1, Some((0, 4))),
            (9, 2, None),
            (10, 5, Some((1, 0))),
            (12, 4, None),
            (15, 1, None),
            (20, u64::MAX - 19, Some((2, 0))),
            (21, u64::MAX - 19, None),
            (u64::MAX, 1, Some((2, u64::MAX - 20))),
            (u64::MAX, u64::MAX, None),
        ] {
            assert_eq!(index.find_span(addr, count), expected, "{addr} {count}");
        }
    }

    #[test]
    fn regions_out_of_order_are_refused() {
        let mut index = index(&[(10, 19)]);
        assert_eq!(index.push(5, 7), Err(OutOfOrder::Unsorted));
        assert_eq!(index.push(10, 30), Err(OutOfOrder::Overlap));
        assert_eq!(index.push(19, 30), Err(OutOfOrder::Overlap));
        assert_eq!(index.push(20, 30), Ok(()));
    }

    #[test]
    fn a_region_is_inserted_in_its_place_or_not_at_all() {
        let mut index = index(&[(10, 19), (30, 39)]);
        for (start, last) in [
            (0, 10),
            (19, 19),
            (15, 16),
            (20, 30),
            (9, 40),
            (39, u64::MAX),
        ] {
            assert_eq!(
                index.insert(start, last),
                Err(OutOfOrder::Overlap),
                "{start} {last}"
            );
        }
        assert_eq!(index.insert(20, 29), Ok(1));
        assert_eq!(index.insert(0, 9), Ok(0));
        assert_eq!(index.insert(40, u64::MAX), Ok(4));
        assert_eq!(found(&index, 25), Some((2, 5)));
        index.remove(2);
        assert_eq!(found(&index, 25), None);
        assert_eq!(found(&index, 35), Some((2, 5)));
    }
}
