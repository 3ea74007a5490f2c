// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The dirty bitmap of memory that is described and not there yet.

use guest_memory_bitmap::Bitmap;

/// Where the bitmap comes from.
#[derive(Debug)]
pub(crate) enum BitmapChoice<B> {
    /// From the caller.
    Given(B),
    /// Made once the memory is there: a size that cannot be had must not cost a bitmap.
    OfSize(fn(usize) -> B),
}

impl<B: Bitmap> BitmapChoice<B> {
    /// Returns a bitmap that can record all writes to `size` bytes, or how many bytes it tracks where they are too few.
    pub(crate) fn make(self, size: usize) -> Result<B, usize> {
        let bitmap = match self {
            Self::Given(bitmap) => bitmap,
            Self::OfSize(with_len) => with_len(size),
        };
        match bitmap.tracked_bytes() {
            Some(tracked) if tracked < size => Err(tracked),
            _ => Ok(bitmap),
        }
    }
}
