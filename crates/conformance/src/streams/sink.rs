// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One call on a sink.

use guest_memory_volatile::WriteVolatile;

use super::rows::{Row, count_of, moved_of, uninterrupted};
use super::{Call, Ends};

/// Makes a call on a sink of `room` bytes that has taken those in `expected`, and adds what it takes now.
pub(super) fn apply<W: WriteVolatile>(
    call: &Call,
    stream: &mut W,
    room: usize,
    expected: &mut Vec<u8>,
    ends: Ends,
) -> Result<(), String> {
    let left = room.saturating_sub(expected.len());
    // Where the last byte stopped, so that a byte that is written twice shows.
    let first = expected.last().map_or(1, |byte| byte.wrapping_add(3));
    let (lengths, read_only) = match call {
        Call::Once(len) | Call::All(len) => (vec![*len], None),
        Call::Row(row) | Call::WholeRow(row) => (row.clone(), None),
        // Memory that must not be written can be read.
        Call::ReadOnlyRow { row, which, .. } => (row.clone(), which.checked_rem(row.len())),
    };
    let mut row = Row::new(&lengths);
    let filled = row.fill(first);
    let wanted = filled.len();
    let count = row.with(read_only, |slices| match call {
        Call::Once(_) => {
            let result = uninterrupted(|| stream.write_volatile(&slices[0]));
            count_of(result, wanted, left, ends)
        }
        Call::All(_) => moved_of(&stream.write_all_volatile(&slices[0]), wanted, left, ends),
        Call::Row(_) | Call::ReadOnlyRow { whole: false, .. } => {
            let result = uninterrupted(|| stream.write_vectored_volatile(slices));
            count_of(result, wanted, left, ends)
        }
        Call::WholeRow(_) | Call::ReadOnlyRow { whole: true, .. } => moved_of(
            &stream.write_all_vectored_volatile(slices),
            wanted,
            left,
            ends,
        ),
    })?;
    expected.extend_from_slice(&filled[..count]);
    row.expect_unchanged(&filled)
}
