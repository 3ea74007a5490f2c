// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The suite for a [`GuestMemoryRegion`].
//!
//! What it holds a region of `len` bytes made at `start` to, beside all that
//! [`bytes`] asks of its accesses:
//!
//! * [`GuestMemoryRegion::len`], `start_addr` and `last_addr` say so, also when the region ends at
//!   2^64;
//! * `check_address`, `address_in_range`, `checked_offset` and `to_region_addr` agree with the range
//!   `[0, len)` and answer `None` where a sum does not fit;
//! * `get_slice` returns `count` bytes or an error, never less or other bytes; `as_volatile_slice`
//!   returns all; what is written through a slice is in the region and in its bitmap;
//! * `get_host_address` says that the region has no host addresses, or gives the one at which `get_slice` finds the byte, and
//!   past the end an error that says so (`InvalidGuestAddress` with the guest address, or `InvalidBackendAddress`);
//! * the bitmap covers the whole region and is dirty where something was written and nowhere else.
//!
//! [`check_read_only`] holds a region that must not be written to refusing every way to write, by itself and by its windows.
//!
//! `as_slice` and `as_mut_slice` are unsafe to call and not looked at, nor are `file_offset` and `is_hugetlbfs`. A region has to start
//! zeroed and clean, its first byte aligned to eight bytes in the host.

use std::sync::atomic::Ordering;

use guest_memory_bitmap::Bitmap;
use guest_memory_core::{GuestAddress, GuestMemoryError, GuestMemoryRegion, MemoryRegionAddress};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::access::Refusal;
use crate::bytes::{self, Data, raw_operation};
use crate::config::{Config, Tracking, expect_eq, guarded};
use crate::model::{Model, Span};
use crate::place::{Map, Spot, buffer_len, count, range_len, spot};
use crate::read_only;

/// A method of the region with its arguments but for the first offset.
#[derive(Clone, Copy, Debug)]
enum Call {
    Access(bytes::Call),
    /// `check_address`, `address_in_range`, `to_region_addr`, `get_host_address`.
    Find,
    CheckedOffset {
        offset: usize,
    },
    GetSlice {
        count: usize,
    },
    /// A write at an offset inside of what `get_slice` returned.
    WriteSlice {
        count: usize,
        offset: usize,
        data: Data,
    },
    /// A write through `as_volatile_slice`.
    WriteWhole {
        data: Data,
    },
    MarkDirty {
        len: usize,
    },
}

/// One call at an offset in the region.
#[derive(Clone, Copy, Debug)]
struct Operation {
    at: u64,
    call: Call,
}

#[derive(Debug)]
struct Script {
    start: u64,
    len: usize,
    operations: Vec<Operation>,
}

/// Checks the regions that `make` returns for a start and a length in bytes.
///
/// # Panics
///
/// When one does not behave; the message names the operation and the shortest script.
///
/// # Examples
///
/// ```
/// use guest_memory_bitmap::AtomicBitmap;
/// use guest_memory_conformance::region;
/// use guest_memory_mmap::GuestRegionMmap;
///
/// type Region = GuestRegionMmap<AtomicBitmap>;
///
/// region::check(|start, len| Region::from_range(start, len, None).expect("mapped memory"));
/// ```
pub fn check<R: GuestMemoryRegion>(make: impl Fn(GuestAddress, usize) -> R) {
    check_with(Config::default(), make);
}

/// Checks regions as [`check`] does, with other settings.
///
/// # Panics
///
/// As [`check`].
pub fn check_with<R: GuestMemoryRegion>(config: Config, make: impl Fn(GuestAddress, usize) -> R) {
    let tracking = config.settle("region", |len| {
        let region = make(GuestAddress(0), len);
        region.bitmap().mark_dirty(0, 1);
        move |offset| region.bitmap().dirty_at(offset)
    });
    config.run("region", &scripts(config, tracking), |script| {
        let (start, len) = (script.start, script.len);
        let region = guarded(&("make", start, len), || Ok(make(GuestAddress(start), len)))?;
        // The model's addresses are offsets in the region.
        let mut model = Model::new(&[(0, len)], tracking.page_size);
        guarded(&"a new region", || bounds(&region, start, len))?;
        guarded(&"a new region", || compare(&region, &model.spans()[0]))?;
        for operation in arithmetic_at_borders(script) {
            guarded(&operation, || apply(operation, &region, start, &mut model))?;
        }
        for operation in &script.operations {
            guarded(operation, || {
                apply(*operation, &region, script.start, &mut model)?;
                compare(&region, &model.spans()[0])
            })?;
        }
        Ok(())
    });
}

/// Checks regions that must not be written, such as a ROM: `make` returns one for a start and a length in bytes.
///
/// The region and all of its windows refuse every way to write, keep their bytes and stay clean. What [`check`] asks of the bounds
/// is asked here too.
///
/// # Panics
///
/// As [`check`].
///
/// # Examples
///
/// ```
/// use guest_memory_bitmap::AtomicBitmap;
/// use guest_memory_conformance::{Config, region};
/// use guest_memory_mmap::{GuestRegionMmap, MmapRegionBuilder, Protection};
///
/// region::check_read_only(Config::default(), |start, len| {
///     let builder = MmapRegionBuilder::<AtomicBitmap>::new(len).with_protection(Protection::ReadOnly);
///     GuestRegionMmap::new(builder.build().expect("mapped memory"), start).expect("an end by 2^64")
/// });
/// ```
pub fn check_read_only<R: GuestMemoryRegion>(
    config: Config,
    make: impl Fn(GuestAddress, usize) -> R,
) {
    for len in [1, 8, 65, 4096, 4101].map(|len| config.round_up(len)) {
        for start in [0, 0u64.wrapping_sub(len as u64)] {
            let told = guarded(&("a region without write access", start, len), || {
                let region = make(GuestAddress(start), len);
                bounds(&region, start, len)?;
                let whole = region.as_volatile_slice();
                let whole = whole.map_err(|error| format!("as_volatile_slice: {error:?}"))?;
                read_only::check(&whole, true)?;
                for offset in [0, len / 2, len - 1] {
                    let part = region.get_slice(MemoryRegionAddress(offset as u64), len - offset);
                    let part = part.map_err(|error| format!("get_slice at {offset}: {error:?}"))?;
                    read_only::check(&part, true)?;
                    refused(&region, offset)?;
                }
                compare(&region, &Span::new(0, len, None))
            });
            if let Err(reason) = told {
                panic!("region conformance: {reason}");
            }
        }
    }
}

/// Tries the ways to write that a region has by itself; what it holds afterwards is for the caller to compare.
fn refused<R: GuestMemoryRegion>(region: &R, offset: usize) -> Result<(), String> {
    let at = MemoryRegionAddress(offset as u64);
    let mut source = &[7u8; 4][..];
    let tried = [
        ("write", region.write(&[7; 4], at).map(drop)),
        ("write_slice", region.write_slice(&[7], at)),
        ("write_obj", region.write_obj(7u8, at)),
        ("store", region.store(7u8, at, Ordering::SeqCst)),
        (
            "read_volatile_from",
            region.read_volatile_from(at, &mut source, 4).map(drop),
        ),
        (
            "read_exact_volatile_from",
            region.read_exact_volatile_from(at, &mut source, 1),
        ),
    ];
    for (what, result) in tried {
        if result.is_ok() {
            return Err(format!("{what} succeeded, expected an error"));
        }
    }
    let empty = region.write(&[], at);
    let empty = empty.map_err(|error| format!("an empty write returned {error:?}, expected 0"))?;
    expect_eq("the count of an empty write", empty, 0)?;
    expect_eq("the bytes that are left in the source", source.len(), 4)
}

fn scripts(config: Config, tracking: Tracking) -> impl Strategy<Value = Script> {
    let page_size = tracking.step();
    let data = || (any::<u8>(), buffer_len(page_size)).prop_map(|(first, len)| Data { first, len });
    let call = prop_oneof![
        2 => Just(Call::Find),
        1 => count(page_size).prop_map(|offset| Call::CheckedOffset { offset }),
        2 => count(page_size).prop_map(|count| Call::GetSlice { count }),
        2 => (buffer_len(page_size), 0usize..24, data())
            .prop_map(|(count, offset, data)| Call::WriteSlice { count, offset, data }),
        1 => data().prop_map(|data| Call::WriteWhole { data }),
        1 => count(page_size).prop_map(|len| Call::MarkDirty { len }),
    ];
    let access = raw_operation(page_size).prop_map(|(spot, call)| (spot, Call::Access(call)));
    let raw = vec(prop_oneof![(spot(), call), access], 1..24);
    // The second part of the start is taken from 2^64 downwards.
    let start = prop_oneof![
        1 => Just((0, false)),
        1 => (0u64..1 << 40).prop_map(|start| (start, false)),
        1 => (0u64..1 << 20).prop_map(|rest| (rest, true)),
        1 => Just((0, true)),
    ];
    (start, range_len(page_size), raw).prop_map(move |((start, is_from_top), len, raw)| {
        let len = config.round_up(len);
        let start = config.round_up_address(start);
        let start = if is_from_top {
            0u64.wrapping_sub(start).wrapping_sub(len as u64)
        } else {
            start
        };
        let map = Map::new(&[(0, len)], page_size);
        let resolve = |(spot, call): (Spot, Call)| Operation {
            at: spot.find(&map),
            call,
        };
        let operations = raw.into_iter().map(resolve).collect();
        Script {
            start,
            len,
            operations,
        }
    })
}

fn bounds<R: GuestMemoryRegion>(region: &R, start: u64, len: usize) -> Result<(), String> {
    let last = GuestAddress(start + (len as u64 - 1));
    expect_eq("len", region.len(), len as u64)?;
    expect_eq("start_addr", region.start_addr(), GuestAddress(start))?;
    expect_eq("last_addr", region.last_addr(), last)?;
    let slice = region
        .as_volatile_slice()
        .map_err(|error| format!("as_volatile_slice: {error:?}"))?;
    expect_eq("the length of as_volatile_slice", slice.len(), len)?;
    match region.bitmap().tracked_bytes() {
        Some(tracked) if tracked < len => Err(format!(
            "the bitmap records {tracked} of the region's {len} bytes"
        )),
        _ => Ok(()),
    }
}

/// Lists what every region is asked, whatever its script: the arithmetic at its very borders.
fn arithmetic_at_borders(script: &Script) -> Vec<Operation> {
    let (start, len) = (script.start, script.len as u64);
    let below_start = 0u64.wrapping_sub(start).wrapping_sub(1);
    let mut operations = Vec::new();
    for at in [
        0,
        len - 1,
        len,
        len.wrapping_add(1),
        u64::MAX,
        below_start,
        u64::MAX - start,
    ] {
        operations.push(Operation {
            at,
            call: Call::Find,
        });
        for offset in [0, 1, script.len - 1, script.len, usize::MAX] {
            operations.push(Operation {
                at,
                call: Call::CheckedOffset { offset },
            });
            operations.push(Operation {
                at,
                call: Call::GetSlice { count: offset },
            });
        }
    }
    operations
}

fn apply<R: GuestMemoryRegion>(
    operation: Operation,
    region: &R,
    start: u64,
    model: &mut Model,
) -> Result<(), String> {
    let Operation { at, call } = operation;
    let (offset, is_inside) = (MemoryRegionAddress(at), model.find(at).is_some());
    match call {
        Call::Access(call) => {
            let operation = bytes::Operation { at, call };
            bytes::apply(&operation, region, &MemoryRegionAddress, model, &examine).map(drop)
        }
        Call::Find => find(region, at, start, is_inside),
        Call::CheckedOffset { offset: more } => {
            let sum = at.checked_add(more as u64);
            let expected = sum.filter(|&sum| model.find(sum).is_some());
            let found = region.checked_offset(offset, more);
            expect_eq("checked_offset", found, expected.map(MemoryRegionAddress))
        }
        Call::GetSlice { count } => slice_of(region, at, count, model).map(drop),
        Call::WriteSlice {
            count,
            offset,
            data,
        } => {
            let Some(slice) = slice_of(region, at, count, model)? else {
                return Ok(());
            };
            let fitting = count.saturating_sub(offset).min(data.len);
            let found = slice.write(&data.bytes(), offset).unwrap_or(0);
            model.write(at.wrapping_add(offset as u64), &data.bytes()[..fitting]);
            expect_eq("the count of the write to the slice", found, fitting)
        }
        Call::WriteWhole { data } => {
            let slice = region.as_volatile_slice();
            let slice = slice.map_err(|error| format!("as_volatile_slice: {error:?}"))?;
            let offset = usize::try_from(at).unwrap_or(usize::MAX);
            let found = slice.write(&data.bytes(), offset).unwrap_or(0);
            let fitting = model.write(at, &data.bytes());
            expect_eq("the count of the write to the slice", found, fitting)
        }
        Call::MarkDirty { len } => {
            if is_inside {
                let offset = usize::try_from(at).unwrap_or(usize::MAX);
                region.bitmap().mark_dirty(offset, len);
                model.spans_mut()[0].mark(offset, len);
            }
            Ok(())
        }
    }
}

fn find<R: GuestMemoryRegion>(
    region: &R,
    at: u64,
    start: u64,
    is_inside: bool,
) -> Result<(), String> {
    let offset = MemoryRegionAddress(at);
    let expected = is_inside.then_some(offset);
    expect_eq("check_address", region.check_address(offset), expected)?;
    expect_eq(
        "address_in_range",
        region.address_in_range(offset),
        is_inside,
    )?;
    let address = GuestAddress(start.wrapping_add(at));
    expect_eq("to_region_addr", region.to_region_addr(address), expected)?;
    match region.get_host_address(offset) {
        Ok(found) if is_inside => {
            let slice = region.get_slice(offset, 1);
            let slice = slice.map_err(|error| format!("get_slice of one byte: {error:?}"))?;
            let expected = slice.ptr_guard().as_ptr();
            expect_eq("get_host_address", found.cast_const(), expected)
        }
        Ok(found) => Err(format!(
            "get_host_address past the end is {found:?}, expected an error"
        )),
        Err(error) => expect_no_host_address(&error, address, is_inside),
    }
}

/// Checks that an error of `get_host_address` is one that it may be: there is no memory, or no host address.
pub(crate) fn expect_no_host_address(
    error: &GuestMemoryError,
    address: GuestAddress,
    is_inside: bool,
) -> Result<(), String> {
    match error {
        GuestMemoryError::HostAddressNotAvailable => Ok(()),
        GuestMemoryError::InvalidGuestAddress(at) if !is_inside && *at == address => Ok(()),
        // The library makes no such error; it is there for regions of others.
        GuestMemoryError::InvalidBackendAddress if !is_inside => Ok(()),
        _ => Err(format!(
            "get_host_address returned {error:?}, expected {}HostAddressNotAvailable",
            if is_inside {
                "an address or ".to_owned()
            } else {
                format!("InvalidGuestAddress of {address} or ")
            }
        )),
    }
}

/// Asks for a slice and checks that it is refused exactly when it has to be.
fn slice_of<'a, R: GuestMemoryRegion>(
    region: &'a R,
    at: u64,
    count: usize,
    model: &Model,
) -> Result<Option<Slice<'a, R>>, String> {
    let is_all_mapped = model.mapped(at, count) == count;
    match region.get_slice(MemoryRegionAddress(at), count) {
        Ok(slice) if is_all_mapped => {
            expect_eq("the length of the slice", slice.len(), count)?;
            Ok(Some(slice))
        }
        Ok(slice) => Err(format!(
            "get_slice returned {} bytes, expected an error",
            slice.len()
        )),
        // An empty slice at or past the end may be refused.
        Err(_) if !is_all_mapped || model.find(at).is_none() => Ok(None),
        Err(error) => Err(format!(
            "get_slice returned {error:?}, expected {count} bytes"
        )),
    }
}

type Slice<'a, R> = guest_memory_volatile::VolatileSlice<
    'a,
    guest_memory_bitmap::BS<'a, <R as GuestMemoryRegion>::B>,
>;

/// Compares all bytes and pages of a region with the model's.
pub(crate) fn compare<R: GuestMemoryRegion>(region: &R, span: &Span) -> Result<(), String> {
    let slice = region.get_slice(MemoryRegionAddress(0), span.len());
    let slice = slice.map_err(|error| format!("get_slice of it all: {error:?}"))?;
    let mut bytes = vec![0; span.len()];
    let copied = slice.copy_to(&mut bytes);
    expect_eq(
        "the number of bytes that get_slice gave",
        copied,
        span.len(),
    )?;
    span.compare(&bytes, |offset| region.bitmap().dirty_at(offset))
}

/// Checks that an error says what the model knows.
pub(crate) fn examine(error: &GuestMemoryError, refusal: Refusal) -> Result<(), String> {
    let is_right = match (error, refusal) {
        (
            GuestMemoryError::PartialBuffer {
                expected,
                completed,
            },
            Refusal::Partial {
                expected: wanted,
                completed: done,
            },
        ) => (*expected, *completed) == (wanted, done),
        (_, Refusal::Partial { .. }) => false,
        (
            GuestMemoryError::PartialBuffer { completed, .. }
            | GuestMemoryError::Access { completed, .. },
            Refusal::Stream { completed: done },
        ) => *completed == done,
        (GuestMemoryError::IOError(_), Refusal::Stream { completed }) => completed == 0,
        _ => true,
    };
    if is_right {
        Ok(())
    } else {
        Err(format!(
            "returned the error {error:?}, expected it to say {refusal:?}"
        ))
    }
}
