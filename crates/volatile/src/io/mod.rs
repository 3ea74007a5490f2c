// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Streams that read into and write from volatile memory without a buffer between.
//!
//! The standard library's `Read` and `Write` take `&mut [u8]` and `&[u8]`, which must not exist
//! over memory that a guest writes. [`ReadVolatile`] and [`WriteVolatile`] take a [`VolatileSlice`]
//! instead.
//!
//! ```
//! use guest_memory_volatile::{ReadVolatile, VolatileSlice, WriteVolatile};
//!
//! # fn main() -> Result<(), guest_memory_volatile::VolatileMemoryError> {
//! let mut backing = [0u8; 4];
//! let mut memory = VolatileSlice::from(backing.as_mut_slice());
//! let mut source: &[u8] = b"hello";
//! source.read_exact_volatile(&mut memory)?;
//! assert_eq!(source, b"o");
//!
//! let mut out = Vec::new();
//! out.write_all_volatile(&memory)?;
//! assert_eq!(out, b"hell");
//! # Ok(())
//! # }
//! ```
//!
//! # Many slices at once
//!
//! Guest memory that is one range to the guest is often several here: regions side by side, the segments of a
//! descriptor chain. The vectored methods take them as one stretch of bytes. With a file descriptor that is one system
//! call, and nothing is allocated.
//!
//! [`ReadVolatileAt`] and [`WriteVolatileAt`] do the same at an offset of a file; [`At`] makes a stream of such an
//! offset.

mod buffers;
#[cfg(unix)]
mod descriptors;
#[cfg(unix)]
mod iovec;
mod positioned;
mod standard;
mod vectored;

use std::io::{self, ErrorKind};

use guest_memory_bitmap::BitmapSlice;

use crate::error::{Error, Result};
use crate::slice::VolatileSlice;

pub use positioned::{At, ReadVolatileAt, WriteVolatileAt};

/// A source of bytes that can put them into volatile memory.
///
/// To implement it give [`read_volatile`](Self::read_volatile); the other methods follow from it.
///
/// ```
/// use guest_memory_bitmap::BitmapSlice;
/// use guest_memory_volatile::{ReadVolatile, VolatileMemoryResult, VolatileSlice};
///
/// /// Counts upwards, without end.
/// struct Counter(u8);
///
/// impl ReadVolatile for Counter {
///     fn read_volatile<B: BitmapSlice>(
///         &mut self,
///         buf: &mut VolatileSlice<'_, B>,
///     ) -> VolatileMemoryResult<usize> {
///         // One byte at a time; a real source gives more.
///         let count = buf.write(&[self.0], 0)?;
///         self.0 = self.0.wrapping_add(1);
///         Ok(count)
///     }
/// }
///
/// let mut backing = [0u8; 4];
/// Counter(7).read_exact_volatile(&mut VolatileSlice::from(backing.as_mut_slice()))?;
/// assert_eq!(backing, [7, 8, 9, 10]);
/// # Ok::<(), guest_memory_volatile::VolatileMemoryError>(())
/// ```
pub trait ReadVolatile {
    /// Reads once and returns how many bytes came; 0 means the end of the source, or an empty
    /// `buf`.
    ///
    /// # Errors
    ///
    /// [`Error::IOError`] if the source fails, [`Error::ReadOnly`] if `buf` must not be written.
    ///
    /// # Dirty tracking
    ///
    /// What came is marked in the slice's bitmap.
    fn read_volatile<B: BitmapSlice>(&mut self, buf: &mut VolatileSlice<'_, B>) -> Result<usize>;

    /// Reads until `buf` is full; reads that a signal interrupted are tried again.
    ///
    /// # Errors
    ///
    /// [`Error::IOError`] if the source fails or ends before the first byte,
    /// [`Error::PartialStream`] if after it.
    fn read_exact_volatile<B: BitmapSlice>(
        &mut self,
        buf: &mut VolatileSlice<'_, B>,
    ) -> Result<()> {
        let mut completed = 0;
        while completed < buf.len() {
            let mut rest = buf.offset(completed)?;
            let step = retry_interrupted(|| self.read_volatile(&mut rest));
            completed = advance(step, completed, buf.len(), ErrorKind::UnexpectedEof)?;
        }
        Ok(())
    }

    /// Reads into many slices, in order, and returns how many bytes came; 0 means the end of the source, or that
    /// `bufs` has no bytes.
    ///
    /// Unless an implementation says otherwise, this is one [`read_volatile`](Self::read_volatile) per slice, as long
    /// as each is filled. File descriptors do it with one system call, for at most 1,024 slices, or 64 if they have a
    /// bitmap; what lies behind those is left for the next call.
    ///
    /// # Errors
    ///
    /// [`Error::IOError`] if the source fails before the first byte, a signal included; [`Error::ReadOnly`] if one of
    /// the slices must not be written, in which case nothing is read.
    ///
    /// # Dirty tracking
    ///
    /// What came is marked, slice by slice.
    ///
    /// # Partial progress
    ///
    /// A short count ends within or behind any slice. A failure after the first byte is a short count too: the next
    /// call meets it.
    fn read_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &mut [VolatileSlice<'_, B>],
    ) -> Result<usize> {
        vectored::check_writable(bufs)?;
        vectored::in_turn(vectored::with_lengths_mut(bufs), |buf| {
            self.read_volatile(buf)
        })
    }

    /// Reads until all of `bufs` is full: goes on at the byte after the last one, and tries again what a signal
    /// interrupted.
    ///
    /// # Errors
    ///
    /// [`Error::IOError`] if the source fails or ends before the first byte, [`Error::PartialStream`] if after it;
    /// [`Error::ReadOnly`] if one of the slices must not be written, in which case nothing is read.
    ///
    /// # Partial progress
    ///
    /// Counts and offsets in an error are those of all slices together.
    fn read_exact_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &mut [VolatileSlice<'_, B>],
    ) -> Result<()> {
        vectored::read_exact(self, bufs)
    }
}

/// A destination that can take bytes from volatile memory.
///
/// To implement it give [`write_volatile`](Self::write_volatile); the other methods follow from it.
pub trait WriteVolatile {
    /// Writes once and returns how many bytes went; 0 means that there is no room for more, or an empty `buf`.
    ///
    /// # Errors
    ///
    /// [`Error::IOError`] if the destination fails.
    fn write_volatile<B: BitmapSlice>(&mut self, buf: &VolatileSlice<'_, B>) -> Result<usize>;

    /// Writes until all of `buf` went; writes that a signal interrupted are tried again.
    ///
    /// # Errors
    ///
    /// [`Error::IOError`] if the destination fails or takes nothing before the first byte,
    /// [`Error::PartialStream`] if after it.
    fn write_all_volatile<B: BitmapSlice>(&mut self, buf: &VolatileSlice<'_, B>) -> Result<()> {
        let mut completed = 0;
        while completed < buf.len() {
            let rest = buf.offset(completed)?;
            let step = retry_interrupted(|| self.write_volatile(&rest));
            completed = advance(step, completed, buf.len(), ErrorKind::WriteZero)?;
        }
        Ok(())
    }

    /// Writes many slices, in order, and returns how many bytes went.
    ///
    /// Unless an implementation says otherwise, this is one [`write_volatile`](Self::write_volatile) per slice, as long
    /// as each goes whole. File descriptors do it with one system call, for at most 1,024 slices, or 64 if they have a
    /// bitmap or one is read-only; what lies behind those is left for the next call.
    ///
    /// # Errors
    ///
    /// [`Error::IOError`] if the destination fails before the first byte, a signal included.
    ///
    /// # Partial progress
    ///
    /// A short count ends within or behind any slice. A failure after the first byte is a short count too: the next
    /// call meets it.
    fn write_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &[VolatileSlice<'_, B>],
    ) -> Result<usize> {
        vectored::in_turn(vectored::with_lengths(bufs), |buf| self.write_volatile(buf))
    }

    /// Writes until all of `bufs` went: goes on at the byte after the last one, and tries again what a signal
    /// interrupted.
    ///
    /// # Errors
    ///
    /// [`Error::IOError`] if the destination fails or takes nothing before the first byte,
    /// [`Error::PartialStream`] if after it.
    ///
    /// # Partial progress
    ///
    /// Counts and offsets in an error are those of all slices together.
    fn write_all_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &[VolatileSlice<'_, B>],
    ) -> Result<()> {
        vectored::write_all(self, bufs)
    }
}

/// Calls a stream again as long as a signal interrupts it.
pub(crate) fn retry_interrupted(mut call: impl FnMut() -> Result<usize>) -> Result<usize> {
    loop {
        match call() {
            Err(Error::IOError(error)) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Refuses the count of a stream that claims to have moved more than it was given.
pub(crate) fn at_most(len: usize, count: usize) -> Result<usize> {
    if count > len {
        let lie = io::Error::new(
            ErrorKind::InvalidData,
            "stream reports more bytes than it was given",
        );
        return Err(Error::IOError(lie));
    }
    Ok(count)
}

/// Adds one step of a stream to what was done before; `none` is what no progress means.
fn advance(
    step: Result<usize>,
    completed: usize,
    expected: usize,
    none: ErrorKind,
) -> Result<usize> {
    let failure = match step.and_then(|count| at_most(expected.wrapping_sub(completed), count)) {
        Ok(0) => Error::IOError(none.into()),
        Ok(count) => return Ok(completed.wrapping_add(count)),
        Err(error) => error,
    };
    match failure {
        Error::IOError(source) if completed > 0 => Err(Error::PartialStream {
            expected,
            completed,
            source,
        }),
        other => Err(fault_after(other, completed, completed)),
    }
}

/// Makes the offsets of a fault count from `before` bytes earlier, and adds the bytes moved there to its count.
pub(crate) fn fault_after(error: Error, before: usize, moved_before: usize) -> Error {
    match error {
        Error::Fault {
            addr,
            completed,
            kind,
        } => Error::Fault {
            addr: before.saturating_add(addr),
            completed: moved_before.saturating_add(completed),
            kind,
        },
        other => other,
    }
}

#[cfg(test)]
mod tests;
