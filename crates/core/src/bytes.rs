// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Access to memory by an address of any kind.

use core::sync::atomic::Ordering;

use guest_memory_bitmap::BitmapSlice;
use guest_memory_volatile::{AtomicAccess, ByteValued, VolatileMemoryError, VolatileSlice};
#[cfg(feature = "std")]
use guest_memory_volatile::{ReadVolatile, WriteVolatile};

/// Access to a container of bytes by address: offsets in a slice, addresses in a region or in a
/// guest.
///
/// `read` and `write` are named from the container's side: [`write`](Bytes::write) puts bytes into
/// it.
///
/// # Partial progress
///
/// Methods that return a count move as much as there is; the others move all or fail, in which case
/// the bytes before the failure may have been moved. An empty access succeeds at every address.
///
/// # Atomicity
///
/// [`load`](Bytes::load) and [`store`](Bytes::store) are atomic and need an aligned address. An
/// object or slice of 1, 2, 4 or 8 bytes at an address aligned to its size is moved by one access;
/// longer ones may be torn between such accesses.
///
/// # Dirty tracking
///
/// What was written is marked in the container's dirty bitmap, after the data.
///
/// # Examples
///
/// Code that is given any such container, by whatever addresses:
///
/// ```
/// use guest_memory_core::{Bytes, VolatileSlice};
///
/// /// Moves a value and leaves zero in its place.
/// fn take<A: Copy, M: Bytes<A>>(memory: &M, from: A, to: A) -> Result<(), M::E> {
///     let value: u64 = memory.read_obj(from)?;
///     memory.write_obj(value, to)?;
///     memory.write_obj(0u64, from)
/// }
///
/// let mut backing = *b"a value.________";
/// take(&VolatileSlice::from(backing.as_mut_slice()), 0usize, 8)?;
/// assert_eq!(&backing, b"\0\0\0\0\0\0\0\0a value.");
/// # Ok::<(), guest_memory_core::VolatileMemoryError>(())
/// ```
pub trait Bytes<A> {
    /// Error of an access.
    type E;

    /// Writes from `buf` to `addr` on and returns how many bytes there was room for.
    ///
    /// # Errors
    ///
    /// If not even the first byte can be written, or something else than the memory's end stops it, in which case the error says
    /// how much was written. Never for an empty `buf`.
    fn write(&self, buf: &[u8], addr: A) -> Result<usize, Self::E>;

    /// Reads from `addr` on into `buf` and returns how many bytes there were. What lies behind them in `buf` stays.
    ///
    /// # Errors
    ///
    /// If not even the first byte can be read, or something else than the memory's end stops it, in which case the error says how
    /// much was read. Never for an empty `buf`.
    fn read(&self, buf: &mut [u8], addr: A) -> Result<usize, Self::E>;

    /// Writes all of `buf` to `addr`.
    ///
    /// # Errors
    ///
    /// If not all of it fits; the error says how much was written.
    fn write_slice(&self, buf: &[u8], addr: A) -> Result<(), Self::E>;

    /// Fills all of `buf` from `addr`.
    ///
    /// # Errors
    ///
    /// If there are fewer bytes; the error says how many were read.
    fn read_slice(&self, buf: &mut [u8], addr: A) -> Result<(), Self::E>;

    /// Writes an object to `addr`, which need not be aligned.
    ///
    /// # Errors
    ///
    /// Those of [`write_slice`](Self::write_slice).
    #[inline]
    fn write_obj<T: ByteValued>(&self, val: T, addr: A) -> Result<(), Self::E> {
        self.write_slice(val.as_slice(), addr)
    }

    /// Reads an object from `addr`, which need not be aligned.
    ///
    /// # Errors
    ///
    /// Those of [`read_slice`](Self::read_slice).
    #[inline]
    fn read_obj<T: ByteValued>(&self, addr: A) -> Result<T, Self::E> {
        let mut value = T::zeroed();
        self.read_slice(value.as_mut_slice(), addr).map(|()| value)
    }

    /// Reads up to `count` bytes from `src` and puts them at `addr`, with as few reads of `src` as the memory's
    /// layout allows (one, if it is no more than a few stretches); returns how many bytes came.
    ///
    /// # Errors
    ///
    /// If there is no memory at `addr`, or `src` fails before the first byte.
    ///
    /// # Partial progress
    ///
    /// A short count of `src` ends the access there, whatever stretch of memory it ends in: the next byte belongs at
    /// `addr` plus the count. A failure of `src` after the first byte is a short count too; the next call meets it.
    #[cfg(feature = "std")]
    fn read_volatile_from<F>(&self, addr: A, src: &mut F, count: usize) -> Result<usize, Self::E>
    where
        F: ReadVolatile;

    /// Reads exactly `count` bytes from `src` and puts them at `addr`.
    ///
    /// # Errors
    ///
    /// If the memory or `src` ends before, or `src` fails; the error says how many bytes came, and an end is told from
    /// a failure.
    ///
    /// # Partial progress
    ///
    /// A short count of `src` is followed by another read, for the byte after the last one. What a signal interrupted is
    /// tried again.
    #[cfg(feature = "std")]
    fn read_exact_volatile_from<F>(
        &self,
        addr: A,
        src: &mut F,
        count: usize,
    ) -> Result<(), Self::E>
    where
        F: ReadVolatile;

    /// Writes up to `count` bytes from `addr` to `dst`, with as few writes to `dst` as the memory's layout allows (one,
    /// if it is no more than a few stretches); returns how many bytes went.
    ///
    /// # Errors
    ///
    /// If there is no memory at `addr`, or `dst` fails before the first byte.
    ///
    /// # Partial progress
    ///
    /// As for [`read_volatile_from`](Self::read_volatile_from).
    #[cfg(feature = "std")]
    fn write_volatile_to<F>(&self, addr: A, dst: &mut F, count: usize) -> Result<usize, Self::E>
    where
        F: WriteVolatile;

    /// Writes exactly `count` bytes from `addr` to `dst`.
    ///
    /// # Errors
    ///
    /// If the memory ends before or `dst` fails; the error says how many bytes went.
    ///
    /// # Partial progress
    ///
    /// As for [`read_exact_volatile_from`](Self::read_exact_volatile_from).
    #[cfg(feature = "std")]
    fn write_all_volatile_to<F>(&self, addr: A, dst: &mut F, count: usize) -> Result<(), Self::E>
    where
        F: WriteVolatile;

    /// Stores a value atomically.
    ///
    /// # Errors
    ///
    /// If not all of it fits in one region, the host address is not aligned to the value's size, or the memory must not be written;
    /// nothing is stored then.
    ///
    /// # Panics
    ///
    /// If `order` is not one that a store can have (`Acquire` or `AcqRel`).
    fn store<T: AtomicAccess>(&self, val: T, addr: A, order: Ordering) -> Result<(), Self::E>;

    /// Loads a value atomically.
    ///
    /// # Errors
    ///
    /// If not all of it is in one region, or the host address is not aligned to the value's size.
    ///
    /// # Panics
    ///
    /// If `order` is not one that a load can have (`Release` or `AcqRel`).
    fn load<T: AtomicAccess>(&self, addr: A, order: Ordering) -> Result<T, Self::E>;
}

/// Offsets into a slice: the slice's own methods of the same names.
impl<B: BitmapSlice> Bytes<usize> for VolatileSlice<'_, B> {
    type E = VolatileMemoryError;

    #[inline(always)]
    fn write(&self, buf: &[u8], addr: usize) -> Result<usize, VolatileMemoryError> {
        VolatileSlice::write(self, buf, addr)
    }

    #[inline(always)]
    fn read(&self, buf: &mut [u8], addr: usize) -> Result<usize, VolatileMemoryError> {
        VolatileSlice::read(self, buf, addr)
    }

    #[inline(always)]
    fn write_slice(&self, buf: &[u8], addr: usize) -> Result<(), VolatileMemoryError> {
        VolatileSlice::write_slice(self, buf, addr)
    }

    #[inline(always)]
    fn read_slice(&self, buf: &mut [u8], addr: usize) -> Result<(), VolatileMemoryError> {
        VolatileSlice::read_slice(self, buf, addr)
    }

    #[inline(always)]
    fn write_obj<T: ByteValued>(&self, val: T, addr: usize) -> Result<(), VolatileMemoryError> {
        VolatileSlice::write_obj(self, val, addr)
    }

    #[inline(always)]
    fn read_obj<T: ByteValued>(&self, addr: usize) -> Result<T, VolatileMemoryError> {
        VolatileSlice::read_obj(self, addr)
    }

    #[cfg(feature = "std")]
    #[inline]
    fn read_volatile_from<F: ReadVolatile>(
        &self,
        addr: usize,
        src: &mut F,
        count: usize,
    ) -> Result<usize, VolatileMemoryError> {
        VolatileSlice::read_volatile_from(self, addr, src, count)
    }

    #[cfg(feature = "std")]
    #[inline]
    fn read_exact_volatile_from<F: ReadVolatile>(
        &self,
        addr: usize,
        src: &mut F,
        count: usize,
    ) -> Result<(), VolatileMemoryError> {
        VolatileSlice::read_exact_volatile_from(self, addr, src, count)
    }

    #[cfg(feature = "std")]
    #[inline]
    fn write_volatile_to<F: WriteVolatile>(
        &self,
        addr: usize,
        dst: &mut F,
        count: usize,
    ) -> Result<usize, VolatileMemoryError> {
        VolatileSlice::write_volatile_to(self, addr, dst, count)
    }

    #[cfg(feature = "std")]
    #[inline]
    fn write_all_volatile_to<F: WriteVolatile>(
        &self,
        addr: usize,
        dst: &mut F,
        count: usize,
    ) -> Result<(), VolatileMemoryError> {
        VolatileSlice::write_all_volatile_to(self, addr, dst, count)
    }

    #[inline(always)]
    fn store<T: AtomicAccess>(
        &self,
        val: T,
        addr: usize,
        order: Ordering,
    ) -> Result<(), VolatileMemoryError> {
        VolatileSlice::store(self, val, addr, order)
    }

    #[inline(always)]
    fn load<T: AtomicAccess>(
        &self,
        addr: usize,
        order: Ordering,
    ) -> Result<T, VolatileMemoryError> {
        VolatileSlice::load(self, addr, order)
    }
}
