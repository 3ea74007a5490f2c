// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Copies between two guest ranges that may overlap.
//!
//! Where both sides are aligned alike and the target does not begin within the source, words go straight over. Otherwise
//! they go through a small buffer of the host's. So that no aligned word of either is torn, each read ends at a word
//! boundary of the source and each write at one of the destination; what was read but does not fill a word of the
//! destination stays in the buffer for the next write.
#![expect(unsafe_code, reason = "touches guest memory through raw pointers")]

use core::ops::Range;

use super::steps::{BLOCK, WithinGuest, copy};
use super::{Fault, from_guest, to_guest};

/// Widest access that is never torn, in bytes.
const WORD: usize = 8;
/// Bytes that are read at once.
const CHUNK: usize = 512;
/// Room for a chunk and what the last write left over.
const CAPACITY: usize = CHUNK + WORD;

/// A copy that stopped at a page that cannot be accessed, on either side.
#[derive(Debug)]
pub(crate) struct Stuck {
    /// Offset of the first byte that was not copied, in the direction of the copy.
    pub(crate) at: usize,
    /// Offsets of the bytes that were.
    pub(crate) done: Range<usize>,
    /// Offsets of more bytes that were written, ahead of the others.
    pub(crate) ahead: Range<usize>,
}

/// Copies `len` bytes between two guest ranges, which may overlap: the result is as if the source
/// had been read whole before anything was written.
///
/// # Safety
///
/// `[src, src + len)` must be in a valid guest range, `[dst, dst + len)` in one that may be written.
pub(crate) unsafe fn guest_to_guest(dst: *mut u8, src: *const u8, len: usize) -> Result<(), Stuck> {
    // Against the direction of the overlap, so that no source byte is overwritten before it was read.
    if (1..len).contains(&dst.addr().wrapping_sub(src.addr())) {
        // SAFETY: the same contract.
        return unsafe { backwards(dst, src, len) };
    }
    let is_alike = (dst.addr() ^ src.addr()).is_multiple_of(WORD);
    // A block that stops at a page is copied again, so it must not have overwritten what it was read from.
    let is_close = (1..BLOCK).contains(&src.addr().wrapping_sub(dst.addr()));
    let copied = if is_alike && !is_close {
        // SAFETY: the same contract; aligned alike, and a target that overlaps begins before the source.
        unsafe { copy::<WithinGuest>(dst, src, len) }
    } else {
        // SAFETY: the same contract.
        unsafe { forwards(dst, src, len) }
    };
    copied.map_err(|Fault { completed }| Stuck {
        at: completed,
        done: 0..completed,
        ahead: 0..0,
    })
}

/// Copies from the first byte to the last.
///
/// # Safety
///
/// As [`guest_to_guest`].
unsafe fn forwards(dst: *mut u8, src: *const u8, len: usize) -> Result<(), Fault> {
    let mut buffer = [0u8; CAPACITY];
    // `[0, written)` is done, `[written, read)` stands at the start of the buffer.
    let (mut read, mut written) = (0usize, 0usize);
    while written < len {
        let read_end = down_to_word(src.addr(), usize::min(len, read.wrapping_add(CHUNK)), len);
        let held = read.wrapping_sub(written);
        // SAFETY: `read <= read_end <= len`; the buffer has room, as a chunk is at most `CHUNK` and what is held
        // is less than a word.
        let fetched = unsafe { fetch(&mut buffer, held, src, read, read_end) };
        // What was read before a fault is written, to the last byte.
        let write_end = match fetched {
            Ok(()) => {
                read = read_end;
                down_to_word(dst.addr(), read, len)
            }
            Err(Fault { completed }) => {
                read = read.wrapping_add(completed);
                read
            }
        };
        // SAFETY: `written <= write_end <= read <= len`, and the bytes from `written` on start the buffer.
        let put = unsafe { put(dst, written, write_end, &buffer, 0) };
        put.map_err(|Fault { completed }| Fault {
            completed: written.wrapping_add(completed),
        })?;
        fetched.map_err(|_| Fault { completed: read })?;
        buffer.copy_within(
            write_end.wrapping_sub(written)..read.wrapping_sub(written),
            0,
        );
        written = write_end;
    }
    Ok(())
}

/// Copies from the last byte to the first.
///
/// # Safety
///
/// As [`guest_to_guest`].
unsafe fn backwards(dst: *mut u8, src: *const u8, len: usize) -> Result<(), Stuck> {
    let mut buffer = [0u8; CAPACITY];
    // `[written, len)` is done, `[read, written)` stands at the end of the buffer.
    let (mut read, mut written) = (len, len);
    while written > 0 {
        let read_start = up_to_word(src.addr(), read.saturating_sub(CHUNK));
        let place = CAPACITY.wrapping_sub(written.wrapping_sub(read_start));
        // SAFETY: `read_start <= read <= len`; the buffer has room before what is held, as above.
        unsafe { fetch(&mut buffer, place, src, read_start, read) }.map_err(
            |Fault { completed }| Stuck {
                at: read_start.wrapping_add(completed),
                done: written..len,
                ahead: 0..0,
            },
        )?;
        read = read_start;
        let write_start = up_to_word(dst.addr(), read);
        let first = CAPACITY.wrapping_sub(written.wrapping_sub(write_start));
        // SAFETY: `read <= write_start <= written <= len`, and the bytes up to `written` end the buffer.
        unsafe { put(dst, write_start, written, &buffer, first) }.map_err(
            |Fault { completed }| Stuck {
                at: write_start.wrapping_add(completed),
                done: written..len,
                // The piece is written from its first byte on.
                ahead: write_start..write_start.wrapping_add(completed),
            },
        )?;
        let held = write_start.wrapping_sub(read);
        buffer.copy_within(first.wrapping_sub(held)..first, CAPACITY.wrapping_sub(held));
        written = write_start;
    }
    Ok(())
}

/// Returns the last word boundary of the range at `base` that is not behind `offset`, or the end itself.
fn down_to_word(base: usize, offset: usize, len: usize) -> usize {
    if offset == len {
        return len;
    }
    // The offset is at least a chunk, or a chunk less a word, so this does not come out below 0.
    offset.wrapping_sub(base.wrapping_add(offset) % WORD)
}

/// Returns the first word boundary of the range at `base` that is not before `offset`, or the start itself.
fn up_to_word(base: usize, offset: usize) -> usize {
    if offset == 0 {
        return 0;
    }
    offset.wrapping_add(base.wrapping_add(offset).wrapping_neg() % WORD)
}

/// Reads `[start, end)` of the source into the buffer, from `place` on.
///
/// # Safety
///
/// `[src + start, src + end)` must be in a valid guest range.
unsafe fn fetch(
    buffer: &mut [u8; CAPACITY],
    place: usize,
    src: *const u8,
    start: usize,
    end: usize,
) -> Result<(), Fault> {
    let count = end.wrapping_sub(start);
    let room = buffer.get_mut(place..).unwrap_or_default();
    assert!(count <= room.len(), "the buffer holds a chunk and a word");
    // SAFETY: the caller's range contains `start`.
    let from = unsafe { src.add(start) };
    // SAFETY: `count` bytes from there are in the caller's guest range, and the buffer has room for them.
    unsafe { from_guest(room.as_mut_ptr(), from, count) }
}

/// Writes what stands in the buffer from `first` on to `[start, end)` of the destination.
///
/// # Safety
///
/// `[dst + start, dst + end)` must be in a valid guest range that may be written.
unsafe fn put(
    dst: *mut u8,
    start: usize,
    end: usize,
    buffer: &[u8; CAPACITY],
    first: usize,
) -> Result<(), Fault> {
    let count = end.wrapping_sub(start);
    let held = buffer.get(first..).unwrap_or_default();
    assert!(count <= held.len(), "the buffer holds what is written");
    // SAFETY: the caller's range contains `start`.
    let to = unsafe { dst.add(start) };
    // SAFETY: `count` bytes from there are in the caller's writable guest range, and the buffer holds as many.
    unsafe { to_guest(to, held.as_ptr(), count) }
}
