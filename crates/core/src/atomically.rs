// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Atomic read-modify-writes: all of one needs to be in one slice, which then does it.

use guest_memory_volatile::{AtomicAccess, VolatileMemoryResult, VolatileSlice};

use crate::access::{request, whole_or_why};
use crate::error::{Operation, Result};
use crate::permissions::Permissions;
use crate::reach::Reach;

/// Finds the slice of the `V` at `addr`, to be read and written, and gives it to `step`.
#[inline(always)]
pub(crate) fn atomically<'m, T: Reach<'m>, V: AtomicAccess, R>(
    target: T,
    operation: Operation,
    addr: T::Address,
    step: impl FnOnce(VolatileSlice<'m, T::Bitmap>) -> VolatileMemoryResult<R>,
) -> Result<R> {
    let length = size_of::<V>();
    let slice = match target.whole(addr, length, Permissions::ReadWrite) {
        Some(slice) => slice,
        None => whole_or_why(target, operation, addr, length)?,
    };
    step(slice).map_err(|cause| request(target, operation, addr, length).failed(0, cause))
}
