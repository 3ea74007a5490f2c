// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The description of a region of a flat memory, and how it comes to its place.

use std::sync::Arc;

use guest_memory_bitmap::Bitmap;
use guest_memory_core::{FileOffset, GuestAddress};

use super::error::FlatMemoryError;
use super::part_bitmap::PartBitmap;
use super::span::Span;
use crate::mapping::{Mapping, check_size};
use crate::space::{Place, Taken};
use crate::{GuestRegionMmap, MmapRegionBuilder, MmapRegionError, RegionKind};

/// A region of a [`FlatGuestMemory`](crate::FlatGuestMemory), whose dirty bitmap is a part of the memory's.
pub type FlatRegion<B = ()> = GuestRegionMmap<PartBitmap<B>>;

/// Describes a region of a flat memory: its memory, and what is noted of it.
///
/// A [`MmapRegionBuilder`] alone will do where nothing is noted. Of its options, guard pages mean nothing here, and
/// memory that is mapped already is refused: it cannot be moved.
///
/// # Examples
///
/// ```
/// use guest_memory_core::{GuestAddress, GuestMemory};
/// use guest_memory_mmap::{
///     FlatGuestMemory, FlatRegionBuilder, MmapRegionBuilder, Protection, RegionKind,
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let firmware = MmapRegionBuilder::new(1 << 16).with_protection(Protection::ReadOnly);
/// let firmware = FlatRegionBuilder::new(firmware).with_kind(RegionKind::Rom).with_label("firmware");
/// let memory = FlatGuestMemory::<()>::builder(1 << 20)
///     .with_region(GuestAddress(0), MmapRegionBuilder::new(1 << 16))
///     .with_region(GuestAddress(0xf_0000), firmware)
///     .build()?;
/// let region = memory.regions().find_region(GuestAddress(0xf_0000)).ok_or("a hole")?;
/// assert_eq!(region.label(), Some("firmware"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FlatRegionBuilder {
    mapping: MmapRegionBuilder,
    kind: RegionKind,
    label: Option<Arc<str>>,
    guest_memfd: Option<FileOffset>,
}

impl FlatRegionBuilder {
    /// Starts with the memory.
    #[must_use]
    pub fn new(mapping: MmapRegionBuilder) -> Self {
        Self {
            mapping,
            kind: RegionKind::default(),
            label: None,
            guest_memfd: None,
        }
    }

    /// Notes what the region is for.
    #[must_use]
    pub fn with_kind(self, kind: RegionKind) -> Self {
        Self { kind, ..self }
    }

    /// Gives the region a name, for people to read.
    #[must_use]
    pub fn with_label(self, label: impl Into<Arc<str>>) -> Self {
        Self {
            label: Some(label.into()),
            ..self
        }
    }

    /// Keeps a hypervisor's file beside the region, as [`GuestRegionMmap::with_guest_memfd`] does.
    #[must_use]
    pub fn with_guest_memfd(self, file_offset: FileOffset) -> Self {
        Self {
            guest_memfd: Some(file_offset),
            ..self
        }
    }

    /// Returns the size in bytes.
    pub(super) fn size(&self) -> usize {
        self.mapping.size()
    }

    /// Returns the least alignment that was asked for, in bytes.
    pub(super) fn alignment(&self) -> usize {
        self.mapping.alignment()
    }

    /// Sets the place of the region aside that starts at an address; `explain` makes an error of what is there already.
    pub(super) fn take_place(
        &self,
        span: &Span,
        start: GuestAddress,
        explain: impl FnOnce(Taken) -> FlatMemoryError,
    ) -> Result<Place, FlatMemoryError> {
        let size = self.mapping.size();
        check_size(size).map_err(|source| failed(start, size, source))?;
        if self.mapping.has_pointer() {
            let source = MmapRegionError::ConflictingOptions {
                first: "a raw pointer",
                second: "a place in a flat memory",
            };
            return Err(failed(start, size, source));
        }
        let offset = span
            .offset_of(start, size)
            .ok_or_else(|| span.outside(start, size))?;
        let multiple = self.alignment().max(span.page_size);
        check_alignment(span, start, size, multiple)?;
        // The span's last page is the space's.
        let len_bytes = size.next_multiple_of(span.page_size);
        match span.space.take(offset, len_bytes) {
            Some(Ok(place)) => Ok(place),
            Some(Err(taken)) => Err(explain(taken)),
            None => Err(failed(start, size, MmapRegionError::TooLarge { size })),
        }
    }

    /// Maps the region at its place.
    pub(super) fn build<B: Bitmap>(
        self,
        span: &Span,
        start: GuestAddress,
        place: Place,
        bitmap: &Arc<B>,
    ) -> Result<Arc<FlatRegion<B>>, FlatMemoryError> {
        let size = self.mapping.size();
        let failed = |source| failed(start, size, source);
        let bitmap = PartBitmap::new(Arc::clone(bitmap), place.offset());
        let mapping = self
            .mapping
            .tracked_by(bitmap)
            .build_by(|prepared, size, prot| {
                check_alignment(span, start, size, prepared.page_size)?;
                Mapping::map_in(place, size, &prepared.contents(prot))
                    .map_err(|error| Obstacle::Mapping(prepared.explain(error, size)))
            });
        let mapping = mapping.map_err(|obstacle| match obstacle {
            Obstacle::Mapping(source) => failed(source),
            Obstacle::Place(error) => error,
        })?;
        let region = GuestRegionMmap::new(mapping, start)
            .ok_or_else(|| span.outside(start, size))?
            .with_kind(self.kind);
        let region = match self.label {
            Some(label) => region.with_label(label),
            None => region,
        };
        let region = match self.guest_memfd {
            Some(file_offset) => region.with_guest_memfd(file_offset).map_err(failed)?,
            None => region,
        };
        Ok(Arc::new(region))
    }
}

/// Describes a region of which nothing is noted.
impl From<MmapRegionBuilder> for FlatRegionBuilder {
    fn from(mapping: MmapRegionBuilder) -> Self {
        Self::new(mapping)
    }
}

/// Why a region cannot be mapped at its place.
enum Obstacle {
    Mapping(MmapRegionError),
    Place(FlatMemoryError),
}

impl From<MmapRegionError> for Obstacle {
    fn from(error: MmapRegionError) -> Self {
        Self::Mapping(error)
    }
}

impl From<FlatMemoryError> for Obstacle {
    fn from(error: FlatMemoryError) -> Self {
        Self::Place(error)
    }
}

/// Checks that a region starts at a multiple of so many bytes, a power of two, in the guest and in the host.
fn check_alignment(
    span: &Span,
    start: GuestAddress,
    size: usize,
    multiple: usize,
) -> Result<(), FlatMemoryError> {
    let mask = (multiple as u64).wrapping_sub(1);
    let below = GuestAddress(start.0 & !mask);
    if below != start {
        let above = GuestAddress(below.0.saturating_add(multiple as u64));
        return Err(FlatMemoryError::UnalignedRegion {
            start,
            size,
            multiple,
            below,
            above,
        });
    }
    let alignment = span.alignment.bytes();
    // Host addresses leave the remainders that guest addresses do, for divisors up to the alignment.
    if multiple > alignment {
        return Err(FlatMemoryError::AlignmentTooSmall {
            start,
            size,
            multiple,
            alignment,
        });
    }
    Ok(())
}

fn failed(start: GuestAddress, size: usize, source: MmapRegionError) -> FlatMemoryError {
    FlatMemoryError::Region {
        start,
        size,
        source: Box::new(source),
    }
}
