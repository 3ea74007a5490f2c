// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Sizes and places as the fuzzer makes them, crowded around the borders of pages.

use std::num::NonZeroUsize;

use arbitrary::Arbitrary;

use crate::pages::Pages;

/// Sets and logs of more pages than this are not made: three words of the summary and a bit.
pub(super) const MAX_PAGES: usize = 3 * 64 * 64 + 100;

/// A page size in bytes.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum PageSize {
    Small(u8),
    PowerOfTwo(u8),
    /// Most of these are refused.
    Any(u16),
}

/// So many bytes in pages of one size.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) page_size: PageSize,
    pages: PageCount,
    /// Bytes that the last page lacks.
    cut: u16,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum PageCount {
    Few(u8),
    /// Some words.
    More(u16),
    /// Some words of the summary.
    Many(u16),
}

/// An offset in bytes.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Place {
    /// So many bytes from where a page starts.
    Border(u16, i8),
    Any(usize),
    BelowMax(u8),
}

/// A length in bytes.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Len {
    Short(u8),
    /// So many pages and bytes.
    Pages(u16, i8),
    Any(usize),
    BelowMax(u8),
}

impl PageSize {
    pub(super) fn bytes(self) -> NonZeroUsize {
        let bytes = match self {
            PageSize::Small(shift) => 1 << (shift % 7),
            PageSize::PowerOfTwo(shift) => 1 << (u32::from(shift) % usize::BITS),
            PageSize::Any(bytes) => usize::from(bytes),
        };
        NonZeroUsize::new(bytes).unwrap_or(NonZeroUsize::MIN)
    }
}

impl Shape {
    /// The same, with a page size that is not refused.
    pub(super) fn with_valid_page_size(mut self) -> Self {
        if let PageSize::Any(bytes) = self.page_size {
            self.page_size = PageSize::Small(bytes.to_le_bytes()[0]);
        }
        self
    }

    pub(super) fn byte_size(self) -> usize {
        let pages = match self.pages {
            PageCount::Few(pages) => usize::from(pages),
            PageCount::More(pages) => usize::from(pages) % 700,
            PageCount::Many(pages) => usize::from(pages) % MAX_PAGES,
        };
        let page_size = self.page_size.bytes().get();
        let cut = usize::from(self.cut) % page_size;
        pages.saturating_mul(page_size).saturating_sub(cut)
    }
}

impl Place {
    /// Finds the offset, given the pages that there are.
    pub(super) fn offset(self, pages: &Pages) -> usize {
        match self {
            Place::Border(page, distance) => {
                let page = usize::from(page) % (pages.page_count() + 2);
                let border = page.wrapping_mul(pages.page_size());
                border.wrapping_add_signed(distance.into())
            }
            Place::Any(offset) => offset,
            Place::BelowMax(less) => usize::MAX - usize::from(less),
        }
    }
}

impl Len {
    /// Returns the length, given the pages that there are.
    pub(super) fn bytes(self, pages: &Pages) -> usize {
        match self {
            Len::Short(len) => len.into(),
            Len::Pages(count, more) => {
                let count = usize::from(count) % (pages.page_count() + 2);
                let bytes = count.saturating_mul(pages.page_size());
                bytes.saturating_add_signed(more.into())
            }
            Len::Any(len) => len,
            Len::BelowMax(less) => usize::MAX - usize::from(less),
        }
    }
}
