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

mod buffers;
#[cfg(unix)]
mod descriptors;
mod standard;

use std::io::{self, ErrorKind};

use guest_memory_bitmap::BitmapSlice;

use crate::error::{Error, Result};
use crate::slice::VolatileSlice;

/// A source of bytes that can put them into volatile memory.
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
}

/// A destination that can take bytes from volatile memory.
pub trait WriteVolatile {
    /// Writes once and returns how many bytes went.
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
        other => Err(other),
    }
}

#[cfg(test)]
mod tests;
