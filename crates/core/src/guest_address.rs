// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The two kinds of address: in the guest, and in a region.

use core::fmt;
use core::ops::{BitAnd, BitOr};

use crate::address::{Address, AddressValue};

/// Size or offset in guest memory, in bytes.
pub type GuestUsize = <GuestAddress as AddressValue>::V;

macro_rules! addresses {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl AddressValue for $name {
            type V = u64;
        }

        impl Address for $name {
            #[inline]
            fn new(addr: u64) -> Self {
                Self(addr)
            }

            #[inline]
            fn raw_value(&self) -> u64 {
                self.0
            }

            #[inline]
            fn checked_offset_from(&self, base: Self) -> Option<u64> {
                self.0.checked_sub(base.0)
            }

            #[inline]
            fn checked_add(&self, other: u64) -> Option<Self> {
                self.0.checked_add(other).map(Self)
            }

            #[inline]
            fn overflowing_add(&self, other: u64) -> (Self, bool) {
                let (sum, overflowed) = self.0.overflowing_add(other);
                (Self(sum), overflowed)
            }

            #[inline]
            fn unchecked_add(&self, offset: u64) -> Self {
                Self(self.0.wrapping_add(offset))
            }

            #[inline]
            fn checked_sub(&self, other: u64) -> Option<Self> {
                self.0.checked_sub(other).map(Self)
            }

            #[inline]
            fn overflowing_sub(&self, other: u64) -> (Self, bool) {
                let (difference, overflowed) = self.0.overflowing_sub(other);
                (Self(difference), overflowed)
            }

            #[inline]
            fn unchecked_sub(&self, other: u64) -> Self {
                Self(self.0.wrapping_sub(other))
            }
        }

        impl BitAnd<u64> for $name {
            type Output = Self;

            #[inline]
            fn bitand(self, other: u64) -> Self {
                Self(self.0 & other)
            }
        }

        impl BitOr<u64> for $name {
            type Output = Self;

            #[inline]
            fn bitor(self, other: u64) -> Self {
                Self(self.0 | other)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }

        /// Shows the address in hexadecimal, as in `0x1000`.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    )*};
}

addresses! {
    /// A guest-physical address (GPA), in bytes.
    GuestAddress;
    /// An offset from the start of a region, in bytes.
    MemoryRegionAddress;
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: GuestAddress = GuestAddress(u64::MAX);

    #[test]
    fn sums_and_differences_stop_at_the_ends() {
        assert_eq!(GuestAddress(5).checked_add(3), Some(GuestAddress(8)));
        assert_eq!(LAST.checked_add(1), None);
        assert_eq!(LAST.overflowing_add(2), (GuestAddress(1), true));
        assert_eq!(LAST.unchecked_add(1), GuestAddress(0));
        assert_eq!(GuestAddress(5).checked_sub(6), None);
        assert_eq!(GuestAddress(5).overflowing_sub(6), (LAST, true));
        assert_eq!(
            GuestAddress(5).checked_offset_from(GuestAddress(2)),
            Some(3)
        );
        assert_eq!(GuestAddress(2).checked_offset_from(GuestAddress(5)), None);
        assert_eq!(GuestAddress(5).unchecked_offset_from(GuestAddress(2)), 3);
    }

    #[test]
    fn alignment_rounds_up_or_finds_nothing_above() {
        assert_eq!(
            GuestAddress(0x1001).checked_align_up(0x1000),
            Some(GuestAddress(0x2000))
        );
        assert_eq!(
            GuestAddress(0x1000).checked_align_up(0x1000),
            Some(GuestAddress(0x1000))
        );
        assert_eq!(GuestAddress(7).checked_align_up(1), Some(GuestAddress(7)));
        assert_eq!(LAST.checked_align_up(2), None);
        assert_eq!(
            GuestAddress(0x1001).unchecked_align_up(0x10),
            GuestAddress(0x1010)
        );
    }

    #[test]
    #[should_panic(expected = "not a power of two")]
    fn alignment_to_no_power_of_two_panics() {
        GuestAddress(1).checked_align_up(3);
    }

    #[test]
    fn bits_are_masked_and_added() {
        assert_eq!(MemoryRegionAddress(0x1234).mask(0xff), 0x34);
        assert_eq!(
            MemoryRegionAddress(0x1234) & 0xff00,
            MemoryRegionAddress(0x1200)
        );
        assert_eq!(
            MemoryRegionAddress(0x1200) | 0x34,
            MemoryRegionAddress(0x1234)
        );
    }

    #[test]
    fn addresses_are_shown_in_hexadecimal() {
        assert_eq!(GuestAddress(0xfee0).to_string(), "0xfee0");
        assert_eq!(format!("{:#010x}", GuestAddress(0xfee0)), "0x0000fee0");
    }
}
