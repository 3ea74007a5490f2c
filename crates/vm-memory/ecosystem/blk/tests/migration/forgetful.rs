// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A bitmap that accepts the front end's log and never marks in it.

use std::io;
use std::sync::Arc;

use blk::Tracking;
use vhost_user_backend::bitmap::{BitmapReplace, MemRegionBitmap, MmapLogReg};
use vm_memory::GuestMemoryRegion;
use vm_memory::bitmap::{Bitmap, WithBitmapSlice};
use vm_memory::mmap::NewBitmap;

#[derive(Clone, Debug, Default)]
pub(crate) struct Forgetful;

impl WithBitmapSlice<'_> for Forgetful {
    type S = ();
}

impl Bitmap for Forgetful {
    fn mark_dirty(&self, _offset: usize, _len: usize) {}

    fn dirty_at(&self, _offset: usize) -> bool {
        false
    }

    fn slice_at(&self, _offset: usize) {}
}

impl NewBitmap for Forgetful {
    fn with_len(_len: usize) -> Self {
        Self
    }
}

impl BitmapReplace for Forgetful {
    type InnerBitmap = Forgotten;

    fn replace(&self, _log: Forgotten) {}
}

pub(crate) struct Forgotten;

impl MemRegionBitmap for Forgotten {
    fn new<R: GuestMemoryRegion>(_region: &R, _log: Arc<MmapLogReg>) -> io::Result<Self> {
        Ok(Self)
    }
}

impl Tracking for Forgetful {
    const TAKES_LOG: bool = true;
}
