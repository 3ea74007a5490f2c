// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Single accesses on x86-64.
//!
//! The processor's loads acquire and its stores release, so only a sequentially consistent store differs, which is an
//! exchange. The compiler's side of an ordering is that assembly counts as an access to all memory, unless it is
//! declared `readonly`, as the loads without order are.
#![expect(unsafe_code, reason = "touches guest memory in assembly")]
#![expect(
    clippy::cast_possible_truncation,
    reason = "a load of a small word has zeroes above it"
)]

use crate::copy::Fault;
use crate::copy::assembly::guard::guarded_access;
use crate::copy::word::Word;

/// Returns what an access gave, unless it faulted.
#[inline(always)]
fn unless<T>(faulted: bool, value: T) -> Result<T, Fault> {
    if faulted {
        return Err(Fault { completed: 0 });
    }
    Ok(value)
}

/// Makes a word: its type, a register class, how its registers are written, how a load is spelled, the type that a
/// loaded register holds, and the accumulator's name.
macro_rules! word {
    ($word:ty, $class:ident, $register:literal, $load:literal, $loaded:ty, $accumulator:tt) => {
        impl Word for $word {
            #[inline(always)]
            unsafe fn load(at: *const u8) -> Result<Self, Fault> {
                let value: $loaded;
                // SAFETY: reads the word at `at`, which the caller vouches for, and nothing else.
                let faulted = unsafe {
                    guarded_access!([$load]
                        at = in(reg) at,
                        value = out(reg) value,
                        options(nostack, preserves_flags, readonly))
                };
                unless(faulted, value as $word)
            }

            #[inline(always)]
            unsafe fn load_ordered(at: *const u8) -> Result<Self, Fault> {
                let value: $loaded;
                // SAFETY: as `load`.
                let faulted = unsafe {
                    guarded_access!([$load]
                        at = in(reg) at,
                        value = out(reg) value,
                        options(nostack, preserves_flags))
                };
                unless(faulted, value as $word)
            }

            #[inline(always)]
            unsafe fn store(at: *mut u8, value: Self) -> Result<(), Fault> {
                // SAFETY: writes the word at `at`, which the caller vouches for, and nothing else.
                let faulted = unsafe {
                    guarded_access!([concat!("mov [{at}], ", $register)]
                        at = in(reg) at,
                        value = in($class) value,
                        options(nostack, preserves_flags))
                };
                unless(faulted, ())
            }

            #[inline(always)]
            unsafe fn store_release(at: *mut u8, value: Self) -> Result<(), Fault> {
                // SAFETY: the same contract.
                unsafe { Self::store(at, value) }
            }

            #[inline(always)]
            unsafe fn swap(at: *mut u8, value: Self) -> Result<Self, Fault> {
                let before: $word;
                // SAFETY: exchanges the word at `at`, which the caller vouches for.
                let faulted = unsafe {
                    guarded_access!([concat!("xchg [{at}], ", $register)]
                        at = in(reg) at,
                        value = inout($class) value => before,
                        options(nostack, preserves_flags))
                };
                unless(faulted, before)
            }

            #[inline(always)]
            unsafe fn compare_exchange(at: *mut u8, current: Self, new: Self) -> Result<Self, Fault> {
                let before: $word;
                // SAFETY: exchanges the word at `at`, which the caller vouches for, if it is `current`.
                let faulted = unsafe {
                    guarded_access!([concat!("lock cmpxchg [{at}], ", $register)]
                        at = in(reg) at,
                        value = in($class) new,
                        inout($accumulator) current => before,
                        options(nostack))
                };
                unless(faulted, before)
            }

            #[inline(always)]
            unsafe fn fetch_add(at: *mut u8, value: Self) -> Result<Self, Fault> {
                let before: $word;
                // SAFETY: adds to the word at `at`, which the caller vouches for.
                let faulted = unsafe {
                    guarded_access!([concat!("lock xadd [{at}], ", $register)]
                        at = in(reg) at,
                        value = inout($class) value => before,
                        options(nostack))
                };
                unless(faulted, before)
            }

            #[inline(always)]
            unsafe fn fetch_and(at: *mut u8, value: Self) -> Result<Self, Fault> {
                // SAFETY: the same contract.
                unsafe { update(at, |word| word & value) }
            }

            #[inline(always)]
            unsafe fn fetch_or(at: *mut u8, value: Self) -> Result<Self, Fault> {
                // SAFETY: the same contract.
                unsafe { update(at, |word| word | value) }
            }

            #[inline(always)]
            unsafe fn fetch_xor(at: *mut u8, value: Self) -> Result<Self, Fault> {
                // SAFETY: the same contract.
                unsafe { update(at, |word| word ^ value) }
            }
        }
    };
}

word!(
    u8,
    reg_byte,
    "{value}",
    "movzx {value:e}, byte ptr [{at}]",
    u32,
    "al"
);
word!(
    u16,
    reg,
    "{value:x}",
    "movzx {value:e}, word ptr [{at}]",
    u32,
    "ax"
);
word!(
    u32,
    reg,
    "{value:e}",
    "mov {value:e}, dword ptr [{at}]",
    u32,
    "eax"
);
word!(
    u64,
    reg,
    "{value}",
    "mov {value}, qword ptr [{at}]",
    u64,
    "rax"
);

/// Replaces a word by what `change` makes of it, trying again if somebody else was faster.
///
/// # Safety
///
/// As [`Word::load`].
#[inline(always)]
unsafe fn update<W: Word>(at: *mut u8, change: impl Fn(W) -> W) -> Result<W, Fault> {
    // SAFETY: the same contract.
    let mut seen = unsafe { W::load(at) }?;
    loop {
        // SAFETY: the same contract.
        let before = unsafe { W::compare_exchange(at, seen, change(seen)) }?;
        if before == seen {
            return Ok(before);
        }
        seen = before;
    }
}
