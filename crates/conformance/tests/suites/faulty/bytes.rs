// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Implementations of [`Bytes`].

use std::sync::atomic::Ordering;
use std::thread;

use guest_memory_bitmap::{ArcSlice, Bitmap};
use guest_memory_conformance::kept;
use guest_memory_core::{Bytes, GuestAddress, GuestMemoryRegion, MemoryRegionAddress};
use guest_memory_volatile::{
    AtomicAccess, ByteValued, ReadVolatile, VolatileMemoryError, VolatileSlice, WriteVolatile,
};

use crate::toys::{ToyBitmap, ToyRegion};

/// What is wrong with an implementation of [`Bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BytesFault {
    WriteCountsTooMuch,
    WriteSliceIgnoresCut,
    WriteSliceLosesFirstPart,
    ReadStopsBeforeEnd,
    EmptyWriteFails,
    StoreIsNotMarked,
    StoreTakesAnyAlignment,
    StreamRestartsHalfway,
    StreamLosesBytes,
    ExactStreamIsShort,
    FailedExchangeIsMarked,
    ExchangeIgnoresExpected,
    AddStopsAtMax,
    AndReturnsNewValue,
    OrOfNothingIsNotMarked,
    FillMissesLastByte,
    FillIgnoresCut,
    FillIsNotMarked,
    ZeroMissesFirstByte,
    IsZeroLooksAtFirstWord,
    IsZeroFailsBehindOther,
    StoreLeIsBigEndian,
    PartialWriteIsNotMarked,
    CopyIsShortAtOneAlignment,
    CopyTouchesNextByte,
    CopyMarksMissLastByte,
    ReadSpillsIntoBuffer,
    WriteIsTorn,
    ReadIsTorn,
    ObjectIsTorn,
    StoreIsTorn,
    LaterFailureIsAnError,
    AddIsLoadAndStore,
    XorIsLoadAndStore,
    ExchangeIsLoadAndStore,
}

impl BytesFault {
    /// Each fault and a word that the report has to hold.
    pub(crate) const ALL: [(Self, &str); 12] = [
        (Self::WriteCountsTooMuch, "Write("),
        (Self::WriteSliceIgnoresCut, "Write"),
        (Self::WriteSliceLosesFirstPart, "Write"),
        (Self::ReadStopsBeforeEnd, "Read"),
        (Self::EmptyWriteFails, "Write("),
        (Self::StoreIsNotMarked, "Store {"),
        (Self::StoreTakesAnyAlignment, "Store {"),
        (Self::StreamRestartsHalfway, "ReadVolatileFrom {"),
        (Self::StreamLosesBytes, "WriteVolatileTo {"),
        (Self::ExactStreamIsShort, "WriteVolatileTo {"),
        (Self::PartialWriteIsNotMarked, "expected dirty"),
        (Self::LaterFailureIsAnError, "ReadVolatileFrom {"),
    ];

    /// Those that copies show.
    pub(crate) const COPIES: [(Self, &str); 4] = [
        (Self::CopyIsShortAtOneAlignment, "after the write"),
        (Self::CopyTouchesNextByte, "after the write"),
        (Self::CopyMarksMissLastByte, "expected dirty"),
        (Self::ReadSpillsIntoBuffer, "after the read"),
    ];

    /// Those that only a race shows.
    pub(crate) const RACES: [(Self, &str); 4] = [
        (Self::WriteIsTorn, "torn"),
        (Self::ReadIsTorn, "torn"),
        (Self::ObjectIsTorn, "Object"),
        (Self::StoreIsTorn, "Atomic"),
    ];

    /// Those that only a race of changes shows.
    pub(crate) const CHANGES: [(Self, &str); 3] = [
        (Self::AddIsLoadAndStore, "fetch_add"),
        (Self::XorIsLoadAndStore, "fetch_xor"),
        (Self::ExchangeIsLoadAndStore, "compare_exchange"),
    ];

    /// Those of the methods beyond [`Bytes`].
    pub(crate) const EXTENDED: [(Self, &str); 12] = [
        (Self::FailedExchangeIsMarked, "CompareExchange {"),
        (Self::ExchangeIgnoresExpected, "CompareExchange {"),
        (Self::AddStopsAtMax, "change: Add"),
        (Self::AndReturnsNewValue, "change: And"),
        (Self::OrOfNothingIsNotMarked, "change: Or"),
        (Self::FillMissesLastByte, "Fill {"),
        (Self::FillIgnoresCut, "Fill {"),
        (Self::FillIsNotMarked, "Fill {"),
        (Self::ZeroMissesFirstByte, "Zero {"),
        (Self::IsZeroLooksAtFirstWord, "IsZero {"),
        (Self::IsZeroFailsBehindOther, "IsZero {"),
        (Self::StoreLeIsBigEndian, "StoreLe {"),
    ];
}

/// What is wrong with a copy within a memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WithinFault {
    AlwaysForwards,
    AlwaysBackwards,
    MarksSource,
    LosesLastByte,
    CountsOneMore,
}

impl WithinFault {
    /// Each fault and a word that the report has to hold.
    pub(crate) const ALL: [(Self, &str); 5] = [
        (Self::AlwaysForwards, "after the copy"),
        (Self::AlwaysBackwards, "after the copy"),
        (Self::MarksSource, "expected clean"),
        (Self::LosesLastByte, "after the copy"),
        (Self::CountsOneMore, "the number of bytes copied"),
    ];
}
/// A slice of memory with a fault in its access methods; its memory is leaked.
#[derive(Debug)]
pub(crate) struct FaultyBytes {
    region: &'static ToyRegion,
    pub(super) slice: VolatileSlice<'static, ArcSlice<ToyBitmap>>,
    fault: Option<BytesFault>,
}

impl FaultyBytes {
    pub(crate) fn new(fault: Option<BytesFault>, len: usize) -> Self {
        let region = kept(ToyRegion::new(GuestAddress(0), len));
        let slice = region
            .as_volatile_slice()
            .expect("a toy region has a slice");
        Self {
            region,
            slice,
            fault,
        }
    }

    pub(crate) fn mark(&self, offset: usize) {
        self.slice.bitmap().mark_dirty(offset, 1);
    }

    pub(crate) fn dirty_at(&self, offset: usize) -> bool {
        self.slice.bitmap().dirty_at(offset)
    }

    /// The same bytes, whose writes are not tracked.
    pub(super) fn unmarked(&self) -> VolatileSlice<'static, ArcSlice<ToyBitmap>> {
        let elsewhere = ToyBitmap::new(self.slice.len()).slice_at(0);
        let start = MemoryRegionAddress(0);
        let window = self.region.window(start, self.slice.len(), elsewhere);
        window.expect("as long as the region")
    }

    /// Copies within the memory, with a fault.
    pub(crate) fn copy_within(
        &self,
        fault: Option<WithinFault>,
        from: usize,
        to: usize,
        len: usize,
    ) -> Result<usize> {
        let byte_by_byte = |offset: usize| -> Result<()> {
            let byte = self.slice.read_obj::<u8>(from + offset)?;
            self.slice.write_obj(byte, to + offset)
        };
        let copied = |len| {
            let source = self.slice.subslice(from, len)?;
            source.try_copy_to_volatile_slice(self.slice.subslice(to, len)?)
        };
        match fault {
            Some(WithinFault::AlwaysForwards) => (0..len).try_for_each(byte_by_byte)?,
            Some(WithinFault::AlwaysBackwards) => (0..len).rev().try_for_each(byte_by_byte)?,
            Some(WithinFault::MarksSource) => {
                self.slice.bitmap().mark_dirty(from, len);
                copied(len)?;
            }
            Some(WithinFault::LosesLastByte) => {
                copied(len.saturating_sub(1))?;
            }
            Some(WithinFault::CountsOneMore) => return copied(len).map(|count| count + 1),
            None => return copied(len),
        }
        Ok(len)
    }

    /// Writes a value by two accesses.
    fn write_halves<T: ByteValued>(&self, val: T, addr: usize) -> Result<()> {
        let (first, rest) = val.as_slice().split_at(size_of::<T>() / 2);
        self.slice.write_slice(first, addr)?;
        thread::yield_now();
        self.slice.write_slice(rest, addr + first.len())
    }

    pub(super) fn has(&self, fault: BytesFault) -> bool {
        self.fault == Some(fault)
    }
}

type Result<T> = std::result::Result<T, VolatileMemoryError>;

impl Bytes<usize> for FaultyBytes {
    type E = VolatileMemoryError;

    fn write(&self, buf: &[u8], addr: usize) -> Result<usize> {
        if self.has(BytesFault::EmptyWriteFails) && buf.is_empty() && addr >= self.slice.len() {
            return Err(VolatileMemoryError::OutOfBounds { addr });
        }
        let written = self.slice.write(buf, addr)?;
        Ok(if self.has(BytesFault::WriteCountsTooMuch) {
            buf.len()
        } else {
            written
        })
    }

    fn read(&self, buf: &mut [u8], addr: usize) -> Result<usize> {
        let room = self.slice.len().saturating_sub(addr).saturating_sub(1);
        if self.has(BytesFault::ReadStopsBeforeEnd) && room < buf.len() && room > 0 {
            return self.slice.read(&mut buf[..room], addr);
        }
        self.slice.read(buf, addr)
    }

    fn write_slice(&self, buf: &[u8], addr: usize) -> Result<()> {
        if self.has(BytesFault::WriteSliceIgnoresCut) {
            return self.slice.write(buf, addr).map(drop);
        }
        let end = addr.saturating_add(buf.len());
        if self.has(BytesFault::CopyIsShortAtOneAlignment) && addr % 8 == 3 && buf.len() == 33 {
            return self.slice.write_slice(&buf[..32], addr);
        }
        if self.has(BytesFault::CopyTouchesNextByte) && buf.len() % 8 == 5 {
            self.slice.write_slice(buf, addr)?;
            return self.slice.write(&[0], end).map(drop);
        }
        if self.has(BytesFault::CopyMarksMissLastByte) && end <= self.slice.len() {
            self.slice
                .bitmap()
                .mark_dirty(addr, buf.len().saturating_sub(1));
            return self.unmarked().write_slice(buf, addr);
        }
        if self.has(BytesFault::PartialWriteIsNotMarked) && end > self.slice.len() {
            return self.unmarked().write_slice(buf, addr);
        }
        if self.has(BytesFault::WriteIsTorn) {
            let (first, rest) = buf.split_at(buf.len() / 2);
            self.slice.write_slice(first, addr)?;
            thread::yield_now();
            return self.slice.write_slice(rest, addr + first.len());
        }
        let is_cut = addr.saturating_add(buf.len()) > self.slice.len() && !buf.is_empty();
        if self.has(BytesFault::WriteSliceLosesFirstPart) && is_cut {
            return Err(VolatileMemoryError::OutOfBounds { addr });
        }
        self.slice.write_slice(buf, addr)
    }

    fn read_slice(&self, buf: &mut [u8], addr: usize) -> Result<()> {
        if self.has(BytesFault::ReadIsTorn) {
            let half = buf.len() / 2;
            let (first, rest) = buf.split_at_mut(half);
            self.slice.read_slice(first, addr)?;
            thread::yield_now();
            return self.slice.read_slice(rest, addr + half);
        }
        if self.has(BytesFault::ReadSpillsIntoBuffer) && buf.len() == 33 {
            self.slice.read_slice(buf, addr)?;
            buf[32] = 0;
            return Ok(());
        }
        self.slice.read_slice(buf, addr)
    }

    fn read_volatile_from<F>(&self, addr: usize, src: &mut F, count: usize) -> Result<usize>
    where
        F: ReadVolatile,
    {
        let half = self.slice.len() / 2;
        if self.has(BytesFault::StreamRestartsHalfway) && addr < half && count > half - addr {
            // Two stretches; a short read in the first one does not end the walk.
            let first = self.slice.read_volatile_from(addr, src, half - addr)?;
            let rest = self
                .slice
                .read_volatile_from(half, src, count - (half - addr))?;
            return Ok(first + rest);
        }
        if self.has(BytesFault::LaterFailureIsAnError) && addr < half && count > half - addr {
            let first = self.slice.read_volatile_from(addr, src, half - addr)?;
            if first < half - addr {
                return Ok(first);
            }
            let more = self
                .slice
                .read_volatile_from(half, src, count - (half - addr))?;
            return Ok(first + more);
        }
        self.slice.read_volatile_from(addr, src, count)
    }

    fn read_exact_volatile_from<F>(&self, addr: usize, src: &mut F, count: usize) -> Result<()>
    where
        F: ReadVolatile,
    {
        self.slice.read_exact_volatile_from(addr, src, count)
    }

    fn write_volatile_to<F>(&self, addr: usize, dst: &mut F, count: usize) -> Result<usize>
    where
        F: WriteVolatile,
    {
        let written = self.slice.write_volatile_to(addr, dst, count)?;
        let loses = self.has(BytesFault::StreamLosesBytes) && written > 2;
        Ok(if loses { written - 1 } else { written })
    }

    fn write_all_volatile_to<F>(&self, addr: usize, dst: &mut F, count: usize) -> Result<()>
    where
        F: WriteVolatile,
    {
        if self.has(BytesFault::ExactStreamIsShort) {
            return self.slice.write_volatile_to(addr, dst, count).map(drop);
        }
        self.slice.write_all_volatile_to(addr, dst, count)
    }

    fn write_obj<T: ByteValued>(&self, val: T, addr: usize) -> Result<()> {
        if self.has(BytesFault::ObjectIsTorn) {
            return self.write_halves(val, addr);
        }
        self.write_slice(val.as_slice(), addr)
    }

    fn store<T: AtomicAccess>(&self, val: T, addr: usize, order: Ordering) -> Result<()> {
        if self.has(BytesFault::StoreIsTorn) {
            return self.write_halves(val, addr);
        }
        if self.has(BytesFault::StoreIsNotMarked) {
            return self.unmarked().store(val, addr, order);
        }
        if self.has(BytesFault::StoreTakesAnyAlignment) {
            return self.slice.write_obj(val, addr);
        }
        self.slice.store(val, addr, order)
    }

    fn load<T: AtomicAccess>(&self, addr: usize, order: Ordering) -> Result<T> {
        self.slice.load(addr, order)
    }
}
