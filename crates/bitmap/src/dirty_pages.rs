// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A set of dirty pages: what a harvest yields, to look at, to combine and to hand on.

mod runs;
#[cfg(test)]
mod tests;
mod word_set;

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroUsize;
use core::ops::{BitOrAssign, Range, SubAssign};

use self::runs::{Runs, SetWords};
use self::word_set::WordSet;
use crate::dirty_log::PageSet;
use crate::geometry::Geometry;
use crate::page_size::{PageSize, PageSizeError};
use crate::words;

/// Returns the words of a log that is given as bytes: little-endian words of 64 bits, as hypervisors and vhost have them. The last
/// one is filled up with zeroes.
///
/// ```
/// use guest_memory_bitmap::le_words;
///
/// assert!(le_words(&[1, 0, 0, 0, 0, 0, 0, 0x80, 3]).eq([1 << 63 | 1, 3]));
/// ```
pub fn le_words(bytes: &[u8]) -> impl Iterator<Item = u64> + Clone + '_ {
    bytes.chunks(size_of::<u64>()).map(|chunk| {
        let mut word = [0; size_of::<u64>()];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    })
}

/// A set of pages of a memory of so many bytes, owned and shared with nobody.
///
/// Page `p` covers the bytes `[p * page_size, (p + 1) * page_size)`; the last page may be covered in part. Pages past the end
/// are never in the set. [`Default`] is the set for no bytes, which a harvest makes fit.
///
/// # Cost
///
/// A bit per page, zeroed by the allocator and not touched before use. Everything costs what is in the set, and
/// one load per 4,096 pages that are tracked.
///
/// # Examples
///
/// ```
/// use core::num::NonZeroUsize;
/// use guest_memory_bitmap::{AtomicBitmap, DirtyPages};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let log = AtomicBitmap::new(1 << 30, NonZeroUsize::try_from(4096)?);
/// log.set_addr_range(0x1ff0, 0x20); // the end of one page and the start of the next
/// log.set_addr_range(0x8000, 1);
///
/// let mut pages = DirtyPages::default();
/// log.harvest_into(&mut pages);
/// assert_eq!(pages.count(), 3);
/// assert!(pages.ranges().eq([0x1000..0x3000, 0x8000..0x9000]));
/// assert_eq!(pages.words()[0], 0b1_0000_0110);
///
/// // The next harvest goes to the same place, and finds nothing.
/// log.harvest_into(&mut pages);
/// assert!(pages.is_empty());
/// # Ok(())
/// # }
/// ```
pub struct DirtyPages {
    /// # Invariants
    ///
    /// 1. As many words as `geometry` has pages by 64; bits from `page_count` on are clear.
    /// 2. The numbers of the words that are not zero are exactly those in `set`, both before and after a [`Refill`].
    words: Vec<u64>,
    set: WordSet,
    /// The numbers of words whose content is that of before a refill. Empty otherwise.
    stale: WordSet,
    geometry: Geometry,
}

impl DirtyPages {
    /// Creates the empty set for a memory of `byte_size` bytes in pages of `page_size` bytes.
    ///
    /// # Errors
    ///
    /// Returns an error if `page_size` is not a power of two.
    pub fn new(byte_size: usize, page_size: NonZeroUsize) -> Result<Self, PageSizeError> {
        let page_size = PageSize::try_from(page_size)?;
        Ok(Self::with_geometry(Geometry::new(byte_size, page_size)))
    }

    /// Returns how many bytes are tracked.
    pub fn byte_size(&self) -> usize {
        self.geometry.byte_size()
    }

    /// Returns the bytes per page, a power of two.
    pub fn page_size(&self) -> NonZeroUsize {
        self.geometry.page_size().bytes()
    }

    /// Returns the number of pages that are tracked, in the set or not.
    pub fn page_count(&self) -> usize {
        self.geometry.page_count()
    }

    /// Returns the number of pages in the set.
    pub fn count(&self) -> usize {
        self.set_words()
            .map(|(_, word)| word.count_ones() as usize)
            .sum()
    }

    /// Tells whether no page is in the set.
    pub fn is_empty(&self) -> bool {
        self.set_words().next().is_none()
    }

    /// Tells whether page `page` is in the set.
    pub fn contains(&self, page: usize) -> bool {
        let (word, mask) = words::position(page);
        self.words.get(word).is_some_and(|word| word & mask != 0)
    }

    /// Returns the byte ranges that the pages cover: ascending, neighbours joined, none past the end.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + Clone + '_ {
        self.runs().map(|pages| self.geometry.bytes_of(&pages))
    }

    /// Returns the pages in ascending order.
    pub fn pages(&self) -> impl Iterator<Item = usize> + Clone + '_ {
        self.runs().flatten()
    }

    /// Returns the pages as words: bit `b` of word `w` is page `64 * w + b`. Bits from [`page_count`](Self::page_count) on are zero.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Returns the pages as the bytes of little-endian words of 64 bits, as hypervisors and vhost have them: bit `b` of byte `n` is page
    /// `8 * n + b`. Their number is a multiple of 8.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.words.len() * size_of::<u64>()];
        let (places, _) = bytes.as_chunks_mut::<{ size_of::<u64>() }>();
        for (index, word) in self.set_words() {
            places[index] = word.to_le_bytes();
        }
        bytes
    }

    /// Adds page `page`, if it is tracked.
    pub fn insert(&mut self, page: usize) {
        if page < self.page_count() {
            let (word, mask) = words::position(page);
            self.add_word(word, mask);
        }
    }

    /// Adds every page that holds a byte of `bytes`, as far as they are tracked; none if the range is empty or reversed.
    pub fn insert_range(&mut self, bytes: Range<usize>) {
        let len = bytes.end.saturating_sub(bytes.start);
        if let Some((first, last)) = self.geometry.pages_of(bytes.start, len) {
            words::for_each_mask(first..last + 1, |word, mask| self.add_word(word, mask));
        }
    }

    /// Removes every page that lies wholly in `bytes`; the last one counts as whole if the range reaches the end.
    ///
    /// A page of which a part is left out stays: that part may be dirty.
    pub fn remove_range(&mut self, bytes: Range<usize>) {
        let pages = self.geometry.whole_pages_of(&bytes);
        words::for_each_mask(pages, |word, mask| self.remove_word(word, mask));
    }

    /// Adds the pages of a log of words: bit `b` of word `w` is page `64 * w + b`, of this set's page size. What lies past the end is
    /// left out.
    pub fn insert_words(&mut self, words: impl IntoIterator<Item = u64>) {
        let valid_words = 0..self.words.len();
        for (index, word) in valid_words.zip(words) {
            let mask = words::mask_in(index, 0, self.page_count() - 1);
            if word & mask != 0 {
                self.add_word(index, word & mask);
            }
        }
    }

    /// Adds the pages of a log in the form of [`to_le_bytes`](Self::to_le_bytes). Bytes after the last whole word count too.
    pub fn insert_le_bytes(&mut self, bytes: &[u8]) {
        self.insert_words(le_words(bytes));
    }

    /// Removes all pages.
    pub fn clear(&mut self) {
        self.set.drain(|word| self.words[word] = 0);
    }

    /// Adds the pages of `other`. A set for no bytes, such as the default, becomes one for what `other` tracks.
    ///
    /// If the two differ otherwise in size or page size, all pages are added that hold a byte of a page of `other` and are tracked here.
    pub fn union_with(&mut self, other: &Self) {
        if self.byte_size() == 0 {
            *self = Self::with_geometry(other.geometry);
        }
        self.add_tracked(other);
    }

    /// Removes the pages of `other`.
    ///
    /// If the two differ in size or page size, only pages are removed that `other` covers wholly, so that no byte which was
    /// dirty and is not in `other` is lost.
    ///
    /// ```
    /// use core::num::NonZeroUsize;
    /// use guest_memory_bitmap::DirtyPages;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (small, large) = (NonZeroUsize::try_from(4096)?, NonZeroUsize::try_from(0x4000)?);
    /// let mut dirty = DirtyPages::new(0x8000, large)?;
    /// dirty.insert_range(0..0x8000);
    ///
    /// // Of the second page of 16 KiB only a quarter was sent, so it is to be sent again.
    /// let mut sent = DirtyPages::new(0x8000, small)?;
    /// sent.insert_range(0..0x5000);
    /// dirty.subtract(&sent);
    /// assert!(dirty.ranges().eq([0x4000..0x8000]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn subtract(&mut self, other: &Self) {
        if self.geometry == other.geometry {
            for (index, word) in other.set_words() {
                self.remove_word(index, word);
            }
        } else {
            for range in other.ranges() {
                self.remove_range(range);
            }
        }
    }

    /// Returns the same bytes in pages of another size: every page of it that holds a byte of a page of this set.
    ///
    /// From larger pages to smaller ones and back is the same set; the other way round it may have grown.
    ///
    /// # Errors
    ///
    /// Returns an error if `page_size` is not a power of two.
    pub fn with_page_size(&self, page_size: NonZeroUsize) -> Result<Self, PageSizeError> {
        let mut pages = Self::new(self.byte_size(), page_size)?;
        pages.add_tracked(self);
        Ok(pages)
    }

    /// Begins to fill the set anew, in that geometry; memory is allocated if it is another one.
    pub(crate) fn refill(&mut self, geometry: Geometry) -> Refill<'_> {
        if self.geometry != geometry {
            *self = Self::with_geometry(geometry);
        }
        core::mem::swap(&mut self.set, &mut self.stale);
        Refill { pages: self }
    }

    /// Adds the pages of `other` that are tracked here.
    fn add_tracked(&mut self, other: &Self) {
        if self.geometry == other.geometry {
            for (index, word) in other.set_words() {
                self.add_word(index, word);
            }
        } else {
            for range in other.ranges() {
                self.insert_range(range);
            }
        }
    }

    /// Adds pages of one word, which exist. `pages` is not zero.
    fn add_word(&mut self, index: usize, pages: u64) {
        self.words[index] |= pages;
        self.set.insert(index);
    }

    fn remove_word(&mut self, index: usize, pages: u64) {
        self.words[index] &= !pages;
        if self.words[index] == 0 {
            self.set.remove(index);
        }
    }

    pub(crate) fn with_geometry(geometry: Geometry) -> Self {
        let word_count = words::count_for(geometry.page_count());
        Self {
            words: vec![0; word_count],
            set: WordSet::new(word_count),
            stale: WordSet::new(word_count),
            geometry,
        }
    }

    fn set_words(&self) -> SetWords<'_> {
        SetWords::new(&self.words, self.set.iter())
    }

    fn runs(&self) -> Runs<'_> {
        Runs::new(self.set_words())
    }
}

/// A set that is being filled anew. What was in it before is cleared at the end, where it was not overwritten.
pub(crate) struct Refill<'a> {
    pages: &'a mut DirtyPages,
}

impl Refill<'_> {
    /// Puts the pages of one word into the set; each word once, and not zero.
    #[inline]
    pub(crate) fn put_word(&mut self, index: usize, pages: u64) {
        self.pages.words[index] = pages;
        self.pages.set.insert(index);
    }
}

impl Drop for Refill<'_> {
    fn drop(&mut self) {
        let DirtyPages {
            words, set, stale, ..
        } = &mut *self.pages;
        stale.drain_without(set, |word| words[word] = 0);
    }
}

/// The empty set for no bytes, in pages of 4 KiB.
impl Default for DirtyPages {
    fn default() -> Self {
        Self::with_geometry(Geometry::new(0, PageSize::default()))
    }
}

impl Clone for DirtyPages {
    fn clone(&self) -> Self {
        let mut copy = Self::with_geometry(self.geometry);
        copy.union_with(self);
        copy
    }
}

/// Two sets are equal if they track as many bytes, in pages of the same size, and have the same pages.
impl PartialEq for DirtyPages {
    fn eq(&self, other: &Self) -> bool {
        self.geometry == other.geometry && self.set_words().eq(other.set_words())
    }
}

impl Eq for DirtyPages {}

/// The pages in either set; see [`DirtyPages::union_with`].
impl BitOrAssign<&DirtyPages> for DirtyPages {
    fn bitor_assign(&mut self, other: &DirtyPages) {
        self.union_with(other);
    }
}

/// The pages in this set and not in the other; see [`DirtyPages::subtract`].
impl SubAssign<&DirtyPages> for DirtyPages {
    fn sub_assign(&mut self, other: &DirtyPages) {
        self.subtract(other);
    }
}

/// The sizes and the first ranges.
impl fmt::Debug for DirtyPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 16;
        let shown: Vec<_> = self.ranges().take(SHOWN).collect();
        f.debug_struct("DirtyPages")
            .field("byte_size", &self.byte_size())
            .field("page_size", &self.page_size())
            .field("count", &self.count())
            .field("first_ranges", &format_args!("{shown:#x?}"))
            .finish()
    }
}

impl PageSet for DirtyPages {
    fn clear(&mut self) {
        self.clear();
    }

    fn fit_to(&mut self, other: &Self) {
        if self.geometry != other.geometry {
            let mut fitting = Self::with_geometry(other.geometry);
            fitting.add_tracked(self);
            *self = fitting;
        }
    }

    fn union_with(&mut self, other: &Self) {
        self.union_with(other);
    }
}
