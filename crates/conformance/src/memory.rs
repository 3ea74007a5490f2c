// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The suite for a whole [`GuestMemory`].
//!
//! What it holds a memory made of a sorted list of ranges to, beside all that
//! [`bytes`] and [`bytes_ext`] ask of its accesses, here across borders of regions and into holes:
//!
//! * `num_regions`, `iter` and `last_addr` agree with the list; `find_region`, `to_region_addr`,
//!   `address_in_range` and `check_address` find the range that holds an address, or nothing;
//! * `to_region_span` finds a range that is not empty if it lies in one region, `get_host_address_range` its host address;
//! * `check_range` is true exactly if every byte is mapped; `checked_offset` says whether the sum is
//!   mapped, whatever lies between;
//! * `get_slice` stays in one region or fails; `get_slices` gives every byte up to the first hole, in
//!   order, then one error if bytes are missing, then nothing;
//! * bytes copied from one slice to another arrive as if read first, and are dirty;
//! * `try_access` offers the same pieces, with the right counts; it offers the rest of one that was taken in part, ends where
//!   nothing is taken, hands on the callback's error, and refuses one that takes too much;
//! * an access that starts in a hole fails with its address; one that runs into a hole says how far
//!   it came; the regions' bitmaps are dirty where something was written and nowhere else.
//!
//! An empty range is memory everywhere ([`check_range`](GuestMemory::check_range)), and yet has a slice only where there is memory.

use guest_memory_bitmap::Bitmap;
use guest_memory_core::{
    GuestAddress, GuestMemory, GuestMemoryError, GuestMemoryRegion, IoMemory, Permissions,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::access::Refusal;
use crate::bytes::{self, raw_operation};
use crate::bytes_ext::{self, raw_extended};
use crate::config::{Config, Tracking, expect_eq, guarded};
use crate::model::Model;
use crate::place::{Map, Spot, count, range_len, spot};
use crate::region;

mod slices;

pub use slices::Take;

/// A method of the memory with its arguments but for the address.
#[derive(Clone, Copy, Debug)]
#[expect(
    missing_docs,
    reason = "each variant is the method of that name, with its arguments"
)]
pub enum Call {
    /// A method of [`Bytes`](guest_memory_core::Bytes).
    Access(bytes::Call),
    /// A method of [`BytesExt`](guest_memory_core::BytesExt).
    Extended(bytes_ext::Call),
    /// `find_region`, `to_region_addr`, `address_in_range`, `check_address`, `get_host_address`.
    Find,
    /// `to_region_span` and `get_host_address_range`.
    FindSpan {
        count: usize,
    },
    CheckRange {
        len: usize,
    },
    CheckedOffset {
        offset: usize,
    },
    GetSlice {
        count: usize,
    },
    GetSlices {
        count: usize,
    },
    TryAccess {
        count: usize,
        take: Take,
    },
    /// Copies from the slice there to the one so many bytes further on, or back.
    CopySlice {
        count: usize,
        distance: i64,
    },
}

/// One call at an address.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// The address.
    pub at: u64,
    /// The rest.
    pub call: Call,
}

#[derive(Debug)]
struct Script {
    ranges: Vec<(u64, usize)>,
    operations: Vec<Operation>,
}

/// Checks the memories that `make` returns for a list of (start, length in bytes), which is never
/// empty, sorted by start and free of overlaps.
///
/// # Panics
///
/// When one does not behave; the message names the operation and the shortest script.
///
/// # Examples
///
/// ```
/// use guest_memory_bitmap::AtomicBitmap;
/// use guest_memory_conformance::memory;
/// use guest_memory_mmap::GuestMemoryMmap;
///
/// type Memory = GuestMemoryMmap<AtomicBitmap>;
///
/// memory::check(|ranges| Memory::from_ranges(ranges).expect("mapped memory"));
/// ```
pub fn check<M: GuestMemory>(make: impl Fn(&[(GuestAddress, usize)]) -> M) {
    check_with(Config::default(), make);
}

/// Checks memories as [`check`] does, with other settings.
///
/// # Panics
///
/// As [`check`].
pub fn check_with<M: GuestMemory>(config: Config, make: impl Fn(&[(GuestAddress, usize)]) -> M) {
    let tracking = config.settle("memory", |len| {
        let memory = make(&[(GuestAddress(0), len)]);
        let first = |memory: &M| {
            memory
                .iter()
                .next()
                .map(|region| region.bitmap().mark_dirty(0, 1))
        };
        first(&memory);
        move |offset| {
            memory
                .iter()
                .next()
                .is_some_and(|region| region.bitmap().dirty_at(offset))
        }
    });
    config.run("memory", &scripts(config, tracking), |script| {
        let ranges: Vec<_> = script
            .ranges
            .iter()
            .map(|&(start, len)| (GuestAddress(start), len))
            .collect();
        let memory = guarded(&("make", &ranges), || Ok(make(&ranges)))?;
        let mut model = Model::new(&script.ranges, tracking.page_size);
        guarded(&"a new memory", || bounds(&memory, &model))?;
        guarded(&"a new memory", || compare(&memory, &model))?;
        for operation in arithmetic_at_borders(&script.ranges) {
            guarded(&operation, || apply(&operation, &memory, &mut model))?;
        }
        for operation in &script.operations {
            guarded(operation, || {
                apply(operation, &memory, &mut model)?;
                compare(&memory, &model)
            })?;
        }
        Ok(())
    });
}

fn scripts(config: Config, tracking: Tracking) -> impl Strategy<Value = Script> {
    let page_size = tracking.step();
    let gap = prop_oneof![
        4 => Just(0u64),
        1 => 1u64..=40,
        1 => Just(page_size as u64),
        1 => 0u64..1 << 40,
    ];
    let first_start = prop_oneof![1 => Just(0u64), 1 => 0u64..1 << 33];
    let at_top = proptest::option::of(range_len(page_size));
    let ranges = (first_start, vec((gap, range_len(page_size)), 1..5), at_top);
    let distance = prop_oneof![-24i64..=24, -512i64..=512];
    let call = prop_oneof![
        2 => Just(Call::Find),
        1 => count(page_size).prop_map(|count| Call::FindSpan { count }),
        2 => count(page_size).prop_map(|len| Call::CheckRange { len }),
        1 => count(page_size).prop_map(|offset| Call::CheckedOffset { offset }),
        2 => count(page_size).prop_map(|count| Call::GetSlice { count }),
        2 => count(page_size).prop_map(|count| Call::GetSlices { count }),
        2 => (count(page_size), take()).prop_map(|(count, take)| Call::TryAccess { count, take }),
        2 => (count(page_size), distance)
            .prop_map(|(count, distance)| Call::CopySlice { count, distance }),
    ];
    let access = raw_operation(page_size).prop_map(|(spot, call)| (spot, Call::Access(call)));
    let extended = raw_extended(page_size).prop_map(|(spot, call)| (spot, Call::Extended(call)));
    let raw = vec(
        prop_oneof![2 => (spot(), call), 3 => access, 2 => extended],
        1..24,
    );
    (ranges, raw).prop_map(move |((first_start, rest, at_top), raw)| {
        let ranges = lay_out(config, first_start, &rest, at_top);
        let map = Map::new(&ranges, page_size);
        let resolve = |(spot, call): (Spot, Call)| Operation {
            at: spot.find(&map),
            call,
        };
        let operations = raw.into_iter().map(resolve).collect();
        Script { ranges, operations }
    })
}

/// Makes ways to take what a walk offers.
fn take() -> impl Strategy<Value = Take> {
    prop_oneof![
        2 => Just(Take::All),
        2 => (1usize..40).prop_map(Take::AtMost),
        1 => (0usize..4).prop_map(Take::UntilCall),
        1 => Just(Take::TooMuch),
        1 => (1usize..4).prop_map(Take::FailAtCall),
    ]
}

/// Puts ranges of (gap before it, length in bytes) one after another, and the last one at the top.
fn lay_out(
    config: Config,
    first_start: u64,
    rest: &[(u64, usize)],
    at_top: Option<usize>,
) -> Vec<(u64, usize)> {
    let mut next = config.round_up_address(first_start);
    let mut ranges = Vec::new();
    for &(gap, len) in rest {
        let (start, len) = (next + config.round_up_address(gap), config.round_up(len));
        ranges.push((start, len));
        next = start + len as u64;
    }
    if let Some(len) = at_top {
        let len = config.round_up(len);
        ranges.push((0u64.wrapping_sub(len as u64), len));
    }
    ranges
}

pub(crate) fn bounds<M: GuestMemory>(memory: &M, model: &Model) -> Result<(), String> {
    let expected: Vec<_> = model
        .spans()
        .iter()
        .map(|span| (GuestAddress(span.start()), span.len() as u64))
        .collect();
    let found: Vec<_> = memory
        .iter()
        .map(|region| (region.start_addr(), region.len()))
        .collect();
    expect_eq("iter", found, expected)?;
    expect_eq("num_regions", memory.num_regions(), model.spans().len())?;
    let end = model.spans().last().map_or(1, |span| span.end());
    let last = GuestAddress(u64::try_from(end - 1).unwrap_or(u64::MAX));
    expect_eq("last_addr", memory.last_addr(), last)
}

/// Lists what every memory is asked, whatever its script: the arithmetic at its very borders.
fn arithmetic_at_borders(ranges: &[(u64, usize)]) -> Vec<Operation> {
    let mut operations = Vec::new();
    for &(start, len) in ranges {
        let end = start.wrapping_add(len as u64);
        for at in [start.wrapping_sub(1), start, end.wrapping_sub(1), end] {
            operations.push(Operation {
                at,
                call: Call::Find,
            });
            for count in [0, 1, 2, len, usize::MAX] {
                operations.push(Operation {
                    at,
                    call: Call::FindSpan { count },
                });
                operations.push(Operation {
                    at,
                    call: Call::CheckRange { len: count },
                });
                operations.push(Operation {
                    at,
                    call: Call::CheckedOffset { offset: count },
                });
                operations.push(Operation {
                    at,
                    call: Call::GetSlice { count },
                });
            }
        }
    }
    operations
}

/// Compares all bytes and dirty pages of a memory with the model's.
///
/// # Errors
///
/// Names the first byte or page that differs.
pub fn compare<M: GuestMemory>(memory: &M, model: &Model) -> Result<(), String> {
    for (region, span) in memory.iter().zip(model.spans()) {
        region::compare(region, span)?;
    }
    Ok(())
}

/// Applies one operation to the memory and to the model and compares what they answer; what the
/// memory holds afterwards is for [`compare`]. Returns whether the operation succeeded.
///
/// # Errors
///
/// Says what the memory answered and what the model expected.
pub fn apply<M: GuestMemory>(
    operation: &Operation,
    memory: &M,
    model: &mut Model,
) -> Result<bool, String> {
    let Operation { at, call } = *operation;
    let address = GuestAddress(at);
    match call {
        Call::Access(call) => {
            let operation = bytes::Operation { at, call };
            bytes::apply(&operation, memory, &GuestAddress, model, &examine)
        }
        Call::Extended(call) => {
            let operation = bytes_ext::Operation { at, call };
            bytes_ext::apply(&operation, memory, &GuestAddress, model, &examine)
        }
        Call::Find => find(memory, address, model),
        Call::FindSpan { count } => slices::find_span(memory, address, count, model),
        Call::CheckRange { len } => check_range(memory, address, len, model),
        Call::CheckedOffset { offset } => {
            let sum = at.checked_add(offset as u64);
            let expected = sum.filter(|&sum| model.find(sum).is_some());
            let found = memory.checked_offset(address, offset);
            expect_eq("checked_offset", found, expected.map(GuestAddress))?;
            Ok(expected.is_some())
        }
        Call::GetSlice { count } => slices::get_slice(memory, address, count, model),
        Call::GetSlices { count } => slices::get_slices(memory, address, count, model),
        Call::TryAccess { count, take } => {
            // A few bytes at a time is a long walk over absurd counts.
            let mapped = model.mapped(at, count);
            let take = match take {
                Take::AtMost(most) => Take::AtMost(most.max(mapped / 64)),
                other => other,
            };
            slices::try_access(memory, address, count, take, model)
        }
        Call::CopySlice { count, distance } => {
            let target = GuestAddress(at.wrapping_add_signed(distance));
            slices::copy_slice(memory, address, target, count, model)
        }
    }
}

fn find<M: GuestMemory>(memory: &M, address: GuestAddress, model: &Model) -> Result<bool, String> {
    let span = model.find(address.0);
    let is_inside = span.is_some();
    let start = span.map(|span| GuestAddress(span.start()));
    let offset = span.and_then(|span| span.offset_of(address.0));

    let found = memory
        .find_region(address)
        .map(GuestMemoryRegion::start_addr);
    expect_eq("the start of find_region", found, start)?;
    let found = memory.to_region_addr(address);
    let found = found.map(|(region, offset)| (region.start_addr(), offset.0));
    let expected = start.zip(offset.map(|offset| offset as u64));
    expect_eq("to_region_addr", found, expected)?;
    expect_eq(
        "address_in_range",
        memory.address_in_range(address),
        is_inside,
    )?;
    let expected = is_inside.then_some(address);
    expect_eq("check_address", memory.check_address(address), expected)?;

    match memory.get_host_address(address) {
        Ok(found) if is_inside => {
            let slice = memory.get_slice(address, 1);
            let slice = slice.map_err(|error| format!("get_slice of one byte: {error:?}"))?;
            let expected = slice.ptr_guard().as_ptr();
            expect_eq("get_host_address", found.cast_const(), expected)?;
        }
        Ok(found) => {
            return Err(format!(
                "get_host_address of a hole is {found:?}, expected an error"
            ));
        }
        Err(error) => region::expect_no_host_address(&error, address, is_inside)?,
    }
    Ok(is_inside)
}

fn check_range<M: GuestMemory>(
    memory: &M,
    address: GuestAddress,
    len: usize,
    model: &Model,
) -> Result<bool, String> {
    let expected = model.mapped(address.0, len) == len;
    let found = GuestMemory::check_range(memory, address, len);
    expect_eq("check_range", found, expected)?;
    for access in [
        Permissions::Read,
        Permissions::Write,
        Permissions::ReadWrite,
    ] {
        let found = IoMemory::check_range(memory, address, len, access);
        expect_eq("check_range of IoMemory", found, expected)?;
    }
    Ok(expected)
}

/// Checks that an error says what the model knows.
fn examine(error: &GuestMemoryError, refusal: Refusal) -> Result<(), String> {
    match (error, refusal) {
        (GuestMemoryError::InvalidGuestAddress(found), Refusal::Unmapped(at)) => {
            expect_eq("the address in the error", found.0, at)
        }
        (_, Refusal::Unmapped(at)) => Err(format!(
            "returned {error:?}, expected InvalidGuestAddress of {at:#x}"
        )),
        _ => region::examine(error, refusal),
    }
}
