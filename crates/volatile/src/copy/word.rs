// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What one access to guest memory can do.

use super::Fault;

/// An integer that one access moves: 1, 2, 4 or 8 bytes, unsigned, in the host's byte order.
///
/// Every operation is a single access of that size, so it is never torn. One that faults has done nothing.
pub(crate) trait Word: Copy + Eq {
    /// Loads, in no order with other accesses.
    ///
    /// # Safety
    ///
    /// As for all functions here: `at` must be aligned to the size and `[at, at + size)` in a valid guest range,
    /// which may be written if the function writes.
    unsafe fn load(at: *const u8) -> Result<Self, Fault>;

    /// Loads; at least `SeqCst`, `Acquire` included.
    ///
    /// # Safety
    ///
    /// As [`load`](Self::load).
    unsafe fn load_ordered(at: *const u8) -> Result<Self, Fault>;

    /// Stores, in no order with other accesses.
    ///
    /// # Safety
    ///
    /// As [`load`](Self::load).
    unsafe fn store(at: *mut u8, value: Self) -> Result<(), Fault>;

    /// Stores; `Release`.
    ///
    /// # Safety
    ///
    /// As [`load`](Self::load).
    unsafe fn store_release(at: *mut u8, value: Self) -> Result<(), Fault>;

    /// Stores a value and returns the one before; `SeqCst`, as all read-modify-writes here.
    ///
    /// # Safety
    ///
    /// As [`load`](Self::load).
    unsafe fn swap(at: *mut u8, value: Self) -> Result<Self, Fault>;

    /// Stores `new` if `current` is there; returns what was there.
    ///
    /// # Safety
    ///
    /// As [`load`](Self::load).
    unsafe fn compare_exchange(at: *mut u8, current: Self, new: Self) -> Result<Self, Fault>;

    /// Adds, wrapping around; returns the value before.
    ///
    /// # Safety
    ///
    /// As [`load`](Self::load).
    unsafe fn fetch_add(at: *mut u8, value: Self) -> Result<Self, Fault>;

    /// Ands; returns the value before.
    ///
    /// # Safety
    ///
    /// As [`load`](Self::load).
    unsafe fn fetch_and(at: *mut u8, value: Self) -> Result<Self, Fault>;

    /// Ors; returns the value before.
    ///
    /// # Safety
    ///
    /// As [`load`](Self::load).
    unsafe fn fetch_or(at: *mut u8, value: Self) -> Result<Self, Fault>;

    /// Exclusive-ors; returns the value before.
    ///
    /// # Safety
    ///
    /// As [`load`](Self::load).
    unsafe fn fetch_xor(at: *mut u8, value: Self) -> Result<Self, Fault>;
}
