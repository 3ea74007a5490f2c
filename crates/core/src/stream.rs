// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Streams into and out of memory that may be several slices: regions side by side, translated pages.
//!
//! The slices are gathered, some at a time, in an array on the stack, and the stream is given all of them at once.
//! Where it stops is where the next byte belongs.

use core::array;
use core::slice;
use std::io::{self, ErrorKind};

use guest_memory_volatile::{
    ReadVolatile, VolatileMemoryError, VolatileMemoryResult, VolatileSlice, WriteVolatile,
};

use crate::access::{all, request};
use crate::error::{Error, Operation, Result};
use crate::reach::Reach;
use crate::walk::walk;

/// Most slices that a stream is given at once.
const BATCH_LEN: usize = 16;

pub(crate) fn read_volatile_from<'m, T: Reach<'m>, F: ReadVolatile>(
    target: T,
    addr: T::Address,
    src: &mut F,
    count: usize,
) -> Result<usize> {
    transfer(
        target,
        Operation::ReadFromStream,
        addr,
        count,
        |slices, completed| {
            let step = match slices {
                [slice] => slice.read_volatile_from(0, src, slice.len()),
                _ => retry_interrupted(|| src.read_vectored_volatile(slices)),
            };
            short_or_failed(step, completed)
        },
    )
}

pub(crate) fn read_exact_volatile_from<'m, T: Reach<'m>, F: ReadVolatile>(
    target: T,
    addr: T::Address,
    src: &mut F,
    count: usize,
) -> Result<()> {
    let completed = transfer(
        target,
        Operation::ReadFromStream,
        addr,
        count,
        |slices, _| {
            match slices {
                [slice] => slice.read_exact_volatile_from(0, src, slice.len())?,
                _ => src.read_exact_vectored_volatile(slices)?,
            }
            Ok(len_bytes(slices))
        },
    );
    all(end_of_stream(completed)?, count)
}

pub(crate) fn write_volatile_to<'m, T: Reach<'m>, F: WriteVolatile>(
    target: T,
    addr: T::Address,
    dst: &mut F,
    count: usize,
) -> Result<usize> {
    transfer(
        target,
        Operation::WriteToStream,
        addr,
        count,
        |slices, completed| {
            let step = match slices {
                [slice] => slice.write_volatile_to(0, dst, slice.len()),
                _ => retry_interrupted(|| dst.write_vectored_volatile(slices)),
            };
            short_or_failed(step, completed)
        },
    )
}

pub(crate) fn write_all_volatile_to<'m, T: Reach<'m>, F: WriteVolatile>(
    target: T,
    addr: T::Address,
    dst: &mut F,
    count: usize,
) -> Result<()> {
    let completed = transfer(
        target,
        Operation::WriteToStream,
        addr,
        count,
        |slices, _| {
            match slices {
                [slice] => slice.write_all_volatile_to(0, dst, slice.len())?,
                _ => dst.write_all_vectored_volatile(slices)?,
            }
            Ok(len_bytes(slices))
        },
    );
    all(end_of_stream(completed)?, count)
}

/// Gives `step` as many slices as go at once, with the bytes done so far, until it moves fewer bytes than they have.
///
/// Memory that ends after the first byte ends the transfer; anything else that goes wrong is an error.
fn transfer<'m, T: Reach<'m>>(
    target: T,
    operation: Operation,
    addr: T::Address,
    length: usize,
    mut step: impl FnMut(&mut [VolatileSlice<'m, T::Bitmap>], usize) -> VolatileMemoryResult<usize>,
) -> Result<usize> {
    let mut completed = 0usize;
    if length == 0 {
        return Ok(completed);
    }
    let request = request(target, operation, addr, length);
    let mut slices = walk(target, addr, request, 0)?;
    // What ended a batch and is the first thing after it.
    let mut pending = None;
    while let Some(first) = pending.take().or_else(|| slices.next()) {
        let mut first = first?;
        // A slice that cannot take part stands alone: those before it are moved, then it fails.
        let stands_alone = |slice: &VolatileSlice<'m, T::Bitmap>| {
            operation == Operation::ReadFromStream && slice.is_read_only()
        };
        let mut given = first.len();
        let step = if given >= length.saturating_sub(completed) || stands_alone(&first) {
            step(slice::from_mut(&mut first), completed)
        } else {
            let mut count = 1usize;
            let mut gather = || match slices.next()? {
                Ok(slice) if !stands_alone(&slice) => {
                    given = given.saturating_add(slice.len());
                    count += 1;
                    Some(slice)
                }
                other => {
                    pending = Some(other);
                    None
                }
            };
            // Places behind the last slice get an empty one.
            let none = first.subslice(0, 0)?;
            let mut is_open = true;
            let mut front = Some(first);
            let mut batch = array::from_fn::<_, BATCH_LEN, _>(|_| {
                let slice = front
                    .take()
                    .or_else(|| if is_open { gather() } else { None });
                is_open = slice.is_some();
                slice.unwrap_or_else(|| none.clone())
            });
            step(batch.get_mut(..count).unwrap_or_default(), completed)
        };
        let moved = step
            .and_then(|moved| at_most(given, moved))
            .map_err(|cause| request.failed(completed, cause))?;
        completed = completed.saturating_add(moved);
        if completed >= length || moved < given {
            break;
        }
    }
    Ok(completed)
}

/// Adds up the lengths of the slices of one access; they are no more than it asked for.
fn len_bytes<B: guest_memory_bitmap::BitmapSlice>(slices: &[VolatileSlice<'_, B>]) -> usize {
    slices.iter().map(VolatileSlice::len).sum()
}

/// Calls a stream again as long as a signal interrupts it.
fn retry_interrupted(
    mut call: impl FnMut() -> VolatileMemoryResult<usize>,
) -> VolatileMemoryResult<usize> {
    loop {
        match call() {
            Err(VolatileMemoryError::IOError(error)) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Refuses the count of a stream that claims to have moved more than it was given.
fn at_most(given: usize, moved: usize) -> VolatileMemoryResult<usize> {
    if moved > given {
        let lie = "stream reports more bytes than it was given";
        let error = io::Error::new(ErrorKind::InvalidData, lie);
        return Err(VolatileMemoryError::IOError(error));
    }
    Ok(moved)
}

/// Makes a failure of a stream that moved bytes before a short count; its next call will fail again.
fn short_or_failed(
    step: VolatileMemoryResult<usize>,
    completed: usize,
) -> VolatileMemoryResult<usize> {
    match step {
        Err(VolatileMemoryError::IOError(_)) if completed > 0 => Ok(0),
        other => other,
    }
}

/// Tells the end of a stream, which is a short count, from its failure.
fn end_of_stream(result: Result<usize>) -> Result<usize> {
    match result {
        Err(Error::IOError(cause)) if is_end(&cause) => Ok(0),
        Err(Error::Access {
            completed,
            source: VolatileMemoryError::IOError(cause),
            ..
        }) if is_end(&cause) => Ok(completed),
        other => other,
    }
}

/// Says whether an error only states that a stream ended, as the exact reads and writes do.
///
/// One that has more to tell is a failure, whatever its kind.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::WriteZero
    ) && error.get_ref().is_none()
        && error.raw_os_error().is_none()
}
