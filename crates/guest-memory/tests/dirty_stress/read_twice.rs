// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One bitmap with independent readers.

use guest_memory::bitmap::{AtomicBitmap, Bitmap, DirtyPages, Readers, RefSlice, WithBitmapSlice};

use crate::{Log, page_size};

#[derive(Debug)]
pub(crate) struct ReadTwice(Readers<AtomicBitmap>);

impl ReadTwice {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Readers::new(AtomicBitmap::new(bytes, page_size())))
    }
}

impl Log for ReadTwice {
    fn taker(&self) -> impl FnMut(&mut DirtyPages) + Send {
        let mut reader = self.0.join();
        move |pages| reader.harvest_into(pages)
    }
}

impl<'a> WithBitmapSlice<'a> for ReadTwice {
    type S = RefSlice<'a, AtomicBitmap>;
}

impl Bitmap for ReadTwice {
    #[inline]
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.0.log().mark_dirty(offset, len);
    }

    fn dirty_at(&self, offset: usize) -> bool {
        self.0.log().dirty_at(offset)
    }

    #[inline]
    fn slice_at(&self, offset: usize) -> RefSlice<'_, AtomicBitmap> {
        self.0.log().slice_at(offset)
    }

    fn tracked_bytes(&self) -> Option<usize> {
        self.0.log().tracked_bytes()
    }
}
