// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Logs in memory of the caller's: each harvest exchanges one for another and takes what is left in the old one.
#![expect(unsafe_code, reason = "says what memory a log may use")]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use guest_memory::bitmap::{
    Bitmap, DirtyPages, ExternalLog, NewBitmap, RefSlice, SwappableLog, WithBitmapSlice,
};

use crate::shortcut::{empty, take_word};
use crate::{Log, PAGE};

#[derive(Debug)]
pub(crate) struct Exchanged {
    region: SwappableLog,
    logs: [ExternalWords; 2],
    bytes: usize,
}

#[derive(Debug)]
struct ExternalWords {
    words: Arc<[AtomicU64]>,
    log: Arc<ExternalLog>,
}

impl ExternalWords {
    fn new(bytes: usize) -> Self {
        let count = bytes.div_ceil(PAGE).div_ceil(64);
        let words: Arc<[AtomicU64]> = (0..count).map(|_| AtomicU64::new(0)).collect();
        let address = NonNull::from(&*words).cast();
        // SAFETY: the words are atomics, which others access as such only, and the log keeps them alive by its own handle.
        let log = unsafe { ExternalLog::new(address, 8 * count, words.clone()) };
        Self {
            words,
            log: Arc::new(log.unwrap()),
        }
    }
}

impl Exchanged {
    pub(crate) fn new(bytes: usize) -> Self {
        let exchanged = Self {
            region: SwappableLog::with_len(bytes),
            logs: [ExternalWords::new(bytes), ExternalWords::new(bytes)],
            bytes,
        };
        exchanged.exchange(0);
        exchanged
    }

    fn exchange(&self, next: usize) {
        let next = Arc::clone(&self.logs[next].log);
        // The logs are of this region only, so it begins at address 0 in them.
        self.region.swap(Some((next, 0))).unwrap();
    }
}

impl Log for Exchanged {
    fn taker(&self) -> impl FnMut(&mut DirtyPages) + Send {
        let mut current = 0;
        move |pages| {
            let old = &self.logs[current];
            current = 1 - current;
            self.exchange(current);
            empty(pages, self.bytes);
            pages.insert_words(old.words.iter().map(|word| u64::from_le(take_word(word))));
        }
    }
}

impl<'a> WithBitmapSlice<'a> for Exchanged {
    type S = RefSlice<'a, SwappableLog>;
}

impl Bitmap for Exchanged {
    #[inline]
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.region.mark_dirty(offset, len);
    }

    fn dirty_at(&self, offset: usize) -> bool {
        self.region.dirty_at(offset)
    }

    #[inline]
    fn slice_at(&self, offset: usize) -> RefSlice<'_, SwappableLog> {
        self.region.slice_at(offset)
    }

    fn tracked_bytes(&self) -> Option<usize> {
        self.region.tracked_bytes()
    }
}
