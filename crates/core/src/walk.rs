// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The slices of an access, checked, with the reason where they end early.

use guest_memory_volatile::VolatileSlice;

use crate::error::{Error, Operation, Request, Result};
use crate::permissions::Permissions;
use crate::reach::Reach;

/// Walks over the slices that together are the access.
///
/// Memory that ends after the first slice ends the walk. Anything else that goes wrong is an error, worded as if all
/// bytes of the slices before were moved: whoever moved fewer must not ask for more.
pub(crate) struct Walk<I> {
    request: Request,
    slices: I,
    /// Bytes before the walk and of the slices so far.
    given: usize,
}

/// Begins a walk of what is left of an access after `done` bytes, at `addr`.
pub(crate) fn walk<'m, T: Reach<'m>>(
    target: T,
    addr: T::Address,
    request: Request,
    done: usize,
) -> Result<Walk<impl Iterator<Item = Result<VolatileSlice<'m, T::Bitmap>>>>> {
    let left = request.length.saturating_sub(done);
    let slices = target
        .slices(addr, left, permissions(request.operation))
        .map_err(|cause| request.interrupted(done, cause))?;
    Ok(Walk {
        request,
        slices,
        given: done,
    })
}

impl<'m, B, I> Iterator for Walk<I>
where
    B: guest_memory_bitmap::BitmapSlice,
    I: Iterator<Item = Result<VolatileSlice<'m, B>>>,
{
    type Item = Result<VolatileSlice<'m, B>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.given >= self.request.length {
            return None;
        }
        let slice = match self.slices.next()? {
            Ok(slice) => self.request.check_length(slice, self.given),
            Err(Error::InvalidGuestAddress(_) | Error::GuestAddressOverflow) if self.given > 0 => {
                return None;
            }
            // No slice at all, with the operation that was meant.
            Err(Error::Access { source, .. }) if self.given == 0 => {
                Err(self.request.failed(0, source))
            }
            Err(cause) => Err(self.request.interrupted(self.given, cause)),
        };
        if let Ok(slice) = &slice {
            self.given = self.given.saturating_add(slice.len());
        }
        Some(slice)
    }
}

/// Returns what an operation needs.
pub(crate) fn permissions(operation: Operation) -> Permissions {
    match operation {
        Operation::Read | Operation::Load | Operation::WriteToStream | Operation::IsZero => {
            Permissions::Read
        }
        Operation::Write | Operation::Store | Operation::Fill | Operation::ReadFromStream => {
            Permissions::Write
        }
        Operation::CompareExchange | Operation::ReadModifyWrite => Permissions::ReadWrite,
        Operation::Slice => Permissions::No,
    }
}
