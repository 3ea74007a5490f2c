// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A window on an array of values in guest memory.

#![expect(unsafe_code, reason = "an unsafe constructor")]

use core::marker::PhantomData;

use guest_memory_bitmap::BitmapSlice;

use crate::byte_valued::ByteValued;
use crate::error::{Error, Result};
use crate::ptr_guard::{PtrGuard, PtrGuardMut};
use crate::reference::VolatileRef;
use crate::slice::{MmapInfo, VolatileSlice};

/// A window on values that lie one after the other in guest memory, not necessarily aligned.
///
/// Indices and [`len`](Self::len) count elements, not bytes.
///
/// # Atomicity
///
/// An element of 1, 2, 4 or 8 bytes at an address aligned to its size is moved whole; the array is
/// not.
///
/// # Examples
///
/// ```
/// use guest_memory_volatile::{VolatileMemory, VolatileMemoryError, VolatileSlice};
///
/// let mut backing = [0u8; 64];
/// let memory = VolatileSlice::from(backing.as_mut_slice());
/// // Eight indices from offset 4 on.
/// let ring = memory.get_array_ref::<u16>(4, 8)?;
/// ring.store(3, 0xbeef);
/// assert_eq!((ring.len(), ring.load(3)), (8, 0xbeef));
/// assert_eq!(memory.read_obj::<u16>(4 + 2 * 3)?, 0xbeef);
///
/// // An index that a guest gave.
/// assert!(matches!(ring.try_load(8), Err(VolatileMemoryError::OutOfBounds { addr: 8 })));
/// # Ok::<(), VolatileMemoryError>(())
/// ```
#[derive(Clone, Copy)]
pub struct VolatileArrayRef<'a, T, B = ()> {
    /// # Invariants
    ///
    /// Has `element_count * size_of::<T>()` bytes.
    slice: VolatileSlice<'a, B>,
    element_count: usize,
    element: PhantomData<T>,
}

impl<T: ByteValued> VolatileArrayRef<'_, T, ()> {
    /// Makes a window on `nelem` values from `addr` on, whose writes are not tracked.
    ///
    /// # Safety
    ///
    /// `[addr, addr + nelem * size_of::<T>())` must be a [valid guest
    /// range](crate#valid-guest-range) for the window's lifetime; in particular the product
    /// does not overflow.
    pub unsafe fn new(addr: *mut u8, nelem: usize) -> Self {
        // SAFETY: the same contract.
        unsafe { Self::with_bitmap(addr, nelem, (), None) }
    }
}

impl<'a, T: ByteValued, B: BitmapSlice> VolatileArrayRef<'a, T, B> {
    /// Makes a window on `nelem` values from `addr` on, whose writes are marked in `bitmap` (offset 0 being `addr`).
    ///
    /// `mmap` only names the lifetime; `None` will do.
    ///
    /// # Safety
    ///
    /// `[addr, addr + nelem * size_of::<T>())` must be a [valid guest
    /// range](crate#valid-guest-range) for `'a`; in particular the product does not overflow.
    pub unsafe fn with_bitmap(
        addr: *mut u8,
        nelem: usize,
        bitmap: B,
        mmap: Option<&'a MmapInfo>,
    ) -> Self {
        let len_bytes = nelem.wrapping_mul(size_of::<T>());
        // SAFETY: the same contract; it says that the product does not wrap.
        Self::over(
            unsafe { VolatileSlice::with_bitmap(addr, len_bytes, bitmap, mmap) },
            nelem,
        )
    }

    /// Makes a window over a slice that its maker knows to have the size of the elements.
    #[inline]
    pub(crate) fn over(slice: VolatileSlice<'a, B>, element_count: usize) -> Self {
        assert_eq!(
            Some(slice.len()),
            element_count.checked_mul(size_of::<T>()),
            "the slice is checked before"
        );
        Self {
            slice,
            element_count,
            element: PhantomData,
        }
    }

    /// Returns the number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.element_count
    }

    /// Says whether there are no elements.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.element_count == 0
    }

    /// Returns the size of one element, in bytes.
    #[inline]
    pub fn element_size(&self) -> usize {
        size_of::<T>()
    }

    /// Borrows the dirty bitmap, whose offset 0 is the first element's first byte.
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

    /// Returns the elements' bytes as a slice.
    #[inline]
    pub fn to_slice(&self) -> VolatileSlice<'a, B> {
        self.slice.clone()
    }

    /// Returns a window on one element.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`len`](Self::len); for an index that a guest gave use
    /// [`try_ref_at`](Self::try_ref_at).
    #[inline]
    #[expect(
        clippy::expect_used,
        reason = "documented; the fallible form is `try_ref_at`"
    )]
    pub fn ref_at(&self, index: usize) -> VolatileRef<'a, T, B> {
        self.try_ref_at(index).expect("index is in bounds")
    }

    /// Returns a window on one element.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] with the index if it is not below [`len`](Self::len).
    #[inline]
    pub fn try_ref_at(&self, index: usize) -> Result<VolatileRef<'a, T, B>> {
        if index >= self.element_count {
            return Err(Error::OutOfBounds { addr: index });
        }
        // Below the slice's length, hence no overflow.
        let at = index.wrapping_mul(size_of::<T>());
        Ok(VolatileRef::over(self.slice.subslice(at, size_of::<T>())?))
    }

    /// Reads one element.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`len`](Self::len).
    #[inline]
    pub fn load(&self, index: usize) -> T {
        self.ref_at(index).load()
    }

    /// Reads one element.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] with the index if it is not below [`len`](Self::len), [`Error::Fault`] if its page cannot
    /// be accessed.
    #[inline]
    pub fn try_load(&self, index: usize) -> Result<T> {
        self.try_ref_at(index)?.try_load()
    }

    /// Writes one element and marks it; in read-only memory nothing changes.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`len`](Self::len).
    #[inline]
    pub fn store(&self, index: usize, value: T) {
        self.ref_at(index).store(value);
    }

    /// Writes one element and marks it.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] with the index if it is not below [`len`](Self::len), [`Error::ReadOnly`] if the memory
    /// must not be written, [`Error::Fault`] if its page cannot be accessed.
    #[inline]
    pub fn try_store(&self, index: usize, value: T) -> Result<()> {
        self.try_ref_at(index)?.try_store(value)
    }

    /// Copies elements out until the array or `buf` ends; returns how many, which are those before a page that cannot be
    /// accessed.
    #[inline]
    pub fn copy_to(&self, buf: &mut [T]) -> usize {
        let count = usize::min(self.element_count, buf.len());
        match buf.get_mut(..count) {
            Some(wanted) => self.slice.copy_to(wanted),
            None => 0,
        }
    }

    /// Copies the elements' bytes into a slice until one of them ends, and marks them there.
    ///
    /// A read-only slice takes nothing, and after a page that cannot be accessed comes nothing more;
    /// [`VolatileSlice::try_copy_to_volatile_slice`] tells.
    #[inline]
    pub fn copy_to_volatile_slice<S: BitmapSlice>(&self, slice: VolatileSlice<'_, S>) {
        self.slice.copy_to_volatile_slice(slice);
    }

    /// Copies elements in until the array or `buf` ends, and marks them; read-only memory takes none, and after a page that cannot
    /// be accessed comes nothing more.
    #[inline]
    pub fn copy_from(&self, buf: &[T]) {
        self.slice.copy_from(buf);
    }
}

impl<'a, B: BitmapSlice> From<VolatileSlice<'a, B>> for VolatileArrayRef<'a, u8, B> {
    fn from(slice: VolatileSlice<'a, B>) -> Self {
        let len = slice.len();
        Self::over(slice, len)
    }
}

impl<T, B: core::fmt::Debug> core::fmt::Debug for VolatileArrayRef<'_, T, B> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("VolatileArrayRef")
            .field("slice", &self.slice)
            .field("element_count", &self.element_count)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::VolatileMemory;

    #[test]
    fn elements_are_found_at_their_place() {
        let mut backing = [0u8; 17];
        let memory = VolatileSlice::from(backing.as_mut_slice());
        let array = memory.get_array_ref::<u32>(1, 4).expect("in bounds");
        array.copy_from(&[1, 2, 3, 4, 5]);
        assert_eq!(
            (array.len(), array.element_size(), array.is_empty()),
            (4, 4, false)
        );
        assert_eq!((array.load(0), array.load(3)), (1, 4));
        array.store(1, 9);
        let mut out = [0u32; 6];
        assert_eq!(array.copy_to(&mut out), 4);
        assert_eq!(out, [1, 9, 3, 4, 0, 0]);
        array.try_store(2, 8).expect("in bounds");
        assert_eq!(array.load(2), 8);
        assert!(array.try_store(4, 8).is_err());
        array.store(2, 3);
        assert!(matches!(
            array.try_ref_at(4),
            Err(Error::OutOfBounds { addr: 4 })
        ));
    }

    #[test]
    fn an_array_that_does_not_fit_is_refused() {
        let mut backing = [0u8; 16];
        let memory = VolatileSlice::from(backing.as_mut_slice());
        assert!(matches!(
            memory.get_array_ref::<u64>(1, 2),
            Err(Error::OutOfBounds { addr: 17 })
        ));
        assert!(matches!(
            memory.get_array_ref::<u64>(0, usize::MAX / 4),
            Err(Error::TooBig { size: 8, .. })
        ));
    }

    #[test]
    fn elements_without_a_size_make_no_trouble() {
        let mut backing = [0u8; 4];
        let memory = VolatileSlice::from(backing.as_mut_slice());
        let array = memory
            .get_array_ref::<[u8; 0]>(0, 3)
            .expect("no bytes are in bounds");
        assert_eq!(array.copy_to(&mut [[]; 5]), 3);
        array.copy_from(&[[]; 5]);
        assert_eq!(array.load(2), []);
    }

    #[test]
    #[should_panic(expected = "index is in bounds")]
    fn load_past_the_end_panics() {
        let mut backing = [0u8; 4];
        let memory = VolatileSlice::from(backing.as_mut_slice());
        memory
            .get_array_ref::<u16>(0, 2)
            .expect("in bounds")
            .load(2);
    }

    #[test]
    fn bytes_go_from_an_array_to_a_slice() {
        let (mut from, mut to) = ([1u8, 2, 3, 4], [0u8; 3]);
        let array = VolatileArrayRef::from(VolatileSlice::from(from.as_mut_slice()));
        array.copy_to_volatile_slice(VolatileSlice::from(to.as_mut_slice()));
        assert_eq!(to, [1, 2, 3]);
    }
}
