// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The windows of a translated range.

use std::fmt;
use std::iter::FusedIterator;

use guest_memory_bitmap::BS;
use guest_memory_core::{
    FaultCause, GuestAddress, GuestMemory, GuestMemoryError, GuestMemoryResult,
    GuestMemorySliceIterator, IoMemory, IovaRange, Permissions, TranslationError, VolatileSlice,
};

use crate::iommu::Iommu;
use crate::iotlb::IotlbIterator;
use crate::mapping::MappedRange;
use crate::memory::{BitmapOf, IommuMemory};

/// A walk over the windows of a range of IOVAs, in order: one for each stretch that one mapping and one region have; what
/// [`get_slices`](IoMemory::get_slices) of an [`IommuMemory`] or an [`IommuSession`](crate::IommuSession) returns.
///
/// A part that may not be accessed is an error, after the windows before it, and ends the walk.
pub struct IommuMemorySliceIterator<'a, M: GuestMemory, I: Iommu> {
    memory: &'a IommuMemory<M, I>,
    /// What is to come behind `piece`; `None` if addresses are not translated.
    pieces: Option<IotlbIterator<I::IotlbGuard<'a>>>,
    /// What is left of the range at hand, guest-physical.
    piece: MappedRange,
    /// Where the next window starts; `None` behind the last address there is.
    next: Option<u64>,
    /// Bytes to come.
    left: usize,
    access: Permissions,
    /// How it ends.
    last: Option<Box<GuestMemoryError>>,
}

impl<'a, M: GuestMemory, I: Iommu> IommuMemorySliceIterator<'a, M, I> {
    pub(crate) fn new(
        memory: &'a IommuMemory<M, I>,
        iova: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> GuestMemoryResult<Self> {
        let mut walk = Self {
            memory,
            pieces: None,
            piece: MappedRange {
                base: iova,
                length: count,
            },
            next: Some(iova.0),
            left: count,
            access,
            last: None,
        };
        if memory.get_iommu_enabled() && count > 0 {
            walk.translate(iova)?;
        }
        Ok(walk)
    }

    /// Has the IOMMU translate what it can of the range.
    fn translate(&mut self, iova: GuestAddress) -> GuestMemoryResult<()> {
        self.piece.length = 0;
        // 2^64 - iova, less one.
        let room_less_one = usize::try_from(!iova.0).unwrap_or(usize::MAX);
        if self.left.saturating_sub(1) > room_less_one {
            self.left = room_less_one.saturating_add(1);
            self.last = Some(Box::new(GuestMemoryError::GuestAddressOverflow));
        }
        let iommu = self.memory.iommu();
        let error = match iommu.translate(iova, self.left, self.access) {
            Ok(pieces) => {
                self.pieces = Some(pieces);
                return Ok(());
            }
            Err(error) => error,
        };
        let before = bytes_before(&error, iova, self.left);
        self.pieces = match before {
            0 => None,
            _ => iommu.translate(iova, before, self.access).ok(),
        };
        if self.pieces.is_none() {
            return Err(error.into());
        }
        self.left = before;
        self.last = Some(Box::new(error.into()));
        Ok(())
    }

    /// Returns the next window, if there is more to come.
    fn step(&mut self) -> GuestMemoryResult<VolatileSlice<'a, BS<'a, BitmapOf<M>>>> {
        let here = self.next.ok_or(GuestMemoryError::GuestAddressOverflow)?;
        if self.piece.length == 0 {
            let piece = self.pieces.as_mut().and_then(Iterator::next);
            self.piece = piece.ok_or_else(|| self.ended_early(here))?;
            self.piece.length = usize::min(self.piece.length, self.left);
        }
        let MappedRange { base, length } = self.piece;
        let slice = self
            .window(base, length)
            .map_err(|error| self.explain(error, here, base, length))?;
        let slice = match self.pieces {
            Some(_) => self.memory.by_iova(slice, here),
            None => slice,
        };
        let done = slice.len();
        self.piece = MappedRange {
            base: GuestAddress(base.0.wrapping_add(done as u64)),
            length: length.saturating_sub(done),
        };
        self.left = self.left.saturating_sub(done);
        self.next = here.checked_add(done as u64);
        Ok(slice)
    }

    /// Returns a window of the memory below.
    fn window(
        &self,
        base: GuestAddress,
        length: usize,
    ) -> GuestMemoryResult<VolatileSlice<'a, BS<'a, BitmapOf<M>>>> {
        let backend: &'a M = self.memory.get_backend();
        if let Some(slice) = backend.first_slice(base, length, self.access) {
            return Ok(slice);
        }
        IoMemory::get_slices(backend, base, length, self.access)?
            .next()
            .unwrap_or(Err(GuestMemoryError::InvalidGuestAddress(base)))
    }

    /// Says of missing memory which IOVA leads there; otherwise it would look like the end of memory.
    fn explain(
        &self,
        error: GuestMemoryError,
        iova: u64,
        target: GuestAddress,
        length: usize,
    ) -> GuestMemoryError {
        match error {
            GuestMemoryError::InvalidGuestAddress(_) if self.pieces.is_some() => {
                let base = GuestAddress(iova);
                GuestMemoryError::IommuError(TranslationError::Fault {
                    iova_range: IovaRange { base, length },
                    access: self.access,
                    cause: FaultCause::NoMemory { target },
                })
            }
            other => other,
        }
    }

    /// Makes the error of a translation that is shorter than was promised.
    #[cold]
    fn ended_early(&self, iova: u64) -> GuestMemoryError {
        let base = GuestAddress(iova);
        GuestMemoryError::IommuError(TranslationError::CannotResolve {
            iova_range: IovaRange {
                base,
                length: self.left,
            },
            reason: "the translation ended early".into(),
        })
    }
}

/// Returns how many bytes of the range come before what the error is about.
fn bytes_before(error: &TranslationError, iova: GuestAddress, length: usize) -> usize {
    error
        .iova_range()
        .and_then(|range| range.base.0.checked_sub(iova.0))
        .and_then(|bytes| usize::try_from(bytes).ok())
        .filter(|&bytes| bytes < length)
        .unwrap_or(0)
}

impl<'a, M: GuestMemory, I: Iommu> Iterator for IommuMemorySliceIterator<'a, M, I> {
    type Item = GuestMemoryResult<VolatileSlice<'a, BS<'a, BitmapOf<M>>>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return self.last.take().map(|error| Err(*error));
        }
        let step = self.step();
        if step.is_err() {
            self.left = 0;
            self.last = None;
        }
        Some(step)
    }
}

impl<M: GuestMemory, I: Iommu> FusedIterator for IommuMemorySliceIterator<'_, M, I> {}

impl<'a, M: GuestMemory, I: Iommu> GuestMemorySliceIterator<'a, BS<'a, BitmapOf<M>>>
    for IommuMemorySliceIterator<'a, M, I>
{
}

impl<M: GuestMemory, I: Iommu> fmt::Debug for IommuMemorySliceIterator<'_, M, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IommuMemorySliceIterator")
            .field("next", &self.next)
            .field("left", &self.left)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}
