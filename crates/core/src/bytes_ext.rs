// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Access by an address of any kind, beyond what [`Bytes`] has.

use core::sync::atomic::Ordering;

use guest_memory_bitmap::BitmapSlice;
use guest_memory_volatile::{AtomicAccess, LittleEndian, VolatileMemoryError, VolatileSlice};

use crate::bytes::Bytes;

/// Read-modify-writes, fills and little-endian fields by address, for slices, regions and memories.
///
/// A trait beside [`Bytes`], so that an implementation of that one need not have all this.
///
/// ```
/// use std::sync::atomic::Ordering::SeqCst;
/// # use guest_memory_core::VolatileSlice;
/// use guest_memory_core::BytesExt;
///
/// # let mut word = [0u64];
/// # let memory = VolatileSlice::from(guest_memory_volatile::ByteValued::as_mut_slice(&mut word));
/// // Take a lock that the guest shares, if it is free.
/// let is_taken = memory.compare_exchange(0u32, 1, 4, SeqCst, SeqCst)?.is_ok();
/// # assert!(is_taken);
/// # Ok::<(), guest_memory_core::VolatileMemoryError>(())
/// ```
///
/// A [`VolatileSlice`] has methods of its own named [`fill`](VolatileSlice::fill), [`zero`](VolatileSlice::zero) and
/// [`is_zero`](VolatileSlice::is_zero), which take all of the slice; for a part, say `slice.subslice(..)?.fill(..)` or
/// `BytesExt::fill(&slice, ..)`.
///
/// # Atomicity
///
/// Read-modify-writes are atomic, towards the guest too, and need an address aligned to the value's size, with all of
/// the value in one region. They are sequentially consistent, whatever their orders say. Values count as unsigned
/// integers of the host's byte order. A fill writes each aligned word of 8 bytes whole.
///
/// # Dirty tracking
///
/// What was written is marked after the data: a read-modify-write even if the new value is the old one, but a
/// compare-exchange only if it stored.
pub trait BytesExt<A>: Bytes<A> {
    /// Stores `new` if `current` is there; returns what was there, as `Ok` if it was stored.
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

    /// Stores a value and returns the one before.
    ///
    /// # Errors
    ///
    /// Those of [`store`](Bytes::store).
    fn swap<T: AtomicAccess>(&self, val: T, addr: A, order: Ordering) -> Result<T, Self::E>;

    /// Adds to a value, wrapping around, and returns the one before.
    ///
    /// # Errors
    ///
    /// Those of [`store`](Bytes::store).
    fn fetch_add<T: AtomicAccess>(&self, val: T, addr: A, order: Ordering) -> Result<T, Self::E>;

    /// Ands a value and returns the one before.
    ///
    /// # Errors
    ///
    /// Those of [`store`](Bytes::store).
    fn fetch_and<T: AtomicAccess>(&self, val: T, addr: A, order: Ordering) -> Result<T, Self::E>;

    /// Ors a value and returns the one before.
    ///
    /// # Errors
    ///
    /// Those of [`store`](Bytes::store).
    fn fetch_or<T: AtomicAccess>(&self, val: T, addr: A, order: Ordering) -> Result<T, Self::E>;

    /// Exclusive-ors a value and returns the one before.
    ///
    /// # Errors
    ///
    /// Those of [`store`](Bytes::store).
    fn fetch_xor<T: AtomicAccess>(&self, val: T, addr: A, order: Ordering) -> Result<T, Self::E>;

    /// Writes `value` to `count` bytes from `addr` on, over as many regions as it takes.
    ///
    /// # Errors
    ///
    /// If there are fewer bytes; the error says how many were written.
    fn fill(&self, value: u8, addr: A, count: usize) -> Result<(), Self::E>;

    /// Writes zero to `count` bytes from `addr` on; as [`fill`](BytesExt::fill).
    ///
    /// # Errors
    ///
    /// Those of [`fill`](BytesExt::fill).
    #[inline(always)]
    fn zero(&self, addr: A, count: usize) -> Result<(), Self::E> {
        BytesExt::fill(self, 0, addr, count)
    }

    /// Says whether `count` bytes from `addr` on are all zero; none are.
    ///
    /// What lies behind a byte that is not zero is not looked at, or hardly.
    ///
    /// # Errors
    ///
    /// If there are fewer bytes and all of them are zero; the error says how many.
    fn is_zero(&self, addr: A, count: usize) -> Result<bool, Self::E>;

    /// Loads a little-endian value atomically.
    ///
    /// # Errors
    ///
    /// Those of [`load`](Bytes::load).
    ///
    /// # Panics
    ///
    /// If `order` is not one that a load can have.
    #[inline(always)]
    fn load_le<T: LittleEndian>(&self, addr: A, order: Ordering) -> Result<T, Self::E> {
        match self.load::<T>(addr, order) {
            Ok(value) => Ok(value.swap_unless_little()),
            Err(error) => Err(error),
        }
    }

    /// Stores a value atomically, in little-endian order.
    ///
    /// # Errors
    ///
    /// Those of [`store`](Bytes::store).
    ///
    /// # Panics
    ///
    /// If `order` is not one that a store can have.
    #[inline(always)]
    fn store_le<T: LittleEndian>(&self, val: T, addr: A, order: Ordering) -> Result<(), Self::E> {
        self.store(val.swap_unless_little(), addr, order)
    }
}

/// Writes the read-modify-writes of a slice in terms of its own methods of the same names.
macro_rules! of_the_slice {
    ($($name:ident)*) => {$(
        #[inline(always)]
        fn $name<T: AtomicAccess>(
            &self,
            val: T,
            addr: usize,
            order: Ordering,
        ) -> Result<T, VolatileMemoryError> {
            VolatileSlice::$name(self, val, addr, order)
        }
    )*};
}

/// Offsets into a slice: its own methods, on a part of it.
impl<B: BitmapSlice> BytesExt<usize> for VolatileSlice<'_, B> {
    #[inline(always)]
    fn compare_exchange<T: AtomicAccess>(
        &self,
        current: T,
        new: T,
        addr: usize,
        success: Ordering,
        failure: Ordering,
    ) -> Result<Result<T, T>, VolatileMemoryError> {
        VolatileSlice::compare_exchange(self, current, new, addr, success, failure)
    }

    of_the_slice! { swap fetch_add fetch_and fetch_or fetch_xor }

    fn fill(&self, value: u8, addr: usize, count: usize) -> Result<(), VolatileMemoryError> {
        let Some(part) = part(self, addr, count)? else {
            return Ok(());
        };
        part.fill(value).map_err(|error| moved(error, addr))?;
        all(part.len(), count)
    }

    fn is_zero(&self, addr: usize, count: usize) -> Result<bool, VolatileMemoryError> {
        let Some(part) = part(self, addr, count)? else {
            return Ok(true);
        };
        if !part.is_zero().map_err(|error| moved(error, addr))? {
            return Ok(false);
        }
        all(part.len(), count).map(|()| true)
    }
}

/// Returns what there is of `[addr, addr + count)`, which is something; nothing if nothing is wanted.
fn part<'a, B: BitmapSlice>(
    slice: &VolatileSlice<'a, B>,
    addr: usize,
    count: usize,
) -> Result<Option<VolatileSlice<'a, B>>, VolatileMemoryError> {
    if count == 0 {
        return Ok(None);
    }
    match slice.len().checked_sub(addr) {
        Some(left) if left > 0 => slice.subslice(addr, usize::min(left, count)).map(Some),
        _ => Err(VolatileMemoryError::OutOfBounds { addr }),
    }
}

/// Makes an error of a part, which starts at `start`, one of the whole.
#[cold]
fn moved(error: VolatileMemoryError, start: usize) -> VolatileMemoryError {
    match error {
        VolatileMemoryError::ReadOnly { addr } => VolatileMemoryError::ReadOnly {
            addr: start.saturating_add(addr),
        },
        VolatileMemoryError::Fault {
            addr,
            completed,
            kind,
        } => VolatileMemoryError::Fault {
            addr: start.saturating_add(addr),
            completed,
            kind,
        },
        other => other,
    }
}

/// Makes an error of a count that fell short.
fn all(completed: usize, expected: usize) -> Result<(), VolatileMemoryError> {
    if completed == expected {
        return Ok(());
    }
    Err(VolatileMemoryError::PartialBuffer {
        expected,
        completed,
    })
}

/// Writes [`BytesExt`] by way of `$reach`, which makes the [`Reach`](crate::reach::Reach) of `self`.
macro_rules! bytes_ext_by_reach {
    ($address:ty, $reach:path) => {
        #[inline(always)]
        fn compare_exchange<T: guest_memory_volatile::AtomicAccess>(
            &self,
            current: T,
            new: T,
            addr: $address,
            success: core::sync::atomic::Ordering,
            failure: core::sync::atomic::Ordering,
        ) -> $crate::error::Result<core::result::Result<T, T>> {
            let operation = $crate::error::Operation::CompareExchange;
            $crate::atomically::atomically::<_, T, _>($reach(self), operation, addr, |slice| {
                slice.compare_exchange(current, new, 0, success, failure)
            })
        }

        $crate::bytes_ext::bytes_ext_by_reach! {
            $address, $reach, swap fetch_add fetch_and fetch_or fetch_xor
        }

        #[inline(always)]
        fn fill(&self, value: u8, addr: $address, count: usize) -> $crate::error::Result<()> {
            $crate::fill::fill($reach(self), value, addr, count)
        }

        #[inline(always)]
        fn is_zero(&self, addr: $address, count: usize) -> $crate::error::Result<bool> {
            $crate::fill::is_zero($reach(self), addr, count)
        }
    };
    ($address:ty, $reach:path, $($name:ident)*) => {$(
        #[inline(always)]
        fn $name<T: guest_memory_volatile::AtomicAccess>(
            &self,
            val: T,
            addr: $address,
            order: core::sync::atomic::Ordering,
        ) -> $crate::error::Result<T> {
            let operation = $crate::error::Operation::ReadModifyWrite;
            $crate::atomically::atomically::<_, T, _>($reach(self), operation, addr, |slice| {
                slice.$name(val, 0, order)
            })
        }
    )*};
}
pub(crate) use bytes_ext_by_reach;
