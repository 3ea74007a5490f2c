// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest memory of regions of one type.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::fmt;
use core::hint::cold_path;
use core::ops::RangeInclusive;

use guest_memory_bitmap::Bitmap;

use crate::address::Address;
use crate::file_offset::FileOffset;
use crate::guest_address::{GuestAddress, GuestUsize, MemoryRegionAddress};
use crate::index::{OutOfOrder, RegionIndex};
use crate::memory::GuestMemory;
use crate::region::GuestMemoryRegion;
use crate::shelf::Shelf;

/// Why regions make no memory.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuestRegionCollectionError {
    /// There is no region, or none with the given bounds.
    #[error("no such memory region")]
    NoMemoryRegion,
    /// Two regions share an address.
    #[error("memory regions overlap")]
    MemoryRegionOverlap,
    /// The regions do not come by ascending address.
    #[error("memory regions are not sorted by address")]
    UnsortedMemoryRegions,
    /// A region has no bytes.
    #[error("memory region at gpa {start} is empty")]
    EmptyRegion {
        /// The region's first address.
        start: GuestAddress,
    },
    /// A region reaches past 2^64.
    #[error("memory region of {len} bytes at gpa {start} reaches past 2^64")]
    RegionPastEnd {
        /// The region's first address.
        start: GuestAddress,
        /// The region's size, in bytes.
        len: GuestUsize,
    },
    /// A region's dirty bitmap does not cover it, so writes would go unrecorded.
    #[error("dirty bitmap of {tracked} bytes over the memory region of {len} bytes at gpa {start}")]
    BitmapTooShort {
        /// The region's first address.
        start: GuestAddress,
        /// The region's size, in bytes.
        len: GuestUsize,
        /// What the bitmap covers, in bytes.
        tracked: usize,
    },
}

/// Regions of one type that make up a guest's memory, by ascending address.
///
/// The collection does not change: [`insert_region`](Self::insert_region) and
/// [`remove_region`](Self::remove_region) make another one that shares the other regions.
///
/// Each region's bounds are read once, when it comes in; the region must keep them.
///
/// # Examples
///
/// ```
/// use guest_memory_core::{Bytes, GuestAddress, GuestMemory};
///
#[doc = include_str!("examples/two_regions.md")]
/// // Two regions of 4 KiB side by side, from 0x1000 on.
/// let memory = two_regions::<()>();
/// memory.write_obj(7u64, GuestAddress(0x1ffc))?; // over the border
///
/// // Without the second one, and the memory from before as it was.
/// let (smaller, region) = memory.remove_region(GuestAddress(0x2000), 0x1000)?;
/// assert_eq!((smaller.num_regions(), memory.num_regions()), (1, 2));
/// assert!(smaller.read_obj::<u64>(GuestAddress(0x1ffc)).is_err());
/// assert_eq!(memory.read_obj::<u64>(GuestAddress(0x1ffc))?, 7);
///
/// // And back again: the region is the same one.
/// let again = smaller.insert_region(region)?;
/// assert_eq!(again.read_obj::<u64>(GuestAddress(0x1ffc))?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct GuestRegionCollection<R> {
    // # Invariants
    //
    // `index` has the bounds of each region and its place on `shelf`, which keeps nothing else; `first` is the first of them.
    first: Option<Arc<R>>,
    shelf: Shelf<R>,
    index: RegionIndex,
}

impl<R> GuestRegionCollection<R> {
    /// Joins regions and their bounds.
    fn join(shelf: Shelf<R>, index: RegionIndex) -> Self {
        let first = index.entries().first();
        Self {
            first: first.and_then(|first| shelf.get(first.place)).cloned(),
            shelf,
            index,
        }
    }

    /// Returns the region that is kept at a place.
    #[inline(always)]
    fn region(&self, place: usize) -> Option<&R> {
        self.shelf.get(place).map(Arc::as_ref)
    }

    /// Walks over the regions by ascending address, as they are shared.
    pub fn arc_regions(&self) -> impl Iterator<Item = &Arc<R>> {
        let entries = self.index.entries().iter();
        entries.filter_map(|entry| self.shelf.get(entry.place))
    }
}

impl<R: GuestMemoryRegion> GuestRegionCollection<R> {
    /// Makes a collection without regions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a collection of regions, which must be sorted by address.
    ///
    /// # Errors
    ///
    /// If there are none, one is empty, reaches past 2^64 or has a dirty bitmap that is too short, they
    /// overlap or are not sorted.
    pub fn from_regions(regions: Vec<R>) -> Result<Self, GuestRegionCollectionError> {
        Self::from_arc_regions(regions.into_iter().map(Arc::new).collect())
    }

    /// Makes a collection of shared regions, which must be sorted by address.
    ///
    /// # Errors
    ///
    /// Those of [`from_regions`](Self::from_regions).
    pub fn from_arc_regions(regions: Vec<Arc<R>>) -> Result<Self, GuestRegionCollectionError> {
        if regions.is_empty() {
            return Err(GuestRegionCollectionError::NoMemoryRegion);
        }
        let index = RegionIndex::new(regions.iter().map(|region| bounds(&**region)))?;
        Ok(Self::join(Shelf::new(regions), index))
    }

    /// Makes a collection with one more region.
    ///
    /// # Errors
    ///
    /// If the region is empty, reaches past 2^64, has a dirty bitmap that is too short or overlaps another.
    pub fn insert_region(
        &self,
        region: Arc<R>,
    ) -> Result<GuestRegionCollection<R>, GuestRegionCollectionError> {
        let (start, last) = bounds(&*region)?;
        let (shelf, place) = self.shelf.with(region);
        let index = self.index.with(start, last, place)?;
        Ok(Self::join(shelf, index))
    }

    /// Makes a collection without the region of `size` bytes at `base`, and returns that region
    /// too.
    ///
    /// # Errors
    ///
    /// [`NoMemoryRegion`](GuestRegionCollectionError::NoMemoryRegion) if there is no region with
    /// exactly these bounds.
    pub fn remove_region(
        &self,
        base: GuestAddress,
        size: GuestUsize,
    ) -> Result<(GuestRegionCollection<R>, Arc<R>), GuestRegionCollectionError> {
        let missing = GuestRegionCollectionError::NoMemoryRegion;
        let Some(number) = self.index.find_exact(base.raw_value(), size) else {
            return Err(missing);
        };
        let entry = self.index.entries().get(number);
        let removed = entry.and_then(|entry| self.shelf.without(entry.place));
        let (shelf, region) = removed.ok_or(missing)?;
        Ok((Self::join(shelf, self.index.without(number)), region))
    }

    /// Returns the bytes of all regions together; 2^64 does not fit in a `u64`.
    pub fn total_size(&self) -> u128 {
        let sizes = self.index.entries().iter();
        sizes
            .map(|entry| u128::from(entry.last - entry.start) + 1)
            .sum()
    }

    /// Walks over the holes by ascending address: between the regions, below the first and above the last. Each is given by its
    /// first and its last address, both in it.
    pub fn gaps(&self) -> impl Iterator<Item = (GuestAddress, GuestAddress)> + Clone + '_ {
        let gaps = self.index.gaps();
        gaps.map(|(first, last)| (GuestAddress(first), GuestAddress(last)))
    }

    /// Finds the lowest place for `size` bytes that no region has, starts at a multiple of `align`, and lies within `within`, both of
    /// whose addresses may be used.
    ///
    /// `None` if there is no such place, if `size` is 0, or if `align` is not a power of two.
    ///
    /// ```
    /// # use guest_memory_core::GuestAddress;
    #[doc = include_str!("examples/two_regions.md")]
    /// // Two regions of 4 KiB side by side, from 0x1000 on.
    /// let memory = two_regions::<()>();
    /// let found = memory.find_gap(0x2000, 0x2000, GuestAddress(0)..=GuestAddress(0xffff));
    /// assert_eq!(found, Some(GuestAddress(0x4000)));
    /// let found = memory.find_gap_from_above(0x2000, 0x2000, GuestAddress(0)..=GuestAddress(0xffff));
    /// assert_eq!(found, Some(GuestAddress(0xe000)));
    /// assert_eq!(memory.find_gap(0x2000, 0x2000, GuestAddress(0)..=GuestAddress(0x2fff)), None);
    /// ```
    pub fn find_gap(
        &self,
        size: GuestUsize,
        align: GuestUsize,
        within: RangeInclusive<GuestAddress>,
    ) -> Option<GuestAddress> {
        self.fitting_gaps(size, align, within)?
            .find_map(|(lowest, highest)| (lowest <= highest).then_some(lowest))
    }

    /// As [`find_gap`](Self::find_gap), but finds the highest place.
    pub fn find_gap_from_above(
        &self,
        size: GuestUsize,
        align: GuestUsize,
        within: RangeInclusive<GuestAddress>,
    ) -> Option<GuestAddress> {
        self.fitting_gaps(size, align, within)?
            .filter_map(|(lowest, highest)| (lowest <= highest).then_some(highest))
            .last()
    }

    /// The lowest and the highest aligned address in each gap at which `size` bytes fit, reversed where none do.
    fn fitting_gaps(
        &self,
        size: GuestUsize,
        align: GuestUsize,
        within: RangeInclusive<GuestAddress>,
    ) -> Option<impl Iterator<Item = (GuestAddress, GuestAddress)> + '_> {
        let to_last = size.checked_sub(1)?;
        if !align.is_power_of_two() {
            return None;
        }
        let places = self.index.gaps().filter_map(move |(first, last)| {
            let first = first.max(within.start().raw_value());
            let last = last.min(within.end().raw_value());
            let lowest = first.checked_next_multiple_of(align)?;
            let highest = last.checked_sub(to_last)? & !(align - 1);
            Some((GuestAddress(lowest), GuestAddress(highest)))
        });
        Some(places)
    }
}

/// Returns a region's first and last address, if it can be part of a memory.
fn bounds<R: GuestMemoryRegion>(region: &R) -> Result<(u64, u64), GuestRegionCollectionError> {
    let (start, len) = (region.start_addr(), region.len());
    let Some(last_offset) = len.checked_sub(1) else {
        return Err(GuestRegionCollectionError::EmptyRegion { start });
    };
    let last = start
        .checked_add(last_offset)
        .ok_or(GuestRegionCollectionError::RegionPastEnd { start, len })?;
    match region.bitmap().tracked_bytes() {
        Some(tracked) if (tracked as u64) < len => {
            Err(GuestRegionCollectionError::BitmapTooShort {
                start,
                len,
                tracked,
            })
        }
        _ => Ok((start.raw_value(), last.raw_value())),
    }
}

impl From<OutOfOrder> for GuestRegionCollectionError {
    fn from(order: OutOfOrder) -> Self {
        match order {
            OutOfOrder::Unsorted => Self::UnsortedMemoryRegions,
            OutOfOrder::Overlap => Self::MemoryRegionOverlap,
        }
    }
}

impl<R: GuestMemoryRegion> GuestMemory for GuestRegionCollection<R> {
    type R = R;

    #[inline]
    fn num_regions(&self) -> usize {
        self.index.len()
    }

    #[inline]
    fn find_region(&self, addr: GuestAddress) -> Option<&R> {
        self.to_region_addr(addr).map(|(region, _)| region)
    }

    fn iter(&self) -> impl Iterator<Item = &R> {
        self.arc_regions().map(Arc::as_ref)
    }

    #[inline(always)]
    fn to_region_addr(&self, addr: GuestAddress) -> Option<(&R, MemoryRegionAddress)> {
        // Most accesses are to the first region, which is two steps nearer.
        if let Some(offset) = self.index.offset_in_first(addr.raw_value()) {
            return Some((self.first.as_deref()?, MemoryRegionAddress(offset)));
        }
        cold_path();
        let (place, offset) = self.index.find(addr.raw_value())?;
        Some((self.region(place)?, MemoryRegionAddress(offset)))
    }

    #[inline(always)]
    fn to_region_span(
        &self,
        addr: GuestAddress,
        count: usize,
    ) -> Option<(&R, MemoryRegionAddress)> {
        let count = count as u64;
        if let Some(offset) = self.index.offset_in_first(addr.raw_value()) {
            let region = self.first.as_deref()?;
            let is_in = self.index.first_has(offset, count);
            return is_in.then_some((region, MemoryRegionAddress(offset)));
        }
        cold_path();
        let (place, offset) = self.index.find_span(addr.raw_value(), count)?;
        Some((self.region(place)?, MemoryRegionAddress(offset)))
    }
}

impl<R> Default for GuestRegionCollection<R> {
    fn default() -> Self {
        Self::join(Shelf::default(), RegionIndex::default())
    }
}

/// The regions by ascending address, as they are shared.
impl<R> IntoIterator for GuestRegionCollection<R> {
    type Item = Arc<R>;
    type IntoIter = alloc::vec::IntoIter<Arc<R>>;

    fn into_iter(self) -> Self::IntoIter {
        let regions: Vec<_> = self.arc_regions().cloned().collect();
        regions.into_iter()
    }
}

impl<R> Clone for GuestRegionCollection<R> {
    fn clone(&self) -> Self {
        Self::join(self.shelf.clone(), self.index.clone())
    }
}

impl<R: fmt::Debug> fmt::Debug for GuestRegionCollection<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The regions, one by one.
        struct Regions<'a, R>(&'a GuestRegionCollection<R>);

        impl<R: fmt::Debug> fmt::Debug for Regions<'_, R> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list().entries(self.0.arc_regions()).finish()
            }
        }

        f.debug_struct("GuestRegionCollection")
            .field("regions", &Regions(self))
            .finish()
    }
}

/// A region that can be made of its bounds, so that a whole memory can be made of a list of ranges.
pub trait RegionFromRange: GuestMemoryRegion + Sized {
    /// Why it cannot be made.
    type Error: From<GuestRegionCollectionError>;

    /// Makes the region of `size` bytes at `addr`, backed by `file` if there is one.
    ///
    /// # Errors
    ///
    /// As the implementation says.
    fn from_range(
        addr: GuestAddress,
        size: usize,
        file: Option<FileOffset>,
    ) -> Result<Self, Self::Error>;
}

impl<R: RegionFromRange> GuestRegionCollection<R> {
    /// Makes a memory of ranges, each an address and a size in bytes, sorted by address.
    ///
    /// # Errors
    ///
    /// If a region cannot be made, and those of [`from_regions`](Self::from_regions).
    pub fn from_ranges(ranges: &[(GuestAddress, usize)]) -> Result<Self, R::Error> {
        Self::from_ranges_with_files(ranges.iter().map(|&(addr, size)| (addr, size, None)))
    }

    /// Makes a memory of ranges, each an address, a size in bytes and perhaps a file, sorted by
    /// address.
    ///
    /// # Errors
    ///
    /// If a region cannot be made, and those of [`from_regions`](Self::from_regions).
    pub fn from_ranges_with_files<A, T>(ranges: T) -> Result<Self, R::Error>
    where
        A: Borrow<(GuestAddress, usize, Option<FileOffset>)>,
        T: IntoIterator<Item = A>,
    {
        let regions: Result<Vec<R>, R::Error> = ranges
            .into_iter()
            .map(|range| {
                let (addr, size, file) = range.borrow();
                R::from_range(*addr, *size, file.clone())
            })
            .collect();
        Ok(Self::from_regions(regions?)?)
    }
}

#[cfg(test)]
mod tests;
