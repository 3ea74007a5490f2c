// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where in this process's address space memory is put.

use std::fmt;

use crate::backing::base_page_size;
use crate::error::MmapRegionError;

/// Memory at least as long is aligned to it, so that the kernel can back it with huge pages and a hypervisor can map it
/// with them: the size of a huge page on most processors.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Alignment of a mapping in this process's address space: a power of two, in bytes.
///
/// # Examples
///
/// ```
/// use guest_memory_mmap::Alignment;
///
/// assert_eq!(Alignment::new(2 << 20), Some(Alignment::TWO_MIB));
/// assert_eq!(Alignment::new(3 << 20), None);
/// assert_eq!(Alignment::ONE_GIB.bytes(), 1 << 30);
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "usize", into = "usize")
)]
pub struct Alignment(usize);

impl Alignment {
    /// That of a huge page of 2 MiB.
    pub const TWO_MIB: Self = Self(2 << 20);
    /// That of a huge page of 1 GiB.
    pub const ONE_GIB: Self = Self(1 << 30);

    /// Makes one of a number of bytes; `None` if that is no power of two.
    #[must_use]
    pub const fn new(bytes: usize) -> Option<Self> {
        if bytes.is_power_of_two() {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// Returns the number of bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.0
    }
}

impl From<Alignment> for usize {
    fn from(alignment: Alignment) -> usize {
        alignment.0
    }
}

/// Error of making an [`Alignment`] of a number that is no power of two.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0} is no power of two")]
pub struct AlignmentError(usize);

impl TryFrom<usize> for Alignment {
    type Error = AlignmentError;

    /// Makes one of a number of bytes.
    ///
    /// # Errors
    ///
    /// If that is no power of two.
    fn try_from(bytes: usize) -> Result<Self, AlignmentError> {
        Self::new(bytes).ok_or(AlignmentError(bytes))
    }
}

impl fmt::Display for Alignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

/// How a mapping is placed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placement {
    /// Whether inaccessible pages stand before and behind it.
    pub(crate) has_guard_pages: bool,
    /// At least so much; more where the pages or the size ask for it.
    pub(crate) alignment: Option<Alignment>,
}

impl Default for Placement {
    fn default() -> Self {
        Self {
            has_guard_pages: true,
            alignment: None,
        }
    }
}

/// Addresses to reserve, and where in them the memory goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Layout {
    /// Bytes of addresses.
    pub(crate) reserved_bytes: usize,
    /// Bytes of memory: whole pages.
    pub(crate) mapped_bytes: usize,
    guard_bytes: usize,
    alignment: usize,
}

impl Placement {
    /// Returns what to reserve for `size` bytes in pages of `page_size` bytes; nothing if the kernel's choice is good enough.
    pub(crate) fn layout(
        &self,
        size: usize,
        page_size: usize,
    ) -> Result<Option<Layout>, MmapRegionError> {
        let wanted = self.alignment.map_or(1, Alignment::bytes);
        if !self.has_guard_pages && wanted <= page_size {
            return Ok(None);
        }
        let base_page = base_page_size()?;
        let for_huge_pages = if size >= HUGE_PAGE_BYTES {
            HUGE_PAGE_BYTES
        } else {
            1
        };
        let alignment = wanted.max(page_size).max(for_huge_pages);
        let guard_bytes = if self.has_guard_pages { base_page } else { 0 };
        let too_large = MmapRegionError::TooLarge { size };
        let sum = || {
            let mapped_bytes = size.checked_next_multiple_of(page_size)?;
            // Addresses come aligned to a page.
            let slack = alignment.checked_sub(base_page)?;
            let reserved_bytes = mapped_bytes
                .checked_add(slack)?
                .checked_add(guard_bytes.checked_mul(2)?)?;
            Some(Layout {
                reserved_bytes,
                mapped_bytes,
                guard_bytes,
                alignment,
            })
        };
        sum().map(Some).ok_or(too_large)
    }
}

impl Layout {
    /// Returns where the memory goes, given the first reserved address.
    pub(crate) fn offset(&self, start: usize) -> usize {
        let first = start.saturating_add(self.guard_bytes);
        // The slack leaves room for it.
        let aligned = first.next_multiple_of(self.alignment);
        aligned.saturating_sub(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn memory_is_aligned_and_has_its_guards(
            pages in 1usize..3000,
            start_page in 0usize..1 << 20,
            log2 in 0u32..31,
            has_guard_pages in any::<bool>(),
        ) {
            let page = crate::backing::base_page_size().unwrap();
            let placement = Placement { has_guard_pages, alignment: Alignment::new(1 << log2) };
            let size = pages * page;
            if let Some(layout) = placement.layout(size, page).unwrap() {
                let start = start_page * page;
                let offset = layout.offset(start);
                let guard = if has_guard_pages { page } else { 0 };
                prop_assert!((start + offset).is_multiple_of(1 << log2));
                prop_assert!((start + offset).is_multiple_of(page));
                prop_assert!(size < HUGE_PAGE_BYTES || (start + offset).is_multiple_of(HUGE_PAGE_BYTES));
                prop_assert!(offset >= guard);
                prop_assert!(offset + layout.mapped_bytes + guard <= layout.reserved_bytes);
                prop_assert_eq!(layout.mapped_bytes, size);
            } else {
                prop_assert!(!has_guard_pages && 1 << log2 <= page);
            }
        }
    }

    #[test]
    fn sizes_without_room_for_guards_are_refused() {
        let placement = Placement::default();
        let error = placement.layout(usize::MAX - 4096, 4096).unwrap_err();
        assert!(matches!(error, MmapRegionError::TooLarge { .. }));
        assert_eq!(Alignment::new(3 << 20), None);
        assert_eq!(Alignment::new(0), None);
    }
}
