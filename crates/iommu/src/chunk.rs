// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A few mappings by ascending IOVA, in place.

use std::sync::Arc;

use guest_memory_core::GuestAddress;

use crate::mapping::Mapping;

/// Mappings in a chunk at most: so many are searched in seven steps.
pub(crate) const CHUNK_LEN: usize = 127;

/// The steps of a search.
const STEPS: [usize; 7] = [64, 32, 16, 8, 4, 2, 1];

/// Mappings that do not overlap, by ascending IOVA.
///
/// # Invariants
///
/// `len` is at most [`CHUNK_LEN`]. `firsts` has the first IOVAs of the first `len` of `mappings`, and then `u64::MAX`.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    len: usize,
    /// Close together, for the search.
    firsts: [u64; CHUNK_LEN],
    mappings: [Mapping; CHUNK_LEN],
}

impl Chunk {
    /// Makes a chunk of mappings; those beyond [`CHUNK_LEN`] are left out.
    pub(crate) fn new(mappings: &[Mapping]) -> Arc<Self> {
        let mut chunk = Self {
            len: 0,
            firsts: [u64::MAX; CHUNK_LEN],
            mappings: [Mapping::NONE; CHUNK_LEN],
        };
        let fit = mappings.get(..CHUNK_LEN).unwrap_or(mappings);
        chunk.splice(0, 0, fit);
        Arc::new(chunk)
    }

    /// Returns the mappings.
    #[inline(always)]
    pub(crate) fn as_slice(&self) -> &[Mapping] {
        self.mappings.get(..self.len).unwrap_or(&self.mappings)
    }

    /// Returns how many mappings start at `iova` or below.
    #[inline(always)]
    pub(crate) fn count_to(&self, iova: u64) -> usize {
        let mut count = 0;
        for step in STEPS {
            // The steps add up to the length: it is never out of bounds.
            let is_below = self
                .firsts
                .get(count + step - 1)
                .is_some_and(|&first| first <= iova);
            count += if is_below { step } else { 0 };
        }
        // What fills up the rest is not above the last address.
        usize::min(count, self.len)
    }

    /// Puts mappings in the place of those of the numbers `[start, end)`, if there is room.
    pub(crate) fn splice(&mut self, start: usize, end: usize, new: &[Mapping]) -> bool {
        let (old_len, room) = (self.len, CHUNK_LEN - self.len);
        if start > end || end > old_len || new.len() > room + (end - start) {
            return false;
        }
        let new_end = start + new.len();
        let new_len = old_len - (end - start) + new.len();
        self.mappings.copy_within(end..old_len, new_end);
        self.firsts.copy_within(end..old_len, new_end);
        self.mappings[start..new_end].copy_from_slice(new);
        for (first, mapping) in self.firsts[start..new_end].iter_mut().zip(new) {
            let GuestAddress(iova) = mapping.first;
            *first = iova;
        }
        self.len = new_len;
        if let Some(rest) = self.firsts.get_mut(new_len..old_len) {
            rest.fill(u64::MAX);
        }
        true
    }
}
