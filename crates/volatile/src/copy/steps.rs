// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Copies cut into single accesses and a bulk.
//!
//! A copy of 1, 2, 4 or 8 bytes at an aligned guest address is one access. Any other is cut at the guest side's natural
//! boundaries: small steps up to an aligned address, the bulk, small steps for the rest.
#![expect(unsafe_code, reason = "touches guest memory through raw pointers")]

use super::Fault;
use super::engine::copy_bulk;
use super::word::Word;

/// Bytes that the bulk of any engine moves at most before it counts them.
pub(super) const BLOCK: usize = 128;

/// Which of the two sides is the guest's.
pub(super) trait Direction {
    /// Returns a side that is the guest's.
    fn guest(dst: *mut u8, src: *const u8) -> *const u8;

    /// Moves one word, in no order with other accesses: a plain copy promises none.
    ///
    /// # Safety
    ///
    /// As the copy, with the size of `W` as length; a guest's side must be aligned for `W`.
    unsafe fn piece<W: Word>(dst: *mut u8, src: *const u8) -> Result<(), Fault>;
}

pub(super) struct FromGuest;

impl Direction for FromGuest {
    #[inline(always)]
    fn guest(_dst: *mut u8, src: *const u8) -> *const u8 {
        src
    }

    #[inline(always)]
    unsafe fn piece<W: Word>(dst: *mut u8, src: *const u8) -> Result<(), Fault> {
        // SAFETY: aligned and in a valid guest range by this function's contract.
        let word = unsafe { W::load(src) }?;
        // SAFETY: the host's side has room for the word; an unaligned write needs no alignment.
        unsafe { dst.cast::<W>().write_unaligned(word) };
        Ok(())
    }
}

pub(super) struct ToGuest;

impl Direction for ToGuest {
    #[inline(always)]
    fn guest(dst: *mut u8, _src: *const u8) -> *const u8 {
        dst
    }

    #[inline(always)]
    unsafe fn piece<W: Word>(dst: *mut u8, src: *const u8) -> Result<(), Fault> {
        // SAFETY: the host's side has these initialised bytes, any of which are a word; an unaligned read needs no
        // alignment.
        let word = unsafe { src.cast::<W>().read_unaligned() };
        // SAFETY: aligned and in a valid, writable guest range by this function's contract.
        unsafe { W::store(dst, word) }
    }
}

/// From guest to guest, where both sides are aligned alike.
pub(super) struct WithinGuest;

impl Direction for WithinGuest {
    #[inline(always)]
    fn guest(dst: *mut u8, _src: *const u8) -> *const u8 {
        dst
    }

    #[inline(always)]
    unsafe fn piece<W: Word>(dst: *mut u8, src: *const u8) -> Result<(), Fault> {
        // SAFETY: aligned and in a valid guest range by this function's contract.
        let word = unsafe { W::load(src) }?;
        // SAFETY: as above, and writable.
        unsafe { W::store(dst, word) }
    }
}

/// Says whether an address is a multiple of a power of two.
#[inline(always)]
pub(super) fn is_aligned(address: *const u8, size: usize) -> bool {
    address.addr() & size.wrapping_sub(1) == 0
}

/// Copies `len` bytes, from the first to the last.
///
/// What is inlined is the copy of some words; what is decided by the length goes through calls, so that the code around a
/// copy stays small.
///
/// # Safety
///
/// As [`super::from_guest`], [`super::to_guest`] or [`super::guest_to_guest`], according to the direction; within the
/// guest both sides must be aligned alike, and a target that overlaps the source must begin [`BLOCK`] bytes before it,
/// or further.
#[inline(always)]
pub(super) unsafe fn copy<D: Direction>(
    dst: *mut u8,
    src: *const u8,
    len: usize,
) -> Result<(), Fault> {
    if len <= 16 {
        // SAFETY: the same contract.
        return unsafe { copy_short::<D>(dst, src, len) };
    }
    if is_aligned(D::guest(dst, src), 8) && len.is_multiple_of(8) {
        // SAFETY: the same contract; aligned to 8 and a multiple of 8, as just checked.
        return unsafe { copy_words::<D>(dst, src, len) };
    }
    // SAFETY: the same contract.
    unsafe { copy_uneven::<D>(dst, src, len) }
}

/// As [`copy_sized`], apart.
///
/// # Safety
///
/// As [`copy`].
#[inline(never)]
unsafe fn copy_short<D: Direction>(dst: *mut u8, src: *const u8, len: usize) -> Result<(), Fault> {
    // SAFETY: the same contract.
    unsafe { copy_sized::<D>(dst, src, len) }
}

/// As [`copy`], for a length that the compiler knows.
///
/// # Safety
///
/// As [`copy`].
#[inline(always)]
pub(super) unsafe fn copy_sized<D: Direction>(
    dst: *mut u8,
    src: *const u8,
    len: usize,
) -> Result<(), Fault> {
    let guest = D::guest(dst, src);
    match len {
        // SAFETY: the length is the word's and the guest's side aligned, as the pattern says.
        1 => unsafe { D::piece::<u8>(dst, src) },
        // SAFETY: likewise.
        2 if is_aligned(guest, 2) => unsafe { D::piece::<u16>(dst, src) },
        // SAFETY: likewise.
        4 if is_aligned(guest, 4) => unsafe { D::piece::<u32>(dst, src) },
        // SAFETY: likewise.
        8 if is_aligned(guest, 8) => unsafe { D::piece::<u64>(dst, src) },
        // Descriptors of devices have this size.
        16 if is_aligned(guest, 8) => {
            // SAFETY: the first half of the length, aligned.
            unsafe { D::piece::<u64>(dst, src) }?;
            // SAFETY: within the caller's range.
            let dst = unsafe { dst.add(8) };
            // SAFETY: within the caller's range.
            let src = unsafe { src.add(8) };
            // SAFETY: the second half, aligned as the first.
            unsafe { D::piece::<u64>(dst, src) }.map_err(|_| Fault { completed: 8 })
        }
        // SAFETY: the same contract.
        _ => unsafe { copy_uneven::<D>(dst, src, len) },
    }
}

/// Copies words of 8 bytes, which most long copies are made of.
///
/// # Safety
///
/// As [`copy`]; the guest's side must be aligned to 8 and `len` a multiple of 8.
#[inline(always)]
unsafe fn copy_words<D: Direction>(dst: *mut u8, src: *const u8, len: usize) -> Result<(), Fault> {
    // SAFETY: the same contract.
    let left = unsafe { copy_bulk::<D>(dst, src, len) };
    if left == 0 {
        return Ok(());
    }
    // SAFETY: the same contract; the bulk moved what comes before the rest.
    unsafe { find_fault::<D>(dst, src, len, left) }
}

/// Goes on where the bulk stopped, word by word, to find the one that faults.
///
/// # Safety
///
/// As [`copy_words`]; `left` must be at most `len`.
#[cold]
#[inline(never)]
unsafe fn find_fault<D: Direction>(
    dst: *mut u8,
    src: *const u8,
    len: usize,
    left: usize,
) -> Result<(), Fault> {
    let done = len.wrapping_sub(left);
    // SAFETY: within the caller's range, as what is left is a part of it.
    let dst = unsafe { dst.add(done) };
    // SAFETY: as above.
    let src = unsafe { src.add(done) };
    // SAFETY: what is left of the caller's range.
    let rest = unsafe { copy_uneven::<D>(dst, src, left) };
    rest.map_err(|Fault { completed }| Fault {
        completed: completed.wrapping_add(done),
    })
}

/// Copies any length at any alignment.
///
/// # Safety
///
/// As [`copy`].
#[inline(never)]
unsafe fn copy_uneven<D: Direction>(dst: *mut u8, src: *const u8, len: usize) -> Result<(), Fault> {
    let mut rest = Rest {
        dst,
        src,
        left: len,
    };
    // SAFETY: the same contract.
    let moved = unsafe { rest.copy::<D>() };
    moved.map_err(|_| Fault {
        completed: len.wrapping_sub(rest.left),
    })
}

/// What is left of a copy.
///
/// # Invariants
///
/// `dst` and `src` are good for a copy of `left` bytes.
struct Rest {
    dst: *mut u8,
    src: *const u8,
    left: usize,
}

impl Rest {
    /// Copies what is left.
    ///
    /// # Safety
    ///
    /// As [`copy`] for what is left.
    #[inline(always)]
    unsafe fn copy<D: Direction>(&mut self) -> Result<(), Fault> {
        if !self.is_aligned::<D>(8) {
            if !self.is_aligned::<D>(2) {
                // SAFETY: a byte is always aligned.
                unsafe { self.step::<D, u8>() }?;
            }
            if !self.is_aligned::<D>(4) {
                // SAFETY: aligned to 2 by the step before, unless nothing is left.
                unsafe { self.step::<D, u16>() }?;
            }
            if !self.is_aligned::<D>(8) {
                // SAFETY: aligned to 4 by the step before, unless less than 2 bytes are left.
                unsafe { self.step::<D, u32>() }?;
            }
        }
        // From here on the guest's side is aligned to 8, or to each power of two that is at most `left`.
        // SAFETY: as just said; what the bulk leaves is still aligned so.
        unsafe { self.bulk::<D>() }?;
        if self.left == 0 {
            return Ok(());
        }
        // SAFETY: aligned to 4 if 4 bytes are left, as said above.
        unsafe { self.step::<D, u32>() }?;
        // SAFETY: aligned to 2 if 2 bytes are left: the step before took 4 bytes or none.
        unsafe { self.step::<D, u16>() }?;
        // SAFETY: a byte is always aligned.
        unsafe { self.step::<D, u8>() }
    }

    /// Moves one word if there is that much left.
    ///
    /// # Safety
    ///
    /// As the copy of what is left; the guest's side must be aligned for `W` if that much is left.
    #[inline(always)]
    unsafe fn step<D: Direction, W: Word>(&mut self) -> Result<(), Fault> {
        if self.left < size_of::<W>() {
            return Ok(());
        }
        // SAFETY: at least the word's size is left (just checked), and the caller says it is aligned.
        unsafe { D::piece::<W>(self.dst, self.src) }?;
        // SAFETY: at most the end of what was left.
        unsafe { self.advance(size_of::<W>()) };
        Ok(())
    }

    /// Moves all words of 8 bytes.
    ///
    /// # Safety
    ///
    /// As the copy of what is left; the guest's side must be aligned to 8 if 8 bytes are left.
    #[inline(always)]
    unsafe fn bulk<D: Direction>(&mut self) -> Result<(), Fault> {
        let len = self.left & !7;
        if len == 0 {
            return Ok(());
        }
        // SAFETY: a multiple of 8, at most what is left; the caller says it is aligned.
        let stuck = unsafe { copy_bulk::<D>(self.dst, self.src, len) };
        // SAFETY: what the bulk moved is at most what was left.
        unsafe { self.advance(len.wrapping_sub(stuck)) };
        if stuck != 0 {
            // SAFETY: still aligned, as the bulk moves multiples of 8.
            return unsafe { self.words::<D>() };
        }
        Ok(())
    }

    /// Moves word by word up to the one that faults, where the bulk only knows the block.
    ///
    /// # Safety
    ///
    /// As [`bulk`](Self::bulk).
    #[cold]
    unsafe fn words<D: Direction>(&mut self) -> Result<(), Fault> {
        while self.left >= size_of::<u64>() {
            // SAFETY: aligned, by the caller and since each step moves 8 bytes.
            unsafe { self.step::<D, u64>() }?;
        }
        Ok(())
    }

    /// # Safety
    ///
    /// `count` must be at most `left`.
    #[inline(always)]
    unsafe fn advance(&mut self, count: usize) {
        // SAFETY: at most the end of what was left.
        self.dst = unsafe { self.dst.add(count) };
        // SAFETY: as above.
        self.src = unsafe { self.src.add(count) };
        self.left = self.left.wrapping_sub(count);
    }

    #[inline(always)]
    fn is_aligned<D: Direction>(&self, size: usize) -> bool {
        is_aligned(D::guest(self.dst, self.src), size)
    }
}
