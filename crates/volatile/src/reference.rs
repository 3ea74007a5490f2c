// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A window on one value in guest memory.
#![expect(unsafe_code, reason = "unsafe constructors")]

use core::marker::PhantomData;

use guest_memory_bitmap::BitmapSlice;

use crate::byte_valued::ByteValued;
use crate::error::Result;
use crate::ptr_guard::{PtrGuard, PtrGuardMut};
use crate::slice::{MmapInfo, VolatileSlice};

/// A window on one value in guest memory, which need not be aligned.
///
/// # Atomicity
///
/// A value of 1, 2, 4 or 8 bytes at an address aligned to its size is moved by one access; others
/// may be torn.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::Ordering;
/// use guest_memory_volatile::{VolatileMemory, VolatileMemoryError, VolatileSlice};
///
/// # #[repr(align(8))]
/// # struct Page([u8; 64]);
/// # let mut page = Page([0; 64]);
/// # let memory = VolatileSlice::from(page.0.as_mut_slice());
/// // The place of a field, found once and used again and again.
/// let status = memory.get_ref::<u32>(8)?;
/// status.store(4);
/// assert_eq!(status.load(), 4);
/// assert_eq!(status.fetch_or(1, Ordering::AcqRel)?, 4);
/// assert_eq!(memory.read_obj::<u32>(8)?, 5);
/// # Ok::<(), VolatileMemoryError>(())
/// ```
#[derive(Clone, Copy)]
pub struct VolatileRef<'a, T, B = ()> {
    /// # Invariants
    ///
    /// Has `size_of::<T>()` bytes.
    slice: VolatileSlice<'a, B>,
    value: PhantomData<T>,
}

impl<T: ByteValued> VolatileRef<'_, T, ()> {
    /// Makes a window on the value at `addr`, whose writes are not tracked.
    ///
    /// # Safety
    ///
    /// `[addr, addr + size_of::<T>())` must be a [valid guest range](crate#valid-guest-range) for
    /// the window's lifetime.
    pub unsafe fn new(addr: *mut u8) -> Self {
        // SAFETY: the same contract.
        unsafe { Self::with_bitmap(addr, (), None) }
    }
}

impl<'a, T: ByteValued, B: BitmapSlice> VolatileRef<'a, T, B> {
    /// Makes a window on the value at `addr`, whose writes are marked in `bitmap` (offset 0 being `addr`).
    ///
    /// `mmap` only names the lifetime; `None` will do.
    ///
    /// # Safety
    ///
    /// `[addr, addr + size_of::<T>())` must be a [valid guest range](crate#valid-guest-range) for
    /// `'a`.
    pub unsafe fn with_bitmap(addr: *mut u8, bitmap: B, mmap: Option<&'a MmapInfo>) -> Self {
        // SAFETY: the same contract.
        Self::over(unsafe { VolatileSlice::with_bitmap(addr, size_of::<T>(), bitmap, mmap) })
    }

    /// Makes a window over a slice that its maker knows to have the value's size.
    #[inline]
    pub(crate) fn over(slice: VolatileSlice<'a, B>) -> Self {
        assert_eq!(slice.len(), size_of::<T>(), "the slice is checked before");
        Self {
            slice,
            value: PhantomData,
        }
    }

    /// Returns the value's size in bytes.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a value is not a container")]
    pub fn len(&self) -> usize {
        size_of::<T>()
    }

    /// Borrows the dirty bitmap, whose offset 0 is the value's first byte.
    #[inline]
    pub fn bitmap(&self) -> &B {
        self.slice.bitmap()
    }

    /// Returns a pointer for reading, bound to the mapping's lifetime.
    #[inline]
    pub fn ptr_guard(&self) -> PtrGuard<'a> {
        self.slice.ptr_guard()
    }

    /// Returns a pointer for writing, bound to the mapping's lifetime; mark what you write through
    /// it.
    #[inline]
    pub fn ptr_guard_mut(&self) -> PtrGuardMut<'a> {
        self.slice.ptr_guard_mut()
    }

    /// Writes the value and marks it.
    ///
    /// In memory that is read-only or cannot be accessed nothing changes; [`try_store`](Self::try_store) tells.
    #[inline]
    pub fn store(&self, v: T) {
        // As a ROM does.
        let _ = self.try_store(v);
    }

    /// Writes the value and marks it.
    ///
    /// # Errors
    ///
    /// [`ReadOnly`](crate::VolatileMemoryError::ReadOnly) if the memory must not be written,
    /// [`Fault`](crate::VolatileMemoryError::Fault) if its page cannot be accessed.
    #[inline]
    pub fn try_store(&self, v: T) -> Result<()> {
        self.slice.write_obj(v, 0)
    }

    /// Reads the value; zeroes if its page cannot be accessed, which [`try_load`](Self::try_load) tells.
    #[inline]
    pub fn load(&self) -> T {
        match self.try_load() {
            Ok(value) => value,
            Err(_) => T::zeroed(),
        }
    }

    /// Reads the value.
    ///
    /// # Errors
    ///
    /// [`Fault`](crate::VolatileMemoryError::Fault) if its page cannot be accessed.
    #[inline]
    pub fn try_load(&self) -> Result<T> {
        self.slice.read_obj(0)
    }

    /// Borrows the slice that is the value's bytes.
    #[inline(always)]
    pub(crate) fn slice(&self) -> &VolatileSlice<'a, B> {
        &self.slice
    }

    /// Returns the value's bytes as a slice.
    #[inline]
    pub fn to_slice(&self) -> VolatileSlice<'a, B> {
        self.slice.clone()
    }
}

impl<T, B: core::fmt::Debug> core::fmt::Debug for VolatileRef<'_, T, B> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("VolatileRef").field(&self.slice).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::VolatileMemory;

    #[test]
    fn a_value_is_stored_and_loaded_at_any_alignment() {
        let mut backing = [0u8; 16];
        let memory = VolatileSlice::from(backing.as_mut_slice());
        for offset in 0..=8 {
            let value = memory.get_ref::<u64>(offset).expect("in bounds");
            value.store(0x1122_3344_5566_7788);
            assert_eq!(value.load(), 0x1122_3344_5566_7788);
            assert_eq!(value.len(), 8);
            assert_eq!(value.to_slice().len(), 8);
            assert_eq!(
                value.ptr_guard().as_ptr(),
                value.ptr_guard_mut().as_ptr().cast_const()
            );
        }
        assert!(memory.get_ref::<u64>(9).is_err());
    }

    #[test]
    fn store_into_read_only_memory_changes_nothing() {
        let mut backing = [7u8; 8];
        let memory = VolatileSlice::from(backing.as_mut_slice()).into_read_only();
        let value = memory.get_ref::<u64>(0).expect("in bounds");
        value.store(0);
        assert_eq!(value.load(), u64::from_ne_bytes([7; 8]));
        assert!(matches!(
            value.try_store(0),
            Err(crate::error::Error::ReadOnly { addr: 0 })
        ));
        assert_eq!(value.load(), u64::from_ne_bytes([7; 8]));
    }
}
