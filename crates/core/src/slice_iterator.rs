// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Walks over the windows of a range.

use core::iter::FusedIterator;

use guest_memory_bitmap::BitmapSlice;
use guest_memory_volatile::VolatileSlice;

use crate::error::Result;

/// A walk over windows; made by [`IoMemory::get_slices`](crate::IoMemory::get_slices).
pub trait GuestMemorySliceIterator<'a, B: BitmapSlice>:
    Iterator<Item = Result<VolatileSlice<'a, B>>> + FusedIterator + Sized
{
    /// Makes the walk end at the first part without a window, instead of with an error.
    ///
    /// The cause of a later end is lost; where it matters walk over the results. An empty range is a walk over nothing.
    ///
    /// # Errors
    ///
    /// That of the first part, if it has no window.
    fn stop_on_error(self) -> Result<impl Iterator<Item = VolatileSlice<'a, B>>> {
        let mut rest = self;
        let first = rest.next().transpose()?;
        Ok(first.into_iter().chain(rest.map_while(Result::ok)))
    }
}
