// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From a guest address to the bytes of a flat memory: a comparison and an addition, or the way of its regions.
#![expect(unsafe_code, reason = "cuts slices out of the regions it keeps")]

use std::iter::FusedIterator;

use guest_memory_bitmap::{BS, Bitmap};
use guest_memory_core::{
    GuestAddress, GuestMemoryError, GuestMemoryResult, GuestMemorySliceIterator, IoMemory,
    Permissions,
};
use guest_memory_volatile::VolatileSlice;

use super::{FlatGuestMemory, PartBitmap};
use crate::GuestMemoryMmap;

impl<B: Bitmap> IoMemory for FlatGuestMemory<B> {
    /// The regions, for instance for a hypervisor's table of slots.
    type PhysicalMemory = GuestMemoryMmap<PartBitmap<B>>;
    type Bitmap = B;

    fn check_range(&self, addr: GuestAddress, count: usize, access: Permissions) -> bool {
        FlatSlices::new(self, addr, count, access).all(|slice| slice.is_ok())
    }

    /// Walks over windows that together are `[addr, addr + count)`, one for all neighbouring regions of the same protection.
    ///
    /// # Errors
    ///
    /// None; a part that cannot be accessed is an error of the walk.
    #[inline]
    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> GuestMemoryResult<impl GuestMemorySliceIterator<'a, BS<'a, B>>> {
        Ok(FlatSlices::new(self, addr, count, access))
    }

    #[inline(always)]
    fn single_slice(
        &self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Option<VolatileSlice<'_, BS<'_, B>>> {
        // SAFETY: by this type's invariant it keeps the regions that the runs were made of.
        unsafe { self.runs.whole(addr, count, access, &*self.bitmap) }
    }

    #[inline(always)]
    fn first_slice(
        &self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Option<VolatileSlice<'_, BS<'_, B>>> {
        // SAFETY: as in `single_slice`.
        unsafe { self.runs.first(addr, count, access, &*self.bitmap) }
    }

    #[inline]
    fn physical_memory(&self) -> Option<&Self::PhysicalMemory> {
        Some(&self.regions)
    }
}

/// A walk over the windows of a range.
#[derive(Debug)]
struct FlatSlices<'a, B> {
    memory: &'a FlatGuestMemory<B>,
    /// Where the next window starts; `None` behind the last address there is.
    next: Option<GuestAddress>,
    left: usize,
    access: Permissions,
}

impl<'a, B: Bitmap> FlatSlices<'a, B> {
    fn new(
        memory: &'a FlatGuestMemory<B>,
        addr: GuestAddress,
        left: usize,
        access: Permissions,
    ) -> Self {
        Self {
            memory,
            next: Some(addr),
            left,
            access,
        }
    }

    fn step(&mut self) -> GuestMemoryResult<VolatileSlice<'a, BS<'a, B>>> {
        let addr = self.next.ok_or(GuestMemoryError::GuestAddressOverflow)?;
        let slice = match self.memory.first_slice(addr, self.left, self.access) {
            Some(slice) => slice,
            None => self.of_region(addr)?,
        };
        self.next = addr.0.checked_add(slice.len() as u64).map(GuestAddress);
        self.left = self.left.saturating_sub(slice.len());
        Ok(slice)
    }

    /// Returns the window that the region at an address has, or says why it has none.
    #[cold]
    fn of_region(&self, addr: GuestAddress) -> GuestMemoryResult<VolatileSlice<'a, BS<'a, B>>> {
        IoMemory::get_slices(&self.memory.regions, addr, self.left, self.access)?
            .next()
            .unwrap_or(Err(GuestMemoryError::InvalidGuestAddress(addr)))
    }
}

impl<'a, B: Bitmap> Iterator for FlatSlices<'a, B> {
    type Item = GuestMemoryResult<VolatileSlice<'a, BS<'a, B>>>;

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

impl<B: Bitmap> FusedIterator for FlatSlices<'_, B> {}

impl<'a, B: Bitmap> GuestMemorySliceIterator<'a, BS<'a, B>> for FlatSlices<'a, B> {}
