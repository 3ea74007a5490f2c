// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Containers of volatile memory.

use guest_memory_bitmap::{ArcSlice, Bitmap};
use guest_memory_conformance::kept;
use guest_memory_core::{GuestAddress, GuestMemoryRegion};
use guest_memory_volatile::{
    AtomicInteger, ByteValued, VolatileArrayRef, VolatileMemory, VolatileMemoryError, VolatileRef,
    VolatileSlice,
};

use crate::toys::{PAGE_SIZE, ToyBitmap, ToyRegion};

type Result<T> = std::result::Result<T, VolatileMemoryError>;

/// What is wrong with a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VolatileFault {
    LenIsOneLess,
    SliceIsShort,
    SliceIsLong,
    SliceIsElsewhere,
    SliceMarksAtStart,
    SliceEndWraps,
    WholeSliceIsShort,
    EndOffsetTakesOneMore,
    EndOffsetWraps,
    ReferenceIsElsewhere,
    ArrayIsOneShort,
    AtomicIsNotMarked,
    AtomicIsMarkedTooFar,
}

impl VolatileFault {
    /// Each fault and a word that the report has to hold.
    pub(crate) const ALL: [(Self, &str); 13] = [
        (Self::LenIsOneLess, "len is"),
        (Self::SliceIsShort, "the length of"),
        (Self::SliceIsLong, "the length of"),
        (Self::SliceIsElsewhere, "the host address"),
        (Self::SliceMarksAtStart, "expected"),
        (Self::SliceEndWraps, "expected an error"),
        (Self::WholeSliceIsShort, "as_volatile_slice"),
        (Self::EndOffsetTakesOneMore, "compute_end_offset"),
        (Self::EndOffsetWraps, "compute_end_offset"),
        (Self::ReferenceIsElsewhere, "the host address"),
        (Self::ArrayIsOneShort, "the number of elements"),
        (Self::AtomicIsNotMarked, "expected dirty"),
        (Self::AtomicIsMarkedTooFar, "expected clean"),
    ];
}

/// A container with a fault; its memory is leaked.
#[derive(Debug)]
pub(crate) struct FaultyVolatile {
    slice: VolatileSlice<'static, ArcSlice<ToyBitmap>>,
    /// The same bytes, whose writes are not tracked.
    unmarked: VolatileSlice<'static, ArcSlice<ToyBitmap>>,
    fault: Option<VolatileFault>,
}

impl FaultyVolatile {
    pub(crate) fn new(fault: Option<VolatileFault>, len: usize) -> Self {
        let region = kept(ToyRegion::new(GuestAddress(0), len));
        let slice = region
            .as_volatile_slice()
            .expect("a toy region has a slice");
        let elsewhere = ToyBitmap::new(len).slice_at(0);
        Self {
            unmarked: slice.clone().replace_bitmap(elsewhere),
            slice,
            fault,
        }
    }

    fn has(&self, fault: VolatileFault) -> bool {
        self.fault == Some(fault)
    }
}

impl VolatileMemory for FaultyVolatile {
    type B = ToyBitmap;

    fn len(&self) -> usize {
        self.slice.len() - usize::from(self.has(VolatileFault::LenIsOneLess))
    }

    fn get_slice(
        &self,
        offset: usize,
        count: usize,
    ) -> Result<VolatileSlice<'_, ArcSlice<ToyBitmap>>> {
        let right = self.slice.subslice(offset, count);
        match self.fault {
            Some(VolatileFault::SliceIsShort) if count > 1 => right?.subslice(0, count - 1),
            Some(VolatileFault::SliceIsLong) => self
                .slice
                .subslice(offset, count.saturating_add(1))
                .or(right),
            Some(VolatileFault::SliceIsElsewhere) if offset > 64 => right.and_then(|_| {
                // The mistake of who takes the wrong page.
                self.slice.subslice(offset - 64, count)
            }),
            Some(VolatileFault::SliceMarksAtStart) => {
                Ok(right?.replace_bitmap(self.slice.bitmap().slice_at(0)))
            }
            Some(VolatileFault::SliceEndWraps) if offset.checked_add(count).is_none() => {
                self.slice.subslice(0, 0)
            }
            _ => right,
        }
    }

    fn as_volatile_slice(&self) -> VolatileSlice<'_, ArcSlice<ToyBitmap>> {
        let less = usize::from(self.has(VolatileFault::WholeSliceIsShort));
        self.slice
            .subslice(0, self.slice.len() - less)
            .expect("a part of it")
    }

    fn get_ref<T: ByteValued>(
        &self,
        offset: usize,
    ) -> Result<VolatileRef<'_, T, ArcSlice<ToyBitmap>>> {
        let less = usize::from(self.has(VolatileFault::ReferenceIsElsewhere) && offset > 0);
        // What does not fit is refused nevertheless.
        self.slice.get_ref::<T>(offset)?;
        self.slice.get_ref(offset - less)
    }

    fn get_array_ref<T: ByteValued>(
        &self,
        offset: usize,
        n: usize,
    ) -> Result<VolatileArrayRef<'_, T, ArcSlice<ToyBitmap>>> {
        let less = usize::from(self.has(VolatileFault::ArrayIsOneShort) && n > 1);
        self.slice.get_array_ref(offset, n - less)
    }

    fn get_atomic_ref<T: AtomicInteger>(&self, offset: usize) -> Result<&T> {
        if self.has(VolatileFault::AtomicIsNotMarked) {
            return self.unmarked.get_atomic_ref(offset);
        }
        let atomic = self.slice.get_atomic_ref(offset)?;
        if self.has(VolatileFault::AtomicIsMarkedTooFar) {
            self.slice.bitmap().mark_dirty(offset, PAGE_SIZE.get() + 1);
        }
        Ok(atomic)
    }

    fn compute_end_offset(&self, base: usize, offset: usize) -> Result<usize> {
        let end = match self.fault {
            Some(VolatileFault::EndOffsetWraps) => base.wrapping_add(offset),
            _ => guest_memory_volatile::compute_offset(base, offset)?,
        };
        let more = usize::from(self.has(VolatileFault::EndOffsetTakesOneMore));
        if end > self.len() + more {
            return Err(VolatileMemoryError::OutOfBounds { addr: end });
        }
        Ok(end)
    }
}
