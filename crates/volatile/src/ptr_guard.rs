// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Raw pointers that cannot outlive their mapping by accident.

use crate::span::HostSpan;

/// A raw pointer to guest bytes for reading, bound to the lifetime of the mapping.
///
/// Keep the guard alive for as long as the pointer is used.
///
/// ```compile_fail,E0597
/// use guest_memory_volatile::VolatileSlice;
/// let guard = {
///     let mut backing = [0u8; 8];
///     VolatileSlice::from(backing.as_mut_slice()).ptr_guard()
/// };
/// assert_eq!(guard.len(), 8);
/// ```
///
/// ```
/// use guest_memory_volatile::VolatileSlice;
/// let mut backing = [0u8; 8];
/// let guard = VolatileSlice::from(backing.as_mut_slice()).ptr_guard();
/// assert_eq!(guard.len(), 8);
/// ```
#[must_use = "the pointer is only good while its guard lives"]
#[derive(Clone, Copy)]
pub struct PtrGuard<'a>(HostSpan<'a>);

impl<'a> PtrGuard<'a> {
    pub(crate) fn new(span: HostSpan<'a>) -> Self {
        Self(span)
    }

    /// Returns the host address of the first byte.
    #[inline]
    pub fn as_ptr(&self) -> *const u8 {
        self.0.base().cast_const()
    }

    /// Returns how many bytes are there, from the first one on.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Says whether there are no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A raw pointer to guest bytes for writing, bound to the lifetime of the mapping.
///
/// Writes through the pointer are not tracked: mark them in the slice's bitmap afterwards. Memory
/// that is mapped read-only must not be written; ask
/// [`VolatileSlice::is_read_only`](crate::VolatileSlice::is_read_only).
///
/// ```
/// use core::num::NonZeroUsize;
/// use guest_memory_bitmap::{AtomicBitmap, Bitmap};
/// use guest_memory_volatile::VolatileSlice;
///
/// let bitmap = AtomicBitmap::new(8, NonZeroUsize::MIN);
/// let mut backing = [0u8; 8];
/// let slice = VolatileSlice::from(backing.as_mut_slice()).replace_bitmap(bitmap.slice_at(0));
///
/// let guard = slice.ptr_guard_mut();
/// // SAFETY: there are eight bytes, and in this process nobody else uses them meanwhile.
/// unsafe { guard.as_ptr().add(3).write_volatile(7) };
/// slice.bitmap().mark_dirty(3, 1);
/// assert_eq!(slice.read_obj::<u8>(3)?, 7);
/// assert!(bitmap.dirty_at(3));
/// # Ok::<(), guest_memory_volatile::VolatileMemoryError>(())
/// ```
#[must_use = "the pointer is only good while its guard lives"]
#[derive(Clone, Copy)]
pub struct PtrGuardMut<'a>(HostSpan<'a>);

impl<'a> PtrGuardMut<'a> {
    pub(crate) fn new(span: HostSpan<'a>) -> Self {
        Self(span)
    }

    /// Returns the host address of the first byte.
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        self.0.base()
    }

    /// Returns how many bytes are there.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Says whether there are no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl core::fmt::Debug for PtrGuard<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PtrGuard({:p}, {} bytes)", self.as_ptr(), self.len())
    }
}

impl core::fmt::Debug for PtrGuardMut<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PtrGuardMut({:p}, {} bytes)", self.as_ptr(), self.len())
    }
}
