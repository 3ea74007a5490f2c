// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Atomic access to one value through its window.

use core::sync::atomic::Ordering;

use guest_memory_bitmap::BitmapSlice;

use crate::atomic_access::AtomicAccess;
use crate::error::Result;
use crate::reference::VolatileRef;

/// Writes a read-modify-write in terms of the slice's method of the same name.
macro_rules! read_modify_write {
    ($(#[$docs:meta])* $name:ident) => {
        $(#[$docs])*
        ///
        #[doc = concat!("As [`VolatileSlice::", stringify!($name), "`](crate::VolatileSlice::", stringify!($name), ").")]
        ///
        /// # Errors
        ///
        /// Those of [`store_atomic`](Self::store_atomic).
        ///
        /// # Dirty tracking
        ///
        /// The value is marked, even if the new one is the old one.
        #[inline(always)]
        pub fn $name(&self, val: T, order: Ordering) -> Result<T> {
            self.slice().$name(val, 0, order)
        }
    };
}

/// Atomic access, for which the window must lie at an address that is aligned to the value's size.
impl<T: AtomicAccess, B: BitmapSlice> VolatileRef<'_, T, B> {
    /// Loads the value atomically.
    ///
    /// # Errors
    ///
    /// [`Misaligned`](crate::VolatileMemoryError::Misaligned) if its host address is not aligned to its size,
    /// [`Fault`](crate::VolatileMemoryError::Fault) if its page cannot be accessed.
    ///
    /// # Panics
    ///
    /// If `order` is not one that a load can have.
    #[inline(always)]
    pub fn load_atomic(&self, order: Ordering) -> Result<T> {
        self.slice().load(0, order)
    }

    /// Stores a value atomically.
    ///
    /// # Errors
    ///
    /// Those of [`load_atomic`](Self::load_atomic), and [`ReadOnly`](crate::VolatileMemoryError::ReadOnly) if the
    /// memory must not be written.
    ///
    /// # Panics
    ///
    /// If `order` is not one that a store can have.
    ///
    /// # Dirty tracking
    ///
    /// The value is marked.
    #[inline(always)]
    pub fn store_atomic(&self, val: T, order: Ordering) -> Result<()> {
        self.slice().store(val, 0, order)
    }

    /// Stores `new` atomically if `current` is there; returns what was there, as `Ok` if it was stored.
    ///
    /// As [`VolatileSlice::compare_exchange`](crate::VolatileSlice::compare_exchange).
    ///
    /// # Errors
    ///
    /// Those of [`store_atomic`](Self::store_atomic).
    ///
    /// # Panics
    ///
    /// If `failure` is not an order that a load can have.
    ///
    /// # Dirty tracking
    ///
    /// The value is marked if `new` was stored, and only then.
    #[inline(always)]
    pub fn compare_exchange(
        &self,
        current: T,
        new: T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<core::result::Result<T, T>> {
        self.slice()
            .compare_exchange(current, new, 0, success, failure)
    }

    read_modify_write! {
        /// Stores a value and returns the one before.
        swap
    }
    read_modify_write! {
        /// Adds to the value, wrapping around, and returns the one before.
        fetch_add
    }
    read_modify_write! {
        /// Ands the value and returns the one before.
        fetch_and
    }
    read_modify_write! {
        /// Ors the value and returns the one before.
        fetch_or
    }
    read_modify_write! {
        /// Exclusive-ors the value and returns the one before.
        fetch_xor
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
    use crate::memory::VolatileMemory;
    use crate::slice::VolatileSlice;

    const ORDER: Ordering = Ordering::SeqCst;

    #[test]
    fn each_operation_changes_its_value_and_no_other() {
        let mut words = Aligned([u64::MAX; 2]);
        let memory = VolatileSlice::from(ByteValued::as_mut_slice(&mut words.0));
        let value = memory.get_ref::<u32>(4).expect("fits");
        value.store_atomic(6, Ordering::Release).expect("aligned");
        assert_eq!(value.load_atomic(Ordering::Acquire).expect("aligned"), 6);
        assert_eq!(value.fetch_add(u32::MAX, ORDER).expect("aligned"), 6);
        assert_eq!(value.fetch_or(0b1010, ORDER).expect("aligned"), 5);
        assert_eq!(value.fetch_and(0b1100, ORDER).expect("aligned"), 0b1111);
        assert_eq!(value.fetch_xor(0b0100, ORDER).expect("aligned"), 0b1100);
        assert_eq!(value.swap(1, ORDER).expect("aligned"), 0b1000);
        let exchange = |current, new| value.compare_exchange(current, new, ORDER, ORDER);
        assert_eq!(exchange(2, 3).expect("aligned"), Err(1));
        assert_eq!(exchange(1, 3).expect("aligned"), Ok(1));
        assert_eq!(value.load(), 3);
        assert_eq!(memory.read_obj::<u32>(0).expect("fits"), u32::MAX);
        assert_eq!(memory.read_obj::<u64>(8).expect("fits"), u64::MAX);
    }

    #[test]
    fn misaligned_and_read_only_values_are_refused() {
        let mut words = Aligned([7; 2]);
        let memory = VolatileSlice::from(ByteValued::as_mut_slice(&mut words.0));
        let value = memory.get_ref::<u32>(2).expect("fits");
        let misaligned = value.load_atomic(ORDER);
        assert!(matches!(misaligned, Err(Error::Misaligned { .. })));
        let misaligned = value.compare_exchange(0, 1, ORDER, ORDER);
        assert!(matches!(misaligned, Err(Error::Misaligned { .. })));
        let rom = memory.into_read_only();
        let value = rom.get_ref::<u64>(0).expect("fits");
        assert_eq!(value.load_atomic(ORDER).expect("aligned"), 7);
        let refused = value.store_atomic(0, ORDER);
        assert!(matches!(refused, Err(Error::ReadOnly { addr: 0 })));
        assert!(matches!(
            value.swap(0, ORDER),
            Err(Error::ReadOnly { addr: 0 })
        ));
        assert_eq!(value.load(), 7);
    }

    #[test]
    fn a_failed_exchange_marks_nothing() {
        let mut words = Aligned([0; 2]);
        let bitmap = AtomicBitmap::new(16, NonZeroUsize::MIN);
        let base = words.0.as_mut_ptr().cast();
        // SAFETY: the words are borrowed for as long as the slice and touched through it alone.
        #[expect(unsafe_code, reason = "a slice over the test's own words")]
        let slice = unsafe { VolatileSlice::with_bitmap(base, 16, bitmap.slice_at(0), None) };
        let value = slice.get_ref::<u16>(6).expect("fits");
        let failed = value.compare_exchange(1, 2, ORDER, ORDER);
        assert_eq!(failed.expect("aligned"), Err(0));
        assert!((0..16).all(|offset| !bitmap.dirty_at(offset)));
        let stored = value.compare_exchange(0, 2, ORDER, ORDER);
        assert_eq!(stored.expect("aligned"), Ok(0));
        assert!((0..16).all(|offset| bitmap.dirty_at(offset) == (6..8).contains(&offset)));
    }
}
