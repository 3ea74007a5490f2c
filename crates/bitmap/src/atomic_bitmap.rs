// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The bitmap of atomic words: one bit per page, marked and harvested from any thread.
//!
//! What is here turns bytes into pages; how pages are marked and taken stands in [`crate::marks`].

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroUsize;

use crate::bitmap::{Bitmap, NewBitmap, WithBitmapSlice};
use crate::dirty_log::DirtyLog;
use crate::dirty_pages::DirtyPages;
use crate::geometry::Geometry;
use crate::marks::Marks;
use crate::ordering::{MarkOrdering, MarkOrderingError};
use crate::page_size::{PageSize, PageSizeError};
use crate::slice::RefSlice;

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
/// A write whose mark returned before a harvest began ([`harvest`](Self::harvest), [`get_and_reset`](Self::get_and_reset),
/// the methods named `reset`) is in it, or in an earlier one, and its data is visible when the harvest returns. A write that
/// races with a harvest is visible to whoever copies the page after it, or is in the next one.
///
/// A new bitmap records marks. [`stop_tracking`](Self::stop_tracking) makes a mark cost next to nothing, and
/// [`start_tracking`](Self::start_tracking) switches it on again, while writers run.
///
/// Harvests of one bitmap by several threads take turns.
///
/// # Panics
///
/// All that clears marks or starts tracking panics if the system refuses the barrier that it granted when the
/// bitmap was made ([`MarkOrdering::Asymmetric`]), and so do harvests after one that panicked: what that had taken is lost.
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
    marks: Marks,
    geometry: Geometry,
}

impl AtomicBitmap {
    /// Creates a clean bitmap for `byte_size` bytes in pages of `page_size` bytes.
    ///
    /// The bitmap's own memory comes zeroed from the allocator and is not touched: one for
    /// terabytes costs next to nothing until pages are marked.
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

    /// Gives the bitmap another ordering than the [preferred](MarkOrdering::preferred) one; the marks stay.
    ///
    /// # Errors
    ///
    /// Returns an error if the system does not grant the ordering.
    pub fn with_ordering(self, ordering: MarkOrdering) -> Result<Self, MarkOrderingError> {
        Ok(Self {
            marks: self.marks.with_ordering(ordering.granted()?),
            ..self
        })
    }

    /// Returns how marks are ordered against harvests.
    pub fn mark_ordering(&self) -> MarkOrdering {
        self.marks.ordering()
    }

    /// Records marks from now on.
    ///
    /// When this returns, a write that is not marked, because it looked too early, is visible to the caller: what is copied now
    /// and what is harvested later miss nothing. Marks from before [`stop_tracking`](Self::stop_tracking) are still there.
    ///
    /// # Panics
    ///
    /// See [the type](Self#panics).
    pub fn start_tracking(&self) {
        self.marks.start();
    }

    /// Records no marks from now on, at the cost of one load a mark. What is marked stays until it is taken.
    ///
    /// A mark that races with this may still be recorded.
    pub fn stop_tracking(&self) {
        self.marks.stop();
    }

    /// Tells whether marks are recorded.
    #[inline]
    pub fn is_tracking(&self) -> bool {
        self.marks.is_marking()
    }

    /// Marks page `index`.
    #[inline]
    pub fn set_bit(&self, index: usize) {
        if index < self.len() && !self.marks.is_marked(index) {
            self.marks.mark(index, index);
        }
    }

    /// Tells whether page `index` is marked.
    #[inline]
    pub fn is_bit_set(&self, index: usize) -> bool {
        index < self.geometry.page_count() && self.marks.is_set(index)
    }

    /// Clears the mark of page `index`, after which its data may be read.
    ///
    /// # Panics
    ///
    /// See [the type](Self#panics).
    #[inline]
    pub fn reset_bit(&self, index: usize) {
        if index < self.geometry.page_count() {
            self.marks.clear(index, index);
        }
    }

    /// Tells whether the page that holds the byte at `addr` is marked.
    #[inline]
    pub fn is_addr_set(&self, addr: usize) -> bool {
        self.is_bit_set(self.geometry.page_size().page_of(addr))
    }

    /// Marks every page that holds a byte of `[start_addr, start_addr + len)`.
    ///
    /// A `len` of 0 marks nothing. Pages past the end are ignored; a range whose end overflows
    /// ends at the top of the addresses. The cost is a load per 64 pages, and an atomic operation per 64 pages that were
    /// not all marked.
    #[inline]
    pub fn set_addr_range(&self, start_addr: usize, len: usize) {
        let page_size = self.geometry.page_size();
        // Nearly all accesses touch one page, and that is dirty: this case is small enough to inline.
        let is_done = page_size.is_within_one(start_addr, len)
            && self.marks.is_marked(page_size.page_of(start_addr));
        if !is_done {
            self.mark_range(start_addr, len);
        }
    }

    /// Clears the mark of every page that holds a byte of `[start_addr, start_addr + len)`.
    ///
    /// Pages that the range covers in part are cleared whole. Length 0, the end and overflow are as
    /// for [`set_addr_range`](Self::set_addr_range).
    ///
    /// # Panics
    ///
    /// See [the type](Self#panics).
    #[inline]
    pub fn reset_addr_range(&self, start_addr: usize, len: usize) {
        if let Some((first, last)) = self.geometry.pages_of(start_addr, len) {
            self.marks.clear(first, last);
        }
    }

    /// Returns the number of pages (not bytes), marked or not.
    #[inline]
    pub fn len(&self) -> usize {
        self.geometry.page_count()
    }

    /// Tells whether the bitmap has no pages, so that it can record nothing.
    ///
    /// It does not tell whether any page is marked.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many bytes the bitmap tracks.
    #[inline]
    pub fn byte_size(&self) -> usize {
        self.geometry.byte_size()
    }

    /// Returns the bytes per page, a power of two.
    #[inline]
    pub fn page_size(&self) -> NonZeroUsize {
        self.geometry.page_size().bytes()
    }

    /// Tracks `additional_size` more bytes at the end, in new clean pages; the marks stay.
    ///
    /// The bytes first fill the last page, if that was covered in part: a mark on it then covers
    /// them as well. The new size saturates at `usize::MAX`, past which no byte has an address.
    pub fn enlarge(&mut self, additional_size: usize) {
        let byte_size = self.byte_size().saturating_add(additional_size);
        *self = self.copy_with(Geometry::new(byte_size, self.geometry.page_size()));
    }

    /// Takes all marks: returns the pages and leaves the bitmap clean.
    ///
    /// The cost is that of what is marked, and one load per 4,096 pages.
    ///
    /// # Panics
    ///
    /// See [the type](Self#panics).
    pub fn harvest(&self) -> DirtyPages {
        let mut pages = DirtyPages::default();
        self.harvest_into(&mut pages);
        pages
    }

    /// Takes all marks into `pages`, in place of what was in it, and leaves the bitmap clean.
    ///
    /// Nothing is allocated if `pages` is of as many bytes in pages of the same size, as after an earlier call.
    ///
    /// # Panics
    ///
    /// See [the type](Self#panics).
    pub fn harvest_into(&self, pages: &mut DirtyPages) {
        let mut refill = pages.refill(self.geometry);
        self.marks
            .take(|index, marks| refill.put_word(index, marks));
    }

    /// Takes all marks: returns them as words and leaves the bitmap clean.
    ///
    /// Bit `b` of word `w` stands for page `64 * w + b`; bits past the last page are zero. Words
    /// without marks are not written, here and in the vector.
    ///
    /// # Panics
    ///
    /// See [the type](Self#panics).
    pub fn get_and_reset(&self) -> Vec<u64> {
        let mut taken = vec![0; self.marks.leaf_count()];
        self.marks.take(|index, marks| taken[index] = marks);
        taken
    }

    /// Clears all marks.
    ///
    /// # Panics
    ///
    /// See [the type](Self#panics).
    pub fn reset(&self) {
        self.marks.take(|_, _| {});
    }

    #[inline(never)]
    fn mark_range(&self, start: usize, len: usize) {
        if let Some((first, last)) = self.geometry.pages_of(start, len) {
            self.marks.mark(first, last);
        }
    }

    fn clean(byte_size: usize, page_size: PageSize) -> Self {
        let geometry = Geometry::new(byte_size, page_size);
        Self {
            marks: Marks::new(geometry.page_count(), MarkOrdering::preferred()),
            geometry,
        }
    }

    /// A copy with another geometry, of the same page size and not fewer bytes.
    fn copy_with(&self, geometry: Geometry) -> Self {
        Self {
            marks: self.marks.copy_with_bits(geometry.page_count()),
            geometry,
        }
    }
}

/// A copy of the marks, word by word; marks set meanwhile may or may not be in it.
impl Clone for AtomicBitmap {
    fn clone(&self) -> Self {
        self.copy_with(self.geometry)
    }
}

/// A bitmap for zero bytes, which records nothing, in pages of the host's size.
impl Default for AtomicBitmap {
    fn default() -> Self {
        Self::clean(0, PageSize::of_host())
    }
}

/// The sizes and the number of marks.
impl fmt::Debug for AtomicBitmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut dirty_pages = 0_u64;
        self.marks
            .for_each_set_leaf(|_, marks| dirty_pages += u64::from(marks.count_ones()));
        f.debug_struct("AtomicBitmap")
            .field("byte_size", &self.byte_size())
            .field("page_size", &self.page_size())
            .field("pages", &self.len())
            .field("dirty_pages", &dirty_pages)
            .field("is_tracking", &self.is_tracking())
            .field("mark_ordering", &self.mark_ordering())
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
        Some(self.byte_size())
    }
}

/// Makes a bitmap in pages of the host's size (4 KiB where that is not known).
impl NewBitmap for AtomicBitmap {
    fn with_len(len: usize) -> Self {
        Self::clean(len, PageSize::of_host())
    }
}

impl DirtyLog for AtomicBitmap {
    type Pages = DirtyPages;

    fn start_tracking(&self) {
        self.start_tracking();
    }

    fn stop_tracking(&self) {
        self.stop_tracking();
    }

    fn is_tracking(&self) -> bool {
        self.is_tracking()
    }

    fn empty_pages(&self) -> DirtyPages {
        DirtyPages::with_geometry(self.geometry)
    }

    fn harvest_into(&self, pages: &mut DirtyPages) {
        self.harvest_into(pages);
    }
}

#[cfg(test)]
mod tests;
