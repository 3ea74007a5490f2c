// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Single accesses by atomics.
#![expect(unsafe_code, reason = "lays atomics over guest memory")]

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::copy::Fault;
use crate::copy::word::Word;

/// Says for a word which atomic lies over it.
macro_rules! word {
    ($word:ty, $atomic:ty) => {
        impl Word for $word {
            #[inline(always)]
            unsafe fn load(at: *const u8) -> Result<Self, Fault> {
                // SAFETY: the same contract.
                Ok(unsafe { over::<$atomic>(at) }.load(Ordering::Relaxed))
            }

            #[inline(always)]
            unsafe fn load_ordered(at: *const u8) -> Result<Self, Fault> {
                // SAFETY: the same contract.
                Ok(unsafe { over::<$atomic>(at) }.load(Ordering::SeqCst))
            }

            #[inline(always)]
            unsafe fn store(at: *mut u8, value: Self) -> Result<(), Fault> {
                // SAFETY: the same contract.
                unsafe { over::<$atomic>(at) }.store(value, Ordering::Relaxed);
                Ok(())
            }

            #[inline(always)]
            unsafe fn store_release(at: *mut u8, value: Self) -> Result<(), Fault> {
                // SAFETY: the same contract.
                unsafe { over::<$atomic>(at) }.store(value, Ordering::Release);
                Ok(())
            }

            #[inline(always)]
            unsafe fn swap(at: *mut u8, value: Self) -> Result<Self, Fault> {
                // SAFETY: the same contract.
                Ok(unsafe { over::<$atomic>(at) }.swap(value, Ordering::SeqCst))
            }

            #[inline(always)]
            unsafe fn compare_exchange(
                at: *mut u8,
                current: Self,
                new: Self,
            ) -> Result<Self, Fault> {
                // SAFETY: the same contract.
                let word = unsafe { over::<$atomic>(at) };
                match word.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst) {
                    Ok(before) | Err(before) => Ok(before),
                }
            }

            #[inline(always)]
            unsafe fn fetch_add(at: *mut u8, value: Self) -> Result<Self, Fault> {
                // SAFETY: the same contract.
                Ok(unsafe { over::<$atomic>(at) }.fetch_add(value, Ordering::SeqCst))
            }

            #[inline(always)]
            unsafe fn fetch_and(at: *mut u8, value: Self) -> Result<Self, Fault> {
                // SAFETY: the same contract.
                Ok(unsafe { over::<$atomic>(at) }.fetch_and(value, Ordering::SeqCst))
            }

            #[inline(always)]
            unsafe fn fetch_or(at: *mut u8, value: Self) -> Result<Self, Fault> {
                // SAFETY: the same contract.
                Ok(unsafe { over::<$atomic>(at) }.fetch_or(value, Ordering::SeqCst))
            }

            #[inline(always)]
            unsafe fn fetch_xor(at: *mut u8, value: Self) -> Result<Self, Fault> {
                // SAFETY: the same contract.
                Ok(unsafe { over::<$atomic>(at) }.fetch_xor(value, Ordering::SeqCst))
            }
        }
    };
}

word!(u8, AtomicU8);
word!(u16, AtomicU16);
word!(u32, AtomicU32);
word!(u64, AtomicU64);

/// Lays an atomic over a word.
///
/// # Safety
///
/// As [`Word::load`], for as long as the reference is used; `A` must be the atomic of the word's size.
#[inline(always)]
unsafe fn over<'a, A>(at: *const u8) -> &'a A {
    // SAFETY: aligned and in a valid guest range by this function's contract; there references to atomics are
    // allowed. A load needs no write access, and the others are only called where writes are allowed.
    unsafe { &*at.cast::<A>() }
}
