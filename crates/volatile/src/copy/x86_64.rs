// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Long copies on x86-64, in assembly: opaque to the compiler, so a race is not undefined behaviour.
//!
//! The bulk moves in vectors of 16 bytes that are aligned on the guest's side, or from some size on by
//! `rep movsq`, whose elements are. The ends move as single accesses.
#![expect(unsafe_code, reason = "moves guest memory in assembly")]

use core::arch::asm;

use super::atoms::Direction;

/// Alignment of the guest's side that [`copy_bulk`] needs, in bytes.
pub(super) const BULK_ALIGN: usize = 16;
/// What the length of a bulk copy is a multiple of, in bytes.
pub(super) const BULK_STEP: usize = 16;
/// From here on the processor's string copy is faster than a loop, if it writes whole cache lines from
/// the start; measured on AMD's Zen 3, where it is half as fast otherwise.
const STRING_LEN: usize = 2048;
/// From here on, which is more than the second-level cache has room for on both sides, the string copy has to
/// read whole cache lines as well; measured likewise.
const FAR_LEN: usize = 256 << 10;
const CACHE_LINE: usize = 64;

/// Copies `len` bytes, a multiple of [`BULK_STEP`], where the guest's side is aligned to
/// [`BULK_ALIGN`].
///
/// # Safety
///
/// `src` must be good for reads and `dst` for writes of `len` bytes. Others may access the side that
/// is in a valid guest range meanwhile, and nobody the other one.
#[inline(always)]
pub(super) unsafe fn copy_bulk<D: Direction>(dst: *mut u8, src: *const u8, len: usize) {
    // Up to the first cache line, which can be reached in whole steps only from an aligned address.
    let head = dst.addr().wrapping_neg() % CACHE_LINE;
    let is_shifted = !(dst.addr() ^ src.addr()).is_multiple_of(CACHE_LINE);
    if len < STRING_LEN || !head.is_multiple_of(BULK_STEP) || (is_shifted && len >= FAR_LEN) {
        // SAFETY: the same contract.
        return unsafe { copy_vectors(dst, src, len) };
    }
    // SAFETY: `head` is a multiple of the step, and less than a cache line, so less than `len`.
    unsafe { copy_vectors(dst, src, head) };
    // SAFETY: within the caller's range, as just said.
    let dst = unsafe { dst.add(head) };
    // SAFETY: as above.
    let src = unsafe { src.add(head) };
    // SAFETY: what is left of the caller's range, still a multiple of the step.
    unsafe { copy_string(dst, src, len.wrapping_sub(head)) };
}

/// Copies in elements of 8 bytes, by the processor's string copy.
///
/// # Safety
///
/// As [`copy_bulk`].
#[inline(always)]
unsafe fn copy_string(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: the same contract. The direction flag is clear by the ABI; what moves is `len` bytes, as
    // that is a multiple of 8.
    unsafe {
        asm!(
            "rep movsq",
            inout("rcx") len / 8 => _,
            inout("rsi") src => _,
            inout("rdi") dst => _,
            options(nostack, preserves_flags)
        );
    }
}

/// Copies in vectors of 16 bytes.
///
/// # Safety
///
/// As [`copy_bulk`].
#[inline(always)]
unsafe fn copy_vectors(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: the same contract. The first loop moves all whole blocks of 64 bytes, the second the vectors that
    // are left, so `len` bytes in all.
    unsafe {
        asm!(
            "cmp {len}, 64",
            "jb 3f",
            "2:",
            "movups {a}, [{src}]",
            "movups {b}, [{src} + 16]",
            "movups {c}, [{src} + 32]",
            "movups {d}, [{src} + 48]",
            "movups [{dst}], {a}",
            "movups [{dst} + 16], {b}",
            "movups [{dst} + 32], {c}",
            "movups [{dst} + 48], {d}",
            "add {src}, 64",
            "add {dst}, 64",
            "sub {len}, 64",
            "cmp {len}, 64",
            "jae 2b",
            "3:",
            "test {len}, {len}",
            "jz 5f",
            "4:",
            "movups {a}, [{src}]",
            "movups [{dst}], {a}",
            "add {src}, 16",
            "add {dst}, 16",
            "sub {len}, 16",
            "jnz 4b",
            "5:",
            src = inout(reg) src => _,
            dst = inout(reg) dst => _,
            len = inout(reg) len => _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack)
        );
    }
}
