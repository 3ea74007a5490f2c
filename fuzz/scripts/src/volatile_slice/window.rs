// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Windows on one buffer, and the naive twin: its bytes, and the pages of the bitmaps that windows mark.

use std::fmt::Debug;

use guest_memory_bitmap::{AtomicBitmap, RefSlice};
use guest_memory_volatile::{VolatileMemoryError as Error, VolatileSlice};

use crate::pages::Pages;

/// Bitmaps that windows mark.
pub(super) const LOGS: usize = 2;

pub(super) type Log<'a> = RefSlice<'a, AtomicBitmap>;
pub(super) type Slice<'a> = VolatileSlice<'a, Log<'a>>;

/// A slice under test and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window<'a> {
    pub(super) slice: Slice<'a>,
    /// Offset in the buffer.
    pub(super) at: usize,
    pub(super) len: usize,
    pub(super) is_read_only: bool,
    /// The bitmap that it marks, and the offset in that.
    pub(super) log: usize,
    pub(super) log_at: usize,
}

impl<'a> Window<'a> {
    /// Puts the part `[offset, offset + len)` of the window in its place; `slice` is what the subject made of it.
    ///
    /// # Panics
    ///
    /// When that is another part.
    pub(super) fn narrow(&mut self, slice: Slice<'a>, offset: usize, len: usize) {
        let host = |slice: &Slice<'a>| slice.ptr_guard_mut().as_ptr().addr();
        assert_eq!(host(&slice), host(&self.slice) + offset, "the part's place");
        assert_eq!(slice.len(), len, "the part's length");
        assert_eq!(slice.is_empty(), len == 0, "the part is empty");
        assert_eq!(slice.is_read_only(), self.is_read_only, "as the whole");
        self.slice = slice;
        self.at += offset;
        self.log_at += offset;
        self.len = len;
    }

    /// As [`narrow`](Self::narrow), with a part that the subject may refuse to make: then it must reach past the end. Returns
    /// whether there is one.
    pub(super) fn narrow_to(
        &mut self,
        found: Result<Slice<'a>, Error>,
        offset: usize,
        len: usize,
    ) -> bool {
        let flaws = self.flaws(offset, len, Kind::Read);
        if let Ok(part) = &found {
            self.narrow(*part, offset, len);
        }
        settle(found.map(drop), unless(flaws))
    }

    /// Says what keeps an access of `size` bytes at `addr` from being made as a whole.
    pub(super) fn flaws(&self, addr: usize, size: usize, kind: Kind) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        match addr.checked_add(size) {
            None => flaws.push(Flaw::Overflow(addr, size)),
            Some(end) if end > self.len => flaws.push(Flaw::OutOfBounds(end)),
            Some(_) => {}
        }
        if kind == Kind::Write && self.is_read_only {
            flaws.push(Flaw::ReadOnly(addr));
        }
        flaws
    }

    /// As [`flaws`](Self::flaws), for an atomic access, whose host address must be aligned to its size.
    pub(super) fn atomic_flaws(&self, addr: usize, size: usize, kind: Kind) -> Vec<Flaw> {
        let mut flaws = self.flaws(addr, size, kind);
        let first = self.slice.ptr_guard().as_ptr();
        let host = first.addr().wrapping_add(addr);
        if !host.is_multiple_of(size) {
            flaws.push(Flaw::Misaligned(host, size));
        }
        flaws
    }

    /// Returns how many of `len` bytes at `addr` an access moves that may be cut short, or what keeps it from any.
    pub(super) fn part(&self, addr: usize, len: usize, kind: Kind) -> Result<usize, Vec<Flaw>> {
        if len == 0 {
            return Ok(0);
        }
        let mut flaws = self.flaws(addr, 0, kind);
        if addr >= self.len {
            flaws.push(Flaw::OutOfBounds(addr));
        }
        if flaws.is_empty() {
            Ok(len.min(self.len - addr))
        } else {
            Err(flaws)
        }
    }

    /// As [`part`](Self::part), for an access that says so when it was cut short.
    pub(super) fn whole(&self, addr: usize, len: usize, kind: Kind) -> Result<(), Vec<Flaw>> {
        let completed = self.part(addr, len, kind)?;
        if completed < len {
            return Err(vec![Flaw::Partial(len, completed)]);
        }
        Ok(())
    }
}

/// Whether an access needs memory that may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
}

/// Why an access must fail, in the terms of the error that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    OutOfBounds(usize),
    Overflow(usize, usize),
    TooBig(usize, usize),
    ReadOnly(usize),
    Misaligned(usize, usize),
    Partial(usize, usize),
}

impl Flaw {
    /// Names the flaw that an error names, if it is one that can be.
    fn of(error: &Error) -> Option<Self> {
        match *error {
            Error::OutOfBounds { addr } => Some(Flaw::OutOfBounds(addr)),
            Error::Overflow { base, offset } => Some(Flaw::Overflow(base, offset)),
            Error::TooBig { nelements, size } => Some(Flaw::TooBig(nelements, size)),
            Error::ReadOnly { addr } => Some(Flaw::ReadOnly(addr)),
            Error::Misaligned { addr, alignment } => Some(Flaw::Misaligned(addr, alignment)),
            Error::PartialBuffer {
                expected,
                completed,
            } => Some(Flaw::Partial(expected, completed)),
            _ => None,
        }
    }
}

/// Makes success of no flaws.
pub(super) fn unless(flaws: Vec<Flaw>) -> Result<(), Vec<Flaw>> {
    if flaws.is_empty() { Ok(()) } else { Err(flaws) }
}

/// Checks that a result is the expected one: the same value, or an error that names a flaw which is there. Returns whether
/// it is a success.
///
/// # Panics
///
/// When it is not.
pub(super) fn settle<V: PartialEq + Debug>(
    found: Result<V, Error>,
    expected: Result<V, Vec<Flaw>>,
) -> bool {
    let is_right = match (&found, &expected) {
        (Ok(found), Ok(expected)) => found == expected,
        (Err(error), Err(flaws)) => Flaw::of(error).is_some_and(|flaw| flaws.contains(&flaw)),
        _ => false,
    };
    assert!(is_right, "returned {found:?}, expected {expected:?}");
    found.is_ok()
}

/// What the buffer and the bitmaps have to hold.
#[derive(Debug)]
pub(super) struct Twin {
    /// The bytes of the first window.
    pub(super) bytes: Vec<u8>,
    pub(super) logs: [Pages; LOGS],
}

impl Twin {
    /// Returns bytes that are there; none are anywhere.
    pub(super) fn read(&self, window: &Window<'_>, addr: usize, len: usize) -> &[u8] {
        if len == 0 {
            return &[];
        }
        &self.bytes[window.at + addr..][..len]
    }

    /// Stores bytes for which there is room, and marks them.
    pub(super) fn write(&mut self, window: &Window<'_>, addr: usize, data: &[u8]) {
        self.bytes[window.at + addr..][..data.len()].copy_from_slice(data);
        self.mark(window, addr, data.len());
    }

    pub(super) fn mark(&mut self, window: &Window<'_>, addr: usize, len: usize) {
        let start = (window.log_at + addr) as u128;
        self.logs[window.log].set_bytes(start..start + len as u128, true);
    }
}
