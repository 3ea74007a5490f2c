// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The traits that a dirty bitmap implements, and the two trivial bitmaps: `()`, which records
//! nothing, and `Option<B>`, which records if there is something to record in.

use core::fmt::Debug;

/// The type of a bitmap's slices that borrow the bitmap for `'a`.
///
/// It stands apart from [`Bitmap`] so that a slice may borrow: write `impl<'a> WithBitmapSlice<'a>`
/// next to `impl Bitmap`.
pub trait WithBitmapSlice<'a> {
    /// The slice type.
    type S: BitmapSlice;
}

/// The type of `B`'s slices that borrow it for `'a`.
pub type BS<'a, B> = <B as WithBitmapSlice<'a>>::S;

/// A view of a bitmap from some offset on, itself a bitmap whose offset 0 is there.
///
/// Slices travel with every piece of guest memory handed out, so they are cheap to clone, and a
/// slice of a slice has the same type.
pub trait BitmapSlice: Bitmap + Clone + Debug + for<'a> WithBitmapSlice<'a, S = Self> {}

/// A record of which bytes of a memory were written.
///
/// Offsets and lengths are in bytes from the start of the memory (or of the slice). A bitmap may
/// record more coarsely than asked, in pages for instance, but never loses a mark within what it
/// tracks. All methods take `&self` and may be called from several threads at once, as far as the
/// implementation is [`Sync`].
///
/// # Dirty tracking
///
/// A writer stores its data first and calls [`mark_dirty`](Self::mark_dirty) afterwards. The other
/// way round, a harvest between the two would take the mark and copy the page without the data.
///
/// # Examples
///
/// A bitmap of your own, here one that only counts the bytes that were written, needs a slice type. [`ArcSlice`](crate::ArcSlice)
/// and [`RefSlice`](crate::RefSlice) are ready ones for anything that can be shared:
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use guest_memory_bitmap::{Bitmap, RefSlice, WithBitmapSlice};
///
/// #[derive(Debug, Default)]
/// struct WriteMeter(AtomicUsize);
///
/// impl<'a> WithBitmapSlice<'a> for WriteMeter {
///     type S = RefSlice<'a, Self>;
/// }
///
/// impl Bitmap for WriteMeter {
///     fn mark_dirty(&self, _offset: usize, len: usize) {
///         self.0.fetch_add(len, Ordering::Relaxed);
///     }
///
///     fn dirty_at(&self, _offset: usize) -> bool {
///         self.0.load(Ordering::Relaxed) > 0
///     }
///
///     fn slice_at(&self, offset: usize) -> RefSlice<'_, Self> {
///         RefSlice::new(self, offset)
///     }
/// }
///
/// let meter = WriteMeter::default();
/// meter.slice_at(0x1000).slice_at(0x20).mark_dirty(0, 512);
/// assert_eq!(meter.0.load(Ordering::Relaxed), 512);
/// ```
pub trait Bitmap: for<'a> WithBitmapSlice<'a> {
    /// Records that the bytes `[offset, offset + len)` were written.
    ///
    /// A `len` of 0 records nothing. Bytes past what the bitmap tracks are ignored, and a range
    /// whose end overflows ends at the top of the offsets. Never panics.
    fn mark_dirty(&self, offset: usize, len: usize);

    /// Tells whether the byte at `offset`, or anything recorded together with it, was written.
    ///
    /// The answer is `false` past what the bitmap tracks. Never panics.
    fn dirty_at(&self, offset: usize) -> bool;

    /// Returns the bitmap as seen from `offset` on.
    ///
    /// Offset 0 of the slice is the byte at `offset` here. An `offset` past what the bitmap tracks gives a slice that records nothing.
    /// Never panics.
    fn slice_at(&self, offset: usize) -> <Self as WithBitmapSlice<'_>>::S;

    /// Returns how many bytes, from offset 0 on, this bitmap can record.
    ///
    /// Marks at or past that offset may be lost. `None` says that there is no such limit to check:
    /// the bitmap records nothing by design, has no end, or does not know. A region of `n` bytes is
    /// tracked wholly unless this is `Some` of less than `n`; a bitmap that was made too small can be
    /// refused by that when a region is built, where later it would only show as lost writes.
    #[inline]
    fn tracked_bytes(&self) -> Option<usize> {
        None
    }
}

/// A bitmap that can be made from a length alone.
pub trait NewBitmap: Bitmap + Default {
    /// Creates a clean bitmap for a memory of `len` bytes.
    fn with_len(len: usize) -> Self;
}

impl WithBitmapSlice<'_> for () {
    type S = Self;
}

impl BitmapSlice for () {}

/// Records nothing, at no cost.
impl Bitmap for () {
    #[inline]
    fn mark_dirty(&self, _offset: usize, _len: usize) {}

    #[inline]
    fn dirty_at(&self, _offset: usize) -> bool {
        false
    }

    #[inline]
    fn slice_at(&self, _offset: usize) -> Self {}
}

impl NewBitmap for () {
    #[inline]
    fn with_len(_len: usize) -> Self {}
}

impl<'a, B> WithBitmapSlice<'a> for Option<B>
where
    B: WithBitmapSlice<'a>,
{
    type S = Option<B::S>;
}

impl<B: BitmapSlice> BitmapSlice for Option<B> {}

/// Records what the inner bitmap records; `None` records nothing.
impl<B: Bitmap> Bitmap for Option<B> {
    #[inline]
    fn mark_dirty(&self, offset: usize, len: usize) {
        if let Some(bitmap) = self {
            bitmap.mark_dirty(offset, len);
        }
    }

    #[inline]
    fn dirty_at(&self, offset: usize) -> bool {
        self.as_ref().is_some_and(|bitmap| bitmap.dirty_at(offset))
    }

    #[inline]
    fn slice_at(&self, offset: usize) -> Option<BS<'_, B>> {
        self.as_ref().map(|bitmap| bitmap.slice_at(offset))
    }

    #[inline]
    fn tracked_bytes(&self) -> Option<usize> {
        self.as_ref().and_then(Bitmap::tracked_bytes)
    }
}

/// Makes a bitmap that records: `Some`. The default is `None`.
impl<B: NewBitmap> NewBitmap for Option<B> {
    fn with_len(len: usize) -> Self {
        Some(B::with_len(len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AtomicBitmap;

    fn assert_slice<B: BitmapSlice>(_slice: &B) {}

    fn assert_records_nothing<B: Bitmap>(bitmap: &B) {
        bitmap.mark_dirty(0, usize::MAX);
        assert!(!bitmap.dirty_at(0));
        assert_eq!(bitmap.tracked_bytes(), None);
        for offset in [0, 1, usize::MAX] {
            let slice = bitmap.slice_at(offset);
            assert_slice(&slice);
            slice.mark_dirty(0, usize::MAX);
            assert!(!slice.dirty_at(0) && !bitmap.dirty_at(offset));
            assert_eq!(slice.tracked_bytes(), None);
        }
    }

    #[test]
    fn unit_records_nothing_and_has_no_limit() {
        assert_records_nothing(&<() as NewBitmap>::with_len(4096));
    }

    #[test]
    fn none_records_nothing_and_has_no_limit() {
        let bitmap = Option::<AtomicBitmap>::default();
        assert!(bitmap.slice_at(0).is_none());
        assert_records_nothing(&bitmap);
    }

    #[test]
    fn some_records_as_its_inner_bitmap() {
        let bitmap = Option::<AtomicBitmap>::with_len(1 << 20);
        assert_eq!(bitmap.tracked_bytes(), Some(1 << 20));

        let slice = bitmap.slice_at(1 << 19);
        assert_slice(&slice);
        assert_eq!(slice.tracked_bytes(), Some(1 << 19));
        slice.mark_dirty(3, 1);

        assert!(bitmap.dirty_at(1 << 19));
        assert!(slice.slice_at(3).dirty_at(0));
        assert!(!bitmap.dirty_at(0));
    }
}
