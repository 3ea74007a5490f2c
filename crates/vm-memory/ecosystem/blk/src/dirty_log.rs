// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The dirty bitmap of a memory region, in the form that the daemon asks for.

use vhost_user_backend::bitmap::BitmapReplace;
use vm_memory::bitmap::{AtomicBitmap, Bitmap, NewBitmap, RefSlice, WithBitmapSlice};

/// An [`AtomicBitmap`] that a `VhostUserDaemon` accepts.
///
/// The daemon wants to be able to point a bitmap at a log in memory shared with the front end. This one stays where it
/// is: the device does not offer `VHOST_USER_PROTOCOL_F_LOG_SHMFD`.
#[derive(Clone, Debug, Default)]
pub struct DirtyLog(AtomicBitmap);

impl DirtyLog {
    /// Returns the bitmap: one bit for each page of the region.
    pub fn pages(&self) -> &AtomicBitmap {
        &self.0
    }
}

impl<'a> WithBitmapSlice<'a> for DirtyLog {
    type S = RefSlice<'a, AtomicBitmap>;
}

impl Bitmap for DirtyLog {
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

impl NewBitmap for DirtyLog {
    fn with_len(len: usize) -> Self {
        Self(AtomicBitmap::with_len(len))
    }
}

impl BitmapReplace for DirtyLog {
    type InnerBitmap = ();

    fn replace(&self, (): ()) {}
}
