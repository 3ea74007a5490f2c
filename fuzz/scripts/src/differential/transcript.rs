// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a library is asked, and what it answers, in terms that know neither.

use std::io::ErrorKind;

/// An operation with all its numbers.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// An access by guest address.
    Memory(u64, Access),
    /// An access by region, which is there, and offset.
    Region(usize, u64, Access),
    /// An access by offset in the slice of so many bytes at an address.
    Slice(u64, usize, usize, Access),
    /// Another question about such a slice.
    Cut(u64, usize, Cut),
    /// A copy between two such slices.
    Copy([(u64, usize); 2]),
    Look(u64, Look),
    LookInRegion(usize, u64, LookInRegion),
    Bitmap(usize, Mark),
    /// A range that joins the memory, or leaves it.
    Insert(u64, usize),
    Remove(u64, u64),
    /// A memory of these ranges takes the place of the one that is there.
    FromRanges(Vec<(u64, usize)>),
}

/// A method of `Bytes`.
#[derive(Clone, Debug)]
pub(super) enum Access {
    Write(Vec<u8>),
    Read(usize),
    WriteSlice(Vec<u8>),
    ReadSlice(usize),
    WriteObj(Width, [u8; 16]),
    ReadObj(Width),
    Store(Width, [u8; 16], Order),
    Load(Width, Order),
    ReadVolatileFrom(Source, usize),
    ReadExactVolatileFrom(Source, usize),
    WriteVolatileTo(Sink, usize),
    WriteAllVolatileTo(Sink, usize),
}

#[derive(arbitrary::Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    One,
    Two,
    Four,
    Eight,
    /// For objects; as an atomic it counts as eight.
    Sixteen,
    /// Likewise.
    Three,
}

#[derive(arbitrary::Arbitrary, Clone, Copy, Debug)]
pub(super) enum Order {
    Relaxed,
    /// Acquire of a load, release of a store.
    Half,
    SeqCst,
}

#[derive(Clone, Debug)]
pub(super) enum Source {
    Slice(Vec<u8>),
    Cursor(Vec<u8>, u64),
    Toy(Vec<u8>, Manner),
}

#[derive(Clone, Debug)]
pub(super) enum Sink {
    Vec,
    /// With room for so many bytes.
    Slice(usize),
    Cursor(usize, u64),
    Toy(Manner),
}

/// How a stream of our own goes.
#[derive(arbitrary::Arbitrary, Clone, Copy, Debug)]
pub(super) struct Manner {
    /// Most bytes at a time.
    pub(super) portion: u8,
    /// Whether it fails after so many bytes.
    pub(super) fails_after: Option<u8>,
    /// Whether a signal interrupts the first call.
    pub(super) is_interrupted: bool,
}

/// A question about a slice.
#[derive(Clone, Debug)]
pub(super) enum Cut {
    Subslice(usize, usize),
    Offset(usize),
    SplitAt(usize),
    CopyTo(Width, usize),
    CopyFrom(Width, Vec<u8>),
    GetRef(Width, usize),
    GetArrayRef(Width, usize, usize),
    EndOffset(usize, usize),
}

/// A question about a memory and an address.
#[derive(Clone, Debug)]
pub(super) enum Look {
    FindRegion,
    ToRegionAddr,
    AddressInRange,
    CheckAddress,
    CheckRange(usize),
    CheckedOffset(usize),
    GetHostAddress,
    GetSlice(usize),
    GetSlices(usize),
    LastAddr,
    NumRegions,
    TryAccess(usize, Progress),
}

/// How far a callback says that it came with what it was given.
#[derive(arbitrary::Arbitrary, Clone, Copy, Debug)]
pub(super) enum Progress {
    All,
    Half,
    None,
    /// Too far.
    More,
}

/// A question about a region and an offset.
#[derive(Clone, Debug)]
pub(super) enum LookInRegion {
    CheckAddress,
    AddressInRange,
    CheckedOffset(usize),
    GetHostAddress,
    GetSlice(usize),
    LastAddr,
    /// Of a guest address.
    ToRegionAddr,
}

/// An operation on a region's bitmap.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark {
    SetRange(usize, usize),
    ResetRange(usize, usize),
    SetBit(usize),
    ResetBit(usize),
    Reset,
    GetAndReset,
    DirtyAt(usize),
    /// Through a slice of it.
    ThroughSlice(usize, usize, usize),
}

/// What an operation answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) answer: Answer,
    /// What is in the buffer that was given, what a sink took, what a callback saw.
    pub(super) data: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    Count(usize),
    Flag(bool),
    Address(Option<u64>),
    /// Start and length, or start and offset.
    Pair(Option<(u64, u64)>),
    Words(Vec<u64>),
    Failed(Failure),
}

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    NoMemory(u64),
    Partial {
        expected: usize,
        completed: usize,
    },
    Stream {
        completed: usize,
        kind: ErrorKind,
    },
    OutOfBounds,
    Overflow,
    TooBig,
    Misaligned,
    /// 0.18's word for what goes wrong in the memory behind a region.
    Backend,
    CallbackOutOfRange,
    NoRegion,
    RegionOverlap,
    UnsortedRegions,
    EmptyRegion,
    RegionPastEnd,
    /// A region cannot be made.
    NotMade,
    Other(String),
}

/// What a region holds.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RegionState {
    pub(super) start: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) dirty_pages: Vec<bool>,
}

/// The state as far as it can be read in a message.
impl std::fmt::Debug for RegionState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pages = self.dirty_pages.iter().enumerate();
        let dirty: Vec<_> = pages.filter(|page| *page.1).map(|page| page.0).collect();
        write!(f, "{:#x}: {:02x?}, dirty {dirty:?}", self.start, self.bytes)
    }
}

pub(super) fn done() -> Seen {
    answer(Answer::Done)
}

pub(super) fn answer(answer: Answer) -> Seen {
    Seen {
        answer,
        data: Vec::new(),
    }
}

/// Makes an answer of a result; `of` makes it of the good case.
pub(super) fn result<V>(result: Result<V, Failure>, of: impl FnOnce(V) -> Answer) -> Answer {
    result.map_or_else(Answer::Failed, of)
}
