// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Mappings by ascending IOVA, in chunks: found by two short searches in flat arrays, changed and copied at the cost of
//! a chunk and a list of chunks.

use std::sync::Arc;

use crate::chunk::{CHUNK_LEN, Chunk};
use crate::mapping::Mapping;

/// Chunks that were cut down to fewer are joined with the one before if they fit.
const FEW: usize = CHUNK_LEN / 4;

/// Mappings that do not overlap, by ascending IOVA; neighbours that say the same are one.
///
/// # Invariants
///
/// `firsts[i]` is the first IOVA of `chunks[i]`. No chunk is empty. All mappings, chunk after chunk, are in ascending
/// order, not empty, and do not overlap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    firsts: Vec<u64>,
    /// Shared with the copies of the table until one of them changes it.
    chunks: Vec<Arc<Chunk>>,
}

impl Table {
    /// Returns the mapping with `iova` in it.
    #[inline]
    pub(crate) fn find(&self, iova: u64) -> Option<&Mapping> {
        let chunk = self.chunks.get(self.chunk_of(iova)?)?;
        let number = chunk.count_to(iova).checked_sub(1)?;
        let mapping = chunk.as_slice().get(number)?;
        (iova <= mapping.last.0).then_some(mapping)
    }

    /// Returns the mapping with `iova` in it, or else the next one above.
    pub(crate) fn at_or_above(&self, iova: u64) -> Option<&Mapping> {
        let number = self.chunk_of(iova).unwrap_or(0);
        let chunk = self.chunks.get(number)?;
        let mappings = chunk.as_slice();
        let position = chunk.count_to(iova);
        let before = position.checked_sub(1).and_then(|at| mappings.get(at));
        before
            .filter(|mapping| iova <= mapping.last.0)
            .or_else(|| mappings.get(position))
            .or_else(|| {
                let next = self.chunks.get(number.checked_add(1)?)?;
                next.as_slice().first()
            })
    }

    /// Walks over all mappings by ascending IOVA.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.chunks.iter().flat_map(|chunk| chunk.as_slice())
    }

    /// Maps `[first, last]` to nothing but what `new` says.
    pub(crate) fn replace(&mut self, first: u64, last: u64, new: Option<Mapping>) {
        // With a neighbour on each side, which the new mapping may go on from or into.
        let start = self.chunk_of(first.saturating_sub(1)).unwrap_or(0);
        let end = self
            .chunk_of(last.saturating_add(1))
            .map_or(0, |at| at.saturating_add(1));
        if end.saturating_sub(start) != 1 || !self.replace_in(start, first, last, new) {
            self.replace_chunks(start, end, first, last, new);
        }
    }

    /// As [`replace`](Self::replace) where the chunk of this number has all that it is about; not if it overflows, or
    /// would have little left.
    fn replace_in(&mut self, number: usize, first: u64, last: u64, new: Option<Mapping>) -> bool {
        let Some(shared) = self.chunks.get_mut(number) else {
            return false;
        };
        let old = shared.as_slice();
        let mut end = shared.count_to(last);
        let mut start = shared.count_to(first).saturating_sub(1);
        if old.get(start).is_some_and(|mapping| mapping.last.0 < first) {
            start += 1;
        }
        // What they leave over, and what is new.
        let cut = old.get(start..end).unwrap_or_default();
        let below = cut.first().and_then(|mapping| mapping.below(first));
        let above = cut.last().and_then(|mapping| mapping.above(last));
        let mut parts = Parts::default();
        // The neighbours take part if nothing is left in between.
        if let (None, Some(before)) = (below, start.checked_sub(1).and_then(|at| old.get(at))) {
            parts.push(*before);
            start -= 1;
        }
        let next = old.get(end).filter(|_| above.is_none()).copied();
        for part in [below, new, above, next].into_iter().flatten() {
            parts.push(part);
        }
        end += usize::from(next.is_some());
        let parts = parts.as_slice();
        if old.get(start..end) == Some(parts) {
            return true;
        }
        let left = old.len() - (end - start) + parts.len();
        if left < usize::min(FEW, old.len()) && number > 0 {
            return false;
        }
        let chunk = Arc::make_mut(shared);
        if !chunk.splice(start, end, parts) {
            return false;
        }
        match (chunk.as_slice().first(), self.firsts.get_mut(number)) {
            (Some(mapping), Some(first)) => *first = mapping.first.0,
            _ => {
                self.chunks.remove(number);
                self.firsts.remove(number);
            }
        }
        true
    }

    /// As [`replace`](Self::replace), by making the chunks `[start, end)` anew.
    #[cold]
    fn replace_chunks(
        &mut self,
        start: usize,
        end: usize,
        first: u64,
        last: u64,
        new: Option<Mapping>,
    ) {
        let chunk = |number: usize| self.chunks.get(number).map(|chunk| chunk.as_slice());
        let left = chunk(start).filter(|_| start < end).unwrap_or_default();
        let right = chunk(end.wrapping_sub(1)).unwrap_or_default();
        let mut list: Vec<Mapping> = Vec::with_capacity(left.len() + right.len() + 2);
        let below = left.iter().map_while(|mapping| mapping.below(first));
        let above = right.iter().filter_map(|mapping| mapping.above(last));
        for mapping in below.chain(new).chain(above) {
            push_joined(&mut list, mapping);
        }
        self.put(start, end, list);
    }

    /// Puts a list in the place of the chunks `[start, end)`.
    fn put(&mut self, start: usize, end: usize, mut list: Vec<Mapping>) {
        let mut start = start.min(end);
        let before = start.checked_sub(1).and_then(|at| self.chunks.get(at));
        if let Some(chunk) = before
            && (1..FEW).contains(&list.len())
            && chunk.as_slice().len() + list.len() <= CHUNK_LEN
        {
            list.splice(0..0, chunk.as_slice().iter().copied());
            start -= 1;
        }
        // Behind the last mapping more of them may come, in ascending order; elsewhere all get room.
        let is_last = end == self.chunks.len();
        let count = list.len().div_ceil(CHUNK_LEN);
        let evenly = list.len().div_ceil(count.max(1)).max(1);
        let len = if is_last { CHUNK_LEN } else { evenly };
        let new = || list.chunks(len);
        let firsts = new()
            .filter_map(|chunk| chunk.first())
            .map(|mapping| mapping.first.0);
        self.firsts.splice(start..end, firsts);
        self.chunks.splice(start..end, new().map(Chunk::new));
    }

    /// Returns the number of the last chunk that starts at `iova` or below.
    #[inline(always)]
    fn chunk_of(&self, iova: u64) -> Option<usize> {
        self.firsts
            .partition_point(|&first| first <= iova)
            .checked_sub(1)
    }

    /// Panics if an invariant does not hold.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        assert_eq!(self.firsts.len(), self.chunks.len());
        for (first, chunk) in self.firsts.iter().zip(&self.chunks) {
            let mappings = chunk.as_slice();
            assert!((1..=CHUNK_LEN).contains(&mappings.len()));
            assert_eq!(*first, mappings[0].first.0);
            for (count, mapping) in mappings.iter().enumerate() {
                assert_eq!(chunk.count_to(mapping.first.0), count + 1);
            }
        }
        let all: Vec<_> = self.iter().collect();
        assert!(all.iter().all(|mapping| mapping.first <= mapping.last));
        for pair in all.windows(2) {
            assert!(pair[0].last < pair[1].first, "{pair:x?}");
            assert_eq!(pair[0].joined(pair[1]), None, "not joined: {pair:x?}");
        }
    }
}

/// Adds a mapping behind others, to the last one if it goes on from that.
fn push_joined(list: &mut Vec<Mapping>, mapping: Mapping) {
    match list.last_mut() {
        Some(last) if last.joined(&mapping).is_some() => last.last = mapping.last,
        _ => list.push(mapping),
    }
}

/// What comes of one change within a chunk: a neighbour, what is left below, the new one, what is left above or the
/// other neighbour. Three at most, since what is left takes the place of the neighbour.
struct Parts {
    len: usize,
    mappings: [Mapping; 3],
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            len: 0,
            mappings: [Mapping::NONE; 3],
        }
    }
}

impl Parts {
    /// Adds a mapping, to the last one if it goes on from that.
    fn push(&mut self, mapping: Mapping) {
        let last = self
            .len
            .checked_sub(1)
            .and_then(|at| self.mappings.get_mut(at));
        if let Some(last) = last
            && last.joined(&mapping).is_some()
        {
            last.last = mapping.last;
            return;
        }
        if let Some(place) = self.mappings.get_mut(self.len) {
            *place = mapping;
            self.len += 1;
        }
    }

    fn as_slice(&self) -> &[Mapping] {
        self.mappings.get(..self.len).unwrap_or_default()
    }
}
