// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory as a device sees it: an access needs a permission.

use guest_memory_bitmap::{BS, Bitmap};
use guest_memory_volatile::VolatileSlice;

use crate::error::Result;
use crate::guest_address::GuestAddress;
use crate::memory::{GuestMemory, GuestMemorySlices, room, some_exact_slice};
use crate::permissions::Permissions;
use crate::region::GuestMemoryRegion;
use crate::slice_iterator::GuestMemorySliceIterator;

/// Memory as a device sees it, perhaps through an IOMMU: accesses need permission, addresses may be
/// translated.
///
/// Every [`GuestMemory`] is one, with addresses as they are; there a write needs memory that is
/// mapped writable.
///
/// To implement it give [`check_range`](Self::check_range) and [`get_slices`](Self::get_slices); the short paths are for speed.
/// [`Bytes<GuestAddress>`](crate::Bytes) and [`BytesExt`](crate::BytesExt) follow.
///
/// # Examples
///
/// A device's copy loop, which asks before it touches anything:
///
/// ```
/// use guest_memory_core::{GuestAddress, GuestMemoryError, IoMemory, Permissions};
///
/// fn clear(memory: &impl IoMemory, addr: GuestAddress, count: usize) -> Result<(), GuestMemoryError> {
///     if !memory.check_range(addr, count, Permissions::Write) {
///         return Err(GuestMemoryError::InvalidGuestAddress(addr));
///     }
///     for slice in memory.get_slices(addr, count, Permissions::Write)? {
///         slice?.zero()?;
///     }
///     Ok(())
/// }
#[doc = include_str!("examples/two_regions.md")]
/// # use guest_memory_core::Bytes;
/// # let memory = two_regions::<()>();
/// # memory.write_slice(&[1; 16], GuestAddress(0x1ff8))?;
/// clear(&memory, GuestAddress(0x1ffc), 8)?;
/// # let mut bytes = [0; 16];
/// # memory.read_slice(&mut bytes, GuestAddress(0x1ff8))?;
/// # assert_eq!(bytes, [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]);
/// assert!(clear(&memory, GuestAddress(0x2ffc), 8).is_err());
/// # Ok::<(), GuestMemoryError>(())
/// ```
pub trait IoMemory {
    /// The guest memory below.
    type PhysicalMemory: GuestMemory + ?Sized;
    /// The dirty bitmap that windows mark.
    type Bitmap: Bitmap;

    /// Says whether all of the bytes `[addr, addr + count)` can be accessed so; an empty range always can.
    fn check_range(&self, addr: GuestAddress, count: usize, access: Permissions) -> bool;

    /// Walks over windows that together are `[addr, addr + count)`.
    ///
    /// Windows are not empty. A part that cannot be accessed is an error and ends the walk, after the windows before it; an
    /// empty range has none.
    ///
    /// # Errors
    ///
    /// If the range cannot be translated at all.
    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, BS<'a, Self::Bitmap>>>;

    /// Returns the one window that is `[addr, addr + count)`, if that can be found at once.
    ///
    /// This is the short path of every access; `None` sends it over
    /// [`get_slices`](Self::get_slices), which finds out why.
    #[inline]
    fn single_slice(
        &self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Option<VolatileSlice<'_, BS<'_, Self::Bitmap>>> {
        let _ = (addr, count, access);
        None
    }

    /// Returns a window on the start of `[addr, addr + count)`, as long as can be found at once and not empty.
    ///
    /// This is the short path of an access that crosses a border; `None` goes on over
    /// [`get_slices`](Self::get_slices).
    #[inline]
    fn first_slice(
        &self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Option<VolatileSlice<'_, BS<'_, Self::Bitmap>>> {
        let _ = (addr, count, access);
        None
    }

    /// Returns the guest memory below if addresses are not translated.
    fn physical_memory(&self) -> Option<&Self::PhysicalMemory> {
        None
    }
}

impl<M: GuestMemory + ?Sized> IoMemory for M {
    type PhysicalMemory = M;
    type Bitmap = <M::R as GuestMemoryRegion>::B;

    fn check_range(&self, addr: GuestAddress, count: usize, access: Permissions) -> bool {
        GuestMemorySlices::new(self, addr, count, access).all(|slice| slice.is_ok())
    }

    #[inline]
    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, BS<'a, Self::Bitmap>>> {
        Ok(GuestMemorySlices::new(self, addr, count, access))
    }

    #[inline(always)]
    fn single_slice(
        &self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Option<VolatileSlice<'_, BS<'_, Self::Bitmap>>> {
        let (region, offset) = self.to_region_span(addr, count)?;
        let slice = some_exact_slice(region, offset, count)?;
        (!access.has_write() || !slice.is_read_only()).then_some(slice)
    }

    #[inline(always)]
    fn first_slice(
        &self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Option<VolatileSlice<'_, BS<'_, Self::Bitmap>>> {
        let (region, offset) = self.to_region_addr(addr)?;
        let slice = some_exact_slice(region, offset, room(region, offset, count))?;
        (!slice.is_empty() && (!access.has_write() || !slice.is_read_only())).then_some(slice)
    }

    #[inline]
    fn physical_memory(&self) -> Option<&M> {
        Some(self)
    }
}
