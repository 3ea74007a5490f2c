// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Atomic access to little-endian fields, such as the indices of a ring.

use core::sync::atomic::Ordering;

use guest_memory_bitmap::BitmapSlice;

use crate::atomic_access::AtomicAccess;
use crate::error::Result;
use crate::slice::VolatileSlice;

mod sealed {
    pub trait Sealed {}
}

/// An unsigned integer that a guest keeps in little-endian order: `u16`, `u32` or `u64`.
// The types `Le16` and so on are not atomics themselves: an atomic's value is the host's, and a sum made of swapped
// bytes would be wrong.
pub trait LittleEndian: AtomicAccess + sealed::Sealed {
    /// Swaps the bytes if the host is big-endian.
    #[must_use]
    fn swap_unless_little(self) -> Self;
}

macro_rules! little_endian {
    ($($integer:ty)*) => {$(
        impl sealed::Sealed for $integer {}

        impl LittleEndian for $integer {
            #[inline(always)]
            fn swap_unless_little(self) -> Self {
                self.to_le()
            }
        }
    )*};
}

little_endian! { u16 u32 u64 }

/// Fields of a structure that is shared with the guest. A slice of the structure, taken once, is a window whose fields
/// are then a comparison and one access away.
///
/// ```
/// use core::sync::atomic::Ordering;
/// use guest_memory_volatile::VolatileSlice;
///
/// # let mut words = [0u64; 2];
/// # let bytes = guest_memory_volatile::ByteValued::as_mut_slice(&mut words);
/// let ring = VolatileSlice::from(bytes);
/// let index: u16 = ring.load_le(2, Ordering::Acquire)?;
/// ring.store_le(index.wrapping_add(1), 2, Ordering::Release)?;
/// # let mut stored = [0; 4];
/// # ring.read_slice(&mut stored, 0)?;
/// # assert_eq!(stored, [0, 0, 1, 0]);
/// # Ok::<(), guest_memory_volatile::VolatileMemoryError>(())
/// ```
impl<B: BitmapSlice> VolatileSlice<'_, B> {
    /// Loads a little-endian value atomically.
    ///
    /// # Errors
    ///
    /// Those of [`load`](Self::load).
    ///
    /// # Panics
    ///
    /// If `order` is not one that a load can have.
    #[inline(always)]
    pub fn load_le<T: LittleEndian>(&self, addr: usize, order: Ordering) -> Result<T> {
        match self.load::<T>(addr, order) {
            Ok(value) => Ok(value.swap_unless_little()),
            Err(error) => Err(error),
        }
    }

    /// Stores a value atomically, in little-endian order.
    ///
    /// # Errors
    ///
    /// Those of [`store`](Self::store).
    ///
    /// # Panics
    ///
    /// If `order` is not one that a store can have.
    ///
    /// # Dirty tracking
    ///
    /// The bytes are marked.
    #[inline(always)]
    pub fn store_le<T: LittleEndian>(&self, val: T, addr: usize, order: Ordering) -> Result<()> {
        self.store(val.swap_unless_little(), addr, order)
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroUsize;

    use guest_memory_bitmap::{AtomicBitmap, Bitmap};

    use super::*;
    use crate::aligned::Aligned;
    use crate::byte_valued::ByteValued;
    use crate::error::Error;

    fn check<T: LittleEndian + PartialEq + core::fmt::Debug>(value: T, expected: &[u8]) {
        let mut words = Aligned([u64::MAX; 3]);
        let base = words.0.as_mut_ptr().cast();
        let bitmap = AtomicBitmap::new(24, NonZeroUsize::MIN);
        // SAFETY: the words are borrowed for as long as the slice and touched through it alone.
        #[expect(unsafe_code, reason = "a slice over the test's own words")]
        let slice = unsafe { VolatileSlice::with_bitmap(base, 24, bitmap.slice_at(0), None) };
        let size = size_of::<T>();
        slice.store_le(value, 8, Ordering::Release).expect("fits");
        let mut stored = [0; 8];
        slice.read_slice(&mut stored[..size], 8).expect("fits");
        assert_eq!(&stored[..size], expected);
        let loaded = slice.load_le::<T>(8, Ordering::Acquire);
        assert_eq!(loaded.expect("fits"), value);
        for offset in 0..24 {
            let is_written = (8..8 + size).contains(&offset);
            assert_eq!(bitmap.dirty_at(offset), is_written, "{offset}");
            let around = slice.read_obj::<u8>(offset).expect("fits");
            assert!(is_written || around == 0xff, "{offset}");
        }
        let misaligned = slice.load_le::<T>(9, Ordering::Acquire);
        assert!(matches!(misaligned, Err(Error::Misaligned { .. })));
        let past_end = slice.store_le(value, 24, Ordering::Release);
        assert!(matches!(past_end, Err(Error::OutOfBounds { .. })));
    }

    #[test]
    fn fields_lie_in_little_endian_order_and_are_marked() {
        check(0x0102u16, &[2, 1]);
        check(0x0102_0304u32, &[4, 3, 2, 1]);
        check(0x0102_0304_0506_0708u64, &[8, 7, 6, 5, 4, 3, 2, 1]);
    }

    #[test]
    fn fields_of_read_only_memory_are_loaded_and_not_stored() {
        let mut words = Aligned([1u64.to_le()]);
        let slice = VolatileSlice::from(ByteValued::as_mut_slice(&mut words.0)).into_read_only();
        assert_eq!(slice.load_le::<u64>(0, Ordering::SeqCst).expect("fits"), 1);
        let refused = slice.store_le(2u64, 0, Ordering::SeqCst);
        assert!(matches!(refused, Err(Error::ReadOnly { addr: 0 })));
        assert_eq!(slice.load_le::<u64>(0, Ordering::SeqCst).expect("fits"), 1);
    }
}
