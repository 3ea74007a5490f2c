// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Access to a slice by offset.

use guest_memory_bitmap::BitmapSlice;

use crate::byte_valued::ByteValued;
use crate::error::{Error, Result};
#[cfg(feature = "std")]
use crate::io::{ReadVolatile, WriteVolatile, at_most, fault_after, retry_interrupted};
use crate::slice::VolatileSlice;

impl<B: BitmapSlice> VolatileSlice<'_, B> {
    /// Writes from `buf` to `[addr, ..)` and returns how many bytes there was room for.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if there is no byte at `addr`, [`Error::ReadOnly`] if the memory must
    /// not be written, [`Error::Fault`] if a page cannot be accessed, with the bytes before it written; never for an empty `buf`.
    ///
    /// # Dirty tracking
    ///
    /// The bytes that were written are marked, also those before a fault.
    ///
    /// # Examples
    ///
    /// ```
    /// # use guest_memory_volatile::{VolatileMemoryError, VolatileSlice};
    /// let mut backing = [0u8; 8];
    /// let memory = VolatileSlice::from(backing.as_mut_slice());
    /// assert_eq!(memory.write(b"longer", 5)?, 3);
    /// // The form for all of a buffer says how far it came.
    /// let cut = memory.write_slice(b"longer", 5);
    /// assert!(matches!(cut, Err(VolatileMemoryError::PartialBuffer { expected: 6, completed: 3 })));
    /// # Ok::<(), VolatileMemoryError>(())
    /// ```
    #[inline]
    pub fn write(&self, buf: &[u8], addr: usize) -> Result<usize> {
        let (fitting, _) = buf.split_at(self.room(addr, buf.len())?);
        if !fitting.is_empty() {
            self.put_bytes(fitting, addr)?;
        }
        Ok(fitting.len())
    }

    /// Reads from `[addr, ..)` into `buf` and returns how many bytes there were.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if there is no byte at `addr`, [`Error::Fault`] if a page cannot be accessed, with the bytes before it
    /// read; never for an empty `buf`.
    #[inline]
    pub fn read(&self, buf: &mut [u8], addr: usize) -> Result<usize> {
        let (fitting, _) = buf.split_at_mut(self.room(addr, buf.len())?);
        if !fitting.is_empty() {
            self.get_bytes(fitting, addr)?;
        }
        Ok(fitting.len())
    }

    /// Writes all of `buf` to `addr`.
    ///
    /// # Errors
    ///
    /// Those of [`write`](Self::write), and [`Error::PartialBuffer`] if only a part fits, which is
    /// then written.
    #[inline(always)]
    pub fn write_slice(&self, buf: &[u8], addr: usize) -> Result<()> {
        if self.poke_slice(buf, addr) {
            return Ok(());
        }
        self.clone().write_partly(buf, addr)
    }

    /// Fills all of `buf` from `addr`.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read), and [`Error::PartialBuffer`] if there is only a part, which
    /// is then read.
    #[inline(always)]
    pub fn read_slice(&self, buf: &mut [u8], addr: usize) -> Result<()> {
        if self.peek_slice(buf, addr) {
            return Ok(());
        }
        self.clone().read_partly(buf, addr)
    }

    /// Writes an object to `addr`.
    ///
    /// # Atomicity
    ///
    /// One access if the object has 1, 2, 4 or 8 bytes and its host address is aligned to that, two of 8 bytes if it has 16
    /// and is aligned to 8; in no order with other accesses.
    ///
    /// # Errors
    ///
    /// Those of [`write_slice`](Self::write_slice).
    #[inline(always)]
    pub fn write_obj<T: ByteValued>(&self, val: T, addr: usize) -> Result<()> {
        if self.poke(val, addr) {
            return Ok(());
        }
        self.clone().write_obj_partly(val, addr)
    }

    /// Reads an object from `addr`.
    ///
    /// # Atomicity
    ///
    /// As [`write_obj`](Self::write_obj).
    ///
    /// # Errors
    ///
    /// Those of [`read_slice`](Self::read_slice).
    #[inline(always)]
    pub fn read_obj<T: ByteValued>(&self, addr: usize) -> Result<T> {
        match self.peek(addr) {
            Some(value) => Ok(value),
            None => self.clone().read_obj_partly(addr),
        }
    }

    /// Reads once from `src` into `[addr, ..)`, at most `count` bytes; returns how many came.
    ///
    /// A read that a signal interrupted is tried again.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if there is no byte at `addr` and `count` is not 0, [`Error::ReadOnly`] if the memory must not
    /// be written, and what `src` says.
    ///
    /// # Examples
    ///
    /// ```
    /// # use guest_memory_volatile::{VolatileMemoryError, VolatileSlice};
    /// let mut backing = [0u8; 8];
    /// let memory = VolatileSlice::from(backing.as_mut_slice());
    /// let mut packet: &[u8] = b"0123456789";
    /// assert_eq!(memory.read_volatile_from(4, &mut packet, 100)?, 4);
    /// assert_eq!(packet, b"456789");
    /// # Ok::<(), VolatileMemoryError>(())
    /// ```
    #[cfg(feature = "std")]
    pub fn read_volatile_from<F>(&self, addr: usize, src: &mut F, count: usize) -> Result<usize>
    where
        F: ReadVolatile,
    {
        let count = self.room(addr, count)?;
        if count == 0 {
            return Ok(0);
        }
        let mut target = self.subslice(addr, count)?;
        target.span().check_writable(addr)?;
        let step = retry_interrupted(|| src.read_volatile(&mut target));
        let came = step.map_err(|error| fault_after(error, addr, 0))?;
        at_most(target.len(), came)
    }

    /// Reads exactly `count` bytes from `src` into `[addr, addr + count)`.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] or [`Error::Overflow`] if they do not fit, [`Error::ReadOnly`] if the memory must not be written, in
    /// which cases nothing is read, and those of [`read_exact_volatile`](ReadVolatile::read_exact_volatile).
    #[cfg(feature = "std")]
    pub fn read_exact_volatile_from<F>(&self, addr: usize, src: &mut F, count: usize) -> Result<()>
    where
        F: ReadVolatile,
    {
        if count == 0 {
            return Ok(());
        }
        let mut target = self.subslice(addr, count)?;
        target.span().check_writable(addr)?;
        let done = src.read_exact_volatile(&mut target);
        done.map_err(|error| fault_after(error, addr, 0))
    }

    /// Writes once from `[addr, ..)` to `dst`, at most `count` bytes; returns how many went.
    ///
    /// A write that a signal interrupted is tried again.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if there is no byte at `addr` and `count` is not 0, and what `dst` says.
    #[cfg(feature = "std")]
    pub fn write_volatile_to<F>(&self, addr: usize, dst: &mut F, count: usize) -> Result<usize>
    where
        F: WriteVolatile,
    {
        let count = self.room(addr, count)?;
        if count == 0 {
            return Ok(0);
        }
        let source = self.subslice(addr, count)?;
        let step = retry_interrupted(|| dst.write_volatile(&source));
        let went = step.map_err(|error| fault_after(error, addr, 0))?;
        at_most(source.len(), went)
    }

    /// Writes exactly `[addr, addr + count)` to `dst`.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] or [`Error::Overflow`] if there are fewer bytes, in which case nothing is written, and those of [`write_all_volatile`](WriteVolatile::write_all_volatile).
    #[cfg(feature = "std")]
    pub fn write_all_volatile_to<F>(&self, addr: usize, dst: &mut F, count: usize) -> Result<()>
    where
        F: WriteVolatile,
    {
        if count == 0 {
            return Ok(());
        }
        let done = dst.write_all_volatile(&self.subslice(addr, count)?);
        done.map_err(|error| fault_after(error, addr, 0))
    }

    /// Returns how many of `wanted` bytes there are from `addr` on; none is an error unless none is
    /// wanted.
    #[inline]
    fn room(&self, addr: usize, wanted: usize) -> Result<usize> {
        match self.len().checked_sub(addr) {
            Some(left) if left > 0 => Ok(usize::min(left, wanted)),
            _ if wanted == 0 => Ok(0),
            _ => Err(Error::OutOfBounds { addr }),
        }
    }

    /// An object's read that failed, once more.
    #[cold]
    #[inline(never)]
    fn read_obj_partly<T: ByteValued>(self, addr: usize) -> Result<T> {
        let mut value = T::zeroed();
        all(self.read(value.as_mut_slice(), addr)?, size_of::<T>())?;
        Ok(value)
    }

    /// A write that failed, once more: what fits is written, the error says how much that is.
    #[cold]
    #[inline(never)]
    fn write_partly(self, buf: &[u8], addr: usize) -> Result<()> {
        all(self.write(buf, addr)?, buf.len())
    }

    /// An object's write that failed, once more.
    #[cold]
    #[inline(never)]
    fn write_obj_partly<T: ByteValued>(self, val: T, addr: usize) -> Result<()> {
        all(self.write(val.as_slice(), addr)?, size_of::<T>())
    }

    /// A read that failed, once more: what is there is read, the error says how much that is.
    #[cold]
    #[inline(never)]
    fn read_partly(self, buf: &mut [u8], addr: usize) -> Result<()> {
        all(self.read(buf, addr)?, buf.len())
    }
}

/// Makes an error of a count that fell short.
fn all(completed: usize, expected: usize) -> Result<()> {
    if completed == expected {
        return Ok(());
    }
    Err(Error::PartialBuffer {
        expected,
        completed,
    })
}
