// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A set of dirty pages in guest-physical addresses: a set for each region.

use alloc::vec::Vec;
use core::ops::{BitOrAssign, Range, SubAssign};

use guest_memory_bitmap::{DirtyPages, PageSet};

use crate::address::Address;
use crate::guest_address::{GuestAddress, GuestUsize};

/// The dirty pages of a guest's memory, by region.
///
/// It tracks the regions that the memory had when it was filled; [`Default`] tracks none. Page sizes may differ from region to
/// region.
///
/// ```
/// use core::num::NonZeroUsize;
/// use guest_memory_bitmap::DirtyPages;
/// use guest_memory_core::{GuestAddress, GuestDirtyPages};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let page_size = NonZeroUsize::try_from(4096)?;
/// let mut pages = GuestDirtyPages::from_regions([
///     (GuestAddress(0x0000), DirtyPages::new(0x4000, page_size)?),
///     (GuestAddress(0x4000), DirtyPages::new(0x4000, page_size)?),
/// ]);
/// pages.insert_range(GuestAddress(0x3ff0), 0x20);
/// // One range over the border of two regions.
/// assert!(pages.ranges().eq([(GuestAddress(0x3000), 0x2000)]));
/// assert_eq!(pages.count(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestDirtyPages {
    /// By ascending start.
    pub(super) parts: Vec<Part>,
}

/// The pages of one region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) start: GuestAddress,
    pub(super) pages: DirtyPages,
}

impl Part {
    /// The offsets in this part of the bytes `[start, start + len)`, as far as it has them.
    fn offsets_of(&self, start: GuestAddress, len: GuestUsize) -> Range<usize> {
        let (skipped, offset) = match start.checked_offset_from(self.start) {
            Some(offset) => (0, offset),
            None => (self.start.unchecked_offset_from(start), 0),
        };
        let bound = |offset: u64| {
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            offset.min(self.pages.byte_size())
        };
        let end = offset.saturating_add(len.saturating_sub(skipped));
        bound(offset)..bound(end)
    }
}

impl GuestDirtyPages {
    /// Makes a set of the sets of regions that do not overlap, each with the region's first address.
    pub fn from_regions(regions: impl IntoIterator<Item = (GuestAddress, DirtyPages)>) -> Self {
        let mut parts: Vec<_> = regions
            .into_iter()
            .map(|(start, pages)| Part { start, pages })
            .collect();
        parts.sort_by_key(|part| part.start);
        Self { parts }
    }

    /// Walks over the regions by ascending address: the first address, and the pages as offsets from it.
    pub fn regions(&self) -> impl Iterator<Item = (GuestAddress, &DirtyPages)> + Clone {
        self.parts.iter().map(|part| (part.start, &part.pages))
    }

    /// Returns the ranges that the pages cover as start and length in bytes: ascending, neighbours joined, also over the border of two
    /// regions.
    pub fn ranges(&self) -> impl Iterator<Item = (GuestAddress, GuestUsize)> + Clone + '_ {
        let mut ranges = self
            .regions()
            .flat_map(|(start, pages)| {
                pages.ranges().map(move |bytes| {
                    let len = bytes.len() as GuestUsize;
                    (start.unchecked_add(bytes.start as u64), len)
                })
            })
            .peekable();
        core::iter::from_fn(move || {
            let (start, mut len) = ranges.next()?;
            while let Some((_, more)) =
                ranges.next_if(|(next, _)| next.checked_offset_from(start) == Some(len))
            {
                len = len.saturating_add(more);
            }
            Some((start, len))
        })
    }

    /// Returns the number of pages in the set.
    pub fn count(&self) -> usize {
        self.parts.iter().map(|part| part.pages.count()).sum()
    }

    /// Returns the number of bytes that the pages cover.
    pub fn len_bytes(&self) -> GuestUsize {
        self.ranges().map(|(_, len)| len).sum()
    }

    /// Tells whether no page is in the set.
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(|part| part.pages.is_empty())
    }

    /// Tells whether the page that holds the byte at `addr` is in the set.
    pub fn contains(&self, addr: GuestAddress) -> bool {
        let after = self.parts.partition_point(|part| part.start <= addr);
        let part = after.checked_sub(1).and_then(|last| self.parts.get(last));
        part.is_some_and(|part| {
            let offset = addr.unchecked_offset_from(part.start);
            usize::try_from(offset).is_ok_and(|offset| {
                offset < part.pages.byte_size()
                    && part.pages.contains(offset / part.pages.page_size())
            })
        })
    }

    /// Adds every page that holds a byte of `[start, start + len)`, as far as they are tracked.
    pub fn insert_range(&mut self, start: GuestAddress, len: GuestUsize) {
        for part in &mut self.parts {
            part.pages.insert_range(part.offsets_of(start, len));
        }
    }

    /// Adds every page that holds a byte of one of the ranges, given by start and length in bytes, as far as they are tracked.
    ///
    /// The ranges come by ascending address, as [`ranges`](Self::ranges) gives them; in another order some may be left out.
    pub fn insert_ranges(&mut self, ranges: impl IntoIterator<Item = (GuestAddress, GuestUsize)>) {
        let mut first = 0usize;
        for (start, len) in ranges {
            let is_below = |part: &Part| {
                let offset = start.checked_offset_from(part.start);
                offset.is_some_and(|offset| offset >= part.pages.byte_size() as u64)
            };
            let rest = self.parts.get(first..).unwrap_or_default();
            let below = rest.iter().take_while(|part| is_below(part)).count();
            first = first.saturating_add(below);
            for part in self.parts.iter_mut().skip(first) {
                let distance = part.start.checked_offset_from(start);
                if distance.is_some_and(|distance| distance >= len) {
                    break;
                }
                part.pages.insert_range(part.offsets_of(start, len));
            }
        }
    }

    /// Adds all pages that are tracked: what the first round of a migration copies.
    pub fn insert_all(&mut self) {
        for part in &mut self.parts {
            part.pages.insert_range(0..part.pages.byte_size());
        }
    }

    /// Removes all pages; the regions stay.
    pub fn clear(&mut self) {
        self.parts.iter_mut().for_each(|part| part.pages.clear());
    }

    /// Adds the pages of `other`, as far as they are tracked here. A set that tracks no region, such as the default, tracks
    /// then those of `other`.
    ///
    /// Where page sizes differ, all pages are added that hold a byte of a page of `other`.
    pub fn union_with(&mut self, other: &Self) {
        if self.parts.is_empty() {
            self.parts.clone_from(&other.parts);
        } else {
            self.add_tracked(other);
        }
    }

    /// Removes the pages of `other`.
    ///
    /// Where page sizes differ, only pages are removed that `other` covers wholly.
    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, DirtyPages::subtract, DirtyPages::remove_range);
    }

    /// Adds the pages of `other` that are tracked here.
    fn add_tracked(&mut self, other: &Self) {
        self.combine(other, DirtyPages::union_with, DirtyPages::insert_range);
    }

    /// Combines region by region where they are the same, else range by range.
    fn combine(
        &mut self,
        other: &Self,
        with_pages: impl Fn(&mut DirtyPages, &DirtyPages),
        with_range: impl Fn(&mut DirtyPages, Range<usize>),
    ) {
        if self.has_regions_of(other) {
            for (part, other) in self.parts.iter_mut().zip(&other.parts) {
                with_pages(&mut part.pages, &other.pages);
            }
            return;
        }
        for (start, len) in other.ranges() {
            for part in &mut self.parts {
                let offsets = part.offsets_of(start, len);
                if !offsets.is_empty() {
                    with_range(&mut part.pages, offsets);
                }
            }
        }
    }

    fn has_regions_of(&self, other: &Self) -> bool {
        let bounds = |(start, pages): (GuestAddress, &DirtyPages)| (start, pages.byte_size());
        self.regions().map(bounds).eq(other.regions().map(bounds))
    }
}

/// The pages in either set; see [`GuestDirtyPages::union_with`].
impl BitOrAssign<&GuestDirtyPages> for GuestDirtyPages {
    fn bitor_assign(&mut self, other: &GuestDirtyPages) {
        self.union_with(other);
    }
}

/// The pages in this set and not in the other; see [`GuestDirtyPages::subtract`].
impl SubAssign<&GuestDirtyPages> for GuestDirtyPages {
    fn sub_assign(&mut self, other: &GuestDirtyPages) {
        self.subtract(other);
    }
}

impl PageSet for GuestDirtyPages {
    fn clear(&mut self) {
        self.clear();
    }

    fn fit_to(&mut self, other: &Self) {
        let is_fit = self.has_regions_of(other)
            && self
                .parts
                .iter()
                .zip(&other.parts)
                .all(|(part, other)| part.pages.page_size() == other.pages.page_size());
        if !is_fit {
            let mut fitting = other.clone();
            fitting.clear();
            fitting.add_tracked(self);
            *self = fitting;
        }
    }

    fn union_with(&mut self, other: &Self) {
        self.union_with(other);
    }
}
