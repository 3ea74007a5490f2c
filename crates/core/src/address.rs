// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What an address is, whatever it is an address of.

use core::fmt::Debug;
use core::ops::{Add, BitAnd, BitOr, Not, Sub};

/// A type with a raw value that can be computed with: the part of [`Address`] that names the value's type.
pub trait AddressValue {
    /// The raw value.
    type V: Copy
        + PartialEq
        + Eq
        + PartialOrd
        + Ord
        + Not<Output = Self::V>
        + Add<Output = Self::V>
        + Sub<Output = Self::V>
        + BitAnd<Output = Self::V>
        + BitOr<Output = Self::V>
        + Debug
        + From<u8>;

    /// Returns 0.
    fn zero() -> Self::V {
        0u8.into()
    }

    /// Returns 1.
    fn one() -> Self::V {
        1u8.into()
    }
}

/// An address in some address space, in bytes.
///
/// The `checked_` methods return `None` where the result is not representable; the `unchecked_`
/// ones are for callers who know that it is, and wrap if it is not. None of them is unsafe.
///
/// ```
/// use guest_memory_core::{Address, GuestAddress};
///
/// let table = GuestAddress(0x1234);
/// assert_eq!(table.checked_align_up(0x1000), Some(GuestAddress(0x2000)));
/// assert_eq!(table.checked_add(u64::MAX), None);
/// assert_eq!(table.checked_offset_from(GuestAddress(0x1000)), Some(0x234));
/// assert_eq!(table.mask(0xfff), 0x234);
/// ```
pub trait Address:
    AddressValue
    + Sized
    + Default
    + Copy
    + Eq
    + PartialEq
    + Ord
    + PartialOrd
    + BitAnd<<Self as AddressValue>::V, Output = Self>
    + BitOr<<Self as AddressValue>::V, Output = Self>
{
    /// Makes an address of a raw value.
    fn new(addr: Self::V) -> Self;

    /// Returns the raw value.
    fn raw_value(&self) -> Self::V;

    /// Returns the bits of the address that are set in `mask`.
    #[inline]
    fn mask(&self, mask: Self::V) -> Self::V {
        self.raw_value() & mask
    }

    /// Returns the distance from `base` in bytes, or `None` if this address is below it.
    fn checked_offset_from(&self, base: Self) -> Option<Self::V>;

    /// Returns the distance from `base` in bytes, which must not be above this address; if it is, the distance wraps.
    #[inline]
    fn unchecked_offset_from(&self, base: Self) -> Self::V {
        self.unchecked_sub(base.raw_value()).raw_value()
    }

    /// Rounds up to a multiple of `power_of_two`; `None` if there is none above.
    ///
    /// # Panics
    ///
    /// If `power_of_two` is not a power of two.
    #[inline]
    fn checked_align_up(&self, power_of_two: Self::V) -> Option<Self> {
        let low_bits = low_bits::<Self>(power_of_two);
        self.checked_add(low_bits).map(|above| above & !low_bits)
    }

    /// Rounds up to a multiple of `power_of_two`, which the caller knows to exist; if there is none, the sum wraps.
    ///
    /// # Panics
    ///
    /// If `power_of_two` is not a power of two.
    #[inline]
    fn unchecked_align_up(&self, power_of_two: Self::V) -> Self {
        let low_bits = low_bits::<Self>(power_of_two);
        self.unchecked_add(low_bits) & !low_bits
    }

    /// Adds an offset; `None` on overflow.
    fn checked_add(&self, other: Self::V) -> Option<Self>;

    /// Adds an offset; wraps on overflow and says so.
    fn overflowing_add(&self, other: Self::V) -> (Self, bool);

    /// Adds an offset that the caller knows not to overflow; if it does, the sum wraps.
    fn unchecked_add(&self, offset: Self::V) -> Self;

    /// Subtracts an offset; `None` on underflow.
    fn checked_sub(&self, other: Self::V) -> Option<Self>;

    /// Subtracts an offset; wraps on underflow and says so.
    fn overflowing_sub(&self, other: Self::V) -> (Self, bool);

    /// Subtracts an offset that the caller knows not to underflow; if it does, the difference
    /// wraps.
    fn unchecked_sub(&self, other: Self::V) -> Self;
}

/// Returns the bits below a power of two.
fn low_bits<A: Address>(power_of_two: A::V) -> A::V {
    assert!(
        power_of_two != A::zero(),
        "alignment 0 is not a power of two"
    );
    let low_bits = power_of_two - A::one();
    assert!(
        power_of_two & low_bits == A::zero(),
        "alignment {power_of_two:?} is not a power of two"
    );
    low_bits
}
