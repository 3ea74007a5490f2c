// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Long copies, fills and searches on aarch64, in pairs of words.
//!
//! Everything here moves whole multiples of 8 bytes where the guest's side is aligned to 8. The architecture moves each
//! aligned word of a pair whole.
#![expect(unsafe_code, reason = "moves guest memory in assembly")]

use crate::copy::assembly::guard::guarded_loop;

/// Copies `len` bytes, a multiple of 8, and returns how many are left when a page could not be accessed, else 0.
///
/// Whatever is left is the end of the range and a multiple of 8 bytes; some of its start may have been copied.
///
/// # Safety
///
/// `src` must be good for reads and `dst` for writes of `len` bytes. Others may access the side that is in a valid
/// guest range meanwhile, and nobody the other one. A target that overlaps the source must begin
/// [`BLOCK`](crate::copy::steps::BLOCK) bytes before it, or further.
#[inline(always)]
#[expect(
    clippy::extra_unused_type_parameters,
    reason = "the portable engine needs the direction"
)]
pub(crate) unsafe fn copy_bulk<D>(dst: *mut u8, src: *const u8, len: usize) -> usize {
    let left;
    // SAFETY: moves `len` bytes from `src` to `dst`, each block read whole before it is written.
    unsafe {
        guarded_loop!([
            "cmp {len}, #64",
            "b.lo 6f",
            "5:",
            "ldp {a}, {b}, [{src}]",
            "ldp {c}, {d}, [{src}, #16]",
            "ldp {e}, {f}, [{src}, #32]",
            "ldp {g}, {h}, [{src}, #48]",
            "stp {a}, {b}, [{dst}]",
            "stp {c}, {d}, [{dst}, #16]",
            "stp {e}, {f}, [{dst}, #32]",
            "stp {g}, {h}, [{dst}, #48]",
            "add {src}, {src}, #64",
            "add {dst}, {dst}, #64",
            "sub {len}, {len}, #64",
            "cmp {len}, #64",
            "b.hs 5b",
            "6:",
            "cbz {len}, 3f",
            "7:",
            "ldr {a}, [{src}]",
            "str {a}, [{dst}]",
            "add {src}, {src}, #8",
            "add {dst}, {dst}, #8",
            "subs {len}, {len}, #8",
            "b.ne 7b",
        ] []
            src = inout(reg) src => _,
            dst = inout(reg) dst => _,
            len = inout(reg) len => left,
            a = out(reg) _,
            b = out(reg) _,
            c = out(reg) _,
            d = out(reg) _,
            e = out(reg) _,
            f = out(reg) _,
            g = out(reg) _,
            h = out(reg) _,
            options(nostack)
        );
    }
    left
}

/// Writes a pattern of 8 bytes over `len` bytes, a multiple of 8, and returns how many are left as [`copy_bulk`] does.
///
/// # Safety
///
/// `dst` must be good for writes of `len` bytes, which others may access meanwhile.
#[inline(always)]
pub(crate) unsafe fn fill_bulk(dst: *mut u8, pattern: u64, len: usize) -> usize {
    let left;
    // SAFETY: writes `len` bytes from `dst` on, as `len` is a multiple of 8.
    unsafe {
        guarded_loop!([
            "cbz {len}, 3f",
            "5:",
            "str {pattern}, [{dst}]",
            "add {dst}, {dst}, #8",
            "subs {len}, {len}, #8",
            "b.ne 5b",
        ] []
            dst = inout(reg) dst => _,
            len = inout(reg) len => left,
            pattern = in(reg) pattern,
            options(nostack)
        );
    }
    left
}

/// Reads `len` bytes, a multiple of 8, until a word is not zero or a page cannot be accessed; returns how many are left.
///
/// # Safety
///
/// `src` must be good for reads of `len` bytes, which others may access meanwhile.
#[inline(always)]
pub(crate) unsafe fn skip_zeroes(src: *const u8, len: usize) -> usize {
    let left;
    // SAFETY: reads at most `len` bytes from `src` on, word by word.
    unsafe {
        guarded_loop!([
            "cbz {len}, 3f",
            "5:",
            "ldr {word}, [{src}]",
            "cbnz {word}, 3f",
            "add {src}, {src}, #8",
            "subs {len}, {len}, #8",
            "b.ne 5b",
        ] []
            src = inout(reg) src => _,
            len = inout(reg) len => left,
            word = out(reg) _,
            options(nostack)
        );
    }
    left
}
