// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How many bytes are tracked and in which pages: from bytes to pages and back.

use core::ops::Range;

use crate::page_size::PageSize;

/// A number of bytes in pages of one size; the last page may be covered in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    byte_size: usize,
    page_size: PageSize,
    /// `page_size.pages_for(byte_size)`.
    page_count: usize,
}

impl Geometry {
    pub(crate) fn new(byte_size: usize, page_size: PageSize) -> Self {
        Self {
            byte_size,
            page_size,
            page_count: page_size.pages_for(byte_size),
        }
    }

    #[inline]
    pub(crate) fn byte_size(&self) -> usize {
        self.byte_size
    }

    #[inline]
    pub(crate) fn page_size(&self) -> PageSize {
        self.page_size
    }

    #[inline]
    pub(crate) fn page_count(&self) -> usize {
        self.page_count
    }

    /// Returns the first and the last of the pages that hold a byte of `[start, start + len)`, as far as they exist; `None` if
    /// there is none. A range whose end overflows ends at the top of the addresses.
    #[inline]
    pub(crate) fn pages_of(&self, start: usize, len: usize) -> Option<(usize, usize)> {
        let last_byte = start.saturating_add(len.checked_sub(1)?);
        let first = self.page_size.page_of(start);
        let last = self.page_size.page_of(last_byte);
        if last < self.page_count {
            Some((first, last))
        } else {
            self.page_count
                .checked_sub(1)
                .filter(|&last_page| first <= last_page)
                .map(|last_page| (first, last_page))
        }
    }

    /// Returns the bytes of the pages `[pages.start, pages.end)`, which exist, as far as they are tracked.
    #[inline]
    pub(crate) fn bytes_of(&self, pages: &Range<usize>) -> Range<usize> {
        let end = if pages.end < self.page_count {
            self.page_size.start_of(pages.end)
        } else {
            self.byte_size
        };
        self.page_size.start_of(pages.start)..end
    }

    /// Returns the pages that lie wholly in `bytes`; the last one counts as whole if the range reaches the end.
    pub(crate) fn whole_pages_of(&self, bytes: &Range<usize>) -> Range<usize> {
        let end = if bytes.end >= self.byte_size {
            self.page_count
        } else {
            self.page_size.page_of(bytes.end)
        };
        self.page_size.pages_for(bytes.start).min(end)..end
    }
}
