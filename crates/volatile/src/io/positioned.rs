// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Files at an offset: the position of the file itself is neither used nor moved.

use guest_memory_bitmap::BitmapSlice;

use super::vectored::{check_writable, in_turn, with_lengths, with_lengths_mut};
use super::{ReadVolatile, WriteVolatile};
use crate::error::Result;
use crate::slice::VolatileSlice;

/// A source whose bytes have offsets, and that can put them into volatile memory.
///
/// ```
/// use guest_memory_volatile::{ReadVolatileAt, VolatileSlice};
///
/// # fn main() -> Result<(), guest_memory_volatile::VolatileMemoryError> {
/// let source: &[u8] = b"head and body";
/// let (mut one, mut two) = ([0u8; 2], [0u8; 2]);
/// let mut slices = [&mut one, &mut two].map(|bytes| VolatileSlice::from(bytes.as_mut_slice()));
/// source.read_exact_vectored_volatile_at(&mut slices, 9)?;
/// assert_eq!((&one, &two), (b"bo", b"dy"));
/// # Ok(())
/// # }
/// ```
pub trait ReadVolatileAt {
    /// Reads once from the byte at `offset` on and returns how many bytes came; 0 means that the source ends there,
    /// or an empty `buf`.
    ///
    /// # Errors
    ///
    /// [`IOError`](crate::VolatileMemoryError::IOError) if the source fails or cannot have so large an offset,
    /// [`ReadOnly`](crate::VolatileMemoryError::ReadOnly) if `buf` must not be written.
    ///
    /// # Dirty tracking
    ///
    /// What came is marked in the slice's bitmap.
    fn read_volatile_at<B: BitmapSlice>(
        &self,
        buf: &mut VolatileSlice<'_, B>,
        offset: u64,
    ) -> Result<usize>;

    /// Reads into many slices as [`read_vectored_volatile`](ReadVolatile::read_vectored_volatile) does, from the byte
    /// at `offset` on.
    ///
    /// # Errors
    ///
    /// Those of [`read_volatile_at`](Self::read_volatile_at), before the first byte.
    ///
    /// # Partial progress
    ///
    /// A failure after the first byte is a short count.
    ///
    /// # Dirty tracking
    ///
    /// What came is marked, slice by slice.
    fn read_vectored_volatile_at<B: BitmapSlice>(
        &self,
        bufs: &mut [VolatileSlice<'_, B>],
        offset: u64,
    ) -> Result<usize> {
        check_writable(bufs)?;
        let mut here = At::new(self, offset);
        in_turn(with_lengths_mut(bufs), |buf| here.read_volatile(buf))
    }

    /// Reads from the byte at `offset` on until `buf` is full.
    ///
    /// # Errors
    ///
    /// Those of [`read_exact_volatile`](ReadVolatile::read_exact_volatile).
    fn read_exact_volatile_at<B: BitmapSlice>(
        &self,
        buf: &mut VolatileSlice<'_, B>,
        offset: u64,
    ) -> Result<()> {
        At::new(self, offset).read_exact_volatile(buf)
    }

    /// Reads from the byte at `offset` on until all of `bufs` is full.
    ///
    /// # Errors
    ///
    /// Those of [`read_exact_vectored_volatile`](ReadVolatile::read_exact_vectored_volatile).
    fn read_exact_vectored_volatile_at<B: BitmapSlice>(
        &self,
        bufs: &mut [VolatileSlice<'_, B>],
        offset: u64,
    ) -> Result<()> {
        At::new(self, offset).read_exact_vectored_volatile(bufs)
    }
}

/// A destination whose bytes have offsets, and that can take them from volatile memory.
pub trait WriteVolatileAt {
    /// Writes once from the byte at `offset` on and returns how many bytes went.
    ///
    /// # Errors
    ///
    /// [`IOError`](crate::VolatileMemoryError::IOError) if the destination fails or cannot have so large an offset.
    fn write_volatile_at<B: BitmapSlice>(
        &self,
        buf: &VolatileSlice<'_, B>,
        offset: u64,
    ) -> Result<usize>;

    /// Writes many slices as [`write_vectored_volatile`](WriteVolatile::write_vectored_volatile) does, from the byte at
    /// `offset` on.
    ///
    /// # Errors
    ///
    /// Those of [`write_volatile_at`](Self::write_volatile_at), before the first byte.
    ///
    /// # Partial progress
    ///
    /// A failure after the first byte is a short count.
    fn write_vectored_volatile_at<B: BitmapSlice>(
        &self,
        bufs: &[VolatileSlice<'_, B>],
        offset: u64,
    ) -> Result<usize> {
        let mut here = At::new(self, offset);
        in_turn(with_lengths(bufs), |buf| here.write_volatile(buf))
    }

    /// Writes from the byte at `offset` on until all of `buf` went.
    ///
    /// # Errors
    ///
    /// Those of [`write_all_volatile`](WriteVolatile::write_all_volatile).
    fn write_all_volatile_at<B: BitmapSlice>(
        &self,
        buf: &VolatileSlice<'_, B>,
        offset: u64,
    ) -> Result<()> {
        At::new(self, offset).write_all_volatile(buf)
    }

    /// Writes from the byte at `offset` on until all of `bufs` went.
    ///
    /// # Errors
    ///
    /// Those of [`write_all_vectored_volatile`](WriteVolatile::write_all_vectored_volatile).
    fn write_all_vectored_volatile_at<B: BitmapSlice>(
        &self,
        bufs: &[VolatileSlice<'_, B>],
        offset: u64,
    ) -> Result<()> {
        At::new(self, offset).write_all_vectored_volatile(bufs)
    }
}

/// A stream of the bytes of a file from an offset on, for everything that takes a stream.
///
/// It has a position of its own, so several may work on one file at once.
///
/// ```
/// use guest_memory_volatile::io::At;
/// use guest_memory_volatile::VolatileSlice;
///
/// # fn main() -> Result<(), guest_memory_volatile::VolatileMemoryError> {
/// let disk: &[u8] = b"sector0 sector1 ";
/// let mut backing = [0u8; 16];
/// let memory = VolatileSlice::from(backing.as_mut_slice());
/// let mut sector = At::new(disk, 8);
/// memory.read_exact_volatile_from(4, &mut sector, 8)?;
/// assert_eq!(sector.offset(), 16);
/// assert_eq!(&backing[4..12], b"sector1 ");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct At<'s, S: ?Sized> {
    stream: &'s S,
    offset: u64,
}

impl<'s, S: ?Sized> At<'s, S> {
    /// Makes a stream of the bytes of `stream` from the one at `offset` on.
    #[inline]
    pub fn new(stream: &'s S, offset: u64) -> Self {
        Self { stream, offset }
    }

    /// Returns the offset of the next byte.
    #[inline]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Moves on by what was moved.
    fn pass(&mut self, count: usize) -> usize {
        // A file's offsets end before 2^63; at the top of a `u64` the next call fails.
        self.offset = self.offset.saturating_add(count as u64);
        count
    }
}

impl<S: ReadVolatileAt + ?Sized> ReadVolatile for At<'_, S> {
    fn read_volatile<B: BitmapSlice>(&mut self, buf: &mut VolatileSlice<'_, B>) -> Result<usize> {
        let count = self.stream.read_volatile_at(buf, self.offset)?;
        Ok(self.pass(count))
    }

    fn read_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &mut [VolatileSlice<'_, B>],
    ) -> Result<usize> {
        let count = self.stream.read_vectored_volatile_at(bufs, self.offset)?;
        Ok(self.pass(count))
    }
}

impl<S: WriteVolatileAt + ?Sized> WriteVolatile for At<'_, S> {
    fn write_volatile<B: BitmapSlice>(&mut self, buf: &VolatileSlice<'_, B>) -> Result<usize> {
        let count = self.stream.write_volatile_at(buf, self.offset)?;
        Ok(self.pass(count))
    }

    fn write_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &[VolatileSlice<'_, B>],
    ) -> Result<usize> {
        let count = self.stream.write_vectored_volatile_at(bufs, self.offset)?;
        Ok(self.pass(count))
    }
}

/// A reference is a source as what it refers to.
impl<S: ReadVolatileAt + ?Sized> ReadVolatileAt for &S {
    fn read_volatile_at<B: BitmapSlice>(
        &self,
        buf: &mut VolatileSlice<'_, B>,
        offset: u64,
    ) -> Result<usize> {
        (**self).read_volatile_at(buf, offset)
    }

    fn read_vectored_volatile_at<B: BitmapSlice>(
        &self,
        bufs: &mut [VolatileSlice<'_, B>],
        offset: u64,
    ) -> Result<usize> {
        (**self).read_vectored_volatile_at(bufs, offset)
    }

    fn read_exact_volatile_at<B: BitmapSlice>(
        &self,
        buf: &mut VolatileSlice<'_, B>,
        offset: u64,
    ) -> Result<()> {
        (**self).read_exact_volatile_at(buf, offset)
    }

    fn read_exact_vectored_volatile_at<B: BitmapSlice>(
        &self,
        bufs: &mut [VolatileSlice<'_, B>],
        offset: u64,
    ) -> Result<()> {
        (**self).read_exact_vectored_volatile_at(bufs, offset)
    }
}

/// A reference is a destination as what it refers to.
impl<S: WriteVolatileAt + ?Sized> WriteVolatileAt for &S {
    fn write_volatile_at<B: BitmapSlice>(
        &self,
        buf: &VolatileSlice<'_, B>,
        offset: u64,
    ) -> Result<usize> {
        (**self).write_volatile_at(buf, offset)
    }

    fn write_vectored_volatile_at<B: BitmapSlice>(
        &self,
        bufs: &[VolatileSlice<'_, B>],
        offset: u64,
    ) -> Result<usize> {
        (**self).write_vectored_volatile_at(bufs, offset)
    }

    fn write_all_volatile_at<B: BitmapSlice>(
        &self,
        buf: &VolatileSlice<'_, B>,
        offset: u64,
    ) -> Result<()> {
        (**self).write_all_volatile_at(buf, offset)
    }

    fn write_all_vectored_volatile_at<B: BitmapSlice>(
        &self,
        bufs: &[VolatileSlice<'_, B>],
        offset: u64,
    ) -> Result<()> {
        (**self).write_all_vectored_volatile_at(bufs, offset)
    }
}
