// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Single accesses on aarch64.
//!
//! Read-modify-writes are exclusive loads and stores in a loop, which every processor has.
#![expect(unsafe_code, reason = "touches guest memory in assembly")]

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

/// Writes a read-modify-write whose new value the given instruction makes of the old one.
macro_rules! update {
    ($name:ident, $word:ty, $width:literal, $size:literal, $instruction:literal) => {
        #[inline(always)]
        unsafe fn $name(at: *mut u8, value: Self) -> Result<Self, Fault> {
            let before: $word;
            // SAFETY: changes the word at `at`, which the caller vouches for.
            let faulted = unsafe {
                guarded_access!([
                    "5:",
                    concat!("ldaxr", $size, " {before:", $width, "}, [{at}]"),
                    concat!($instruction, " {after:", $width, "}, {before:", $width, "}, {value:", $width, "}"),
                    concat!("stlxr", $size, " {failed:w}, {after:", $width, "}, [{at}]"),
                    "cbnz {failed:w}, 5b",
                ]
                    at = in(reg) at,
                    value = in(reg) value,
                    before = out(reg) before,
                    after = out(reg) _,
                    failed = out(reg) _,
                    options(nostack, preserves_flags))
            };
            unless(faulted, before)
        }
    };
}

/// Makes a word: its type, the width of its registers, what its instructions end in, and how a register is made of it
/// that has zeroes above.
macro_rules! word {
    ($word:ty, $width:literal, $size:literal, $extend:literal) => {
        impl Word for $word {
            #[inline(always)]
            unsafe fn load(at: *const u8) -> Result<Self, Fault> {
                let value: $word;
                // SAFETY: reads the word at `at`, which the caller vouches for, and nothing else.
                let faulted = unsafe {
                    guarded_access!([concat!("ldr", $size, " {value:", $width, "}, [{at}]")]
                        at = in(reg) at,
                        value = out(reg) value,
                        options(nostack, preserves_flags, readonly))
                };
                unless(faulted, value)
            }

            #[inline(always)]
            unsafe fn load_ordered(at: *const u8) -> Result<Self, Fault> {
                let value: $word;
                // SAFETY: as `load`.
                let faulted = unsafe {
                    guarded_access!([concat!("ldar", $size, " {value:", $width, "}, [{at}]")]
                        at = in(reg) at,
                        value = out(reg) value,
                        options(nostack, preserves_flags))
                };
                unless(faulted, value)
            }

            #[inline(always)]
            unsafe fn store(at: *mut u8, value: Self) -> Result<(), Fault> {
                // SAFETY: writes the word at `at`, which the caller vouches for, and nothing else.
                let faulted = unsafe {
                    guarded_access!([concat!("str", $size, " {value:", $width, "}, [{at}]")]
                        at = in(reg) at,
                        value = in(reg) value,
                        options(nostack, preserves_flags))
                };
                unless(faulted, ())
            }

            #[inline(always)]
            unsafe fn store_release(at: *mut u8, value: Self) -> Result<(), Fault> {
                // SAFETY: as `store`.
                let faulted = unsafe {
                    guarded_access!([concat!("stlr", $size, " {value:", $width, "}, [{at}]")]
                        at = in(reg) at,
                        value = in(reg) value,
                        options(nostack, preserves_flags))
                };
                unless(faulted, ())
            }

            #[inline(always)]
            unsafe fn swap(at: *mut u8, value: Self) -> Result<Self, Fault> {
                let before: $word;
                // SAFETY: exchanges the word at `at`, which the caller vouches for.
                let faulted = unsafe {
                    guarded_access!([
                        "5:",
                        concat!("ldaxr", $size, " {before:", $width, "}, [{at}]"),
                        concat!("stlxr", $size, " {failed:w}, {value:", $width, "}, [{at}]"),
                        "cbnz {failed:w}, 5b",
                    ]
                        at = in(reg) at,
                        value = in(reg) value,
                        before = out(reg) before,
                        failed = out(reg) _,
                        options(nostack, preserves_flags))
                };
                unless(faulted, before)
            }

            #[inline(always)]
            unsafe fn compare_exchange(
                at: *mut u8,
                current: Self,
                new: Self,
            ) -> Result<Self, Fault> {
                let before: $word;
                // SAFETY: exchanges the word at `at`, which the caller vouches for, if it is `current`.
                let faulted = unsafe {
                    guarded_access!([
                        "5:",
                        concat!("ldaxr", $size, " {before:", $width, "}, [{at}]"),
                        concat!("cmp {before:", $width, "}, {current:", $width, "}", $extend),
                        "b.ne 6f",
                        concat!("stlxr", $size, " {failed:w}, {new:", $width, "}, [{at}]"),
                        "cbnz {failed:w}, 5b",
                        "6:",
                    ]
                        at = in(reg) at,
                        current = in(reg) current,
                        new = in(reg) new,
                        before = out(reg) before,
                        failed = out(reg) _,
                        options(nostack))
                };
                unless(faulted, before)
            }

            update!(fetch_add, $word, $width, $size, "add");
            update!(fetch_and, $word, $width, $size, "and");
            update!(fetch_or, $word, $width, $size, "orr");
            update!(fetch_xor, $word, $width, $size, "eor");
        }
    };
}

word!(u8, "w", "b", ", uxtb");
word!(u16, "w", "h", ", uxth");
word!(u32, "w", "", "");
word!(u64, "x", "", "");
