// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From an address to the bytes: the short path of an access within one region, and the long one of
//! the rest.
//!
//! A region and a memory differ in how they find slices ([`Reach`]); what is then done with the
//! slices is the same.

use core::sync::atomic::Ordering;

use guest_memory_volatile::{
    AtomicAccess, ByteValued, VolatileMemoryError, VolatileMemoryResult, VolatileSlice,
};

use crate::error::{Error, Operation, Request, Result};
use crate::permissions::Permissions;
use crate::reach::Reach;
use crate::walk::{permissions, walk};

#[inline(always)]
pub(crate) fn write<'m, T: Reach<'m>>(target: T, buf: &[u8], addr: T::Address) -> Result<usize> {
    match target.whole(addr, buf.len(), Permissions::Write) {
        Some(slice) if slice.write_slice(buf, 0).is_ok() => Ok(buf.len()),
        _ => write_crossing(target, buf, addr),
    }
}

#[inline(always)]
pub(crate) fn read<'m, T: Reach<'m>>(target: T, buf: &mut [u8], addr: T::Address) -> Result<usize> {
    match target.whole(addr, buf.len(), Permissions::Read) {
        Some(slice) if slice.read_slice(buf, 0).is_ok() => Ok(buf.len()),
        _ => read_crossing(target, buf, addr),
    }
}

#[inline(always)]
pub(crate) fn write_slice<'m, T: Reach<'m>>(target: T, buf: &[u8], addr: T::Address) -> Result<()> {
    all(write(target, buf, addr)?, buf.len())
}

#[inline(always)]
pub(crate) fn read_slice<'m, T: Reach<'m>>(
    target: T,
    buf: &mut [u8],
    addr: T::Address,
) -> Result<()> {
    all(read(target, buf, addr)?, buf.len())
}

#[inline(always)]
pub(crate) fn write_obj<'m, T: Reach<'m>, V: ByteValued>(
    target: T,
    val: V,
    addr: T::Address,
) -> Result<()> {
    match target.whole(addr, size_of::<V>(), Permissions::Write) {
        Some(slice) if slice.write_obj(val, 0).is_ok() => Ok(()),
        _ => write_obj_crossing(target, val, addr),
    }
}

#[inline(always)]
pub(crate) fn read_obj<'m, T: Reach<'m>, V: ByteValued>(target: T, addr: T::Address) -> Result<V> {
    let slice = target.whole(addr, size_of::<V>(), Permissions::Read);
    match slice.map(|slice| slice.read_obj(0)) {
        Some(Ok(value)) => Ok(value),
        _ => read_obj_crossing(target, addr),
    }
}

#[inline(always)]
pub(crate) fn store<'m, T: Reach<'m>, V: AtomicAccess>(
    target: T,
    val: V,
    addr: T::Address,
    order: Ordering,
) -> Result<()> {
    let length = size_of::<V>();
    let slice = match target.whole(addr, length, Permissions::Write) {
        Some(slice) => slice,
        None => whole_or_why(target, Operation::Store, addr, length)?,
    };
    slice
        .store(val, 0, order)
        .map_err(|cause| request(target, Operation::Store, addr, length).failed(0, cause))
}

#[inline(always)]
pub(crate) fn load<'m, T: Reach<'m>, V: AtomicAccess>(
    target: T,
    addr: T::Address,
    order: Ordering,
) -> Result<V> {
    let length = size_of::<V>();
    let slice = match target.whole(addr, length, Permissions::Read) {
        Some(slice) => slice,
        None => whole_or_why(target, Operation::Load, addr, length)?,
    };
    slice
        .load(0, order)
        .map_err(|cause| request(target, Operation::Load, addr, length).failed(0, cause))
}

#[cold]
#[inline(never)]
fn write_crossing<'m, T: Reach<'m>>(target: T, buf: &[u8], addr: T::Address) -> Result<usize> {
    crossing(target, Operation::Write, addr, buf.len(), |slice, done| {
        slice.write(buf.get(done..).unwrap_or_default(), 0)
    })
}

#[cold]
#[inline(never)]
fn read_crossing<'m, T: Reach<'m>>(target: T, buf: &mut [u8], addr: T::Address) -> Result<usize> {
    crossing(target, Operation::Read, addr, buf.len(), |slice, done| {
        slice.read(buf.get_mut(done..).unwrap_or_default(), 0)
    })
}

#[cold]
#[inline(never)]
fn write_obj_crossing<'m, T: Reach<'m>, V: ByteValued>(
    target: T,
    val: V,
    addr: T::Address,
) -> Result<()> {
    all(
        write_crossing(target, val.as_slice(), addr)?,
        size_of::<V>(),
    )
}

#[cold]
#[inline(never)]
fn read_obj_crossing<'m, T: Reach<'m>, V: ByteValued>(target: T, addr: T::Address) -> Result<V> {
    let mut value = V::zeroed();
    all(
        read_crossing(target, value.as_mut_slice(), addr)?,
        size_of::<V>(),
    )?;
    Ok(value)
}

/// Gives `step` one slice after the other, with the bytes done so far, until it takes less than a
/// slice.
///
/// Memory that ends after the first byte ends the access; anything else that goes wrong is an error.
fn crossing<'m, T: Reach<'m>>(
    target: T,
    operation: Operation,
    addr: T::Address,
    length: usize,
    mut step: impl FnMut(&VolatileSlice<'m, T::Bitmap>, usize) -> VolatileMemoryResult<usize>,
) -> Result<usize> {
    let mut completed = 0usize;
    if length == 0 {
        return Ok(completed);
    }
    let request = request(target, operation, addr, length);
    for slice in walk(target, addr, request)? {
        let slice = slice?;
        let moved = step(&slice, completed).map_err(|cause| request.failed(completed, cause))?;
        completed = completed.saturating_add(moved);
        if completed >= length || moved < slice.len() {
            break;
        }
    }
    Ok(completed)
}

/// Finds the slice of an atomic access by the long way, or why it has none of its own.
#[cold]
#[inline(never)]
fn whole_or_why<'m, T: Reach<'m>>(
    target: T,
    operation: Operation,
    addr: T::Address,
    length: usize,
) -> Result<VolatileSlice<'m, T::Bitmap>> {
    let request = || request(target, operation, addr, length);
    let first = target.slices(addr, length, permissions(operation))?.next();
    match first {
        Some(Ok(slice)) if slice.len() == length => Ok(slice),
        // There is memory, but it ends, or another region begins, within the value.
        Some(Ok(slice)) => {
            let slice = request().check_length(slice, 0)?;
            let end = VolatileMemoryError::OutOfBounds { addr: slice.len() };
            Err(request().failed(0, end))
        }
        Some(Err(Error::Access { source, .. })) => Err(request().failed(0, source)),
        Some(Err(cause)) => Err(cause),
        None => Err(Error::InvalidGuestAddress(target.guest_address(addr))),
    }
}

/// Describes an access for its errors.
pub(crate) fn request<'m, T: Reach<'m>>(
    target: T,
    operation: Operation,
    addr: T::Address,
    length: usize,
) -> Request {
    Request {
        operation,
        address: target.guest_address(addr),
        length,
    }
}

/// Makes an error of a count that fell short.
#[inline(always)]
pub(crate) fn all(completed: usize, expected: usize) -> Result<()> {
    if completed == expected {
        return Ok(());
    }
    Err(Error::PartialBuffer {
        expected,
        completed,
    })
}
