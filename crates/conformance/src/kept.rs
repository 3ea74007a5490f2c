// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What stays for good, since a subject borrows it.

use std::any::Any;
use std::sync::{Mutex, PoisonError};

/// All of it. A leak checker sees here that nothing is lost.
static KEPT: Mutex<Vec<&'static (dyn Any + Sync)>> = Mutex::new(Vec::new());

/// Keeps a value to the end of the process, for subjects that borrow what they are made of; without a complaint of leak
/// checkers, as there would be of [`Box::leak`].
///
/// # Examples
///
/// ```
/// use guest_memory_bitmap::AtomicBitmap;
/// use guest_memory_conformance::{address_space, kept};
/// use guest_memory_mmap::GuestMemoryMmap;
///
/// // A reference to a memory is a handle on it.
/// address_space::check(|ranges| {
///     kept(GuestMemoryMmap::<AtomicBitmap>::from_ranges(ranges).expect("memory"))
/// });
/// ```
pub fn kept<T: Any + Send + Sync>(value: T) -> &'static T {
    let kept: &'static T = Box::leak(Box::new(value));
    KEPT.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(kept);
    kept
}
