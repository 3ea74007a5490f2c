// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon's bitmap: it keeps a log until it gets another, and starts without one when the memory changes.

use vhost_user_backend::bitmap::{AtomicBitmapMmap, BitmapMmapRegion, BitmapReplace};
use vm_memory::bitmap::{Bitmap, WithBitmapSlice};
use vm_memory::mmap::NewBitmap;

use crate::tracking::Tracking;

/// Marks pages in the front end's log, if it has given one.
#[derive(Clone, Debug, Default)]
pub struct SharedLog(BitmapMmapRegion);

impl<'a> WithBitmapSlice<'a> for SharedLog {
    type S = <BitmapMmapRegion as WithBitmapSlice<'a>>::S;
}

impl Bitmap for SharedLog {
    #[inline]
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.0.mark_dirty(offset, len);
    }

    #[inline]
    fn dirty_at(&self, offset: usize) -> bool {
        self.0.dirty_at(offset)
    }

    #[inline]
    fn slice_at(&self, offset: usize) -> <Self as WithBitmapSlice<'_>>::S {
        self.0.slice_at(offset)
    }
}

impl NewBitmap for SharedLog {
    fn with_len(len: usize) -> Self {
        Self(BitmapMmapRegion::with_len(len))
    }
}

impl BitmapReplace for SharedLog {
    type InnerBitmap = AtomicBitmapMmap;

    fn replace(&self, log: AtomicBitmapMmap) {
        self.0.replace(log);
    }
}

impl Tracking for SharedLog {
    const TAKES_LOG: bool = true;
}
