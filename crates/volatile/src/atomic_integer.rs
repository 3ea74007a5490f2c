// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Atomics that may lie over guest memory.
#![expect(unsafe_code, reason = "vouches for the atomics' layout")]

use core::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16, AtomicU32,
    AtomicU64, AtomicUsize, Ordering,
};

/// An atomic that may be laid over guest memory: those of the standard library, of at most 8 bytes.
///
/// # Safety
///
/// The implementing type has the size of [`V`](AtomicInteger::V), which is plain bytes, is valid
/// whatever its bytes are, is changed only through atomic operations, and its size is a power of
/// two that equals its alignment.
pub unsafe trait AtomicInteger: Sync + Send {
    /// The value inside.
    type V;

    /// Makes an atomic with value `v`.
    fn new(v: Self::V) -> Self;

    /// Loads the value.
    ///
    /// # Panics
    ///
    /// If `order` is `Release` or `AcqRel`, as the atomics of the standard library do.
    fn load(&self, order: Ordering) -> Self::V;

    /// Stores `val`.
    ///
    /// # Panics
    ///
    /// If `order` is `Acquire` or `AcqRel`, as the atomics of the standard library do.
    fn store(&self, val: Self::V, order: Ordering);
}

macro_rules! atomics {
    ($($integer:ty, $atomic:ty;)*) => {$(
        // SAFETY: the standard library gives its atomics the size and bit validity of the integer, aligned to
        // that size; their only operations are atomic.
        unsafe impl AtomicInteger for $atomic {
            type V = $integer;

            #[inline]
            fn new(v: $integer) -> Self {
                <$atomic>::new(v)
            }

            #[inline]
            fn load(&self, order: Ordering) -> $integer {
                self.load(order)
            }

            #[inline]
            fn store(&self, val: $integer, order: Ordering) {
                self.store(val, order);
            }
        }

        const _: () = assert!(
            size_of::<$atomic>() == size_of::<$integer>() && align_of::<$atomic>() == size_of::<$integer>()
        );
    )*};
}

atomics! {
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
