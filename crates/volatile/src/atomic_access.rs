// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Integers that can be loaded and stored atomically.

use core::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16, AtomicU32,
    AtomicU64, AtomicUsize,
};

use crate::atomic_integer::AtomicInteger;
use crate::byte_valued::ByteValued;

/// A plain value that has an atomic of the same layout: what can be loaded and stored atomically.
///
/// All integers of at most 8 bytes are such values. A type of your own becomes one by its conversions:
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use guest_memory_volatile::{AtomicAccess, ByteValued, VolatileSlice};
///
/// #[repr(transparent)]
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// struct Status(u32);
///
/// // SAFETY: transparent around an integer, which is plain bytes.
/// unsafe impl ByteValued for Status {}
///
/// impl From<u32> for Status {
///     fn from(bits: u32) -> Self {
///         Self(bits)
///     }
/// }
///
/// impl From<Status> for u32 {
///     fn from(status: Status) -> Self {
///         status.0
///     }
/// }
///
/// impl AtomicAccess for Status {
///     type A = AtomicU32;
/// }
///
/// # #[repr(align(8))]
/// # struct Bytes([u8; 8]);
/// # let mut backing = Bytes([0; 8]);
/// # let memory = VolatileSlice::from(backing.0.as_mut_slice());
/// memory.store(Status(4), 0, Ordering::Release)?;
/// assert_eq!(memory.load::<Status>(0, Ordering::Acquire)?, Status(4));
/// # Ok::<(), guest_memory_volatile::VolatileMemoryError>(())
/// ```
pub trait AtomicAccess:
    ByteValued
    + From<<<Self as AtomicAccess>::A as AtomicInteger>::V>
    + Into<<<Self as AtomicAccess>::A as AtomicInteger>::V>
{
    /// The atomic that loads and stores such values.
    type A: AtomicInteger;
}

macro_rules! integers {
    ($($integer:ty, $atomic:ty;)*) => {$(
        impl AtomicAccess for $integer {
            type A = $atomic;
        }
    )*};
}

integers! {
    u8, AtomicU8;
    u16, AtomicU16;
    u32, AtomicU32;
    u64, AtomicU64;
    usize, AtomicUsize;
    i8, AtomicI8;
    i16, AtomicI16;
    i32, AtomicI32;
    i64, AtomicI64;
    isize, AtomicIsize;
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::Ordering;

    use super::*;

    fn round_trip<T: AtomicAccess + PartialEq + core::fmt::Debug>(first: T, second: T) {
        let atomic = T::A::new(first.into());
        assert_eq!(T::from(atomic.load(Ordering::Relaxed)), first);
        atomic.store(second.into(), Ordering::Relaxed);
        assert_eq!(T::from(atomic.load(Ordering::Relaxed)), second);
    }

    #[test]
    fn every_integer_has_its_atomic() {
        round_trip(1u8, u8::MAX);
        round_trip(1u16, u16::MAX);
        round_trip(1u32, u32::MAX);
        round_trip(1u64, u64::MAX);
        round_trip(1usize, usize::MAX);
        round_trip(-1i8, i8::MIN);
        round_trip(-1i16, i16::MIN);
        round_trip(-1i32, i32::MIN);
        round_trip(-1i64, i64::MIN);
        round_trip(-1isize, isize::MIN);
    }
}
