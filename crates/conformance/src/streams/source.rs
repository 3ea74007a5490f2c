// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One call on a source.

use guest_memory_volatile::ReadVolatile;

use super::rows::{Row, count_of, moved_of, refused, uninterrupted};
use super::{Call, Ends};

/// Returns what a source of `len` bytes gives: neighbours differ, and so do stretches.
pub(super) fn data(len: usize) -> Vec<u8> {
    let byte = |at: usize| (at * 7 % 251 + at / 251).to_le_bytes()[0];
    (0..len).map(byte).collect()
}

/// Makes a call on a source that stands at `position` of its `data`, and moves the position on.
pub(super) fn apply<R: ReadVolatile>(
    call: &Call,
    stream: &mut R,
    data: &[u8],
    position: &mut usize,
    ends: Ends,
) -> Result<(), String> {
    let left = data.len() - *position;
    let (row, came) = match call {
        Call::Once(len) => {
            let mut row = Row::new(&[*len]);
            let result = row.with(None, |slices| {
                uninterrupted(|| stream.read_volatile(&mut slices[0]))
            });
            (row, count_of(result, *len, left, ends)?)
        }
        Call::All(len) => {
            let mut row = Row::new(&[*len]);
            let result = row.with(None, |slices| stream.read_exact_volatile(&mut slices[0]));
            (row, moved_of(&result, *len, left, ends)?)
        }
        Call::Row(lengths) => {
            let mut row = Row::new(lengths);
            let result = row.with(None, |slices| {
                uninterrupted(|| stream.read_vectored_volatile(slices))
            });
            let room = row.room();
            (row, count_of(result, room, left, ends)?)
        }
        Call::WholeRow(lengths) => {
            let mut row = Row::new(lengths);
            let result = row.with(None, |slices| stream.read_exact_vectored_volatile(slices));
            let room = row.room();
            (row, moved_of(&result, room, left, ends)?)
        }
        Call::ReadOnlyRow { row, which, whole } => {
            let Some(which) = which.checked_rem(row.len()) else {
                return Ok(());
            };
            // An empty slice holds nothing that could be written.
            if row[which] == 0 {
                return Ok(());
            }
            let (is_alone, mut row) = (row.len() == 1, Row::new(row));
            row.with(Some(which), |slices| match (is_alone, whole) {
                (true, false) => refused(stream.read_volatile(&mut slices[0])),
                (false, false) => refused(stream.read_vectored_volatile(slices)),
                (true, true) => refused(stream.read_exact_volatile(&mut slices[0])),
                (false, true) => refused(stream.read_exact_vectored_volatile(slices)),
            })?;
            (row, 0)
        }
    };
    row.expect_filled(&data[*position..][..came])?;
    *position += came;
    Ok(())
}
