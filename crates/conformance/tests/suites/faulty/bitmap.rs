// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Bitmaps.

use std::thread;

use guest_memory_bitmap::{Bitmap, BitmapSlice, WithBitmapSlice};

use crate::toys::{PAGE_SIZE, ToyBitmap};

/// What is wrong with a bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BitmapFault {
    LosesLastPage,
    MarksNextPage,
    MarksEmptyRange,
    EndWraps,
    PanicsPastEnd,
    SliceOfSliceForgetsBase,
    OverstatesTrackedBytes,
    LosesLastByte,
    SliceIgnoresOffset,
    LosesMarksOfOthers,
}

impl BitmapFault {
    /// Each fault and a word that the report has to hold.
    pub(crate) const ALL: [(Self, &str); 9] = [
        (Self::LosesLastPage, "expected dirty"),
        (Self::MarksNextPage, "expected clean"),
        (Self::MarksEmptyRange, "expected clean"),
        (Self::EndWraps, "expected dirty"),
        (Self::PanicsPastEnd, "panicked: past the end"),
        (Self::SliceOfSliceForgetsBase, "Operation {"),
        (Self::OverstatesTrackedBytes, "tracked_bytes"),
        (Self::LosesLastByte, "expected dirty"),
        (Self::SliceIgnoresOffset, "Operation {"),
    ];

    /// Those that only a race shows.
    pub(crate) const RACES: [(Self, &str); 1] = [(Self::LosesMarksOfOthers, "expected dirty")];
}

/// A bitmap, or a slice of one, with a fault.
#[derive(Clone, Debug)]
pub(crate) struct FaultyBitmap {
    inner: ToyBitmap,
    len: usize,
    base: usize,
    fault: Option<BitmapFault>,
}

impl FaultyBitmap {
    pub(crate) fn new(fault: Option<BitmapFault>, len: usize) -> Self {
        Self {
            inner: ToyBitmap::new(len),
            len,
            base: 0,
            fault,
        }
    }

    fn has(&self, fault: BitmapFault) -> bool {
        self.fault == Some(fault)
    }

    /// Marks a page by reading those around it and writing all of them back, as with a byte of bits that is no atomic.
    fn mark_eight_pages(&self, page: usize) {
        let pages = page / 8 * 8..page / 8 * 8 + 8;
        let is_dirty = |page: usize| self.inner.dirty_at(page * PAGE_SIZE.get());
        let before: Vec<bool> = pages.clone().map(is_dirty).collect();
        thread::yield_now();
        for (other, was_dirty) in pages.zip(before) {
            self.inner.set_page(other, was_dirty || other == page);
        }
    }
}

impl WithBitmapSlice<'_> for FaultyBitmap {
    type S = Self;
}

impl BitmapSlice for FaultyBitmap {}

impl Bitmap for FaultyBitmap {
    fn mark_dirty(&self, offset: usize, len: usize) {
        let offset = self.base.saturating_add(offset);
        let end = offset.saturating_add(len);
        if self.has(BitmapFault::LosesLastPage) && offset / PAGE_SIZE < end / PAGE_SIZE {
            self.inner
                .mark_dirty(offset, end / PAGE_SIZE * PAGE_SIZE.get() - offset - 1);
        } else if self.has(BitmapFault::MarksNextPage) {
            self.inner.mark_dirty(offset, len.saturating_add(1));
        } else if self.has(BitmapFault::MarksEmptyRange) {
            self.inner.mark_dirty(offset, len.max(1));
        } else if self.has(BitmapFault::EndWraps) {
            self.inner
                .mark_dirty(offset, offset.wrapping_add(len).saturating_sub(offset));
        } else if self.has(BitmapFault::LosesLastByte) && len > 1 {
            self.inner.mark_dirty(offset, len - 1);
        } else if self.has(BitmapFault::LosesMarksOfOthers) && len > 0 {
            self.mark_eight_pages(offset / PAGE_SIZE);
        } else {
            self.inner.mark_dirty(offset, len);
        }
    }

    fn dirty_at(&self, offset: usize) -> bool {
        let is_past_end = self.base.saturating_add(offset) > self.len + PAGE_SIZE.get();
        assert!(
            !(self.has(BitmapFault::PanicsPastEnd) && is_past_end),
            "past the end"
        );
        self.inner.dirty_at(self.base.saturating_add(offset))
    }

    fn slice_at(&self, offset: usize) -> Self {
        let base = if self.has(BitmapFault::SliceOfSliceForgetsBase) {
            0
        } else {
            self.base
        };
        let offset = if self.has(BitmapFault::SliceIgnoresOffset) {
            0
        } else {
            offset
        };
        Self {
            base: base.saturating_add(offset),
            ..self.clone()
        }
    }

    fn tracked_bytes(&self) -> Option<usize> {
        let has_fault = self.has(BitmapFault::OverstatesTrackedBytes);
        Some(if has_fault {
            self.len
        } else {
            self.len.saturating_sub(self.base)
        })
    }
}
