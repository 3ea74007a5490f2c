// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Operations as the fuzzer makes them, before it is known what regions there are.

use arbitrary::Arbitrary;

use super::transcript::{
    Access, Cut, Look, LookInRegion, Manner, Mark, Op, Order, Progress, RegionState, Sink, Source,
    Width,
};
use crate::pattern::pattern;

/// More regions than this do not join.
const MAX_REGIONS: usize = 9;

/// An operation as the fuzzer makes it.
#[derive(Arbitrary, Clone, Debug)]
pub(super) enum RawOp {
    Memory(Place, RawAccess),
    Region(u8, Number, RawAccess),
    Slice(Place, Number, Number, RawAccess),
    Cut(Place, Number, RawCut),
    Copy([(Place, Number); 2]),
    Look(Place, RawLook),
    LookInRegion(u8, Number, RawLookInRegion),
    Bitmap(u8, RawMark),
    Insert(Place, u8),
    /// Removes the region of that number, or what is near it.
    Remove(u8, i8, i8),
    FromRanges(Vec<(Place, u8)>),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum RawAccess {
    Write(Buffer),
    Read(Number),
    WriteSlice(Buffer),
    ReadSlice(Number),
    WriteObj(Width, u128),
    ReadObj(Width),
    Store(Width, u64, Order),
    Load(Width, Order),
    ReadVolatileFrom(RawSource, Buffer, Number),
    ReadExactVolatileFrom(RawSource, Buffer, Number),
    WriteVolatileTo(RawSink, Number),
    WriteAllVolatileTo(RawSink, Number),
}

/// The first byte and how many there are.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct Buffer(u8, Number);

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum RawSource {
    Slice,
    Cursor(u8),
    Toy(Manner),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum RawSink {
    Vec,
    Slice(u8),
    Cursor(u8, u8),
    Toy(Manner),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum RawCut {
    Subslice(Number, Number),
    Offset(Number),
    SplitAt(Number),
    CopyTo(Width, u8),
    CopyFrom(Width, Buffer),
    GetRef(Width, Number),
    GetArrayRef(Width, Number, Number),
    EndOffset(Number, Number),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum RawLook {
    FindRegion,
    ToRegionAddr,
    AddressInRange,
    CheckAddress,
    CheckRange(Number),
    CheckedOffset(Number),
    GetHostAddress,
    GetSlice(Number),
    GetSlices(Number),
    LastAddr,
    NumRegions,
    TryAccess(Number, Progress),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum RawLookInRegion {
    CheckAddress,
    AddressInRange,
    CheckedOffset(Number),
    GetHostAddress,
    GetSlice(Number),
    LastAddr,
    ToRegionAddr(Place),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum RawMark {
    SetRange(Number, Number),
    ResetRange(Number, Number),
    SetBit(Number),
    ResetBit(Number),
    Reset,
    GetAndReset,
    DirtyAt(Number),
    ThroughSlice(Number, Number, Number),
}

/// A guest address.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Place {
    Inside(u8, u8),
    /// So many bytes from where a region ends.
    End(u8, i8),
    Any(u64),
    BelowTop(u8),
}

/// An offset or a count.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Number {
    Short(u8),
    Long(u16),
    BelowMax(u8),
}

impl Place {
    fn address(self, regions: &[RegionState]) -> u64 {
        let nth = |number: u8| {
            let number = usize::from(number).checked_rem(regions.len())?;
            regions.get(number)
        };
        match self {
            Place::Inside(number, offset) => nth(number).map_or(0, |region| {
                let offset = usize::from(offset) % region.bytes.len();
                region.start + offset as u64
            }),
            Place::End(number, distance) => nth(number).map_or(0, |region| {
                let end = region.start.wrapping_add(region.bytes.len() as u64);
                end.wrapping_add_signed(distance.into())
            }),
            Place::Any(address) => address,
            Place::BelowTop(less) => u64::MAX - u64::from(less),
        }
    }
}

impl Number {
    fn get(self) -> usize {
        match self {
            Number::Short(number) => usize::from(number) % 80,
            Number::Long(number) => number.into(),
            Number::BelowMax(less) => usize::MAX - usize::from(less),
        }
    }

    /// A length for which a buffer is made.
    fn len(self) -> usize {
        self.get() % 300
    }
}

impl Buffer {
    fn bytes(self) -> Vec<u8> {
        pattern(self.0, self.1.len())
    }
}

impl RawOp {
    /// Returns the operation in a memory of these regions; `None` if there is no such region.
    pub(super) fn resolve(&self, regions: &[RegionState]) -> Option<Op> {
        let number = |raw: u8| usize::from(raw).checked_rem(regions.len());
        Some(match self {
            RawOp::Memory(at, access) => Op::Memory(at.address(regions), access.resolve()),
            RawOp::Region(region, offset, access) => {
                Op::Region(number(*region)?, offset.get() as u64, access.resolve())
            }
            RawOp::Slice(at, count, offset, access) => Op::Slice(
                at.address(regions),
                count.get(),
                offset.get(),
                access.resolve(),
            ),
            RawOp::Cut(at, count, cut) => Op::Cut(at.address(regions), count.get(), cut.resolve()),
            RawOp::Copy(both) => {
                Op::Copy(both.map(|(at, count)| (at.address(regions), count.get())))
            }
            RawOp::Look(at, look) => Op::Look(at.address(regions), look.resolve()),
            RawOp::LookInRegion(region, offset, look) => {
                let region = number(*region)?;
                match look.resolve() {
                    Some(look) => Op::LookInRegion(region, offset.get() as u64, look),
                    None => {
                        let RawLookInRegion::ToRegionAddr(at) = look else {
                            return None;
                        };
                        let at = at.address(regions);
                        Op::LookInRegion(region, at, LookInRegion::ToRegionAddr)
                    }
                }
            }
            RawOp::Bitmap(region, mark) => Op::Bitmap(number(*region)?, mark.resolve()),
            RawOp::Insert(..) if regions.len() >= MAX_REGIONS => return None,
            RawOp::Insert(at, len) => Op::Insert(at.address(regions), usize::from(*len) % 70),
            RawOp::Remove(region, start, len) => {
                let region = &regions[number(*region)?];
                let len = (region.bytes.len() as u64).wrapping_add_signed((*len).into());
                Op::Remove(region.start.wrapping_add_signed((*start).into()), len)
            }
            RawOp::FromRanges(ranges) => {
                let ranges = ranges.iter().take(MAX_REGIONS);
                let ranges = ranges.map(|(at, len)| (at.address(regions), usize::from(*len) % 70));
                Op::FromRanges(ranges.collect())
            }
        })
    }
}

impl RawAccess {
    fn resolve(self) -> Access {
        match self {
            RawAccess::Write(data) => Access::Write(data.bytes()),
            RawAccess::Read(len) => Access::Read(len.len()),
            RawAccess::WriteSlice(data) => Access::WriteSlice(data.bytes()),
            RawAccess::ReadSlice(len) => Access::ReadSlice(len.len()),
            RawAccess::WriteObj(width, value) => Access::WriteObj(width, value.to_le_bytes()),
            RawAccess::ReadObj(width) => Access::ReadObj(width),
            RawAccess::Store(width, value, order) => {
                Access::Store(width, u128::from(value).to_le_bytes(), order)
            }
            RawAccess::Load(width, order) => Access::Load(width, order),
            RawAccess::ReadVolatileFrom(source, data, count) => {
                Access::ReadVolatileFrom(source.resolve(data), count.get())
            }
            RawAccess::ReadExactVolatileFrom(source, data, count) => {
                Access::ReadExactVolatileFrom(source.resolve(data), count.get())
            }
            RawAccess::WriteVolatileTo(sink, count) => {
                Access::WriteVolatileTo(sink.resolve(), count.get())
            }
            RawAccess::WriteAllVolatileTo(sink, count) => {
                Access::WriteAllVolatileTo(sink.resolve(), count.get())
            }
        }
    }
}

impl RawSource {
    fn resolve(self, data: Buffer) -> Source {
        match self {
            RawSource::Slice => Source::Slice(data.bytes()),
            RawSource::Cursor(at) => Source::Cursor(data.bytes(), at.into()),
            RawSource::Toy(manner) => Source::Toy(data.bytes(), manner),
        }
    }
}

impl RawSink {
    fn resolve(self) -> Sink {
        match self {
            RawSink::Vec => Sink::Vec,
            RawSink::Slice(room) => Sink::Slice(room.into()),
            RawSink::Cursor(room, at) => Sink::Cursor(room.into(), at.into()),
            RawSink::Toy(manner) => Sink::Toy(manner),
        }
    }
}

impl RawCut {
    fn resolve(self) -> Cut {
        match self {
            RawCut::Subslice(offset, count) => Cut::Subslice(offset.get(), count.get()),
            RawCut::Offset(offset) => Cut::Offset(offset.get()),
            RawCut::SplitAt(mid) => Cut::SplitAt(mid.get()),
            RawCut::CopyTo(width, count) => Cut::CopyTo(width, usize::from(count) % 100),
            RawCut::CopyFrom(width, data) => Cut::CopyFrom(width, data.bytes()),
            RawCut::GetRef(width, offset) => Cut::GetRef(width, offset.get()),
            RawCut::GetArrayRef(width, offset, count) => {
                Cut::GetArrayRef(width, offset.get(), count.get())
            }
            RawCut::EndOffset(base, offset) => Cut::EndOffset(base.get(), offset.get()),
        }
    }
}

impl RawLook {
    fn resolve(self) -> Look {
        match self {
            RawLook::FindRegion => Look::FindRegion,
            RawLook::ToRegionAddr => Look::ToRegionAddr,
            RawLook::AddressInRange => Look::AddressInRange,
            RawLook::CheckAddress => Look::CheckAddress,
            RawLook::CheckRange(len) => Look::CheckRange(len.get()),
            RawLook::CheckedOffset(offset) => Look::CheckedOffset(offset.get()),
            RawLook::GetHostAddress => Look::GetHostAddress,
            RawLook::GetSlice(count) => Look::GetSlice(count.get()),
            RawLook::GetSlices(count) => Look::GetSlices(count.get()),
            RawLook::LastAddr => Look::LastAddr,
            RawLook::NumRegions => Look::NumRegions,
            RawLook::TryAccess(count, progress) => Look::TryAccess(count.get(), progress),
        }
    }
}

impl RawLookInRegion {
    /// Returns the question, unless it is one of a guest address.
    fn resolve(self) -> Option<LookInRegion> {
        Some(match self {
            RawLookInRegion::CheckAddress => LookInRegion::CheckAddress,
            RawLookInRegion::AddressInRange => LookInRegion::AddressInRange,
            RawLookInRegion::CheckedOffset(offset) => LookInRegion::CheckedOffset(offset.get()),
            RawLookInRegion::GetHostAddress => LookInRegion::GetHostAddress,
            RawLookInRegion::GetSlice(count) => LookInRegion::GetSlice(count.get()),
            RawLookInRegion::LastAddr => LookInRegion::LastAddr,
            RawLookInRegion::ToRegionAddr(_) => return None,
        })
    }
}

impl RawMark {
    fn resolve(self) -> Mark {
        match self {
            RawMark::SetRange(start, len) => Mark::SetRange(start.get(), len.get()),
            RawMark::ResetRange(start, len) => Mark::ResetRange(start.get(), len.get()),
            RawMark::SetBit(page) => Mark::SetBit(page.get()),
            RawMark::ResetBit(page) => Mark::ResetBit(page.get()),
            RawMark::Reset => Mark::Reset,
            RawMark::GetAndReset => Mark::GetAndReset,
            RawMark::DirtyAt(offset) => Mark::DirtyAt(offset.get()),
            RawMark::ThroughSlice(base, offset, len) => {
                Mark::ThroughSlice(base.get(), offset.get(), len.get())
            }
        }
    }
}
