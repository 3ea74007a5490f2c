// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a guest's memory is: a set of regions.

use alloc::boxed::Box;
use core::iter::FusedIterator;

use guest_memory_bitmap::BS;
use guest_memory_volatile::VolatileSlice;

use crate::address::Address;
use crate::error::{Error, Result};
use crate::guest_address::{GuestAddress, MemoryRegionAddress};
use crate::permissions::Permissions;
use crate::region::GuestMemoryRegion;
use crate::slice_iterator::GuestMemorySliceIterator;

/// The slice of a dirty bitmap that windows on the memory `M` have.
pub type MS<'a, M> = BS<'a, <<M as GuestMemory>::R as GuestMemoryRegion>::B>;

/// A guest's physical memory: regions that do not overlap, by ascending address, with holes between
/// them.
///
/// To implement it give [`iter`](Self::iter), and [`find_region`](Self::find_region) if it can be
/// faster than a walk.
///
/// Reads and writes are in [`Bytes<GuestAddress>`](crate::Bytes), which every guest memory has.
///
/// # Examples
///
/// Code that is given any guest memory:
///
/// ```
/// use guest_memory_core::{Bytes, GuestAddress, GuestMemory, GuestMemoryRegion, GuestMemoryResult};
///
/// /// Adds up `count` bytes from `addr` on, however many regions they lie in.
/// fn sum(memory: &impl GuestMemory, addr: GuestAddress, count: usize) -> GuestMemoryResult<u64> {
///     let mut sum = 0;
///     for slice in memory.get_slices(addr, count) {
///         let slice = slice?; // the error names the first address without memory
///         let mut bytes = vec![0u8; slice.len()];
///         slice.try_copy_to(&mut bytes)?;
///         sum += bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>();
///     }
///     Ok(sum)
/// }
///
/// /// Returns the bytes of all regions together.
/// fn total(memory: &impl GuestMemory) -> u64 {
///     memory.iter().map(|region| region.len()).sum()
/// }
///
/// // Two regions of 4 KiB side by side, from 0x1000 on.
#[doc = include_str!("examples/two_regions.md")]
/// # let memory = two_regions::<()>();
/// memory.write_slice(&[1, 2, 3, 4], GuestAddress(0x1ffe))?;
/// assert_eq!(sum(&memory, GuestAddress(0x1f00), 0x200)?, 10);
/// assert!(sum(&memory, GuestAddress(0x2f00), 0x200).is_err());
/// assert_eq!(total(&memory), 0x2000);
/// # Ok::<(), guest_memory_core::GuestMemoryError>(())
/// ```
pub trait GuestMemory {
    /// Type of the regions.
    type R: GuestMemoryRegion;

    /// Returns the number of regions.
    fn num_regions(&self) -> usize {
        self.iter().count()
    }

    /// Returns the region with `addr` in it.
    fn find_region(&self, addr: GuestAddress) -> Option<&Self::R> {
        self.iter()
            .find(|region| region.to_region_addr(addr).is_some())
    }

    /// Walks over the regions by ascending address.
    fn iter(&self) -> impl Iterator<Item = &Self::R>;

    /// Returns the last address of the last region (inclusive); 0 without regions.
    fn last_addr(&self) -> GuestAddress {
        self.iter()
            .map(GuestMemoryRegion::last_addr)
            .max()
            .unwrap_or_default()
    }

    /// Returns the region with `addr` in it, and where in it.
    #[inline]
    fn to_region_addr(&self, addr: GuestAddress) -> Option<(&Self::R, MemoryRegionAddress)> {
        let region = self.find_region(addr)?;
        Some((region, region.to_region_addr(addr)?))
    }

    /// Returns the region with all of `[addr, addr + count)` in it, and where in it; an empty range is in none.
    #[inline]
    fn to_region_span(
        &self,
        addr: GuestAddress,
        count: usize,
    ) -> Option<(&Self::R, MemoryRegionAddress)> {
        let (region, start) = self.to_region_addr(addr)?;
        (count > 0 && room(region, start, count) == count).then_some((region, start))
    }

    /// Says whether there is memory at `addr`.
    fn address_in_range(&self, addr: GuestAddress) -> bool {
        self.find_region(addr).is_some()
    }

    /// Returns `addr` if there is memory at it.
    fn check_address(&self, addr: GuestAddress) -> Option<GuestAddress> {
        self.find_region(addr).map(|_| addr)
    }

    /// Says whether all of `[base, base + len)` is memory; an empty range always is, at every address.
    fn check_range(&self, base: GuestAddress, len: usize) -> bool {
        self.get_slices(base, len).all(|slice| slice.is_ok())
    }

    /// Returns `base + offset`, in bytes, if there is memory at it; what lies between may be a hole.
    fn checked_offset(&self, base: GuestAddress, offset: usize) -> Option<GuestAddress> {
        base.checked_add(offset as u64)
            .and_then(|addr| self.check_address(addr))
    }

    /// Calls `f` for each stretch of `[addr, addr + count)` that lies in one region, and returns
    /// the sum of what it returns.
    ///
    /// `f` gets the bytes done so far, the bytes of this stretch, its address in the region, and
    /// the region; it returns how many bytes it took. After fewer than offered it is called
    /// again for the rest; 0 ends the walk.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidGuestAddress`] if there is no memory at `addr`; a hole later ends the walk.
    /// What `f` returns, and [`Error::CallbackOutOfRange`] if it took more than it was offered. [`Error::SliceLength`] if a region does
    /// not have the address that it was found by.
    fn try_access<F>(&self, count: usize, addr: GuestAddress, mut f: F) -> Result<usize>
    where
        F: FnMut(usize, usize, MemoryRegionAddress, &Self::R) -> Result<usize>,
    {
        let mut done = 0usize;
        while done < count {
            let here = addr.checked_add(done as u64);
            let Some((region, start)) = here.and_then(|here| self.to_region_addr(here)) else {
                break;
            };
            let wanted = count.saturating_sub(done);
            let offered = room(region, start, wanted);
            if offered == 0 {
                // The region was found by an address that it then says it does not have.
                let address = addr.unchecked_add(done as u64);
                return Err(Error::SliceLength {
                    address,
                    expected: wanted,
                    actual: 0,
                });
            }
            match f(done, offered, start, region)? {
                0 => return Ok(done),
                taken if taken > offered => return Err(Error::CallbackOutOfRange),
                taken => done = done.saturating_add(taken),
            }
        }
        if done == 0 && count > 0 {
            return Err(Error::InvalidGuestAddress(addr));
        }
        Ok(done)
    }

    /// Returns the host address of the byte at `addr`.
    ///
    /// It says nothing about the bytes after it: see
    /// [`get_host_address_range`](Self::get_host_address_range).
    ///
    /// # Errors
    ///
    /// [`Error::InvalidGuestAddress`] if there is no memory at `addr`, and what the region says.
    fn get_host_address(&self, addr: GuestAddress) -> Result<*mut u8> {
        match self.to_region_addr(addr) {
            Some((region, offset)) => region.get_host_address(offset),
            None => Err(Error::InvalidGuestAddress(addr)),
        }
    }

    /// Returns the host address of `[addr, addr + len)`, which lies in one region.
    ///
    /// # Errors
    ///
    /// Those of [`get_slice`](Self::get_slice).
    fn get_host_address_range(&self, addr: GuestAddress, len: usize) -> Result<*mut u8> {
        self.get_slice(addr, len)
            .map(|slice| slice.ptr_guard_mut().as_ptr())
    }

    /// Returns a window on `[addr, addr + count)`, which lies in one region.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidGuestAddress`] if there is no memory at `addr`, even if `count` is 0; what
    /// the region says, for instance if the range reaches past its end.
    #[inline]
    fn get_slice(
        &self,
        addr: GuestAddress,
        count: usize,
    ) -> Result<VolatileSlice<'_, MS<'_, Self>>> {
        match self.to_region_addr(addr) {
            Some((region, offset)) => exact_slice(region, offset, count),
            None => Err(Error::InvalidGuestAddress(addr)),
        }
    }

    /// Walks over windows that together are `[addr, addr + count)`, one a region.
    ///
    /// A part without memory is an error and ends the walk. An empty range has no windows.
    #[inline]
    fn get_slices<'a>(&'a self, addr: GuestAddress, count: usize) -> GuestMemorySlices<'a, Self> {
        GuestMemorySlices::new(self, addr, count, Permissions::No)
    }
}

/// Asks a region for a slice and checks its length.
#[inline(always)]
pub(crate) fn exact_slice<R: GuestMemoryRegion + ?Sized>(
    region: &R,
    offset: MemoryRegionAddress,
    count: usize,
) -> Result<VolatileSlice<'_, BS<'_, R::B>>> {
    let slice = region.get_slice(offset, count)?;
    if slice.len() != count {
        return Err(wrong_length(region, offset, count, slice.len()));
    }
    Ok(slice)
}

/// As [`exact_slice`] for who takes the long way without one and finds out why there.
#[inline(always)]
pub(crate) fn some_exact_slice<R: GuestMemoryRegion + ?Sized>(
    region: &R,
    offset: MemoryRegionAddress,
    count: usize,
) -> Option<VolatileSlice<'_, BS<'_, R::B>>> {
    match region.get_slice(offset, count) {
        Ok(slice) if slice.len() == count => Some(slice),
        Ok(_) => None,
        Err(error) => {
            forget_why(Box::new(error));
            None
        }
    }
}

/// Drops an error out of line: it may own something, and the short path should not see that.
///
/// In a box, since an error that is passed by its address keeps the slice of the good case in memory with it.
#[cold]
#[inline(never)]
fn forget_why(error: Box<Error>) {
    drop(error);
}

#[cold]
fn wrong_length<R: GuestMemoryRegion + ?Sized>(
    region: &R,
    offset: MemoryRegionAddress,
    expected: usize,
    actual: usize,
) -> Error {
    let address = region.start_addr().unchecked_add(offset.raw_value());
    Error::SliceLength {
        address,
        expected,
        actual,
    }
}

/// Returns how many of `wanted` bytes the region has from `start` on.
#[inline]
pub(crate) fn room<R: GuestMemoryRegion + ?Sized>(
    region: &R,
    start: MemoryRegionAddress,
    wanted: usize,
) -> usize {
    let left = region.len().saturating_sub(start.raw_value());
    usize::try_from(left).map_or(wanted, |left| usize::min(left, wanted))
}

/// A walk over the windows of a range, one a region; made by [`GuestMemory::get_slices`].
#[derive(Debug)]
pub struct GuestMemorySlices<'a, M: GuestMemory + ?Sized> {
    memory: &'a M,
    /// Where the next window starts; `None` behind the last address there is.
    next: Option<GuestAddress>,
    left: usize,
    access: Permissions,
}

impl<'a, M: GuestMemory + ?Sized> GuestMemorySlices<'a, M> {
    #[inline]
    pub(crate) fn new(memory: &'a M, addr: GuestAddress, left: usize, access: Permissions) -> Self {
        Self {
            memory,
            next: Some(addr),
            left,
            access,
        }
    }

    /// Makes the walk end at the first part without a window, instead of with an error.
    ///
    /// # Errors
    ///
    /// That of the first part, if it has no window.
    pub fn stop_on_error(self) -> Result<impl Iterator<Item = VolatileSlice<'a, MS<'a, M>>>> {
        GuestMemorySliceIterator::stop_on_error(self)
    }

    fn step(&mut self) -> Result<VolatileSlice<'a, MS<'a, M>>> {
        let addr = self.next.ok_or(Error::GuestAddressOverflow)?;
        let (region, start) = self
            .memory
            .to_region_addr(addr)
            .ok_or(Error::InvalidGuestAddress(addr))?;
        let count = room(region, start, self.left);
        if count == 0 {
            // The region was found by an address that it then says it does not have.
            return Err(Error::SliceLength {
                address: addr,
                expected: self.left,
                actual: 0,
            });
        }
        let slice = self
            .access
            .check(exact_slice(region, start, count)?, addr)?;
        self.next = addr.checked_add(count as u64);
        self.left = self.left.saturating_sub(count);
        Ok(slice)
    }
}

impl<'a, M: GuestMemory + ?Sized> Iterator for GuestMemorySlices<'a, M> {
    type Item = Result<VolatileSlice<'a, MS<'a, M>>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let step = self.step();
        if step.is_err() {
            self.left = 0;
        }
        Some(step)
    }
}

impl<M: GuestMemory + ?Sized> FusedIterator for GuestMemorySlices<'_, M> {}

impl<'a, M: GuestMemory + ?Sized> GuestMemorySliceIterator<'a, MS<'a, M>>
    for GuestMemorySlices<'a, M>
{
}
