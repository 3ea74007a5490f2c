// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Long copies, fills and searches on x86-64, in vectors.
//!
//! Everything here moves whole multiples of 8 bytes where the guest's side is aligned to 8. A vector moves two or four
//! such words; the processors in use cut it, if at all, where a cache line or a half of 16 bytes ends, and so never
//! within a word. `copy::tests` holds that on the machine that runs them.
//!
//! Measured on AMD's Zen 3 and Zen 4: vectors of 32 bytes beat those of 16 from 128 bytes on, and the processor's string
//! copy (`rep movsb`) at every size, the more so where the two sides lie differently in their cache lines.
#![expect(unsafe_code, reason = "moves guest memory in assembly")]

use super::features::{Avx, avx, look_for_avx};
use crate::copy::assembly::guard::guarded_loop;

/// From here on wide vectors are faster.
const WIDE_LEN: usize = 160;
/// From here on it pays to begin at an address of the target that suits the vectors.
const ALIGNED_LEN: usize = 512;
const WIDE_VECTOR: usize = 32;
/// From here on the processor's string store is faster than vectors.
const STRING_LEN: usize = 1024;

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
    if len < WIDE_LEN {
        // SAFETY: the same contract.
        return unsafe { copy_vectors(dst, src, len) };
    }
    // SAFETY: the same contract.
    unsafe { copy_far(dst, src, len) }
}

/// Copies as the processor does it best: apart, while a short copy stands where it is called.
///
/// # Safety
///
/// As [`copy_bulk`].
#[inline(never)]
unsafe fn copy_far(dst: *mut u8, src: *const u8, len: usize) -> usize {
    match avx() {
        // SAFETY: the same contract; the processor has AVX.
        Avx::Present if len < ALIGNED_LEN => unsafe { copy_wide(dst, src, len) },
        // SAFETY: as above.
        Avx::Present => unsafe { copy_wide_aligned(dst, src, len) },
        // SAFETY: the same contract.
        Avx::Absent => unsafe { copy_vectors(dst, src, len) },
        // SAFETY: the same contract.
        Avx::Unknown => unsafe { look_and_copy(dst, src, len) },
    }
}

/// Copies for the first time.
///
/// # Safety
///
/// As [`copy_bulk`].
#[cold]
#[inline(never)]
unsafe fn look_and_copy(dst: *mut u8, src: *const u8, len: usize) -> usize {
    look_for_avx();
    // SAFETY: the same contract.
    unsafe { copy_far(dst, src, len) }
}

/// Copies in vectors of 32 bytes that are aligned on the target's side, if words lead there.
///
/// # Safety
///
/// As [`copy_bulk`]; the processor must have AVX, and `len` be more than a vector.
#[inline(never)]
unsafe fn copy_wide_aligned(dst: *mut u8, src: *const u8, len: usize) -> usize {
    let head = dst.addr().wrapping_neg() % WIDE_VECTOR;
    if head == 0 || !head.is_multiple_of(8) {
        // SAFETY: the same contract.
        return unsafe { copy_wide(dst, src, len) };
    }
    // SAFETY: `head` is a multiple of 8 and less than a vector, so less than `len`.
    let left = unsafe { copy_vectors(dst, src, head) };
    let len = len.wrapping_sub(head);
    if left != 0 {
        return len.wrapping_add(left);
    }
    // SAFETY: within the caller's range, as just said.
    let dst = unsafe { dst.add(head) };
    // SAFETY: as above.
    let src = unsafe { src.add(head) };
    // SAFETY: what is left of the caller's range; the processor has AVX.
    unsafe { copy_wide(dst, src, len) }
}

/// Copies in vectors of 16 bytes, and a word at the end.
///
/// # Safety
///
/// As [`copy_bulk`].
#[inline(always)]
unsafe fn copy_vectors(dst: *mut u8, src: *const u8, len: usize) -> usize {
    let left;
    // SAFETY: moves `len` bytes from `src` to `dst`, each block read whole before it is written.
    unsafe {
        guarded_loop!([
            "cmp {len}, 64",
            "jb 6f",
            "5:",
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
            "jae 5b",
            "6:",
            "cmp {len}, 16",
            "jb 8f",
            "7:",
            "movups {a}, [{src}]",
            "movups [{dst}], {a}",
            "add {src}, 16",
            "add {dst}, 16",
            "sub {len}, 16",
            "cmp {len}, 16",
            "jae 7b",
            "8:",
            "test {len}, {len}",
            "jz 3f",
            "movq {a}, qword ptr [{src}]",
            "movq qword ptr [{dst}], {a}",
            "xor {len:e}, {len:e}",
        ] []
            src = inout(reg) src => _,
            dst = inout(reg) dst => _,
            len = inout(reg) len => left,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack)
        );
    }
    left
}

/// Copies in vectors of 32 bytes, and smaller pieces at the end.
///
/// # Safety
///
/// As [`copy_bulk`]; the processor must have AVX.
#[inline(always)]
unsafe fn copy_wide(dst: *mut u8, src: *const u8, len: usize) -> usize {
    let left;
    // SAFETY: moves `len` bytes from `src` to `dst`, each block read whole before it is written. The upper halves of
    // the vector registers are cleared at the end, after a fault as well.
    unsafe {
        guarded_loop!([
            "cmp {len}, 128",
            "jb 6f",
            "5:",
            "vmovups ymm0, [{src}]",
            "vmovups ymm1, [{src} + 32]",
            "vmovups ymm2, [{src} + 64]",
            "vmovups ymm3, [{src} + 96]",
            "vmovups [{dst}], ymm0",
            "vmovups [{dst} + 32], ymm1",
            "vmovups [{dst} + 64], ymm2",
            "vmovups [{dst} + 96], ymm3",
            "sub {src}, -128",
            "sub {dst}, -128",
            "add {len}, -128",
            "cmp {len}, 128",
            "jae 5b",
            "6:",
            "cmp {len}, 32",
            "jb 8f",
            "7:",
            "vmovups ymm0, [{src}]",
            "vmovups [{dst}], ymm0",
            "add {src}, 32",
            "add {dst}, 32",
            "sub {len}, 32",
            "cmp {len}, 32",
            "jae 7b",
            "8:",
            "cmp {len}, 16",
            "jb 9f",
            "vmovups xmm0, [{src}]",
            "vmovups [{dst}], xmm0",
            "add {src}, 16",
            "add {dst}, 16",
            "sub {len}, 16",
            "9:",
            "test {len}, {len}",
            "jz 3f",
            "vmovq xmm0, qword ptr [{src}]",
            "vmovq qword ptr [{dst}], xmm0",
            "xor {len:e}, {len:e}",
        ] ["vzeroupper"]
            src = inout(reg) src => _,
            dst = inout(reg) dst => _,
            len = inout(reg) len => left,
            out("xmm0") _,
            out("xmm1") _,
            out("xmm2") _,
            out("xmm3") _,
            // The end clears the upper half of each.
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
            out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
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
    if len >= STRING_LEN {
        // SAFETY: the same contract.
        return unsafe { fill_string(dst, pattern, len) };
    }
    // SAFETY: the same contract.
    unsafe { fill_words(dst, pattern, len) }
}

/// Fills by the processor's string store.
///
/// # Safety
///
/// As [`fill_bulk`].
#[inline(always)]
unsafe fn fill_string(dst: *mut u8, pattern: u64, len: usize) -> usize {
    let left_words: usize;
    // SAFETY: writes `len` bytes from `dst` on, as `len` is a multiple of 8; the direction flag is clear by the ABI.
    unsafe {
        guarded_loop!(["rep stosq"] []
            inout("rcx") len / 8 => left_words,
            inout("rdi") dst => _,
            in("rax") pattern,
            options(nostack, preserves_flags)
        );
    }
    left_words.wrapping_mul(8)
}

/// Fills word by word.
///
/// # Safety
///
/// As [`fill_bulk`].
#[inline(always)]
unsafe fn fill_words(dst: *mut u8, pattern: u64, len: usize) -> usize {
    let left;
    // SAFETY: writes `len` bytes from `dst` on, as `len` is a multiple of 8.
    unsafe {
        guarded_loop!([
            "test {len}, {len}",
            "jz 3f",
            "5:",
            "mov qword ptr [{dst}], {pattern}",
            "add {dst}, 8",
            "sub {len}, 8",
            "jnz 5b",
        ] []
            dst = inout(reg) dst => _,
            len = inout(reg) len => left,
            pattern = in(reg) pattern,
            options(nostack)
        );
    }
    left
}

/// Reads `len` bytes, a multiple of 8, until a block is not zero or a page cannot be accessed; returns how many are left.
///
/// # Safety
///
/// `src` must be good for reads of `len` bytes, which others may access meanwhile.
#[inline(always)]
pub(crate) unsafe fn skip_zeroes(src: *const u8, len: usize) -> usize {
    let left;
    // SAFETY: reads at most `len` bytes from `src` on: whole blocks of 64, then words.
    unsafe {
        guarded_loop!([
            "pxor {zero}, {zero}",
            "5:",
            "cmp {len}, 64",
            "jb 6f",
            "movups {a}, [{src}]",
            "movups {b}, [{src} + 16]",
            "movups {c}, [{src} + 32]",
            "movups {d}, [{src} + 48]",
            "por {a}, {b}",
            "por {c}, {d}",
            "por {a}, {c}",
            "pcmpeqb {a}, {zero}",
            "pmovmskb {mask:e}, {a}",
            "cmp {mask:e}, 65535",
            "jne 3f",
            "add {src}, 64",
            "sub {len}, 64",
            "jmp 5b",
            "6:",
            "test {len}, {len}",
            "jz 3f",
            "cmp qword ptr [{src}], 0",
            "jne 3f",
            "add {src}, 8",
            "sub {len}, 8",
            "jmp 6b",
        ] []
            src = inout(reg) src => _,
            len = inout(reg) len => left,
            mask = out(reg) _,
            zero = out(xmm_reg) _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack)
        );
    }
    left
}
