// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From an address to the bytes: the short path of an access within one region, and the long one of
//! the rest.
//!
//! A region and a memory differ in how they find slices ([`Reach`]); what is then done with the
//! slices is the same.

use alloc::boxed::Box;
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
        Some(slice) if slice.poke_slice(buf, 0) => Ok(buf.len()),
        _ => write_crossing(target, buf, addr),
    }
}

#[inline(always)]
pub(crate) fn read<'m, T: Reach<'m>>(target: T, buf: &mut [u8], addr: T::Address) -> Result<usize> {
    match target.whole(addr, buf.len(), Permissions::Read) {
        Some(slice) if slice.peek_slice(buf, 0) => Ok(buf.len()),
        _ => read_crossing(target, buf, addr),
    }
}

#[inline(always)]
pub(crate) fn write_slice<'m, T: Reach<'m>>(target: T, buf: &[u8], addr: T::Address) -> Result<()> {
    match target.whole(addr, buf.len(), Permissions::Write) {
        Some(slice) if slice.poke_slice(buf, 0) => Ok(()),
        _ => write_slice_crossing(target, buf, addr),
    }
}

#[inline(always)]
pub(crate) fn read_slice<'m, T: Reach<'m>>(
    target: T,
    buf: &mut [u8],
    addr: T::Address,
) -> Result<()> {
    match target.whole(addr, buf.len(), Permissions::Read) {
        Some(slice) if slice.peek_slice(buf, 0) => Ok(()),
        _ => read_slice_crossing(target, buf, addr),
    }
}

#[inline(always)]
pub(crate) fn write_obj<'m, T: Reach<'m>, V: ByteValued>(
    target: T,
    val: V,
    addr: T::Address,
) -> Result<()> {
    match target.whole(addr, size_of::<V>(), Permissions::Write) {
        Some(slice) if slice.poke(val, 0) => Ok(()),
        _ => unboxed(write_obj_crossing(target, val, addr)),
    }
}

#[inline(always)]
pub(crate) fn read_obj<'m, T: Reach<'m>, V: ByteValued>(target: T, addr: T::Address) -> Result<V> {
    let slice = target.whole(addr, size_of::<V>(), Permissions::Read);
    match slice.and_then(|slice| slice.peek(0)) {
        Some(value) => Ok(value),
        None => unboxed(read_obj_crossing(target, addr)),
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

/// What the long path of an object returns. The short path would keep its object in memory with an error that is
/// returned through its address.
type Boxed<T> = core::result::Result<T, Box<Error>>;

#[inline(always)]
fn unboxed<T>(result: Boxed<T>) -> Result<T> {
    result.map_err(|error| *error)
}

#[cold]
#[inline(never)]
fn write_crossing<'m, T: Reach<'m>>(target: T, buf: &[u8], addr: T::Address) -> Result<usize> {
    let mut done = 0usize;
    while done < buf.len() {
        match write_first(target, buf.get(done..).unwrap_or_default(), addr, done) {
            Some(moved) => done = done.saturating_add(moved),
            None => return write_walking(target, buf, addr, done),
        }
    }
    Ok(done)
}

/// Writes the start of `rest`, as much as one slice holds, after `done` bytes; nothing if that is no simple matter.
#[inline(always)]
fn write_first<'m, T: Reach<'m>>(
    target: T,
    rest: &[u8],
    addr: T::Address,
    done: usize,
) -> Option<usize> {
    let slice = target.first(T::after(addr, done)?, rest.len(), Permissions::Write)?;
    let part = rest.get(..slice.len())?;
    slice.poke_slice(part, 0).then_some(part.len())
}

/// Writes what is left after `done` bytes by the longest path, which finds out why something cannot be written.
#[cold]
#[inline(never)]
fn write_walking<'m, T: Reach<'m>>(
    target: T,
    buf: &[u8],
    addr: T::Address,
    done: usize,
) -> Result<usize> {
    walk_on(
        target,
        Operation::Write,
        addr,
        buf.len(),
        done,
        |slice, done| slice.write(buf.get(done..).unwrap_or_default(), 0),
    )
}

#[cold]
#[inline(never)]
fn write_slice_crossing<'m, T: Reach<'m>>(target: T, buf: &[u8], addr: T::Address) -> Result<()> {
    all(write_crossing(target, buf, addr)?, buf.len())
}

#[cold]
#[inline(never)]
fn read_crossing<'m, T: Reach<'m>>(target: T, buf: &mut [u8], addr: T::Address) -> Result<usize> {
    let mut done = 0usize;
    while done < buf.len() {
        match read_first(target, buf.get_mut(done..).unwrap_or_default(), addr, done) {
            Some(moved) => done = done.saturating_add(moved),
            None => return read_walking(target, buf, addr, done),
        }
    }
    Ok(done)
}

/// Reads the start of `rest`, as much as one slice holds, after `done` bytes; nothing if that is no simple matter.
#[inline(always)]
fn read_first<'m, T: Reach<'m>>(
    target: T,
    rest: &mut [u8],
    addr: T::Address,
    done: usize,
) -> Option<usize> {
    let slice = target.first(T::after(addr, done)?, rest.len(), Permissions::Read)?;
    let part = rest.get_mut(..slice.len())?;
    slice.peek_slice(part, 0).then_some(part.len())
}

/// Reads what is left after `done` bytes by the longest path, which finds out why something cannot be read.
#[cold]
#[inline(never)]
fn read_walking<'m, T: Reach<'m>>(
    target: T,
    buf: &mut [u8],
    addr: T::Address,
    done: usize,
) -> Result<usize> {
    walk_on(
        target,
        Operation::Read,
        addr,
        buf.len(),
        done,
        |slice, done| slice.read(buf.get_mut(done..).unwrap_or_default(), 0),
    )
}

#[cold]
#[inline(never)]
fn read_slice_crossing<'m, T: Reach<'m>>(
    target: T,
    buf: &mut [u8],
    addr: T::Address,
) -> Result<()> {
    all(read_crossing(target, buf, addr)?, buf.len())
}

#[cold]
#[inline(never)]
fn write_obj_crossing<'m, T: Reach<'m>, V: ByteValued>(
    target: T,
    val: V,
    addr: T::Address,
) -> Boxed<()> {
    write_slice_crossing(target, val.as_slice(), addr).map_err(Box::new)
}

#[cold]
#[inline(never)]
fn read_obj_crossing<'m, T: Reach<'m>, V: ByteValued>(target: T, addr: T::Address) -> Boxed<V> {
    let mut value = V::zeroed();
    read_slice_crossing(target, value.as_mut_slice(), addr).map_err(Box::new)?;
    Ok(value)
}

/// Gives `step` one slice after the other, from the byte after `done` on and with the bytes done so far, until it takes
/// less than a slice.
///
/// Memory that ends after the first byte ends the access; anything else that goes wrong is an error.
pub(crate) fn walk_on<'m, T: Reach<'m>>(
    target: T,
    operation: Operation,
    addr: T::Address,
    length: usize,
    done: usize,
    mut step: impl FnMut(&VolatileSlice<'m, T::Bitmap>, usize) -> VolatileMemoryResult<usize>,
) -> Result<usize> {
    let mut completed = done;
    // Past the last address there is no memory, which ends the access as a hole does.
    let start = T::after(addr, done).filter(|_| done < length);
    let Some(start) = start else {
        return Ok(completed);
    };
    let request = request(target, operation, addr, length);
    for slice in walk(target, start, request, done)? {
        let slice = slice?;
        let moved = step(&slice, completed).map_err(|cause| request.failed(completed, cause))?;
        completed = completed.saturating_add(moved);
        if moved < slice.len() {
            break;
        }
    }
    Ok(completed)
}

/// Finds the slice of an atomic access by the long way, or why it has none of its own.
#[cold]
#[inline(never)]
pub(crate) fn whole_or_why<'m, T: Reach<'m>>(
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
