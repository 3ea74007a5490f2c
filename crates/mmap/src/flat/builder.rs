// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Step-by-step description of a flat memory, checked as a whole when it is built.

use std::sync::Arc;

use guest_memory_bitmap::{Bitmap, NewBitmap};
use guest_memory_core::{GuestAddress, GuestUsize};

use super::error::FlatMemoryError;
use super::region::FlatRegionBuilder;
use super::span::Span;
use super::{FlatGuestMemory, FlatRegion};
use crate::bitmap_choice::BitmapChoice;
use crate::{Alignment, GuestMemoryMmap};

/// Builds a [`FlatGuestMemory`].
///
/// # Examples
///
/// ```
/// use guest_memory_bitmap::AtomicBitmap;
/// use guest_memory_core::{Bytes, GuestAddress};
/// use guest_memory_mmap::{FlatGuestMemory, MmapRegionBuilder};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // 64 MiB of addresses, half of them for memory that may be plugged later.
/// let memory = FlatGuestMemory::<AtomicBitmap>::builder(64 << 20)
///     .with_region(GuestAddress(0), MmapRegionBuilder::new(16 << 20))
///     .with_region(GuestAddress(16 << 20), MmapRegionBuilder::new(16 << 20).with_memfd("high"))
///     .build()?;
/// // Over the seam of two regions it is one copy.
/// memory.write_slice(b"boundary", GuestAddress((16 << 20) - 4))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FlatGuestMemoryBuilder<B = ()> {
    base: GuestAddress,
    span: GuestUsize,
    alignment: Alignment,
    bitmap: BitmapChoice<B>,
    regions: Vec<(GuestAddress, FlatRegionBuilder)>,
}

impl<B: NewBitmap> FlatGuestMemoryBuilder<B> {
    /// Starts the description of a memory that spans `span` bytes of guest addresses, from 0 on if nothing else is said, with a
    /// bitmap that covers them all.
    ///
    /// The span is at least 1 and at most `isize::MAX`. It costs addresses of this process, and memory only where there are regions,
    /// but for the bitmap.
    #[must_use]
    pub fn new(span: GuestUsize) -> Self {
        Self::with_choice(span, BitmapChoice::OfSize(B::with_len))
    }
}

impl<B: Bitmap> FlatGuestMemoryBuilder<B> {
    /// Starts the description of a memory with a bitmap of the caller's, whose offset 0 is the memory's first address.
    #[must_use]
    pub fn new_with_bitmap(span: GuestUsize, bitmap: B) -> Self {
        Self::with_choice(span, BitmapChoice::Given(bitmap))
    }

    fn with_choice(span: GuestUsize, bitmap: BitmapChoice<B>) -> Self {
        Self {
            base: GuestAddress(0),
            span,
            alignment: Alignment::TWO_MIB,
            bitmap,
            regions: Vec::new(),
        }
    }

    /// Sets the first guest address, whole pages, for a guest whose memory lies high.
    #[must_use]
    pub fn with_base(self, base: GuestAddress) -> Self {
        Self { base, ..self }
    }

    /// Sets the least alignment: host addresses leave the same remainder as guest addresses when divided by it.
    ///
    /// Without being asked it is 1 GiB for a span of as much, else 2 MiB, so that pages of these sizes fit.
    #[must_use]
    pub fn with_alignment(self, alignment: Alignment) -> Self {
        let alignment = alignment.max(self.alignment);
        Self { alignment, ..self }
    }

    /// Adds a region at a guest address, a multiple of the page of its memory. The order does not matter.
    #[must_use]
    pub fn with_region(
        mut self,
        start: GuestAddress,
        region: impl Into<FlatRegionBuilder>,
    ) -> Self {
        self.regions.push((start, region.into()));
        self
    }

    /// Reserves the addresses and maps the regions.
    ///
    /// # Errors
    ///
    /// Everything that can be wrong with the description is found here and leaves nothing mapped:
    /// - [`ZeroSpan`](FlatMemoryError::ZeroSpan), [`SpanTooLarge`](FlatMemoryError::SpanTooLarge),
    ///   [`UnalignedBase`](FlatMemoryError::UnalignedBase): there can be no such memory;
    /// - [`Reserve`](FlatMemoryError::Reserve): the system has no addresses for it;
    /// - [`BitmapTooShort`](FlatMemoryError::BitmapTooShort): writes would go unrecorded;
    /// - [`OutsideSpan`](FlatMemoryError::OutsideSpan), [`UnalignedRegion`](FlatMemoryError::UnalignedRegion),
    ///   [`AlignmentTooSmall`](FlatMemoryError::AlignmentTooSmall), [`Overlap`](FlatMemoryError::Overlap): a region cannot be
    ///   where it should;
    /// - [`Region`](FlatMemoryError::Region): a region's memory cannot be had.
    pub fn build(self) -> Result<FlatGuestMemory<B>, FlatMemoryError> {
        let mut regions = self.regions;
        regions.sort_by_key(|&(start, _)| start);
        let alignment = regions
            .iter()
            .filter_map(|(_, region)| Alignment::new(region.alignment()))
            .fold(self.alignment, Alignment::max);
        let span = Span::reserve(self.base, self.span, alignment)?;
        // A span that is reserved has a length in this process.
        let len_bytes = usize::try_from(self.span).unwrap_or(usize::MAX);
        let too_short = |tracked| FlatMemoryError::BitmapTooShort {
            tracked,
            span: self.span,
        };
        let bitmap = Arc::new(self.bitmap.make(len_bytes).map_err(too_short)?);
        let regions = map_all(&span, regions, &bitmap)?;
        Ok(FlatGuestMemory::join(span, bitmap, regions))
    }
}

/// Maps regions by ascending address. All places are looked at before the first thing is mapped or made.
fn map_all<B: Bitmap>(
    span: &Span,
    regions: Vec<(GuestAddress, FlatRegionBuilder)>,
    bitmap: &Arc<B>,
) -> Result<GuestMemoryMmap<super::PartBitmap<B>>, FlatMemoryError> {
    let mut placed = Vec::with_capacity(regions.len());
    for (start, region) in regions {
        let place = region.take_place(span, start, |taken| FlatMemoryError::Overlap {
            start,
            size: region.size(),
            other_start: span.address_at(taken.offset),
            other_size: taken.len_bytes as GuestUsize,
        })?;
        placed.push((start, region, place));
    }
    let mapped: Result<Vec<Arc<FlatRegion<B>>>, FlatMemoryError> = placed
        .into_iter()
        .map(|(start, region, place)| region.build(span, start, place, bitmap))
        .collect();
    match mapped? {
        none if none.is_empty() => Ok(GuestMemoryMmap::default()),
        regions => Ok(GuestMemoryMmap::from_arc_regions(regions)?),
    }
}
