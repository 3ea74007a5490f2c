// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The naive twin: what memory and its dirty pages look like, written to be obviously right.
//!
//! A [`Model`] is a sorted list of [`Span`]s; each is a `Vec<u8>` and a `BTreeSet` of dirty page
//! numbers. Nothing here is fast, and all address sums are made in 128 bits so that none can wrap.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

/// One contiguous range of modelled memory, `[start, start + len)`.
#[derive(Clone, Debug)]
pub struct Span {
    start: u64,
    bytes: Vec<u8>,
    page_size: Option<NonZeroUsize>,
    dirty_pages: BTreeSet<usize>,
}

impl Span {
    /// Makes a range of `len` zero bytes from `start`, clean, tracked in pages of `page_size`
    /// bytes (`None`: not tracked).
    pub fn new(start: u64, len: usize, page_size: Option<NonZeroUsize>) -> Self {
        Self {
            start,
            bytes: vec![0; len],
            page_size,
            dirty_pages: BTreeSet::new(),
        }
    }

    /// Returns the first address of the range.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Returns the first address past the range; `2^64` does not fit in a `u64`, so it is wider.
    pub fn end(&self) -> u128 {
        u128::from(self.start) + self.bytes.len() as u128
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Tells whether the range holds no byte.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Tells whether `addr` lies in the range.
    pub fn contains(&self, addr: u64) -> bool {
        self.offset_of(addr).is_some()
    }

    /// Returns how far `addr` lies from the start, if it lies in the range.
    pub fn offset_of(&self, addr: u64) -> Option<usize> {
        let inside = addr >= self.start && u128::from(addr) < self.end();
        inside.then(|| usize::try_from(addr - self.start).unwrap_or(usize::MAX))
    }

    /// Marks the pages of `[offset, offset + len)` dirty, as far as they lie in the range.
    pub fn mark(&mut self, offset: usize, len: usize) {
        let Some(page_size) = self.page_size else {
            return;
        };
        let end = offset.saturating_add(len).min(self.bytes.len());
        if offset < end {
            self.dirty_pages
                .extend(offset / page_size..=(end - 1) / page_size);
        }
    }

    /// Tells whether the page that holds `offset` is dirty.
    pub fn dirty_at(&self, offset: usize) -> bool {
        self.page_size
            .is_some_and(|page_size| self.dirty_pages.contains(&(offset / page_size)))
    }

    /// Tells whether no page is dirty: if it is tracked, nothing was written.
    pub fn is_clean(&self) -> bool {
        self.dirty_pages.is_empty()
    }

    /// Stores `data` at `offset` and marks its pages.
    ///
    /// # Panics
    ///
    /// When the data does not fit; callers have clipped it.
    pub fn write(&mut self, offset: usize, data: &[u8]) {
        self.bytes[offset..][..data.len()].copy_from_slice(data);
        self.mark(offset, data.len());
    }

    /// Compares with what the subject holds.
    ///
    /// # Errors
    ///
    /// Names the first byte or page that differs.
    pub fn compare(&self, actual: &[u8], dirty_at: impl Fn(usize) -> bool) -> Result<(), String> {
        if actual.len() != self.bytes.len() {
            return Err(format!(
                "the memory at {:#x} is {} bytes long, expected {}",
                self.start,
                actual.len(),
                self.bytes.len()
            ));
        }
        if actual != self.bytes {
            let differs = |&offset: &usize| actual[offset] != self.bytes[offset];
            let offset = (0..actual.len()).find(differs).unwrap_or_default();
            return Err(format!(
                "the byte at offset {offset:#x} of the range at {:#x} is {:#04x}, expected {:#04x}",
                self.start, actual[offset], self.bytes[offset]
            ));
        }
        self.compare_dirty(dirty_at)
    }

    /// Compares the dirty pages alone, asking at the first and the last byte of each page.
    ///
    /// # Errors
    ///
    /// Names the first page that differs.
    pub fn compare_dirty(&self, dirty_at: impl Fn(usize) -> bool) -> Result<(), String> {
        let step = self.page_size.map_or(self.bytes.len().max(1), Into::into);
        for first in (0..self.bytes.len()).step_by(step) {
            let last = first.saturating_add(step).min(self.bytes.len()) - 1;
            for offset in [first, last] {
                let (found, expected) = (dirty_at(offset), self.dirty_at(offset));
                if found != expected {
                    let word = |dirty| if dirty { "dirty" } else { "clean" };
                    return Err(format!(
                        "offset {offset:#x} of the range at {:#x} is {}, expected {}",
                        self.start,
                        word(found),
                        word(expected)
                    ));
                }
            }
        }
        Ok(())
    }
}

/// A whole guest memory: ranges in the order of their addresses, with or without holes.
#[derive(Clone, Debug)]
pub struct Model {
    spans: Vec<Span>,
}

impl Model {
    /// Makes clean, zeroed memory over `ranges` of (start, length in bytes), which must be sorted
    /// and must not overlap.
    pub fn new(ranges: &[(u64, usize)], page_size: Option<NonZeroUsize>) -> Self {
        let span = |&(start, len)| Span::new(start, len, page_size);
        Self {
            spans: ranges.iter().map(span).collect(),
        }
    }

    /// Returns the ranges, lowest first.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Returns the ranges for changing, lowest first.
    pub fn spans_mut(&mut self) -> &mut [Span] {
        &mut self.spans
    }

    /// Returns the range that holds `addr`.
    pub fn find(&self, addr: u64) -> Option<&Span> {
        self.spans.iter().find(|span| span.contains(addr))
    }

    /// Splits `[addr, addr + limit)` at the borders of the ranges, up to the first byte that is
    /// not mapped: (number of the range, offset in it, length) for each piece.
    pub fn pieces(&self, addr: u64, limit: usize) -> Vec<(usize, usize, usize)> {
        let mut pieces = Vec::new();
        let (mut next, mut left) = (u128::from(addr), limit);
        for (index, span) in self.spans.iter().enumerate() {
            let inside = u128::from(span.start) <= next && next < span.end();
            if left > 0 && inside {
                let rest = usize::try_from(span.end() - next).unwrap_or(usize::MAX);
                let len = rest.min(left);
                pieces.push((index, span.len() - rest, len));
                next += len as u128;
                left -= len;
            }
        }
        pieces
    }

    /// Returns how many bytes of `[addr, addr + limit)` are mapped before the first hole.
    pub fn mapped(&self, addr: u64, limit: usize) -> usize {
        self.pieces(addr, limit).iter().map(|piece| piece.2).sum()
    }

    /// Stores `data` at `addr` up to the first hole, marks the pages, returns the bytes stored.
    pub fn write(&mut self, addr: u64, data: &[u8]) -> usize {
        let mut done = 0;
        for (index, offset, len) in self.pieces(addr, data.len()) {
            self.spans[index].write(offset, &data[done..done + len]);
            done += len;
        }
        done
    }

    /// Returns the bytes of `[addr, addr + len)` up to the first hole.
    pub fn read(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut data = Vec::new();
        for (index, offset, len) in self.pieces(addr, len) {
            data.extend_from_slice(&self.spans[index].bytes[offset..][..len]);
        }
        data
    }

    /// Tells whether an atomic access of `width` bytes at `addr` has to work: all its bytes lie in
    /// one range, at an offset that is a multiple of `width`.
    pub fn holds_atomic(&self, addr: u64, width: usize) -> bool {
        match self.pieces(addr, width).first() {
            Some(&(_, offset, len)) => len == width && offset % width == 0,
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        // Two neighbours, a hole, and a range that ends at 2^64.
        Model::new(
            &[(0x10, 8), (0x18, 8), (u64::MAX - 3, 4)],
            NonZeroUsize::new(4),
        )
    }

    #[test]
    fn write_crosses_neighbours_and_stops_at_a_hole() {
        let mut model = model();
        assert_eq!(model.write(0x16, &[1, 2, 3, 4]), 4);
        assert_eq!(model.read(0x15, 6), [0, 1, 2, 3, 4, 0]);
        assert_eq!(model.write(0x1e, &[5; 9]), 2);
        assert_eq!(model.write(0x20, &[5; 9]), 0);
        assert_eq!(model.mapped(0x10, usize::MAX), 16);
        assert_eq!(model.find(0x18).map(Span::start), Some(0x18));
    }

    #[test]
    fn range_that_ends_at_the_top_does_not_wrap() {
        let mut model = model();
        assert_eq!(model.write(u64::MAX, &[7, 8]), 1);
        assert_eq!(model.spans()[2].bytes(), [0, 0, 0, 7]);
        assert_eq!(model.spans()[2].end(), 1 << 64);
        assert_eq!(model.mapped(u64::MAX - 3, usize::MAX), 4);
    }

    #[test]
    fn only_touched_pages_become_dirty() {
        let mut span = Span::new(0, 12, NonZeroUsize::new(4));
        span.mark(3, 2);
        span.mark(8, 0);
        span.mark(usize::MAX, usize::MAX);
        assert!(span.dirty_at(0) && span.dirty_at(7) && !span.dirty_at(8));
        assert!(span.compare_dirty(|offset| offset < 8).is_ok());
        assert!(span.compare_dirty(|offset| offset < 7).is_err());
        assert!(span.compare(&[0; 12], |offset| offset < 8).is_ok());
        assert!(span.compare(&[1; 12], |offset| offset < 8).is_err());
    }

    #[test]
    fn atomic_needs_alignment_and_one_range() {
        let model = model();
        assert!(model.holds_atomic(0x10, 8));
        assert!(!model.holds_atomic(0x14, 8));
        assert!(!model.holds_atomic(0x12, 4));
        assert!(!model.holds_atomic(0x20, 1));
    }
}
