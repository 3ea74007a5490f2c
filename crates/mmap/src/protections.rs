// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The protections of a region's pages, where they differ or may change while the region is in use.

use std::io;
use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use crate::Protection;

/// Which part of a region has which protection.
#[derive(Debug)]
pub(crate) struct Protections {
    pieces: RwLock<Vec<Piece>>,
}

/// Bytes of one protection, from the end of the piece before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Piece {
    end: usize,
    protection: Protection,
}

impl Protections {
    /// Describes `len_bytes` bytes of one protection.
    pub(crate) fn uniform(len_bytes: usize, protection: Protection) -> Self {
        let all = Piece {
            end: len_bytes,
            protection,
        };
        Self {
            pieces: RwLock::new(vec![all]),
        }
    }

    /// Returns what may be done with all of `[offset, offset + count)`; of no bytes what may be done with the one there.
    pub(crate) fn over(&self, offset: usize, count: usize) -> Protection {
        let end = offset.saturating_add(count.max(1));
        let pieces = self.pieces.read().unwrap_or_else(PoisonError::into_inner);
        let first = pieces.partition_point(|piece| piece.end <= offset);
        let mut least = Protection::ReadWrite;
        for piece in pieces.iter().skip(first) {
            least = least.min(piece.protection);
            if piece.end >= end {
                break;
            }
        }
        least
    }

    /// Lists the parts of a range by what may be done with them, in order.
    pub(crate) fn parts(&self, range: Range<usize>) -> Vec<(Range<usize>, Protection)> {
        let pieces = self.pieces.read().unwrap_or_else(PoisonError::into_inner);
        let first = pieces.partition_point(|piece| piece.end <= range.start);
        let mut parts = Vec::new();
        let mut start = range.start;
        for piece in pieces.iter().skip(first) {
            if start >= range.end {
                break;
            }
            let end = usize::min(piece.end, range.end);
            parts.push((start..end, piece.protection));
            start = end;
        }
        parts
    }

    /// Changes `[offset, offset + count)` by the given call, under the lock.
    ///
    /// If the call fails, some pages may have changed: what both protections allow is noted for all.
    pub(crate) fn change(
        &self,
        offset: usize,
        count: usize,
        protection: Protection,
        call: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let end = offset.saturating_add(count);
        let mut pieces = self.pieces.write().unwrap_or_else(PoisonError::into_inner);
        // First what both allow: whatever happens in the call, nothing is noted that does not hold.
        rewrite(&mut pieces, offset, end, |old| old.min(protection));
        call()?;
        rewrite(&mut pieces, offset, end, |_| protection);
        Ok(())
    }
}

/// Replaces the protection of `[start, end)`, and joins neighbours that have become alike.
fn rewrite(
    pieces: &mut Vec<Piece>,
    start: usize,
    end: usize,
    change: impl Fn(Protection) -> Protection,
) {
    let mut rewritten = Vec::<Piece>::with_capacity(pieces.len().saturating_add(2));
    let mut push = |end: usize, protection: Protection| match rewritten.last_mut() {
        Some(last) if last.end >= end => {}
        Some(last) if last.protection == protection => last.end = end,
        _ => rewritten.push(Piece { end, protection }),
    };
    let mut piece_start = 0;
    for piece in pieces.iter() {
        if piece_start < start {
            push(piece.end.min(start), piece.protection);
        }
        if piece.end > start && piece_start < end {
            push(piece.end.min(end), change(piece.protection));
        }
        if piece.end > end {
            push(piece.end, piece.protection);
        }
        piece_start = piece.end;
    }
    *pieces = rewritten;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEN: usize = 64;

    fn any_protection() -> impl Strategy<Value = Protection> {
        prop_oneof![
            Just(Protection::NoAccess),
            Just(Protection::ReadOnly),
            Just(Protection::ReadWrite)
        ]
    }

    proptest! {
        #[test]
        fn pieces_say_what_a_byte_by_byte_list_says(
            changes in prop::collection::vec((0..LEN, 0..LEN, any_protection(), any::<bool>()), 0..20),
        ) {
            let protections = Protections::uniform(LEN, Protection::ReadWrite);
            let mut model = [Protection::ReadWrite; LEN];
            for (offset, count, protection, fails) in changes {
                let end = (offset + count).min(LEN);
                let call = || if fails { Err(io::Error::other("refused")) } else { Ok(()) };
                let changed = protections.change(offset, end - offset, protection, call);
                prop_assert_eq!(changed.is_err(), fails);
                for byte in &mut model[offset..end] {
                    *byte = if fails { protection.min(*byte) } else { protection };
                }
            }
            for offset in 0..LEN {
                for count in 0..=LEN - offset {
                    let bytes = &model[offset..offset + count.max(1)];
                    prop_assert_eq!(protections.over(offset, count), *bytes.iter().min().unwrap());
                    let parts = protections.parts(offset..offset + count);
                    let listed: Vec<_> = parts
                        .iter()
                        .flat_map(|(range, protection)| range.clone().map(|byte| (byte, *protection)))
                        .collect();
                    let expected: Vec<_> = (offset..offset + count).map(|byte| (byte, model[byte])).collect();
                    prop_assert_eq!(listed, expected);
                }
            }
            let pieces = protections.pieces.read().unwrap();
            prop_assert!(pieces.windows(2).all(|pair| pair[0].protection != pair[1].protection && pair[0].end < pair[1].end));
        }
    }
}
