// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A bitmap that is wrong: writers leave a set bit alone, and no barrier makes up for it.

use std::sync::atomic::{AtomicU64, Ordering};

use guest_memory::bitmap::{Bitmap, DirtyPages, RefSlice, WithBitmapSlice};

use crate::{Log, PAGE, page_size};

#[derive(Debug)]
pub(crate) struct Shortcut {
    words: Vec<AtomicU64>,
    bytes: usize,
}

impl Shortcut {
    pub(crate) fn new(bytes: usize) -> Self {
        let words = bytes.div_ceil(PAGE).div_ceil(64);
        Self {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            bytes,
        }
    }
}

impl Log for Shortcut {
    fn taker(&self) -> impl FnMut(&mut DirtyPages) + Send {
        |pages| {
            empty(pages, self.bytes);
            pages.insert_words(self.words.iter().map(take_word));
        }
    }
}

/// Makes `pages` clean and fit for so many bytes.
pub(crate) fn empty(pages: &mut DirtyPages, bytes: usize) {
    if pages.byte_size() == bytes {
        pages.clear();
    } else {
        *pages = DirtyPages::new(bytes, page_size()).unwrap();
    }
}

pub(crate) fn take_word(word: &AtomicU64) -> u64 {
    match word.load(Ordering::Acquire) {
        0 => 0,
        _ => word.swap(0, Ordering::AcqRel),
    }
}

impl<'a> WithBitmapSlice<'a> for Shortcut {
    type S = RefSlice<'a, Self>;
}

impl Bitmap for Shortcut {
    #[inline]
    fn mark_dirty(&self, offset: usize, len: usize) {
        if len == 0 {
            return;
        }
        for page in offset / PAGE..=(offset + len - 1) / PAGE {
            let (word, bit) = (&self.words[page / 64], 1 << (page % 64));
            if word.load(Ordering::Acquire) & bit == 0 {
                word.fetch_or(bit, Ordering::AcqRel);
            }
        }
    }

    fn dirty_at(&self, offset: usize) -> bool {
        let page = offset / PAGE;
        self.words[page / 64].load(Ordering::Acquire) >> (page % 64) & 1 != 0
    }

    fn slice_at(&self, offset: usize) -> RefSlice<'_, Self> {
        RefSlice::new(self, offset)
    }

    fn tracked_bytes(&self) -> Option<usize> {
        Some(self.bytes)
    }
}
