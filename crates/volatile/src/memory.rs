// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What can hand out windows on itself.
#![expect(
    unsafe_code,
    reason = "lays atomics and, where the caller vouches for it, values over guest memory"
)]

use guest_memory_bitmap::{BS, Bitmap};

use crate::array::VolatileArrayRef;
use crate::atomic_integer::AtomicInteger;
use crate::byte_valued::ByteValued;
use crate::error::{Error, Result};
use crate::reference::VolatileRef;
use crate::slice::VolatileSlice;
use crate::span::HostSpan;

/// Adds an offset, or says that the sum is not representable.
///
/// # Errors
///
/// [`Error::Overflow`] if `base + offset` exceeds `usize::MAX`.
#[inline]
pub fn compute_offset(base: usize, offset: usize) -> Result<usize> {
    base.checked_add(offset)
        .ok_or(Error::Overflow { base, offset })
}

/// A container of bytes that others may write, which hands out windows on itself.
///
/// Offsets and lengths are in bytes from the container's start. To implement it give [`len`](Self::len) and
/// [`get_slice`](Self::get_slice); an offset at the end with a length of 0 is in the container.
///
/// The trait is safe to implement and hence not trusted: a window of another length than asked for
/// is an error ([`Error::SliceLength`]) in the methods that rely on it.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::AtomicU64;
/// use guest_memory_volatile::{VolatileMemory, VolatileMemoryResult, VolatileSlice};
///
/// /// Words that devices share.
/// struct Words([AtomicU64; 8]);
///
/// impl VolatileMemory for Words {
///     type B = ();
///
///     fn len(&self) -> usize {
///         size_of_val(&self.0)
///     }
///
///     fn get_slice(&self, offset: usize, count: usize) -> VolatileMemoryResult<VolatileSlice<'_>> {
///         // SAFETY: the words live as long as `self`, are initialised, and are atomics, which others may write.
///         unsafe { VolatileSlice::new(self.0.as_ptr() as *mut u8, self.len()) }.subslice(offset, count)
///     }
/// }
///
/// let words = Words([const { AtomicU64::new(0) }; 8]);
/// words.get_ref::<u16>(10)?.store(7);
/// assert_eq!(words.get_array_ref::<u16>(8, 2)?.load(1), 7);
/// assert!(words.get_slice(60, 5).is_err());
/// # Ok::<(), guest_memory_volatile::VolatileMemoryError>(())
/// ```
pub trait VolatileMemory {
    /// The dirty bitmap that windows mark.
    type B: Bitmap;

    /// Returns the size in bytes.
    fn len(&self) -> usize;

    /// Says whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a window on `[offset, offset + count)`.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] or [`Error::Overflow`] if the range reaches past the end.
    fn get_slice(&self, offset: usize, count: usize) -> Result<VolatileSlice<'_, BS<'_, Self::B>>>;

    /// Returns a window on everything.
    ///
    /// # Panics
    ///
    /// If the implementation refuses a window on `[0, len)`.
    #[expect(
        clippy::expect_used,
        reason = "the implementation contradicts itself; documented"
    )]
    fn as_volatile_slice(&self) -> VolatileSlice<'_, BS<'_, Self::B>> {
        self.get_slice(0, self.len())
            .expect("memory has a window on all of itself")
    }

    /// Returns a window on one value at `offset`, which need not be aligned.
    ///
    /// # Errors
    ///
    /// Those of [`get_slice`](Self::get_slice).
    #[inline]
    fn get_ref<T: ByteValued>(&self, offset: usize) -> Result<VolatileRef<'_, T, BS<'_, Self::B>>> {
        let slice = exact_slice(self, offset, size_of::<T>())?;
        Ok(VolatileRef::over(slice))
    }

    /// Returns a window on `n` values from `offset` on, which need not be aligned.
    ///
    /// # Errors
    ///
    /// [`Error::TooBig`] if their size is not representable, and those of
    /// [`get_slice`](Self::get_slice).
    #[inline]
    fn get_array_ref<T: ByteValued>(
        &self,
        offset: usize,
        n: usize,
    ) -> Result<VolatileArrayRef<'_, T, BS<'_, Self::B>>> {
        let size = size_of::<T>();
        let len_bytes = n
            .checked_mul(size)
            .ok_or(Error::TooBig { nelements: n, size })?;
        let slice = exact_slice(self, offset, len_bytes)?;
        Ok(VolatileArrayRef::over(slice, n))
    }

    /// Returns a reference to a value at `offset`.
    ///
    /// # Safety
    ///
    /// While the reference lives nobody may write these bytes: no guest, no device, no other
    /// thread.
    ///
    /// # Errors
    ///
    /// [`Error::Misaligned`] if the host address is not aligned for `T`, and those of
    /// [`get_slice`](Self::get_slice).
    unsafe fn aligned_as_ref<T: ByteValued>(&self, offset: usize) -> Result<&T> {
        let slice = exact_slice(self, offset, size_of::<T>())?;
        let ptr = slice.span().aligned::<T>()?;
        // SAFETY: aligned as just checked; the slice has `size_of::<T>()` initialised bytes that
        // stay mapped as long as `self` is borrowed; any bytes are a `T`; the caller keeps
        // writers away.
        Ok(unsafe { &*ptr })
    }

    /// Returns a reference to a value at `offset` that can be changed; what is written is not
    /// tracked.
    ///
    /// # Safety
    ///
    /// While the reference lives nobody else may read or write these bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Misaligned`] if the host address is not aligned for `T`, [`Error::ReadOnly`] if the
    /// memory must not be written, and those of [`get_slice`](Self::get_slice).
    #[expect(
        clippy::mut_from_ref,
        reason = "exclusiveness is what the caller vouches for"
    )]
    unsafe fn aligned_as_mut<T: ByteValued>(&self, offset: usize) -> Result<&mut T> {
        let slice = exact_slice(self, offset, size_of::<T>())?;
        slice.span().check_writable(offset)?;
        let ptr = slice.span().aligned::<T>()?;
        // SAFETY: as in `aligned_as_ref`; writable as just checked; the caller keeps everybody else
        // away.
        Ok(unsafe { &mut *ptr })
    }

    /// Returns a reference to an atomic at `offset`, for operations that a slice does not have.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// # use guest_memory_volatile::{ByteValued, VolatileMemory};
    ///
    /// # #[repr(align(8))]
    /// # struct Words([u64; 2]);
    /// # let mut words = Words([5; 2]);
    /// # let memory = words.0.as_bytes();
    /// # memory.write_obj(5u32, 4)?;
    /// let highest = memory.get_atomic_ref::<AtomicU32>(4)?;
    /// assert_eq!(highest.fetch_max(9, Ordering::Relaxed), 5);
    /// assert_eq!(memory.read_obj::<u32>(4)?, 9);
    /// # Ok::<(), guest_memory_volatile::VolatileMemoryError>(())
    /// ```
    ///
    /// Accesses through the reference are the language's own: see [mixed sizes](crate#mixed-sizes), and no
    /// fault guard watches them.
    ///
    /// # Dirty tracking
    ///
    /// The bytes are marked dirty now, since what is done through the reference cannot be seen. A
    /// reference that is used again after the dirty bitmap was harvested must be asked for
    /// anew, or the caller marks.
    ///
    /// # Errors
    ///
    /// [`Error::Misaligned`] if the host address is not aligned for `T`, [`Error::ReadOnly`] if the
    /// memory must not be written, and those of [`get_slice`](Self::get_slice).
    fn get_atomic_ref<T: AtomicInteger>(&self, offset: usize) -> Result<&T> {
        let slice = exact_slice(self, offset, size_of::<T>())?;
        slice.span().check_writable(offset)?;
        let atomic = atomic_at(slice.span())?;
        slice.bitmap().mark_dirty(0, size_of::<T>());
        Ok(atomic)
    }

    /// Returns `base + offset`, in bytes, if it is at most the size: the end of a range is past its last byte.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if it is past the end, [`Error::Overflow`] if it is not
    /// representable.
    #[inline]
    fn compute_end_offset(&self, base: usize, offset: usize) -> Result<usize> {
        let end = compute_offset(base, offset)?;
        if end > self.len() {
            return Err(Error::OutOfBounds { addr: end });
        }
        Ok(end)
    }
}

/// Asks for a window and checks that it has the length asked for.
#[inline(always)]
fn exact_slice<M: VolatileMemory + ?Sized>(
    memory: &M,
    offset: usize,
    count: usize,
) -> Result<VolatileSlice<'_, BS<'_, M::B>>> {
    let slice = memory.get_slice(offset, count)?;
    if slice.len() != count {
        return Err(Error::SliceLength {
            expected: count,
            actual: slice.len(),
        });
    }
    Ok(slice)
}

/// Lays an atomic over a span, which must have its size.
#[inline(always)]
fn atomic_at<'a, T: AtomicInteger>(span: &HostSpan<'a>) -> Result<&'a T> {
    if span.len() != size_of::<T>() {
        return Err(Error::OutOfBounds { addr: span.len() });
    }
    let ptr = span.aligned::<T>()?;
    // SAFETY: aligned and of the right size as just checked; in a valid guest range for `'a`, where
    // references to atomics are allowed; any bytes are a valid `T` by the contract of
    // `AtomicInteger`.
    Ok(unsafe { &*ptr })
}
