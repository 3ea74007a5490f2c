// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A window on guest bytes.
#![expect(unsafe_code, reason = "calls the copy engine on the slice's span")]

use core::marker::PhantomData;

use guest_memory_bitmap::{BitmapSlice, WithBitmapSlice};

use crate::byte_valued::ByteValued;
use crate::copy::{self, Fault, Stuck};
use crate::error::{Error, Result};
use crate::fault::last_kind;
use crate::memory::VolatileMemory;
use crate::ptr_guard::{PtrGuard, PtrGuardMut};
use crate::span::HostSpan;

/// Mapping information that a platform may need beside the address: none here, the type only
/// carries a lifetime.
pub type MmapInfo = PhantomData<()>;

/// A window on bytes that others may write at any time, with the dirty bitmap that records our
/// writes.
///
/// Offsets into it count bytes from its start. Bytes, values, atomics and streams are read and
/// written by such offsets.
///
/// The layout is fixed: address and length first. With `B = ()` it is that of `struct iovec`, so a
/// slice of these can be given to vectored system calls. (On a read-only slice the length's top bit
/// is set and the kernel refuses it.)
///
/// # Read-only memory
///
/// A slice of memory that is mapped read-only says so ([`is_read_only`](Self::is_read_only)).
/// Writes through it that return a `Result` are an error; those that return nothing leave the bytes
/// as they are, as a ROM does.
///
/// # Pages that cannot be accessed
///
/// With the fault guard installed an access that comes to such a page stops there
/// ([`Fault`](crate::VolatileMemoryError::Fault)). Methods that return no `Result` copy what comes before it, and those that
/// return a count give that.
///
/// # Examples
///
/// ```
/// use core::num::NonZeroUsize;
/// use guest_memory_bitmap::{AtomicBitmap, Bitmap};
/// use guest_memory_volatile::VolatileSlice;
///
/// # fn main() -> Result<(), guest_memory_volatile::VolatileMemoryError> {
/// // A dirty bit for each byte.
/// let bitmap = AtomicBitmap::new(64, NonZeroUsize::MIN);
/// let mut backing = [0u8; 64];
/// let memory = VolatileSlice::from(backing.as_mut_slice()).replace_bitmap(bitmap.slice_at(0));
///
/// let (header, payload) = memory.split_at(16)?;
/// header.write_obj(0xfeed_u32, 4)?;
/// payload.write_slice(b"data", 0)?;
/// assert_eq!(memory.read_obj::<u32>(4)?, 0xfeed);
/// assert!(bitmap.dirty_at(4) && bitmap.dirty_at(19) && !bitmap.dirty_at(8));
///
/// // What does not fit is an error, and so is a write to memory that must not be written.
/// assert!(header.write_obj(0u64, 12).is_err());
/// assert!(header.into_read_only().write_obj(0u64, 0).is_err());
/// # Ok(())
/// # }
/// ```
#[repr(C)]
#[derive(Clone, Copy)]
pub struct VolatileSlice<'a, B = ()> {
    span: HostSpan<'a>,
    bitmap: B,
}

// Address and length come first, as documented.
const _: () = {
    assert!(VolatileSlice::<'_, ()>::OFFSET_OF_SPAN == 0);
    assert!(HostSpan::OFFSET_OF_BASE == 0);
    assert!(HostSpan::OFFSET_OF_LEN == size_of::<*mut u8>());
};

impl<'a> VolatileSlice<'a, ()> {
    /// Makes a slice of `size` bytes at `addr`, whose writes are not tracked.
    ///
    /// # Safety
    ///
    /// `[addr, addr + size)` must be a [valid guest range](crate#valid-guest-range) for `'a`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use guest_memory_volatile::VolatileSlice;
    ///
    /// let words = [const { AtomicU64::new(0) }; 4];
    /// // SAFETY: the words outlive the slice, are initialised, and are atomics, which others may write.
    /// let slice = unsafe { VolatileSlice::new(words.as_ptr() as *mut u8, 32) };
    /// slice.write_obj(7u64, 8)?;
    /// assert_eq!(words[1].load(Ordering::Relaxed), 7);
    /// # Ok::<(), guest_memory_volatile::VolatileMemoryError>(())
    /// ```
    #[inline]
    pub unsafe fn new(addr: *mut u8, size: usize) -> VolatileSlice<'a> {
        // SAFETY: the same contract.
        unsafe { Self::with_bitmap(addr, size, (), None) }
    }
}

impl<'a, B: BitmapSlice> VolatileSlice<'a, B> {
    /// Makes a slice of `size` bytes at `addr`, whose writes are marked in `bitmap` (offset 0 being
    /// `addr`).
    ///
    /// `_mmap` only names the lifetime; `None` will do.
    ///
    /// # Safety
    ///
    /// `[addr, addr + size)` must be a [valid guest range](crate#valid-guest-range) for `'a`.
    #[inline(always)]
    pub unsafe fn with_bitmap(
        addr: *mut u8,
        size: usize,
        bitmap: B,
        _mmap: Option<&'a MmapInfo>,
    ) -> VolatileSlice<'a, B> {
        VolatileSlice {
            // SAFETY: the same contract.
            span: unsafe { HostSpan::new(addr, size) },
            bitmap,
        }
    }

    /// Turns this into a slice that refuses writes.
    #[inline]
    pub fn into_read_only(self) -> Self {
        Self {
            span: self.span.read_only(),
            ..self
        }
    }

    /// Says whether writes are refused.
    #[inline]
    pub fn is_read_only(&self) -> bool {
        self.span.is_read_only()
    }

    /// Returns the length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.span.len()
    }

    /// Says whether the slice has no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Borrows the slice's dirty bitmap, whose offset 0 is the slice's first byte.
    #[inline]
    pub fn bitmap(&self) -> &B {
        &self.bitmap
    }

    /// Makes the writes through the slice be marked in another bitmap, whose offset 0 is the slice's first byte.
    ///
    /// The bitmap that the slice had gets no more marks from it.
    #[inline(always)]
    pub fn replace_bitmap<Other: BitmapSlice>(self, bitmap: Other) -> VolatileSlice<'a, Other> {
        VolatileSlice {
            span: self.span,
            bitmap,
        }
    }

    /// Divides the slice into `[0, mid)` and `[mid, len)`.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`](crate::VolatileMemoryError::OutOfBounds) if `mid` is past the end.
    #[inline]
    pub fn split_at(&self, mid: usize) -> Result<(Self, Self)> {
        let end = self.offset(mid)?;
        let start = self.subslice(0, mid)?;
        Ok((start, end))
    }

    /// Returns the slice `[offset, offset + count)`.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`](crate::VolatileMemoryError::OutOfBounds) or
    /// [`Overflow`](crate::VolatileMemoryError::Overflow) if it reaches past the end.
    #[inline(always)]
    pub fn subslice(&self, offset: usize, count: usize) -> Result<Self> {
        let span = self.span.sub(offset, count)?;
        Ok(VolatileSlice {
            span,
            bitmap: self.bitmap.slice_at(offset),
        })
    }

    /// Returns the slice without its first `count` bytes.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`](crate::VolatileMemoryError::OutOfBounds) if `count` is past the end.
    #[inline(always)]
    pub fn offset(&self, count: usize) -> Result<VolatileSlice<'a, B>> {
        let span = self.span.tail(count)?;
        Ok(VolatileSlice {
            span,
            bitmap: self.bitmap.slice_at(count),
        })
    }

    /// Returns a pointer for reading, bound to the mapping's lifetime.
    #[inline]
    pub fn ptr_guard(&self) -> PtrGuard<'a> {
        PtrGuard::new(self.span)
    }

    /// Returns a pointer for writing, bound to the mapping's lifetime; mark what you write through
    /// it.
    #[inline]
    pub fn ptr_guard_mut(&self) -> PtrGuardMut<'a> {
        PtrGuardMut::new(self.span)
    }

    /// Copies elements out until the slice or `buf` ends; returns how many.
    ///
    /// Bytes at the end that are no whole element stay. After a fault the count is that of the elements before it;
    /// [`try_copy_to`](Self::try_copy_to) tells why.
    #[inline]
    pub fn copy_to<T: ByteValued>(&self, buf: &mut [T]) -> usize {
        match self.try_copy_to(buf) {
            Ok(count) => count,
            Err(error) => error.completed_elements::<T>(),
        }
    }

    /// Copies elements out until the slice or `buf` ends; returns how many.
    ///
    /// # Errors
    ///
    /// [`Fault`](crate::VolatileMemoryError::Fault) if a page cannot be accessed; the bytes before it were copied.
    #[inline]
    pub fn try_copy_to<T: ByteValued>(&self, buf: &mut [T]) -> Result<usize> {
        let count = self.whole_elements::<T>(buf.len());
        let len_bytes = count.wrapping_mul(size_of::<T>());
        // SAFETY: `whole_elements` keeps `len_bytes` within the span, a valid guest range, and
        // within `buf`, exclusively borrowed; a `ByteValued` element may be overwritten
        // with any bytes.
        match unsafe { copy::from_guest(buf.as_mut_ptr().cast(), self.span.base(), len_bytes) } {
            Ok(()) => Ok(count),
            Err(fault) => Err(Error::fault(0, fault)),
        }
    }

    /// Copies elements in until the slice or `buf` ends.
    ///
    /// A read-only slice takes none, and after a page that cannot be accessed comes nothing more;
    /// [`try_copy_from`](Self::try_copy_from) tells.
    #[inline]
    pub fn copy_from<T: ByteValued>(&self, buf: &[T]) {
        // Read-only memory keeps what it has, as a ROM does.
        let _ = self.try_copy_from(buf);
    }

    /// Copies elements in until the slice or `buf` ends; returns how many.
    ///
    /// # Errors
    ///
    /// [`ReadOnly`](crate::VolatileMemoryError::ReadOnly) if the memory must not be written,
    /// [`Fault`](crate::VolatileMemoryError::Fault) if a page cannot be accessed; the bytes before it were copied.
    #[inline]
    pub fn try_copy_from<T: ByteValued>(&self, buf: &[T]) -> Result<usize> {
        self.span.check_writable(0)?;
        let count = self.whole_elements::<T>(buf.len());
        let len_bytes = count.wrapping_mul(size_of::<T>());
        // SAFETY: `whole_elements` keeps `len_bytes` within the span, writable as just checked, and
        // within `buf`, whose elements are initialised bytes without padding.
        match unsafe { copy::to_guest(self.span.base(), buf.as_ptr().cast(), len_bytes) } {
            Ok(()) => {
                self.bitmap.mark_dirty(0, len_bytes);
                Ok(count)
            }
            Err(fault) => Err(self.written_before(0, fault)),
        }
    }

    /// Copies into another slice until one of them ends; they may overlap.
    ///
    /// A read-only slice takes nothing; [`try_copy_to_volatile_slice`](Self::try_copy_to_volatile_slice) tells.
    #[inline]
    pub fn copy_to_volatile_slice<S: BitmapSlice>(&self, slice: VolatileSlice<'_, S>) {
        // Read-only memory keeps what it has, as a ROM does.
        let _ = self.try_copy_to_volatile_slice(slice);
    }

    /// Copies into another slice until one of them ends; they may overlap. Returns the number of bytes.
    ///
    /// # Atomicity
    ///
    /// Each aligned word of up to 8 bytes is read whole and written whole.
    ///
    /// # Errors
    ///
    /// [`ReadOnly`](crate::VolatileMemoryError::ReadOnly) if the target must not be written,
    /// [`Fault`](crate::VolatileMemoryError::Fault) if a page of either cannot be accessed. What was copied then are
    /// the bytes before it, but those at the end where the target begins within the source; the error counts these. In the
    /// second case some bytes right before the page may be written as well; they are marked, and not counted.
    pub fn try_copy_to_volatile_slice<S: BitmapSlice>(
        &self,
        slice: VolatileSlice<'_, S>,
    ) -> Result<usize> {
        slice.span.check_writable(0)?;
        let len_bytes = usize::min(self.len(), slice.len());
        // SAFETY: `len_bytes` is within both spans, which are valid guest ranges, the target
        // writable.
        match unsafe { copy::guest_to_guest(slice.span.base(), self.span.base(), len_bytes) } {
            Ok(()) => {
                slice.bitmap.mark_dirty(0, len_bytes);
                Ok(len_bytes)
            }
            Err(Stuck { at, done, ahead }) => {
                slice.bitmap.mark_dirty(done.start, done.len());
                slice.bitmap.mark_dirty(ahead.start, ahead.len());
                Err(Error::Fault {
                    addr: at,
                    completed: done.len(),
                    kind: last_kind(),
                })
            }
        }
    }

    /// Writes `value` to every byte of the slice.
    ///
    /// # Atomicity
    ///
    /// Each aligned word of 8 bytes is written whole.
    ///
    /// # Errors
    ///
    /// [`ReadOnly`](crate::VolatileMemoryError::ReadOnly) if the memory must not be written,
    /// [`Fault`](crate::VolatileMemoryError::Fault) if a page cannot be accessed; the bytes before it were written.
    ///
    /// # Dirty tracking
    ///
    /// All bytes that were written are marked.
    pub fn fill(&self, value: u8) -> Result<()> {
        self.span.check_writable(0)?;
        // SAFETY: the span is a valid guest range, writable as just checked.
        match unsafe { copy::fill(self.span.base(), value, self.len()) } {
            Ok(()) => {
                self.bitmap.mark_dirty(0, self.len());
                Ok(())
            }
            Err(fault) => Err(self.written_before(0, fault)),
        }
    }

    /// Writes zero to every byte of the slice; as [`fill`](Self::fill).
    ///
    /// # Errors
    ///
    /// Those of [`fill`](Self::fill).
    pub fn zero(&self) -> Result<()> {
        self.fill(0)
    }

    /// Says whether all bytes are zero; an empty slice's are.
    ///
    /// It ends at the first byte that is not, or close behind it.
    ///
    /// # Errors
    ///
    /// [`Fault`](crate::VolatileMemoryError::Fault) if a page before that cannot be accessed.
    pub fn is_zero(&self) -> Result<bool> {
        // SAFETY: the span is a valid guest range.
        unsafe { copy::is_zero(self.span.base(), self.len()) }
            .map_err(|fault| Error::fault(0, fault))
    }

    /// How many of `wanted` elements the slice has room for.
    #[inline]
    fn whole_elements<T>(&self, wanted: usize) -> usize {
        match self.len().checked_div(size_of::<T>()) {
            Some(room) => usize::min(room, wanted),
            None => wanted, // Elements without a size always fit.
        }
    }

    /// Where the span stands in a slice, in bytes.
    pub(crate) const OFFSET_OF_SPAN: usize = core::mem::offset_of!(Self, span);

    #[inline(always)]
    pub(crate) fn span(&self) -> &HostSpan<'a> {
        &self.span
    }

    /// Copies `[offset, offset + buf.len())` out.
    #[inline(always)]
    pub(crate) fn get_bytes(&self, buf: &mut [u8], offset: usize) -> Result<()> {
        let part = self.span.sub(offset, buf.len())?;
        // SAFETY: `part` is a valid guest range of `buf.len()` bytes; `buf` is exclusively
        // borrowed.
        match unsafe { copy::from_guest(buf.as_mut_ptr(), part.base(), buf.len()) } {
            Ok(()) => Ok(()),
            Err(fault) => Err(Error::fault(offset, fault)),
        }
    }

    /// Copies `buf` to `[offset, offset + buf.len())` and marks it.
    #[inline(always)]
    pub(crate) fn put_bytes(&self, buf: &[u8], offset: usize) -> Result<()> {
        let part = self.span.sub(offset, buf.len())?;
        part.check_writable(offset)?;
        // SAFETY: `part` is a valid guest range of `buf.len()` bytes, writable as just checked;
        // `buf` is borrowed.
        match unsafe { copy::to_guest(part.base(), buf.as_ptr(), buf.len()) } {
            Ok(()) => {
                self.bitmap.mark_dirty(offset, buf.len());
                Ok(())
            }
            Err(fault) => Err(self.written_before(offset, fault)),
        }
    }

    /// Marks what a write from `offset` on did before it stopped at a page, and makes its error.
    #[cold]
    #[inline(never)]
    fn written_before(&self, offset: usize, fault: Fault) -> Error {
        self.bitmap.mark_dirty(offset, fault.completed);
        Error::fault(offset, fault)
    }
}

impl<B: BitmapSlice> VolatileMemory for VolatileSlice<'_, B> {
    type B = B;

    #[inline]
    fn len(&self) -> usize {
        self.span.len()
    }

    #[inline(always)]
    fn get_slice(
        &self,
        offset: usize,
        count: usize,
    ) -> Result<VolatileSlice<'_, <B as WithBitmapSlice<'_>>::S>> {
        self.subslice(offset, count)
    }
}

impl<'a> From<&'a mut [u8]> for VolatileSlice<'a, ()> {
    /// Treats ordinary memory as volatile for as long as it is borrowed.
    fn from(bytes: &'a mut [u8]) -> Self {
        // SAFETY: the exclusive borrow keeps the bytes mapped, writable and initialised for `'a`,
        // keeps every other reference away from them, and a Rust slice is at most
        // `isize::MAX` bytes and does not wrap.
        unsafe { VolatileSlice::new(bytes.as_mut_ptr(), bytes.len()) }
    }
}

impl<B: core::fmt::Debug> core::fmt::Debug for VolatileSlice<'_, B> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("VolatileSlice")
            .field("addr", &self.span.base())
            .field("len_bytes", &self.span.len())
            .field("is_read_only", &self.span.is_read_only())
            .field("bitmap", &self.bitmap)
            .finish()
    }
}

#[cfg(test)]
mod tests;
