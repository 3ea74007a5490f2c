// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Slices of a bitmap: a pointer to it and the offset at which the slice begins.

use alloc::sync::Arc;
use core::fmt::Debug;
use core::ops::Deref;

use crate::bitmap::{Bitmap, BitmapSlice, WithBitmapSlice};

/// A bitmap seen from an offset on, through any pointer `M` to it.
///
/// Offset 0 of the slice is `base_offset` of the bitmap. Sums that overflow saturate, so an offset
/// that is too large never comes round to the bitmap's first pages. A slice has no end of its own:
/// it ends where its bitmap does.
///
/// Use it by its two aliases, [`RefSlice`] and [`ArcSlice`].
#[derive(Clone, Copy, Debug)]
pub struct BaseSlice<M> {
    inner: M,
    base_offset: usize,
}

/// A slice that borrows its bitmap. It is [`Copy`].
///
/// ```
/// use guest_memory_bitmap::{AtomicBitmap, Bitmap, NewBitmap, RefSlice};
///
/// let bitmap = AtomicBitmap::with_len(1 << 20);
/// let slice = RefSlice::new(&bitmap, 1 << 16);
/// slice.mark_dirty(0, 1);
/// assert!(bitmap.dirty_at(1 << 16));
/// ```
pub type RefSlice<'a, B> = BaseSlice<&'a B>;

/// A slice that keeps its bitmap alive by a reference count.
///
/// With base offset 0 it is a bitmap that several owners share, for instance a region and the
/// thread that harvests it.
///
/// ```
/// use std::sync::Arc;
/// use guest_memory_bitmap::{ArcSlice, AtomicBitmap, Bitmap, NewBitmap};
///
/// let log = Arc::new(AtomicBitmap::with_len(1 << 20));
/// let region_bitmap = ArcSlice::new(log.clone(), 0);
/// region_bitmap.mark_dirty(0, 1);
/// assert!(log.dirty_at(0));
/// ```
pub type ArcSlice<B> = BaseSlice<Arc<B>>;

impl<M> BaseSlice<M> {
    /// Creates a slice of the bitmap that `inner` points to, from `base_offset` bytes on.
    #[inline]
    pub fn new(inner: M, base_offset: usize) -> Self {
        Self { inner, base_offset }
    }

    #[inline]
    fn offset_in_bitmap(&self, offset: usize) -> usize {
        self.base_offset.saturating_add(offset)
    }
}

impl<M> WithBitmapSlice<'_> for BaseSlice<M>
where
    M: Deref<Target: Bitmap> + Clone + Debug,
{
    type S = Self;
}

impl<M> BitmapSlice for BaseSlice<M> where M: Deref<Target: Bitmap> + Clone + Debug {}

impl<M> Bitmap for BaseSlice<M>
where
    M: Deref<Target: Bitmap> + Clone + Debug,
{
    #[inline]
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.inner.mark_dirty(self.offset_in_bitmap(offset), len);
    }

    #[inline]
    fn dirty_at(&self, offset: usize) -> bool {
        self.inner.dirty_at(self.offset_in_bitmap(offset))
    }

    #[inline]
    fn slice_at(&self, offset: usize) -> Self {
        // Points at the bitmap itself, not at this slice: slices of slices do not pile up.
        Self::new(self.inner.clone(), self.offset_in_bitmap(offset))
    }

    #[inline]
    fn tracked_bytes(&self) -> Option<usize> {
        let of_bitmap = self.inner.tracked_bytes()?;
        Some(of_bitmap.saturating_sub(self.base_offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AtomicBitmap;
    use core::num::NonZeroUsize;

    const PAGE: usize = 4096;

    fn bitmap(pages: usize) -> AtomicBitmap {
        AtomicBitmap::new(pages * PAGE, NonZeroUsize::new(PAGE).unwrap())
    }

    #[test]
    fn a_slice_marks_at_its_offset() {
        let bitmap = bitmap(8);
        let slice = bitmap.slice_at(2 * PAGE);
        slice.mark_dirty(PAGE, 1);
        assert_eq!(bitmap.get_and_reset(), [1 << 3]);
        // A base within a page: the sum of both offsets decides.
        bitmap.slice_at(PAGE - 1).mark_dirty(0, 2);
        assert_eq!(bitmap.get_and_reset(), [0b11]);
    }

    #[test]
    fn a_slice_of_a_slice_adds_its_offset() {
        let bitmap = bitmap(8);
        let slice = bitmap.slice_at(PAGE).slice_at(2 * PAGE).slice_at(PAGE);
        slice.mark_dirty(0, PAGE);
        assert!(slice.dirty_at(PAGE - 1));
        assert!(!slice.dirty_at(PAGE));
        assert_eq!(bitmap.get_and_reset(), [1 << 4]);
    }

    #[test]
    fn offsets_that_overflow_never_wrap_to_the_first_page() {
        let bitmap = bitmap(8);
        let slice = bitmap.slice_at(PAGE);
        for far in [
            slice.slice_at(usize::MAX),
            slice.slice_at(usize::MAX - PAGE + 1),
            bitmap.slice_at(usize::MAX).slice_at(usize::MAX),
        ] {
            far.mark_dirty(0, PAGE);
            far.mark_dirty(1, usize::MAX);
            far.mark_dirty(usize::MAX, usize::MAX);
            assert!(!far.dirty_at(0));
            assert_eq!(far.tracked_bytes(), Some(0));
        }
        slice.mark_dirty(usize::MAX, 1);
        slice.mark_dirty(usize::MAX - PAGE + 1, usize::MAX);
        assert_eq!(bitmap.get_and_reset(), [0]);
    }

    #[test]
    fn a_slice_tracks_what_is_left_of_its_bitmap() {
        let bitmap = bitmap(8);
        assert_eq!(bitmap.slice_at(0).tracked_bytes(), Some(8 * PAGE));
        assert_eq!(
            bitmap.slice_at(PAGE + 1).tracked_bytes(),
            Some(7 * PAGE - 1)
        );
        assert_eq!(bitmap.slice_at(9 * PAGE).tracked_bytes(), Some(0));
        assert_eq!(RefSlice::new(&(), 9).tracked_bytes(), None);
    }

    #[test]
    fn ref_slices_are_copied() {
        let bitmap = bitmap(1);
        let slice = bitmap.slice_at(0);
        let copy = slice;
        copy.mark_dirty(0, 1);
        assert!(slice.dirty_at(0));
    }

    #[test]
    fn an_arc_slice_outlives_its_maker() {
        let slice = ArcSlice::new(Arc::new(bitmap(2)), PAGE);
        let inner = slice.slice_at(1);
        drop(slice.clone());
        slice.mark_dirty(0, 1);
        drop(slice);
        assert!(inner.dirty_at(0));
        assert_eq!(inner.tracked_bytes(), Some(PAGE - 1));
    }
}
