// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Access to a slice that succeeds whole or says nothing: the short path of all others.
//!
//! Without an error to make, a caller that goes another way after a failure keeps the slice and the value in registers.
#![expect(unsafe_code, reason = "moves bytes through the copy engine")]

use guest_memory_bitmap::BitmapSlice;

use crate::byte_valued::ByteValued;
use crate::copy;
use crate::slice::VolatileSlice;

impl<B: BitmapSlice> VolatileSlice<'_, B> {
    /// Reads an object from `addr`, as [`read_obj`](Self::read_obj); `None` if it cannot, for whatever reason.
    #[inline(always)]
    pub fn peek<T: ByteValued>(&self, addr: usize) -> Option<T> {
        let source = self.span().sub(addr, size_of::<T>()).ok()?;
        // SAFETY: the span has the value's size and is a valid guest range; any bytes are a `T` by the contract of
        // `ByteValued`.
        unsafe { copy::read(source.base()) }.ok()
    }

    /// Writes an object to `addr`, as [`write_obj`](Self::write_obj); `false` if it cannot, for whatever reason.
    ///
    /// After a fault the bytes before it may have been written; they are marked.
    #[inline(always)]
    pub fn poke<T: ByteValued>(&self, val: T, addr: usize) -> bool {
        let Ok(target) = self.span().sub(addr, size_of::<T>()) else {
            return false;
        };
        if target.is_read_only() {
            return false;
        }
        // SAFETY: the span has the value's size and is a valid guest range that may be written; a `ByteValued` has no
        // padding.
        match unsafe { copy::write(target.base(), val) } {
            Ok(()) => {
                self.bitmap().mark_dirty(addr, size_of::<T>());
                true
            }
            Err(fault) => self.clone().stopped(addr, fault),
        }
    }

    /// Fills all of `buf` from `addr`, as [`read_slice`](Self::read_slice); `false` if it cannot, for whatever reason.
    ///
    /// Bytes before a fault may have been read.
    #[inline(always)]
    pub fn peek_slice(&self, buf: &mut [u8], addr: usize) -> bool {
        let Ok(source) = self.span().sub(addr, buf.len()) else {
            return false;
        };
        // SAFETY: the span has the buffer's length and is a valid guest range; the buffer is exclusively borrowed.
        unsafe { copy::from_guest(buf.as_mut_ptr(), source.base(), buf.len()) }.is_ok()
    }

    /// Writes all of `buf` to `addr`, as [`write_slice`](Self::write_slice); `false` if it cannot, for whatever reason.
    ///
    /// After a fault the bytes before it may have been written; they are marked.
    #[inline(always)]
    pub fn poke_slice(&self, buf: &[u8], addr: usize) -> bool {
        let Ok(target) = self.span().sub(addr, buf.len()) else {
            return false;
        };
        if target.is_read_only() {
            return false;
        }
        // SAFETY: the span has the buffer's length and is a valid guest range that may be written; the buffer is
        // borrowed.
        match unsafe { copy::to_guest(target.base(), buf.as_ptr(), buf.len()) } {
            Ok(()) => {
                self.bitmap().mark_dirty(addr, buf.len());
                true
            }
            Err(fault) => self.clone().stopped(addr, fault),
        }
    }

    /// Marks what a write from `addr` on did before it stopped at a page; returns that it stopped.
    ///
    /// Takes the slice by value: one whose address is given away is kept in memory in the good case as well.
    #[cold]
    #[inline(never)]
    fn stopped(self, addr: usize, fault: copy::Fault) -> bool {
        self.bitmap().mark_dirty(addr, fault.completed);
        false
    }
}
