// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Many slices as one stretch of bytes: one after the other, and all of them.

use core::array;
use std::io::ErrorKind;

use guest_memory_bitmap::BitmapSlice;

use super::{ReadVolatile, WriteVolatile, advance, at_most, retry_interrupted};
use crate::error::{Error, Result};
use crate::slice::VolatileSlice;

/// Slices that go on together after a transfer ended within one of them.
const BATCH_LEN: usize = 16;

/// Gives `step` one slice after the other, each with its length in bytes; once each and empty ones not at all, as long
/// as each is moved whole.
///
/// A failure after the first byte ends it with the bytes moved: the next call will meet it again.
pub(super) fn in_turn<S>(
    bufs: impl Iterator<Item = (usize, S)>,
    mut step: impl FnMut(S) -> Result<usize>,
) -> Result<usize> {
    let mut completed = 0usize;
    for (len, buf) in bufs {
        if len == 0 {
            continue;
        }
        match step(buf).and_then(|count| at_most(len, count)) {
            Ok(count) => {
                completed = completed.saturating_add(count);
                if count < len {
                    break;
                }
            }
            Err(_) if completed > 0 => break,
            failed => return failed,
        }
    }
    Ok(completed)
}

/// Pairs slices that are to be read from with their lengths.
pub(super) fn with_lengths<'s, 'a, B: BitmapSlice>(
    bufs: &'s [VolatileSlice<'a, B>],
) -> impl Iterator<Item = (usize, &'s VolatileSlice<'a, B>)> {
    bufs.iter().map(|buf| (buf.len(), buf))
}

/// Pairs slices that are to be written with their lengths.
pub(super) fn with_lengths_mut<'s, 'a, B: BitmapSlice>(
    bufs: &'s mut [VolatileSlice<'a, B>],
) -> impl Iterator<Item = (usize, &'s mut VolatileSlice<'a, B>)> {
    bufs.iter_mut().map(|buf| (buf.len(), buf))
}

/// Reads until all of `bufs` is full.
pub(super) fn read_exact<S, B>(stream: &mut S, bufs: &mut [VolatileSlice<'_, B>]) -> Result<()>
where
    S: ReadVolatile + ?Sized,
    B: BitmapSlice,
{
    check_writable(bufs)?;
    let mut progress = Progress::new(bufs)?;
    while !progress.is_done() {
        let (given, step) = match progress.torn(bufs)? {
            Some(mut batch) => (
                total(&batch)?,
                retry_interrupted(|| stream.read_vectored_volatile(&mut batch)),
            ),
            None => {
                let rest = bufs.get_mut(progress.first..).unwrap_or_default();
                (
                    progress.left(),
                    retry_interrupted(|| stream.read_vectored_volatile(rest)),
                )
            }
        };
        let step = step.and_then(|count| at_most(given, count));
        progress.advance(bufs, step, ErrorKind::UnexpectedEof)?;
    }
    Ok(())
}

/// Writes until all of `bufs` went.
pub(super) fn write_all<S, B>(stream: &mut S, bufs: &[VolatileSlice<'_, B>]) -> Result<()>
where
    S: WriteVolatile + ?Sized,
    B: BitmapSlice,
{
    let mut progress = Progress::new(bufs)?;
    while !progress.is_done() {
        let batch = progress.torn(bufs)?;
        let (given, rest) = match &batch {
            Some(batch) => (total(batch)?, batch.as_slice()),
            None => (
                progress.left(),
                bufs.get(progress.first..).unwrap_or_default(),
            ),
        };
        let step = retry_interrupted(|| stream.write_vectored_volatile(rest))
            .and_then(|count| at_most(given, count));
        progress.advance(bufs, step, ErrorKind::WriteZero)?;
    }
    Ok(())
}

/// Refuses slices of which one must not be written.
pub(super) fn check_writable<B: BitmapSlice>(bufs: &[VolatileSlice<'_, B>]) -> Result<()> {
    let mut before = 0usize;
    for buf in bufs {
        buf.span().check_writable(before)?;
        before = before.saturating_add(buf.len());
    }
    Ok(())
}

/// Returns what is left when the empty slices at the front are taken away.
///
/// So a transfer of nothing means an end: there was room for a byte, however few slices were handed on.
#[cfg(unix)]
pub(super) fn without_empty_front<'s, 'a, B: BitmapSlice>(
    bufs: &'s [VolatileSlice<'a, B>],
) -> &'s [VolatileSlice<'a, B>] {
    let first = bufs.iter().position(|buf| !buf.is_empty());
    first
        .and_then(|first| bufs.get(first..))
        .unwrap_or_default()
}

/// Marks the first `len_bytes` of the slices, each in its own bitmap.
#[cfg(unix)]
pub(super) fn mark_front<B: BitmapSlice>(bufs: &[VolatileSlice<'_, B>], len_bytes: usize) {
    let mut left = len_bytes;
    for buf in bufs {
        let here = usize::min(left, buf.len());
        buf.bitmap().mark_dirty(0, here);
        left = left.saturating_sub(here);
        if left == 0 {
            break;
        }
    }
}

/// Adds up the lengths of slices; they may overlap, so the sum may exceed the address space.
fn total<B: BitmapSlice>(bufs: &[VolatileSlice<'_, B>]) -> Result<usize> {
    let mut sum = 0usize;
    for buf in bufs {
        sum = sum.checked_add(buf.len()).ok_or(Error::Overflow {
            base: sum,
            offset: buf.len(),
        })?;
    }
    Ok(sum)
}

/// How far a transfer came in a row of slices.
struct Progress {
    expected: usize,
    completed: usize,
    /// Index of the slice that the next byte belongs to.
    first: usize,
    /// Where in that slice the next byte belongs.
    within: usize,
}

impl Progress {
    fn new<B: BitmapSlice>(bufs: &[VolatileSlice<'_, B>]) -> Result<Self> {
        Ok(Self {
            expected: total(bufs)?,
            completed: 0,
            first: 0,
            within: 0,
        })
    }

    fn is_done(&self) -> bool {
        self.completed >= self.expected
    }

    fn left(&self) -> usize {
        self.expected.saturating_sub(self.completed)
    }

    /// Returns the rest of a slice that was moved in part and some of those after it; nothing if the next byte is the
    /// first one of its slice.
    fn torn<'a, B: BitmapSlice>(
        &self,
        bufs: &[VolatileSlice<'a, B>],
    ) -> Result<Option<[VolatileSlice<'a, B>; BATCH_LEN]>> {
        if self.within == 0 {
            return Ok(None);
        }
        let mut rest = bufs.iter().skip(self.first);
        let Some(torn) = rest.next() else {
            return Ok(None);
        };
        let mut front = Some(torn.offset(self.within)?);
        let none = torn.subslice(0, 0)?;
        Ok(Some(array::from_fn(|_| {
            let slice = front.take().or_else(|| rest.next().cloned());
            slice.unwrap_or_else(|| none.clone())
        })))
    }

    /// Adds one step of a stream; `none` is what no progress means.
    fn advance<B: BitmapSlice>(
        &mut self,
        bufs: &[VolatileSlice<'_, B>],
        step: Result<usize>,
        none: ErrorKind,
    ) -> Result<()> {
        let before = self.completed;
        self.completed = advance(step, before, self.expected, none)?;
        self.within = self
            .within
            .saturating_add(self.completed.saturating_sub(before));
        while let Some(buf) = bufs.get(self.first) {
            if self.within < buf.len() {
                break;
            }
            self.within = self.within.saturating_sub(buf.len());
            self.first = self.first.saturating_add(1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
