// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest memory in one range of host addresses: translating a guest address is an addition.

mod access;
mod board;
mod builder;
mod dirty;
mod error;
mod part_bitmap;
mod region;
mod runs;
mod span;

pub use builder::FlatGuestMemoryBuilder;
pub use error::FlatMemoryError;
pub use part_bitmap::PartBitmap;
pub use region::{FlatRegion, FlatRegionBuilder};

use std::sync::{Arc, Mutex};

use guest_memory_bitmap::{BS, Bitmap, NewBitmap};
use guest_memory_core::{
    GuestAddress, GuestMemory, GuestMemoryError, GuestMemoryRegion, GuestMemoryResult, GuestUsize,
    IoMemory, Operation, Permissions,
};
use guest_memory_volatile::{VolatileMemoryError, VolatileSlice};

use self::dirty::Harvested;
use self::runs::Runs;
use self::span::Span;
use crate::GuestMemoryMmap;

/// A guest memory in one reserved range of addresses: each byte is at the range's start plus its guest address, less the
/// address the range begins with.
///
/// Holes, and a page before and behind the range, are inaccessible. Regions that touch in the guest touch in this process,
/// so that an access over their border is one copy, if what may be done with them is the same; and looking an address up
/// costs the same for many such regions as for one.
///
/// It is an [`IoMemory`], so it has [`Bytes<GuestAddress>`](guest_memory_core::Bytes), and works behind
/// `GuestMemoryAtomic`. [`regions`](Self::regions) is the ordinary guest memory of the same regions, for a hypervisor's slots
/// and whoever needs a [`GuestMemory`].
///
/// # Plugging
///
/// Memories are values: [`with_region_inserted`](Self::with_region_inserted) and
/// [`with_region_removed`](Self::with_region_removed) make another memory in the same range. A region is unmapped, and its
/// place free, when the last memory or whoever else has it drops it.
///
/// # Errors
///
/// An access that meets a hole or an end moves what comes before and says so, as with every guest memory. Regions
/// whose protection can change while they are in use are accessed one by one, with the errors of each.
///
/// # Dirty tracking
///
/// One bitmap has the marks of the whole range; a region's bitmap is its [part](PartBitmap) of it, so that it does not
/// matter which way a write went. The memory is a [`DirtyLog`](guest_memory_bitmap::DirtyLog), which yields guest addresses.
///
/// # Examples
///
/// ```
/// use guest_memory_bitmap::{AtomicBitmap, Bitmap, DirtyLog};
/// use guest_memory_core::{Bytes, GuestAddress, GuestDirtyPages, GuestMemory, GuestMemoryRegion};
/// use guest_memory_mmap::{FlatGuestMemory, MmapRegionBuilder};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let memory = FlatGuestMemory::<AtomicBitmap>::builder(1 << 30)
///     .with_region(GuestAddress(0), MmapRegionBuilder::new(0xa_0000))
///     .with_region(GuestAddress(0x10_0000), MmapRegionBuilder::new(0x10_0000))
///     .build()?;
/// memory.write_obj(7u32, GuestAddress(0x10_0000))?;
/// assert!(memory.write_obj(7u32, GuestAddress(0xa_0000)).is_err());
/// assert_eq!(memory.host_address(GuestAddress(0x10_0000), 4)?, memory.as_ptr().wrapping_add(0x10_0000));
///
/// // More memory, right behind; what the memory had before is shared.
/// let more = memory.with_region_inserted(GuestAddress(0x20_0000), MmapRegionBuilder::new(0x10_0000))?;
/// more.write_slice(b"over the seam", GuestAddress(0x1f_fffa))?;
///
/// let mut pages = GuestDirtyPages::default();
/// more.harvest_into(&mut pages);
/// assert!(pages.contains(GuestAddress(0x10_0000)) && pages.contains(GuestAddress(0x20_0000)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FlatGuestMemory<B = ()> {
    // # Invariants
    //
    // 1. `runs` was made of `regions`, which this memory keeps, and whose memory is in the space of `span`.
    // 2. `bitmap` covers the span.
    runs: Runs,
    bitmap: Arc<B>,
    regions: GuestMemoryMmap<PartBitmap<B>>,
    span: Span,
    harvested: Arc<Mutex<Harvested>>,
}

impl<B: NewBitmap> FlatGuestMemory<B> {
    /// Starts the description of a memory that spans `span` bytes of guest addresses; see [`FlatGuestMemoryBuilder::new`].
    pub fn builder(span: GuestUsize) -> FlatGuestMemoryBuilder<B> {
        FlatGuestMemoryBuilder::new(span)
    }
}

impl<B: Bitmap> FlatGuestMemory<B> {
    /// Joins the parts of a new memory, whose regions were mapped in the span.
    fn join(span: Span, bitmap: Arc<B>, regions: GuestMemoryMmap<PartBitmap<B>>) -> Self {
        Self {
            runs: Runs::new(span.space.start(), span.base, regions.iter()),
            bitmap,
            regions,
            span,
            harvested: Arc::default(),
        }
    }

    /// Makes another memory of the same origin.
    fn with_regions(&self, regions: GuestMemoryMmap<PartBitmap<B>>) -> Self {
        let runs = Runs::new(self.span.space.start(), self.span.base, regions.iter());
        Self {
            runs,
            regions,
            ..self.clone()
        }
    }

    /// Makes a memory with one more region at a guest address, a multiple of the page of its memory.
    ///
    /// # Errors
    ///
    /// [`Overlap`](FlatMemoryError::Overlap); [`StillMapped`](FlatMemoryError::StillMapped) if somebody still has a
    /// region that was there; for the rest see [`FlatGuestMemoryBuilder::build`].
    pub fn with_region_inserted(
        &self,
        start: GuestAddress,
        region: impl Into<FlatRegionBuilder>,
    ) -> Result<Self, FlatMemoryError> {
        let region: FlatRegionBuilder = region.into();
        let size = region.size();
        let place = region.take_place(&self.span, start, |taken| {
            let other_start = self.span.address_at(taken.offset);
            match self.region_at(other_start) {
                Some(other) => FlatMemoryError::Overlap {
                    start,
                    size,
                    other_start,
                    other_size: other.len(),
                },
                None => FlatMemoryError::StillMapped {
                    start,
                    size,
                    other_start,
                    other_size: taken.len_bytes,
                },
            }
        })?;
        let region = region.build(&self.span, start, place, &self.bitmap)?;
        Ok(self.with_regions(self.regions.insert_region(region)?))
    }

    /// Makes a memory without the region that starts at a guest address, and returns that region too.
    ///
    /// # Errors
    ///
    /// [`NoRegion`](FlatMemoryError::NoRegion) if none starts there.
    pub fn with_region_removed(
        &self,
        start: GuestAddress,
    ) -> Result<(Self, Arc<FlatRegion<B>>), FlatMemoryError> {
        let region = self
            .region_at(start)
            .ok_or(FlatMemoryError::NoRegion { start })?;
        let (regions, region) = self.regions.remove_region(start, region.len())?;
        Ok((self.with_regions(regions), region))
    }

    /// Returns the guest memory of the regions: to find one, to walk over them, to give them to a hypervisor.
    pub fn regions(&self) -> &GuestMemoryMmap<PartBitmap<B>> {
        &self.regions
    }

    /// Returns the dirty bitmap, whose offset 0 is the [base](Self::base). All versions of the memory have the same.
    pub fn bitmap(&self) -> &Arc<B> {
        &self.bitmap
    }

    /// Returns the first guest address that may have memory.
    pub fn base(&self) -> GuestAddress {
        self.span.base
    }

    /// Returns how many bytes of guest addresses, from the base on, may have memory.
    pub fn span(&self) -> GuestUsize {
        self.span.len_bytes
    }

    /// Returns the host address of the base, be there memory or not.
    ///
    /// Host addresses leave the same remainder as guest addresses when divided by 2 MiB, and by 1 GiB if the span is that
    /// large. [`span`](Self::span) bytes from here on stay reserved while a memory of this origin or a region of it lives: what
    /// has no region is inaccessible, but may get one when one is plugged. Writes through the pointer are not recorded in
    /// the bitmap.
    pub fn as_ptr(&self) -> *mut u8 {
        self.runs.start().as_ptr()
    }

    /// Returns the host address of `[addr, addr + len)`, which are in regions, whatever their protection.
    ///
    /// Neighbouring regions are as good as one. It is valid as long as this memory lives.
    ///
    /// # Errors
    ///
    /// [`InvalidGuestAddress`](GuestMemoryError::InvalidGuestAddress) with the first address that is in no region: `addr` itself
    /// even if `len` is 0. [`GuestAddressOverflow`](GuestMemoryError::GuestAddressOverflow) if the range reaches past 2^64.
    pub fn host_address(&self, addr: GuestAddress, len: usize) -> GuestMemoryResult<*mut u8> {
        let mut next = Some(addr);
        let mut left = len as u64;
        loop {
            let here = next.ok_or(GuestMemoryError::GuestAddressOverflow)?;
            let region = self.regions.find_region(here);
            let region = region.ok_or(GuestMemoryError::InvalidGuestAddress(here))?;
            let to_last = region.last_addr().0.saturating_sub(here.0);
            if left.saturating_sub(1) <= to_last {
                break;
            }
            left = left.saturating_sub(to_last).saturating_sub(1);
            next = region.last_addr().0.checked_add(1).map(GuestAddress);
        }
        // In the reservation, since it is in a region; wrapping keeps this free of unsafe code.
        let offset = self.runs.offset(addr);
        offset
            .map(|offset| self.as_ptr().wrapping_add(offset))
            .ok_or(GuestMemoryError::InvalidGuestAddress(addr))
    }

    /// Returns a window on `[addr, addr + count)`, which may reach over the border of neighbouring regions if what may be done
    /// with them is the same.
    ///
    /// # Errors
    ///
    /// [`InvalidGuestAddress`](GuestMemoryError::InvalidGuestAddress) if there is no memory at `addr`;
    /// [`Access`](GuestMemoryError::Access) if the memory there cannot be read, or a hole or another protection begins within
    /// the range: its source tells which, and in the latter case after how many bytes.
    pub fn get_slice(
        &self,
        addr: GuestAddress,
        count: usize,
    ) -> GuestMemoryResult<VolatileSlice<'_, BS<'_, B>>> {
        if let Some(slice) = self.single_slice(addr, count, Permissions::No) {
            return Ok(slice);
        }
        if count == 0 {
            return self.regions.get_slice(addr, count);
        }
        let first = self.get_slices(addr, count, Permissions::No)?.next();
        let first = first.unwrap_or(Err(GuestMemoryError::InvalidGuestAddress(addr)))?;
        if first.len() == count {
            return Ok(first);
        }
        Err(GuestMemoryError::Access {
            operation: Operation::Slice,
            address: addr,
            length: count,
            completed: 0,
            source: VolatileMemoryError::OutOfBounds { addr: first.len() },
        })
    }

    /// Returns the region that starts at an address.
    fn region_at(&self, start: GuestAddress) -> Option<&FlatRegion<B>> {
        let region = self.regions.find_region(start)?;
        (region.start_addr() == start).then_some(region)
    }
}

/// Another handle on the same memory.
impl<B> Clone for FlatGuestMemory<B> {
    fn clone(&self) -> Self {
        Self {
            runs: self.runs.clone(),
            bitmap: Arc::clone(&self.bitmap),
            regions: self.regions.clone(),
            span: self.span.clone(),
            harvested: Arc::clone(&self.harvested),
        }
    }
}
