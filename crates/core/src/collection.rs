// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest memory of regions of one type.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::fmt;

use guest_memory_bitmap::Bitmap;

use crate::address::Address;
use crate::file_offset::FileOffset;
use crate::guest_address::{GuestAddress, GuestUsize, MemoryRegionAddress};
use crate::index::{OutOfOrder, RegionIndex};
use crate::memory::GuestMemory;
use crate::region::GuestMemoryRegion;

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
pub struct GuestRegionCollection<R> {
    // # Invariants
    //
    // `regions` is in the order of `index`, which has the bounds of each; `first` is the first of them.
    first: Option<Arc<R>>,
    regions: Vec<Arc<R>>,
    index: RegionIndex,
}

impl<R> GuestRegionCollection<R> {
    /// Joins regions and their bounds.
    fn join(regions: Vec<Arc<R>>, index: RegionIndex) -> Self {
        Self {
            first: regions.first().cloned(),
            regions,
            index,
        }
    }

    /// Returns the region of this number.
    #[inline(always)]
    fn region(&self, number: usize) -> Option<&R> {
        // Most accesses are to the first, which is one step nearer.
        match number {
            0 => self.first.as_deref(),
            _ => self.regions.get(number).map(Arc::as_ref),
        }
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
        let mut index = RegionIndex::default();
        for region in &regions {
            let (start, last) = bounds(&**region)?;
            index.push(start, last)?;
        }
        Ok(Self::join(regions, index))
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
        let mut index = self.index.clone();
        let number = index.insert(start, last)?;
        let mut regions = Vec::with_capacity(self.regions.len().saturating_add(1));
        let (before, after) = self.regions.split_at(number);
        regions.extend_from_slice(before);
        regions.push(region);
        regions.extend_from_slice(after);
        Ok(Self::join(regions, index))
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
        let number = self
            .index
            .find_exact(base.raw_value(), size)
            .ok_or(GuestRegionCollectionError::NoMemoryRegion)?;
        let mut regions = self.regions.clone();
        let removed = regions.remove(number);
        let mut index = self.index.clone();
        index.remove(number);
        Ok((Self::join(regions, index), removed))
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
        self.regions.len()
    }

    #[inline]
    fn find_region(&self, addr: GuestAddress) -> Option<&R> {
        self.to_region_addr(addr).map(|(region, _)| region)
    }

    fn iter(&self) -> impl Iterator<Item = &R> {
        self.regions.iter().map(Arc::as_ref)
    }

    #[inline(always)]
    fn to_region_addr(&self, addr: GuestAddress) -> Option<(&R, MemoryRegionAddress)> {
        let (number, offset) = self.index.find(addr.raw_value())?;
        let region = self.region(number)?;
        Some((region, MemoryRegionAddress(offset)))
    }

    #[inline(always)]
    fn to_region_span(
        &self,
        addr: GuestAddress,
        count: usize,
    ) -> Option<(&R, MemoryRegionAddress)> {
        let (number, offset) = self.index.find_span(addr.raw_value(), count as u64)?;
        let region = self.region(number)?;
        Some((region, MemoryRegionAddress(offset)))
    }
}

impl<R> Default for GuestRegionCollection<R> {
    fn default() -> Self {
        Self::join(Vec::new(), RegionIndex::default())
    }
}

impl<R> Clone for GuestRegionCollection<R> {
    fn clone(&self) -> Self {
        Self::join(self.regions.clone(), self.index.clone())
    }
}

impl<R: fmt::Debug> fmt::Debug for GuestRegionCollection<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestRegionCollection")
            .field("regions", &self.regions)
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
