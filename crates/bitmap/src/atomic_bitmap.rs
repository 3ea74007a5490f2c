// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The bitmap of atomic words: one bit per page, marked and harvested from any thread.
//!
//! # Why no write is lost
//!
//! Two parties meet in each word. The writer stores data, then sets the page's bit (`fetch_or`,
//! release). The harvester takes all bits (`swap` with zero, acquire), then reads the data of the
//! pages it found. Both steps on the word are atomic read-modify-writes, so the word's modification
//! order says which came first:
//!
//! * **Mark before take.** The taken value holds the bit, and the writer's data is visible to the
//!   harvester. That is so even if others changed the word in between: a word is never stored to
//!   plainly after it was made, only by read-modify-writes, and each of these continues the release
//!   sequence that the mark began. The swap reads from that sequence, so it synchronises with every
//!   mark in it, not only with the last one.
//! * **Mark after take.** The bit stays for the next harvest. Whether the copy made now has the new
//!   data, the old or some of each does not matter: the next one copies the page again.
//!
//! The mark must be a read-modify-write even when the bit is set already. "Load, and skip if set"
//! loses writes: the writer's data may still wait in its store buffer while its load sees the bit
//! that the harvester is about to take; the harvester then copies the old data, and no bit is left to
//! bring it back. Release and acquire do not forbid that, as each side stores one place and then
//! loads the other; it takes a full barrier on both sides, or one that the harvester forces on the
//! writers.
//!
//! A *harvester* may skip a word by a plain load, because nothing of its own rests on the order: if
//! the load shows zero, then no mark that finished before the harvest is left in the word
//! (such a mark happens before the load, which can then not see an older value), and marks that race
//! with the harvest belong to the next one. The load acquires: a zero was stored by another
//! harvest's take, so the data of the marks that one took is visible here too.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroUsize;
use core::ops::Range;

use crate::bitmap::{Bitmap, NewBitmap, WithBitmapSlice};
use crate::page_size::{PageSize, PageSizeError};
use crate::slice::RefSlice;
use crate::sync::{AtomicU64, Ordering};
use crate::words;

/// A dirty bitmap with one bit per page, shared between threads.
///
/// Page `p` covers the bytes `[p * page_size, (p + 1) * page_size)`; the last page may be
/// covered in part. Page sizes are powers of two; one byte is the smallest.
///
/// Bits and addresses past the end are ignored when they are set or reset, and read as clean.
///
/// # Atomicity
///
/// Every word of 64 bits is marked and taken atomically, a whole range or a whole harvest is not:
/// a range that is being marked may fall to two harvests, part by part. No mark is lost, and
/// each is taken once.
///
/// # Dirty tracking
///
/// Whoever takes a bit ([`get_and_reset`](Self::get_and_reset), the methods named `reset`) or
/// sees it ([`is_bit_set`](Self::is_bit_set), [`is_addr_set`](Self::is_addr_set), a clone) also sees
/// the data that was written before the mark.
///
/// # Examples
///
/// ```
/// use core::num::NonZeroUsize;
/// use guest_memory_bitmap::AtomicBitmap;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // 1 MiB and one byte, in pages of 4 KiB.
/// let bitmap = AtomicBitmap::new((1 << 20) + 1, NonZeroUsize::try_from(4096)?);
/// assert_eq!(bitmap.len(), 257);
///
/// bitmap.set_addr_range(0x0fff, 2); // two bytes, two pages
/// assert!(bitmap.is_bit_set(0) && bitmap.is_bit_set(1));
///
/// assert_eq!(bitmap.get_and_reset(), [0b11, 0, 0, 0, 0]);
/// assert_eq!(bitmap.get_and_reset(), [0, 0, 0, 0, 0]);
/// # Ok(())
/// # }
/// ```
pub struct AtomicBitmap {
    /// `words::count_for(page_count)` words. Bits from `page_count` on are never set.
    words: Vec<AtomicU64>,
    /// `page_size.pages_for(byte_size)`.
    page_count: usize,
    byte_size: usize,
    page_size: PageSize,
}

impl AtomicBitmap {
    /// Creates a clean bitmap for `byte_size` bytes in pages of `page_size` bytes.
    ///
    /// The bitmap's own memory comes zeroed from the allocator and is not touched: one for
    /// terabytes costs next to nothing until pages are marked. (Built at an optimisation level below
    /// 2, it is written once, with zeroes.)
    ///
    /// # Panics
    ///
    /// Panics if `page_size` is not a power of two; [`try_new`](Self::try_new) returns an error
    /// instead.
    pub fn new(byte_size: usize, page_size: NonZeroUsize) -> Self {
        match Self::try_new(byte_size, page_size) {
            Ok(bitmap) => bitmap,
            Err(error) => panic!("{error}"),
        }
    }

    /// Creates a clean bitmap, as [`new`](Self::new) does, if the page size is valid.
    ///
    /// # Errors
    ///
    /// Returns an error if `page_size` is not a power of two.
    pub fn try_new(byte_size: usize, page_size: NonZeroUsize) -> Result<Self, PageSizeError> {
        Ok(Self::clean(byte_size, PageSize::try_from(page_size)?))
    }

    /// Marks page `index`.
    #[inline]
    pub fn set_bit(&self, index: usize) {
        if index < self.page_count {
            let (word, mask) = words::position(index);
            self.mark(word, mask);
        }
    }

    /// Tells whether page `index` is marked.
    #[inline]
    pub fn is_bit_set(&self, index: usize) -> bool {
        let (word, mask) = words::position(index);
        // Acquire: pairs with the release in `mark`; who sees the bit sees the data. Bits past the
        // end lie in no word or were never set.
        self.words
            .get(word)
            .is_some_and(|word| word.load(Ordering::Acquire) & mask != 0)
    }

    /// Clears the mark of page `index`.
    #[inline]
    pub fn reset_bit(&self, index: usize) {
        if index < self.page_count {
            let (word, mask) = words::position(index);
            self.clear(word, mask);
        }
    }

    /// Tells whether the page that holds the byte at `addr` is marked.
    #[inline]
    pub fn is_addr_set(&self, addr: usize) -> bool {
        self.is_bit_set(self.page_size.page_of(addr))
    }

    /// Marks every page that holds a byte of `[start_addr, start_addr + len)`.
    ///
    /// A `len` of 0 marks nothing. Pages past the end are ignored; a range whose end overflows
    /// ends at the top of the addresses. The cost is one atomic operation per 64 pages.
    #[inline]
    pub fn set_addr_range(&self, start_addr: usize, len: usize) {
        words::for_each_mask(self.pages_in(start_addr, len), |word, mask| {
            self.mark(word, mask);
        });
    }

    /// Clears the mark of every page that holds a byte of `[start_addr, start_addr + len)`.
    ///
    /// Pages that the range covers in part are cleared whole. Length 0, the end and overflow are as
    /// for [`set_addr_range`](Self::set_addr_range).
    #[inline]
    pub fn reset_addr_range(&self, start_addr: usize, len: usize) {
        words::for_each_mask(self.pages_in(start_addr, len), |word, mask| {
            self.clear(word, mask);
        });
    }

    /// Returns the number of pages, marked or not.
    #[inline]
    pub fn len(&self) -> usize {
        self.page_count
    }

    /// Tells whether the bitmap has no pages, so that it can record nothing.
    ///
    /// It does not tell whether any page is marked.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.page_count == 0
    }

    /// Returns how many bytes the bitmap tracks.
    #[inline]
    pub fn byte_size(&self) -> usize {
        self.byte_size
    }

    /// Returns the bytes per page, a power of two.
    #[inline]
    pub fn page_size(&self) -> NonZeroUsize {
        self.page_size.bytes()
    }

    /// Tracks `additional_size` more bytes at the end, in new clean pages; the marks stay.
    ///
    /// The bytes first fill the last page, if that was covered in part: a mark on it then covers
    /// them as well. The new size saturates at `usize::MAX`, past which no byte has an address.
    pub fn enlarge(&mut self, additional_size: usize) {
        *self = self.copy_with_size(self.byte_size.saturating_add(additional_size));
    }

    /// Takes all marks: returns them and leaves the bitmap clean.
    ///
    /// Bit `b` of word `w` stands for page `64 * w + b`; bits past the last page are zero. Words
    /// without marks are read, not written, here and in the vector.
    pub fn get_and_reset(&self) -> Vec<u64> {
        let mut taken = vec![0; self.words.len()];
        self.take_all(|index, marks| taken[index] = marks);
        taken
    }

    /// Clears all marks.
    pub fn reset(&self) {
        self.take_all(|_, _| {});
    }

    fn clean(byte_size: usize, page_size: PageSize) -> Self {
        let page_count = page_size.pages_for(byte_size);
        Self {
            words: into_atomics(vec![0; words::count_for(page_count)]),
            page_count,
            byte_size,
            page_size,
        }
    }

    /// A copy for `byte_size` bytes, not less than the bitmap has.
    fn copy_with_size(&self, byte_size: usize) -> Self {
        let page_count = self.page_size.pages_for(byte_size);
        // Only words with marks are written, so that the rest stays untouched memory.
        let mut copied = vec![0; words::count_for(page_count)];
        words::for_each_set_word(&self.words, load_acquire, |index, word| {
            copied[index] = load_acquire(word);
        });
        Self {
            words: into_atomics(copied),
            page_count,
            byte_size,
            page_size: self.page_size,
        }
    }

    /// The pages, as far as they exist, that hold a byte of `[start, start + len)`.
    #[inline]
    fn pages_in(&self, start: usize, len: usize) -> Range<usize> {
        let Some(len_before_last) = len.checked_sub(1) else {
            return 0..0;
        };
        let last_page = self
            .page_size
            .page_of(start.saturating_add(len_before_last));
        let end_page = if last_page < self.page_count {
            last_page + 1
        } else {
            self.page_count
        };
        // Past the end the range is reversed, that is, empty.
        self.page_size.page_of(start)..end_page
    }

    /// Sets the bits of `mask`, after the caller stored the data they stand for.
    #[inline]
    fn mark(&self, word: usize, mask: u64) {
        if let Some(word) = self.words.get(word) {
            // Release: the data stored before is visible to whoever takes or sees a bit of this
            // mark; pairs with the acquire in `take_all`, `clear`, `is_bit_set` and `load_acquire`.
            // A read-modify-write even if the bits are set already: see the top of the file.
            word.fetch_or(mask, Ordering::Release);
        }
    }

    /// Clears the bits of `mask`, which the caller may follow by reading the data.
    #[inline]
    fn clear(&self, word: usize, mask: u64) {
        if let Some(word) = self.words.get(word) {
            // Acquire: pairs with the release in `mark`, as `take_all` does for a whole word.
            word.fetch_and(!mask, Ordering::Acquire);
        }
    }

    /// Takes every word that has marks, in ascending order.
    #[inline]
    fn take_all(&self, mut taken: impl FnMut(usize, u64)) {
        words::for_each_set_word(&self.words, load_acquire, |index, word| {
            // Acquire: pairs with the release in every `mark` whose bits are in the value; the data
            // read after this is as new as the marks. No release: a writer learns nothing from a
            // clean word.
            taken(index, word.swap(0, Ordering::Acquire));
        });
    }
}

/// A copy of the marks, word by word; marks set meanwhile may or may not be in it.
impl Clone for AtomicBitmap {
    fn clone(&self) -> Self {
        self.copy_with_size(self.byte_size)
    }
}

/// A bitmap for zero bytes, which records nothing, in pages of the host's size.
impl Default for AtomicBitmap {
    fn default() -> Self {
        Self::clean(0, PageSize::of_host())
    }
}

/// The sizes and the number of marks. Counting reads the whole bitmap.
impl fmt::Debug for AtomicBitmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut dirty_pages = 0_u64;
        words::for_each_set_word(&self.words, load_acquire, |_, word| {
            dirty_pages += u64::from(load_acquire(word).count_ones());
        });
        f.debug_struct("AtomicBitmap")
            .field("byte_size", &self.byte_size)
            .field("page_size", &self.page_size())
            .field("pages", &self.page_count)
            .field("dirty_pages", &dirty_pages)
            .finish()
    }
}

impl<'a> WithBitmapSlice<'a> for AtomicBitmap {
    type S = RefSlice<'a, Self>;
}

impl Bitmap for AtomicBitmap {
    #[inline]
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.set_addr_range(offset, len);
    }

    #[inline]
    fn dirty_at(&self, offset: usize) -> bool {
        self.is_addr_set(offset)
    }

    #[inline]
    fn slice_at(&self, offset: usize) -> RefSlice<'_, Self> {
        RefSlice::new(self, offset)
    }

    #[inline]
    fn tracked_bytes(&self) -> Option<usize> {
        Some(self.byte_size)
    }
}

/// Makes a bitmap in pages of the host's size (4 KiB where that is not known).
impl NewBitmap for AtomicBitmap {
    fn with_len(len: usize) -> Self {
        Self::clean(len, PageSize::of_host())
    }
}

#[inline]
fn load_acquire(word: &AtomicU64) -> u64 {
    // Acquire: pairs with the release in `mark`, directly or through the takes in between.
    word.load(Ordering::Acquire)
}

/// Turns words into atomic ones, in the memory they are in.
///
/// The vector is collected into its own allocation, and from optimisation level 2 on the compiler
/// sees that every word is stored back as it was: the zeroed pages that the allocator got from the
/// system stay untouched. The language does not promise that, so a test holds it in release builds.
/// Reinterpreting the allocation would do so at every level, but takes unsafe code.
fn into_atomics(words: Vec<u64>) -> Vec<AtomicU64> {
    words.into_iter().map(AtomicU64::new).collect()
}

#[cfg(test)]
mod tests;
