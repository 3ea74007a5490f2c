// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! More access to memory by an address of any kind.

use core::sync::atomic::Ordering;

use guest_memory_bitmap::BitmapSlice;
use guest_memory_volatile::{
    AtomicAccess, VolatileMemoryError, VolatileMemoryResult, VolatileSlice,
};

use crate::bytes::Bytes;

/// Atomic read-modify-writes, fills and the search for zeroes, for everything that has [`Bytes`] here.
///
/// They stand in a trait of their own, since [`Bytes`] has implementations elsewhere.
///
/// # Atomicity
///
/// A value of an atomic operation lies in one region and is aligned to its size; it counts as an unsigned integer of the
/// host's byte order. A fill writes each aligned word of 8 bytes whole.
///
/// # Dirty tracking
///
/// What was written is marked, after the data: also a value that was replaced by an equal one, but not one that
/// [`compare_exchange`](BytesExt::compare_exchange) left alone.
///
/// # Examples
///
/// ```
/// use guest_memory_core::BytesExt;
/// use guest_memory_volatile::VolatileSlice;
/// use std::sync::atomic::Ordering::SeqCst;
///
/// # fn main() -> Result<(), guest_memory_core::VolatileMemoryError> {
/// let mut backing = [0u64; 2];
/// let bytes = guest_memory_volatile::ByteValued::as_mut_slice(&mut backing);
/// let memory = VolatileSlice::from(bytes);
/// assert_eq!(BytesExt::fetch_add(&memory, 5u32, 8, SeqCst)?, 0);
/// assert_eq!(BytesExt::compare_exchange(&memory, 4u32, 9, 8, SeqCst, SeqCst)?, Err(5));
/// assert!(!BytesExt::is_zero(&memory, 0, 16)?);
/// BytesExt::fill(&memory, 0, 8, 4)?;
/// assert!(BytesExt::is_zero(&memory, 0, 16)?);
/// # Ok(())
/// # }
/// ```
pub trait BytesExt<A>: Bytes<A> {
    /// Stores `new` atomically if `current` is there; returns what was there, as `Ok` if it was stored. In sequentially
    /// consistent order, whatever the orders say.
    ///
    /// # Errors
    ///
    /// Those of [`store`](Bytes::store).
    ///
    /// # Panics
    ///
    /// If `failure` is not an order that a load can have.
    fn compare_exchange<T: AtomicAccess>(
        &self,
        current: T,
        new: T,
        addr: A,
        success: Ordering,
        failure: Ordering,
    ) -> Result<Result<T, T>, Self::E>;

    /// Stores a value and returns the one before, atomically and in sequentially consistent order, whatever `order` says.
    ///
    /// # Errors
    ///
    /// Those of [`store`](Bytes::store).
    fn swap<T: AtomicAccess>(&self, val: T, addr: A, order: Ordering) -> Result<T, Self::E>;

    /// Adds to a value, wrapping around, and returns the one before, atomically and in sequentially consistent order, whatever `order` says.
    ///
    /// # Errors
    ///
    /// Those of [`store`](Bytes::store).
    fn fetch_add<T: AtomicAccess>(&self, val: T, addr: A, order: Ordering) -> Result<T, Self::E>;

    /// Ands a value and returns the one before, atomically and in sequentially consistent order, whatever `order` says.
    ///
    /// # Errors
    ///
    /// Those of [`store`](Bytes::store).
    fn fetch_and<T: AtomicAccess>(&self, val: T, addr: A, order: Ordering) -> Result<T, Self::E>;

    /// Ors a value and returns the one before, atomically and in sequentially consistent order, whatever `order` says.
    ///
    /// # Errors
    ///
    /// Those of [`store`](Bytes::store).
    fn fetch_or<T: AtomicAccess>(&self, val: T, addr: A, order: Ordering) -> Result<T, Self::E>;

    /// Exclusive-ors a value and returns the one before, atomically and in sequentially consistent order, whatever `order` says.
    ///
    /// # Errors
    ///
    /// Those of [`store`](Bytes::store).
    fn fetch_xor<T: AtomicAccess>(&self, val: T, addr: A, order: Ordering) -> Result<T, Self::E>;

    /// Writes `value` to each of `count` bytes from `addr` on.
    ///
    /// # Errors
    ///
    /// If not all of them can be written; the error says how many were.
    fn fill(&self, value: u8, addr: A, count: usize) -> Result<(), Self::E>;

    /// Writes zero to each of `count` bytes from `addr` on.
    ///
    /// # Errors
    ///
    /// Those of [`fill`](Self::fill).
    fn zero(&self, addr: A, count: usize) -> Result<(), Self::E> {
        self.fill(0, addr, count)
    }

    /// Says whether all of `count` bytes from `addr` on are zero. It ends at the first that is not, or close behind it.
    ///
    /// # Errors
    ///
    /// If a byte before that cannot be read.
    fn is_zero(&self, addr: A, count: usize) -> Result<bool, Self::E>;
}

/// Offsets into a slice: the slice's own methods of the same names.
impl<B: BitmapSlice> BytesExt<usize> for VolatileSlice<'_, B> {
    #[inline(always)]
    fn compare_exchange<T: AtomicAccess>(
        &self,
        current: T,
        new: T,
        addr: usize,
        success: Ordering,
        failure: Ordering,
    ) -> VolatileMemoryResult<Result<T, T>> {
        VolatileSlice::compare_exchange(self, current, new, addr, success, failure)
    }

    #[inline(always)]
    fn swap<T: AtomicAccess>(
        &self,
        val: T,
        addr: usize,
        order: Ordering,
    ) -> VolatileMemoryResult<T> {
        VolatileSlice::swap(self, val, addr, order)
    }

    #[inline(always)]
    fn fetch_add<T: AtomicAccess>(
        &self,
        val: T,
        addr: usize,
        order: Ordering,
    ) -> VolatileMemoryResult<T> {
        VolatileSlice::fetch_add(self, val, addr, order)
    }

    #[inline(always)]
    fn fetch_and<T: AtomicAccess>(
        &self,
        val: T,
        addr: usize,
        order: Ordering,
    ) -> VolatileMemoryResult<T> {
        VolatileSlice::fetch_and(self, val, addr, order)
    }

    #[inline(always)]
    fn fetch_or<T: AtomicAccess>(
        &self,
        val: T,
        addr: usize,
        order: Ordering,
    ) -> VolatileMemoryResult<T> {
        VolatileSlice::fetch_or(self, val, addr, order)
    }

    #[inline(always)]
    fn fetch_xor<T: AtomicAccess>(
        &self,
        val: T,
        addr: usize,
        order: Ordering,
    ) -> VolatileMemoryResult<T> {
        VolatileSlice::fetch_xor(self, val, addr, order)
    }

    fn fill(&self, value: u8, addr: usize, count: usize) -> Result<(), VolatileMemoryError> {
        VolatileSlice::fill(&self.subslice(addr, count)?, value)
    }

    fn is_zero(&self, addr: usize, count: usize) -> Result<bool, VolatileMemoryError> {
        VolatileSlice::is_zero(&self.subslice(addr, count)?)
    }
}
