// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Scripts over a mapped guest memory of several regions: neighbours, a hole, one byte, one that
//! ends at 2^64. All accesses and lookups, dirty pages included.

use std::cell::Cell;
use std::num::NonZeroUsize;

use arbitrary::Arbitrary;
use guest_memory_bitmap::AtomicBitmap;
use guest_memory_conformance::bytes::{self, Amount, Data, Flow, Width};
use guest_memory_conformance::bytes_ext::{self, Change};
use guest_memory_conformance::memory::{self, Call, Take};
use guest_memory_conformance::model::Model;
use guest_memory_conformance::place::{Map, Spot};
use guest_memory_core::{GuestAddress, GuestMemory, GuestMemoryRegion};
use guest_memory_mmap::{GuestMemoryMmap, GuestRegionMmap, MmapRegionBuilder};

/// Starts and lengths in bytes; the third one starts at an odd address. Small, as each script starts
/// by clearing them and ends by comparing them.
const RANGES: [(u64, usize); 6] = [
    (0x1000, 0x180),
    (0x1180, 0xb3),
    (0x1233, 13),
    (0x4000, 1),
    (0xffff_ff00, 0x200),
    (u64::MAX - 0xff, 0x100),
];

/// Page size of the dirty bitmaps in bytes: small, so that small regions have many pages.
const PAGE_SIZE: NonZeroUsize = NonZeroUsize::new(32).expect("32 is not zero");

/// Names of the operations, as [`run_with`] reports them.
pub const OPERATIONS: [&str; 24] = [
    "write",
    "read",
    "write_slice",
    "read_slice",
    "write_obj",
    "read_obj",
    "store",
    "load",
    "read_volatile_from",
    "write_volatile_to",
    "find_region",
    "check_range",
    "checked_offset",
    "get_slice",
    "get_slices",
    "try_access",
    "compare_exchange",
    "read_modify_write",
    "fill",
    "zero",
    "is_zero",
    "load_le",
    "store_le",
    "copy_slice",
];

/// An operation as the fuzzer makes it.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Op {
    Write { first: u8, len: Len },
    Read { len: Len },
    WriteSlice { first: u8, len: Len },
    ReadSlice { len: Len },
    WriteObj { value: u64, width: u8 },
    ReadObj { width: u8 },
    Store { value: u64, width: u8 },
    Load { width: u8 },
    ReadVolatileFrom { stream: Stream, first: u8, len: Len },
    WriteVolatileTo { stream: Stream, room: Len },
    Find,
    CheckRange { len: Count },
    CheckedOffset { offset: Count },
    GetSlice { count: Count },
    GetSlices { count: Count },
    TryAccess { count: Count },
    CopySlice { count: Count, distance: i16 },
    Extended(Extended),
}

/// A method of `BytesExt` as the fuzzer makes it.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Extended {
    CompareExchange {
        current: Option<u64>,
        new: u64,
        width: u8,
    },
    Modify {
        change: u8,
        value: u64,
        width: u8,
    },
    Fill {
        value: u8,
        count: Count,
    },
    Zero {
        count: Count,
    },
    IsZero {
        count: Count,
    },
    LoadLe {
        width: u8,
    },
    StoreLe {
        value: u64,
        width: u8,
    },
}

/// Where an operation takes place.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Place {
    Inside { range: u8, byte: u16 },
    Border { border: u8, distance: i8 },
}

/// Length of a buffer in bytes: a few, or more than all neighbours together.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Len {
    Short(u8),
    Long(u16),
}

/// A count in bytes that needs no buffer.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Count {
    Short(u8),
    Long(u16),
    BelowMax(u8),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Stream {
    UpTo(Count, Portions),
    Exactly(Count, Portions),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Portions {
    Plain,
    Cursor,
    Dribble(u8),
    FailAfter(u8),
}

impl Place {
    fn spot(self) -> Spot {
        match self {
            Place::Inside { range, byte } => Spot::Inside {
                range: range.into(),
                byte: byte.into(),
            },
            Place::Border { border, distance } => Spot::Border {
                border: border.into(),
                distance,
            },
        }
    }
}

impl Len {
    fn bytes(self) -> usize {
        match self {
            Len::Short(len) => usize::from(len) % 64,
            Len::Long(len) => usize::from(len) % 0x300,
        }
    }
}

impl Count {
    fn bytes(self) -> usize {
        match self {
            Count::Short(count) => usize::from(count) % 64,
            Count::Long(count) => count.into(),
            Count::BelowMax(less) => usize::MAX - usize::from(less),
        }
    }
}

impl Stream {
    fn amount_and_flow(self) -> (Amount, Flow) {
        let (amount, portions) = match self {
            Stream::UpTo(count, portions) => (Amount::UpTo(count.bytes()), portions),
            Stream::Exactly(count, portions) => (Amount::Exactly(count.bytes()), portions),
        };
        let flow = match portions {
            Portions::Plain => Flow::Plain,
            Portions::Cursor => Flow::Cursor,
            // Half of them one slice at a time, half across slices: the corpus keeps its meaning.
            Portions::Dribble(portion) if portion < 128 => Flow::Dribble(portion.into()),
            Portions::Dribble(portion) => Flow::Across(usize::from(portion) - 128),
            Portions::FailAfter(limit) => Flow::FailAfter(limit.into()),
        };
        (amount, flow)
    }
}

impl Op {
    /// Returns the call and its name in [`OPERATIONS`].
    fn call(self) -> (Call, &'static str) {
        let data = |first, len: Len| Data {
            first,
            len: len.bytes(),
        };
        let access = match self {
            Op::Write { first, len } => (bytes::Call::Write(data(first, len)), "write"),
            Op::Read { len } => (bytes::Call::Read { len: len.bytes() }, "read"),
            Op::WriteSlice { first, len } => {
                (bytes::Call::WriteSlice(data(first, len)), "write_slice")
            }
            Op::ReadSlice { len } => (bytes::Call::ReadSlice { len: len.bytes() }, "read_slice"),
            Op::WriteObj { value, width: of } => (
                bytes::Call::WriteObj {
                    value,
                    width: width(of),
                },
                "write_obj",
            ),
            Op::ReadObj { width: of } => (bytes::Call::ReadObj(width(of)), "read_obj"),
            Op::Store { value, width: of } => (
                bytes::Call::Store {
                    value,
                    width: width(of),
                },
                "store",
            ),
            Op::Load { width: of } => (bytes::Call::Load(width(of)), "load"),
            Op::ReadVolatileFrom { stream, first, len } => {
                let (amount, flow) = stream.amount_and_flow();
                let data = data(first, len);
                (
                    bytes::Call::ReadVolatileFrom { amount, data, flow },
                    "read_volatile_from",
                )
            }
            Op::WriteVolatileTo { stream, room } => {
                let (amount, flow) = stream.amount_and_flow();
                let room = room.bytes();
                (
                    bytes::Call::WriteVolatileTo { amount, room, flow },
                    "write_volatile_to",
                )
            }
            Op::Find => return (Call::Find, "find_region"),
            Op::CheckRange { len } => {
                return (Call::CheckRange { len: len.bytes() }, "check_range");
            }
            Op::CheckedOffset { offset } => {
                return (
                    Call::CheckedOffset {
                        offset: offset.bytes(),
                    },
                    "checked_offset",
                );
            }
            Op::GetSlice { count } => {
                return (
                    Call::GetSlice {
                        count: count.bytes(),
                    },
                    "get_slice",
                );
            }
            Op::GetSlices { count } => {
                return (
                    Call::GetSlices {
                        count: count.bytes(),
                    },
                    "get_slices",
                );
            }
            Op::TryAccess { count } => {
                return (
                    Call::TryAccess {
                        count: count.bytes(),
                        take: Take::All,
                    },
                    "try_access",
                );
            }
            Op::CopySlice { count, distance } => {
                return (
                    Call::CopySlice {
                        count: count.bytes(),
                        distance: distance.into(),
                    },
                    "copy_slice",
                );
            }
            Op::Extended(extended) => {
                let (call, name) = extended.call();
                return (Call::Extended(call), name);
            }
        };
        (Call::Access(access.0), access.1)
    }
}

impl Extended {
    /// Returns the call and its name in [`OPERATIONS`].
    fn call(self) -> (bytes_ext::Call, &'static str) {
        use bytes_ext::Call;

        match self {
            Extended::CompareExchange {
                current,
                new,
                width: of,
            } => (
                Call::CompareExchange {
                    current,
                    new,
                    width: width(of),
                },
                "compare_exchange",
            ),
            Extended::Modify {
                change,
                value,
                width: of,
            } => (
                Call::Modify {
                    change: Change::ALL[usize::from(change) % Change::ALL.len()],
                    value,
                    width: width(of),
                },
                "read_modify_write",
            ),
            Extended::Fill { value, count } => {
                let count = count.bytes();
                (Call::Fill { value, count }, "fill")
            }
            Extended::Zero { count } => (
                Call::Zero {
                    count: count.bytes(),
                },
                "zero",
            ),
            Extended::IsZero { count } => (
                Call::IsZero {
                    count: count.bytes(),
                },
                "is_zero",
            ),
            Extended::LoadLe { width: of } => (Call::LoadLe(width(of)), "load_le"),
            Extended::StoreLe { value, width: of } => {
                let width = width(of);
                (Call::StoreLe { value, width }, "store_le")
            }
        }
    }
}

fn width(width: u8) -> Width {
    Width::ALL[usize::from(width) % Width::ALL.len()]
}

/// Runs the script in `data`.
///
/// # Panics
///
/// When an operation does something else than the model.
pub fn run(data: &[u8]) {
    run_with(data, |_, _| {});
}

/// Runs the script in `data` and reports each operation by its name and whether it succeeded.
///
/// # Panics
///
/// As [`run`].
pub fn run_with(data: &[u8], mut report: impl FnMut(&'static str, bool)) {
    // After a panic there is none to take: what the failed script left behind is not used again.
    let subject = SUBJECT.take().unwrap_or_else(Subject::new);
    let Subject { memory, map } = &subject;
    let mut model = Model::new(&RANGES, Some(PAGE_SIZE));
    super::for_each_operation(data, |(place, operation): (Place, Op)| {
        let (call, name) = operation.call();
        let operation = memory::Operation {
            at: place.spot().find(map),
            call,
        };
        match memory::apply(&operation, memory, &mut model) {
            Ok(succeeded) => report(name, succeeded),
            Err(reason) => panic!("{operation:x?}: {reason}"),
        }
    });
    if let Err(reason) = memory::compare(memory, &model) {
        panic!("after the script: {reason}");
    }
    subject.clear(&model);
    SUBJECT.set(Some(subject));
}

thread_local! {
    /// Kept between scripts: mapping it anew for each would cost more than the script.
    static SUBJECT: Cell<Option<Subject>> = const { Cell::new(None) };
}

/// The memory under test, zeroed and clean, and the places in it.
struct Subject {
    memory: GuestMemoryMmap<AtomicBitmap>,
    map: Map,
}

impl Subject {
    fn new() -> Self {
        let region = |(start, len)| {
            let bitmap = AtomicBitmap::new(len, PAGE_SIZE);
            let mapping = MmapRegionBuilder::new_with_bitmap(len, bitmap).build();
            let mapping = mapping.expect("a few bytes can be mapped");
            GuestRegionMmap::new(mapping, GuestAddress(start)).expect("it ends by 2^64")
        };
        let regions = RANGES.into_iter().map(region).collect();
        Self {
            memory: GuestMemoryMmap::from_regions(regions).expect("sorted and apart"),
            map: Map::new(&RANGES, PAGE_SIZE.get()),
        }
    }

    /// Makes the memory zero and clean again, given what it holds now.
    fn clear(&self, model: &Model) {
        for (region, span) in self.memory.iter().zip(model.spans()) {
            if !span.is_clean() {
                let slice = region.as_volatile_slice();
                let slice = slice.expect("a mapped region has a slice");
                slice.copy_from(&vec![0u8; span.len()]);
                GuestMemoryRegion::bitmap(region).reset();
            }
        }
    }
}
