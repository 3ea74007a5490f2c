// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Slices for streams: where they lie, what they hold, and what errors say.

use std::fmt::Debug;
use std::io::ErrorKind;
use std::num::NonZeroUsize;

use guest_memory_bitmap::{AtomicBitmap, Bitmap, RefSlice};
use guest_memory_volatile::{VolatileMemoryError, VolatileSlice};

use super::Ends;
use crate::config::expect_bytes;

/// Bytes between two slices, which nobody may touch.
const GAP: usize = 3;

/// What untouched memory holds.
pub(super) const FILL: u8 = 0xa5;

/// How often a call may be interrupted in a row before it counts as never to come back.
const INTERRUPTIONS: usize = 1000;

/// Memory for a row of slices, which marks byte by byte.
pub(super) struct Row {
    bytes: Vec<u8>,
    bitmap: AtomicBitmap,
    places: Vec<(usize, usize)>,
}

impl Row {
    /// Makes slices of so many bytes, with gaps between them.
    pub(super) fn new(lengths: &[usize]) -> Self {
        let mut next = GAP;
        let mut places = Vec::new();
        for &len in lengths {
            places.push((next, len));
            next += len + GAP;
        }
        Self {
            bytes: vec![FILL; next],
            bitmap: AtomicBitmap::new(next, NonZeroUsize::MIN),
            places,
        }
    }

    /// Returns the number of bytes of all slices.
    pub(super) fn room(&self) -> usize {
        self.places.iter().map(|place| place.1).sum()
    }

    /// Fills the slices with bytes that count on from one slice to the next; returns them.
    pub(super) fn fill(&mut self, mut next: u8) -> Vec<u8> {
        let mut all = Vec::new();
        for &(start, len) in &self.places {
            for byte in &mut self.bytes[start..][..len] {
                *byte = next;
                all.push(next);
                next = next.wrapping_add(3);
            }
        }
        all
    }

    /// Hands the slices to `call`, those of `read_only` as ones that must not be written.
    pub(super) fn with<T>(
        &mut self,
        read_only: Option<usize>,
        call: impl FnOnce(&mut [VolatileSlice<'_, RefSlice<'_, AtomicBitmap>>]) -> T,
    ) -> T {
        let whole = VolatileSlice::from(&mut *self.bytes).replace_bitmap(self.bitmap.slice_at(0));
        let mut slices: Vec<_> = self
            .places
            .iter()
            .filter_map(|&(start, len)| whole.subslice(start, len).ok())
            .collect();
        if let Some(slice) = read_only.and_then(|which| slices.get_mut(which)) {
            *slice = (*slice).into_read_only();
        }
        call(&mut slices)
    }

    /// Checks that the slices hold `came` from their first byte on, and everything else what it held, and that those bytes
    /// alone are marked.
    pub(super) fn expect_filled(&self, came: &[u8]) -> Result<(), String> {
        let mut expected = vec![FILL; self.bytes.len()];
        let mut is_dirty = vec![false; self.bytes.len()];
        let mut rest = came;
        for &(start, len) in &self.places {
            let (here, behind) = rest.split_at(len.min(rest.len()));
            expected[start..][..here.len()].copy_from_slice(here);
            is_dirty[start..][..here.len()].fill(true);
            rest = behind;
        }
        expect_bytes("the memory around the slices", 0, &self.bytes, &expected)?;
        self.expect_marks(|offset| is_dirty[offset])
    }

    /// Checks that nothing but the slices, filled as by [`fill`](Self::fill), is there, and no mark.
    pub(super) fn expect_unchanged(&self, filled: &[u8]) -> Result<(), String> {
        let mut expected = vec![FILL; self.bytes.len()];
        let mut rest = filled;
        for &(start, len) in &self.places {
            let (here, behind) = rest.split_at(len);
            expected[start..][..len].copy_from_slice(here);
            rest = behind;
        }
        expect_bytes("the memory that was read", 0, &self.bytes, &expected)?;
        self.expect_marks(|_| false)
    }

    fn expect_marks(&self, expected: impl Fn(usize) -> bool) -> Result<(), String> {
        for offset in 0..self.bytes.len() {
            let (found, expected) = (self.bitmap.dirty_at(offset), expected(offset));
            if found != expected {
                let word = |dirty| if dirty { "dirty" } else { "clean" };
                return Err(format!(
                    "offset {offset} of the memory around the slices is {}, expected {}",
                    word(found),
                    word(expected)
                ));
            }
        }
        Ok(())
    }
}

/// Repeats a call as long as a signal interrupts it.
pub(super) fn uninterrupted(
    mut call: impl FnMut() -> Result<usize, VolatileMemoryError>,
) -> Result<usize, VolatileMemoryError> {
    let mut result = call();
    for _ in 0..INTERRUPTIONS {
        match result {
            Err(VolatileMemoryError::IOError(error)) if error.kind() == ErrorKind::Interrupted => {
                result = call();
            }
            done => return done,
        }
    }
    result
}

/// Checks the answer of one call with room for `room` bytes, of a stream that has `left`; returns the count.
pub(super) fn count_of(
    result: Result<usize, VolatileMemoryError>,
    room: usize,
    left: usize,
    ends: Ends,
) -> Result<usize, String> {
    let most = if ends == Ends::Never {
        room
    } else {
        room.min(left)
    };
    let breaks = ends == Ends::WithAnError && left == 0 && room > 0;
    match result {
        Ok(count) if breaks => Err(format!("returned Ok({count}), expected the stream's error")),
        Ok(0) if most > 0 => Err(format!("returned Ok(0), expected 1 to {most} bytes")),
        Ok(count) if count > most => Err(format!(
            "returned Ok({count}), expected at most {most} bytes"
        )),
        Ok(count) => Ok(count),
        Err(VolatileMemoryError::IOError(_)) if breaks => Ok(0),
        Err(error) => Err(format!("returned {error:?}, expected up to {most} bytes")),
    }
}

/// Checks the answer of an exact form that wanted `wanted` bytes of a stream that has `left`; returns how many it has to have moved.
pub(super) fn moved_of(
    result: &Result<(), VolatileMemoryError>,
    wanted: usize,
    left: usize,
    ends: Ends,
) -> Result<usize, String> {
    let possible = if ends == Ends::Never {
        wanted
    } else {
        wanted.min(left)
    };
    match result {
        Ok(()) if possible == wanted => Ok(wanted),
        Err(VolatileMemoryError::IOError(_)) if possible == 0 && wanted > 0 => Ok(0),
        Err(VolatileMemoryError::PartialStream {
            expected,
            completed,
            ..
        }) if (0 < possible && possible < wanted)
            && (*expected, *completed) == (wanted, possible) =>
        {
            Ok(possible)
        }
        other => Err(format!(
            "returned {other:?}, expected {}",
            match possible {
                _ if possible == wanted => "success".to_owned(),
                0 => "the stream's error alone".to_owned(),
                _ => format!("PartialStream after {possible} of {wanted} bytes"),
            }
        )),
    }
}

/// Checks that a call was refused because memory must not be written.
pub(super) fn refused<T: Debug>(result: Result<T, VolatileMemoryError>) -> Result<(), String> {
    match result {
        Err(VolatileMemoryError::ReadOnly { .. }) => Ok(()),
        other => Err(format!("returned {other:?}, expected ReadOnly")),
    }
}
