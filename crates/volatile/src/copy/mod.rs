// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The copy engine: the only code of the workspace that touches guest bytes.
//!
//! It never uses `ptr::copy*` or references to bytes, since another party may write the guest side meanwhile. The
//! guarantees it gives (width, tearing, ordering) are those of the crate's documentation.
//!
//! An access is a [`word::Word`], or a copy that `steps` cuts into words and a bulk. On x86-64 and aarch64 both are
//! assembly, which the compiler cannot look into, so that a race is the machine's affair; elsewhere and under Miri they
//! are relaxed atomics. Each piece of assembly that touches guest memory stands in `guarded_access!` or `guarded_loop!`,
//! which give it an entry in the table of the fault guard where that is built in.
#![expect(unsafe_code, reason = "touches guest memory through raw pointers")]

// Tools that must see each access (Miri, sanitizers) take the portable engine: `--cfg guest_memory_portable`. So do
// targets whose addresses are shorter than the registers, in which the rest would be undefined.
#[cfg(all(
    target_pointer_width = "64",
    any(
        target_arch = "aarch64",
        all(target_arch = "x86_64", target_feature = "sse2")
    ),
    not(any(miri, guest_memory_portable))
))]
mod assembly;
mod fill;
mod guest_to_guest;
#[cfg(any(
    not(all(
        target_pointer_width = "64",
        target_arch = "x86_64",
        target_feature = "sse2"
    )),
    miri,
    guest_memory_portable
))]
mod pair;
#[cfg(not(all(
    target_pointer_width = "64",
    any(
        target_arch = "aarch64",
        all(target_arch = "x86_64", target_feature = "sse2")
    ),
    not(any(miri, guest_memory_portable))
)))]
mod portable;
mod steps;
mod word;

use core::mem::{MaybeUninit, transmute_copy};

#[cfg(all(
    target_pointer_width = "64",
    any(
        target_arch = "aarch64",
        all(target_arch = "x86_64", target_feature = "sse2")
    ),
    not(any(miri, guest_memory_portable))
))]
use assembly as engine;
pub(crate) use fill::{fill, is_zero};
pub(crate) use guest_to_guest::{Stuck, guest_to_guest};
#[cfg(not(all(
    target_pointer_width = "64",
    any(
        target_arch = "aarch64",
        all(target_arch = "x86_64", target_feature = "sse2")
    ),
    not(any(miri, guest_memory_portable))
)))]
use portable as engine;
use steps::{FromGuest, ToGuest, copy, copy_sized};
pub(crate) use word::Word;

/// An access that stopped at a page that cannot be accessed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// Bytes before it, which were moved.
    pub(crate) completed: usize,
}

/// Copies `len` bytes from guest memory to the host's.
///
/// # Safety
///
/// `[src, src + len)` must be in a valid guest range; `dst` must be valid for writes of `len` bytes
/// that nobody else accesses meanwhile.
#[inline(always)]
pub(crate) unsafe fn from_guest(dst: *mut u8, src: *const u8, len: usize) -> Result<(), Fault> {
    // SAFETY: the same contract.
    unsafe { copy::<FromGuest>(dst, src, len) }
}

/// Copies `len` bytes from the host's memory to the guest's.
///
/// # Safety
///
/// `[dst, dst + len)` must be in a valid guest range that may be written; `src` must be valid for
/// reads of `len` initialised bytes that nobody writes meanwhile.
#[inline(always)]
pub(crate) unsafe fn to_guest(dst: *mut u8, src: *const u8, len: usize) -> Result<(), Fault> {
    // SAFETY: the same contract.
    unsafe { copy::<ToGuest>(dst, src, len) }
}

/// Reads one value from guest memory. After a fault it is not known how many of its bytes are there.
///
/// # Safety
///
/// `[src, src + size_of::<T>())` must be in a valid guest range, and any bytes must be a `T`.
#[inline(always)]
pub(crate) unsafe fn read<T: Copy>(src: *const u8) -> Result<T, Fault> {
    if size_of::<T>() == size_of::<[u64; 2]>() && steps::is_aligned(src, 8) {
        // SAFETY: the caller's range has this size and is aligned as just checked.
        let pair = unsafe { engine::load_pair(src) }?;
        // SAFETY: of the same size, and the caller says that any bytes are a `T`.
        return Ok(unsafe { transmute_copy::<engine::Pair, T>(&pair) });
    }
    if is_short(src, size_of::<T>()) {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the caller vouches for `src`; `value` is a local of that size.
        unsafe { copy_sized::<FromGuest>(value.as_mut_ptr().cast(), src, size_of::<T>()) }?;
        // SAFETY: all bytes were just written, and the caller says that any are a `T`.
        return Ok(unsafe { value.assume_init() });
    }
    // SAFETY: the same contract.
    unsafe { read_apart(src) }
}

/// Writes one value to guest memory.
///
/// # Safety
///
/// `[dst, dst + size_of::<T>())` must be in a valid guest range that may be written, and no byte of a `T` may
/// be padding.
#[inline(always)]
pub(crate) unsafe fn write<T: Copy>(dst: *mut u8, value: T) -> Result<(), Fault> {
    if is_short(dst, size_of::<T>()) {
        // SAFETY: the caller vouches for `dst`; the value's bytes are initialised, as it has no padding.
        unsafe { copy_sized::<ToGuest>(dst, (&raw const value).cast(), size_of::<T>()) }
    } else {
        // SAFETY: the same contract.
        unsafe { write_apart(dst, value) }
    }
}

/// Says whether a copy of a value is one or two accesses.
///
/// Such a value is kept out of memory. In the other case it is passed to a function of its own, as a local
/// whose address a call gets would be in memory in every case.
#[inline(always)]
fn is_short(guest: *const u8, size: usize) -> bool {
    matches!(size, 1 | 2 | 4 | 8 | 16) && guest.addr().is_multiple_of(usize::min(size, 8))
}

/// As [`write`], of any size and alignment.
///
/// # Safety
///
/// As [`write`].
#[inline(never)]
unsafe fn write_apart<T: Copy>(dst: *mut u8, value: T) -> Result<(), Fault> {
    // SAFETY: the caller vouches for `dst`; the value's bytes are initialised, as it has no padding.
    unsafe { copy_sized::<ToGuest>(dst, (&raw const value).cast(), size_of::<T>()) }
}

/// As [`read`], of any size and alignment.
///
/// # Safety
///
/// As [`read`].
#[inline(never)]
unsafe fn read_apart<T: Copy>(src: *const u8) -> Result<T, Fault> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the caller vouches for `src`; `value` is a local of that size.
    unsafe { copy_sized::<FromGuest>(value.as_mut_ptr().cast(), src, size_of::<T>()) }?;
    // SAFETY: all bytes were just written, and the caller says that any are a `T`.
    Ok(unsafe { value.assume_init() })
}

#[cfg(test)]
mod tests;
