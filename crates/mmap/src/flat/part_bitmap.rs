// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A region's part of the dirty bitmap of a whole flat memory.

use std::sync::Arc;

use guest_memory_bitmap::{BS, Bitmap, WithBitmapSlice};

/// A shared bitmap as seen by one region: offset 0 is the region's first byte.
///
/// A region of a [`FlatGuestMemory`](crate::FlatGuestMemory) has one, so that its marks are the memory's. Windows borrow the
/// bitmap itself: making one counts no reference. As every slice of a bitmap, it ends where the bitmap does.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use guest_memory_bitmap::{AtomicBitmap, Bitmap, NewBitmap};
/// use guest_memory_mmap::PartBitmap;
///
/// let whole = Arc::new(AtomicBitmap::with_len(0x10_0000));
/// let part = PartBitmap::new(Arc::clone(&whole), 0x8_0000);
/// part.mark_dirty(0x10, 1);
/// assert!(whole.dirty_at(0x8_0010) && part.dirty_at(0x10));
/// assert_eq!(part.tracked_bytes(), Some(0x8_0000));
/// ```
#[derive(Debug)]
pub struct PartBitmap<B> {
    whole: Arc<B>,
    start: usize,
}

impl<B> PartBitmap<B> {
    /// Makes the part that starts `start` bytes after the bitmap's start.
    pub fn new(whole: Arc<B>, start: usize) -> Self {
        Self { whole, start }
    }

    /// Returns the bitmap that this is a part of.
    pub fn whole(&self) -> &Arc<B> {
        &self.whole
    }

    /// Returns where in it the part starts, in bytes.
    pub fn start(&self) -> usize {
        self.start
    }

    /// An offset in the whole. One that is too large stays too large.
    #[inline]
    fn in_whole(&self, offset: usize) -> usize {
        self.start.saturating_add(offset)
    }
}

impl<'a, B: WithBitmapSlice<'a>> WithBitmapSlice<'a> for PartBitmap<B> {
    type S = B::S;
}

impl<B: Bitmap> Bitmap for PartBitmap<B> {
    #[inline]
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.whole.mark_dirty(self.in_whole(offset), len);
    }

    #[inline]
    fn dirty_at(&self, offset: usize) -> bool {
        self.whole.dirty_at(self.in_whole(offset))
    }

    #[inline]
    fn slice_at(&self, offset: usize) -> BS<'_, B> {
        self.whole.slice_at(self.in_whole(offset))
    }

    #[inline]
    fn tracked_bytes(&self) -> Option<usize> {
        let of_whole = self.whole.tracked_bytes()?;
        Some(of_whole.saturating_sub(self.start))
    }
}
