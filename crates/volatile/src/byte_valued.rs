// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Types that are nothing but their bytes.
#![expect(
    unsafe_code,
    reason = "views plain values as bytes and bytes as plain values"
)]

use core::mem::MaybeUninit;

use crate::slice::VolatileSlice;

/// A type that is nothing but its bytes, so that it can be read from memory that a guest fills.
///
/// It is implemented for integers and for arrays of such types. For your own `repr(C)` structs
/// implement it by hand, or use the feature `zerocopy`, with which `Plain<T>` needs no unsafe code.
///
/// # Safety
///
/// For the implementing type:
///
/// 1. every pattern of `size_of::<Self>()` bytes is a valid value;
/// 2. no byte of a value is padding or otherwise uninitialised;
/// 3. there is no interior mutability and no pointer or reference inside.
///
/// # Examples
///
/// ```
/// use guest_memory_volatile::ByteValued;
///
/// #[repr(C)]
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// struct Descriptor {
///     addr: u64,
///     len: u32,
///     flags: u16,
///     next: u16,
/// }
///
/// // SAFETY: `repr(C)` integers whose sizes leave no padding: 8 + 4 + 2 + 2 = 16.
/// unsafe impl ByteValued for Descriptor {}
///
/// let descriptor = Descriptor { addr: 0x1000, len: 16, flags: 0, next: 1 };
/// assert_eq!(Descriptor::from_slice(descriptor.as_slice()), Some(&descriptor));
/// ```
pub unsafe trait ByteValued: Copy + Send + Sync {
    /// Views bytes as a value; `None` if their number or alignment does not fit.
    #[inline]
    fn from_slice(data: &[u8]) -> Option<&Self> {
        let ptr = data.as_ptr().cast::<Self>();
        if data.len() != size_of::<Self>() || !ptr.is_aligned() {
            return None;
        }
        // SAFETY: aligned and of the right size by the check above; borrowed as long as `data`; any
        // bytes are a value by the contract of this trait, and none of it changes behind a
        // shared reference.
        Some(unsafe { &*ptr })
    }

    /// Views bytes as a value that can be changed; `None` if their number or alignment does not
    /// fit.
    #[inline]
    fn from_mut_slice(data: &mut [u8]) -> Option<&mut Self> {
        let ptr = data.as_mut_ptr().cast::<Self>();
        if data.len() != size_of::<Self>() || !ptr.is_aligned() {
            return None;
        }
        // SAFETY: as in `from_slice`; the exclusive borrow of `data` becomes that of the value, and
        // whatever is written through it leaves initialised bytes, since a value has no
        // padding.
        Some(unsafe { &mut *ptr })
    }

    /// Views the value as its bytes.
    #[inline]
    fn as_slice(&self) -> &[u8] {
        let ptr = core::ptr::from_ref(self).cast::<u8>();
        // SAFETY: the value's own memory, borrowed as long as the slice: valid for reads of its size, which is at most `isize::MAX`;
        // bytes need no alignment; all of them are initialised, and none changes behind a shared reference, by the contract of
        // this trait.
        unsafe { core::slice::from_raw_parts(ptr, size_of::<Self>()) }
    }

    /// Views the value as bytes that can be changed.
    #[inline]
    fn as_mut_slice(&mut self) -> &mut [u8] {
        let ptr = core::ptr::from_mut(self).cast::<u8>();
        // SAFETY: as in `as_slice`; exclusively borrowed as long as the slice, and a value whatever is written, by the contract of
        // this trait.
        unsafe { core::slice::from_raw_parts_mut(ptr, size_of::<Self>()) }
    }

    /// Views the value as volatile memory, for instance as the target of a volatile read.
    #[inline]
    fn as_bytes(&mut self) -> VolatileSlice<'_> {
        VolatileSlice::from(self.as_mut_slice())
    }

    /// Makes the value whose bytes are all zero.
    #[inline]
    fn zeroed() -> Self {
        // SAFETY: any bytes are a value by the contract of this trait, zeros among them.
        unsafe { MaybeUninit::<Self>::zeroed().assume_init() }
    }

    /// Writes the value's bytes to `writer`.
    ///
    /// # Errors
    ///
    /// Those of [`write_all`](std::io::Write::write_all).
    #[cfg(feature = "std")]
    fn write_all_to<W: std::io::Write>(&self, mut writer: W) -> Result<(), std::io::Error> {
        writer.write_all(self.as_slice())
    }

    /// Reads a value's bytes from `reader`.
    ///
    /// # Errors
    ///
    /// Those of [`read_exact`](std::io::Read::read_exact).
    #[cfg(feature = "std")]
    fn read_exact_from<R: std::io::Read>(mut reader: R) -> Result<Self, std::io::Error> {
        let mut value = Self::zeroed();
        reader.read_exact(value.as_mut_slice())?;
        Ok(value)
    }
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        // SAFETY: every bit pattern is an integer; integers have no padding and no interior mutability.
        unsafe impl ByteValued for $integer {}
    )*};
}

integers!(
    u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize
);

// SAFETY: an array is its elements without anything between them, so what holds for them holds for
// it.
unsafe impl<T: ByteValued, const N: usize> ByteValued for [T; N] {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_its_bytes_in_memory_order() {
        let mut value = 0x0102_0304_u32;
        assert_eq!(value.as_slice(), value.to_ne_bytes());
        value
            .as_mut_slice()
            .copy_from_slice(&0xaabb_ccdd_u32.to_ne_bytes());
        assert_eq!(value, 0xaabb_ccdd);
        assert_eq!(u64::zeroed(), 0);
    }

    #[test]
    fn bytes_of_wrong_size_or_alignment_are_no_value() {
        let mut store = [0u64; 2];
        let bytes = ByteValued::as_mut_slice(&mut store);
        assert_eq!(u64::from_slice(&bytes[..8]), Some(&0));
        assert_eq!(u64::from_slice(&bytes[..7]), None);
        assert_eq!(u64::from_slice(&bytes[..9]), None);
        assert_eq!(u64::from_slice(&bytes[1..9]), None);
        assert_eq!(u64::from_mut_slice(&mut bytes[2..10]), None);
        *u64::from_mut_slice(&mut bytes[8..]).expect("aligned") = 7;
        assert_eq!(store[1], 7);
    }

    #[test]
    fn arrays_of_any_length_are_values() {
        assert_eq!(<[u16; 3]>::zeroed(), [0; 3]);
        assert_eq!(<[u8; 0]>::zeroed().as_slice(), []);
        assert_eq!(ByteValued::as_slice(&[[1u8; 3]; 129]).len(), 387);
    }

    #[cfg(feature = "std")]
    #[test]
    fn a_value_travels_through_std_streams() {
        let mut out = Vec::new();
        0xdead_beef_u32
            .write_all_to(&mut out)
            .expect("a vector takes all");
        assert_eq!(
            u32::read_exact_from(out.as_slice()).expect("four bytes"),
            0xdead_beef
        );
        let short = u64::read_exact_from(out.as_slice()).expect_err("four bytes are too few");
        assert_eq!(short.kind(), std::io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn as_bytes_is_a_window_on_the_value() {
        let mut value = 1u32;
        value.as_bytes().copy_from(&[0u8; 4]);
        assert_eq!(value, 0);
    }
}
