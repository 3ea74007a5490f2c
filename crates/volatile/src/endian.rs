// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Integers whose bytes in memory have a fixed order, whatever the host's.
//!
//! Device structures of virtio and friends are little-endian, network headers big-endian. These
//! types hold the bytes in that order and convert when asked:
//!
//! ```
//! use guest_memory_volatile::{ByteValued, Le32};
//!
//! let value = Le32::from(0x0102_0304);
//! assert_eq!(value.as_slice(), [4, 3, 2, 1]);
//! assert_eq!(value.to_native(), 0x0102_0304);
//! assert!(value == 0x0102_0304);
//! ```
#![expect(unsafe_code, reason = "vouches that wrapped integers are plain bytes")]

use crate::byte_valued::ByteValued;

macro_rules! endian {
    ($($name:ident, $integer:ident, $to:ident, $from:ident, $order:literal;)*) => {$(
        #[doc = concat!("A `", stringify!($integer), "` whose bytes are in ", $order, "-endian order.")]
        #[repr(transparent)]
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
        pub struct $name($integer);

        impl $name {
            /// Returns the value in the host's byte order.
            #[inline]
            pub const fn to_native(self) -> $integer {
                $integer::$from(self.0)
            }
        }

        // SAFETY: transparent around an integer, which is plain bytes.
        unsafe impl ByteValued for $name {}

        impl From<$integer> for $name {
            #[inline]
            fn from(value: $integer) -> Self {
                Self(value.$to())
            }
        }

        impl From<$name> for $integer {
            #[inline]
            fn from(value: $name) -> Self {
                value.to_native()
            }
        }

        impl PartialEq<$integer> for $name {
            #[inline]
            fn eq(&self, other: &$integer) -> bool {
                self.to_native() == *other
            }
        }

        impl PartialEq<$name> for $integer {
            #[inline]
            fn eq(&self, other: &$name) -> bool {
                *self == other.to_native()
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.to_native()).finish()
            }
        }
    )*};
}

endian! {
    Le16, u16, to_le, from_le, "little";
    Le32, u32, to_le, from_le, "little";
    Le64, u64, to_le, from_le, "little";
    LeSize, usize, to_le, from_le, "little";
    Be16, u16, to_be, from_be, "big";
    Be32, u32, to_be, from_be, "big";
    Be64, u64, to_be, from_be, "big";
    BeSize, usize, to_be, from_be, "big";
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! order_and_value {
        ($($name:ident, $integer:ident, $bytes:ident;)*) => {$(
            let native: $integer = 0x0102_0304_0506_0708_u64 as $integer;
            let value = $name::from(native);
            assert_eq!(value.as_slice(), native.$bytes(), stringify!($name));
            assert_eq!(value.to_native(), native);
            assert_eq!($integer::from(value), native);
            assert!(value == native && native == value && value != native.wrapping_add(1));
            assert_eq!(format!("{value:?}"), format!("{}({native})", stringify!($name)));
        )*};
    }

    #[test]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low bytes of a pattern are wanted"
    )]
    fn bytes_have_the_named_order_and_the_value_survives() {
        order_and_value! {
            Le16, u16, to_le_bytes;
            Le32, u32, to_le_bytes;
            Le64, u64, to_le_bytes;
            LeSize, usize, to_le_bytes;
            Be16, u16, to_be_bytes;
            Be32, u32, to_be_bytes;
            Be64, u64, to_be_bytes;
            BeSize, usize, to_be_bytes;
        }
    }
}
