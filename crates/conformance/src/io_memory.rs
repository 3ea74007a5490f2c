// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The suite for an [`IoMemory`]: memory as a device sees it, where an access needs a permission.
//!
//! What it holds a memory to that is made of ranges with [`Permissions`] each:
//!
//! * [`check_range`](IoMemory::check_range) is true exactly if every byte may be accessed so; an empty range may everywhere;
//! * [`get_slices`](IoMemory::get_slices) gives every byte up to the first one that may not be accessed so, in order, in windows
//!   that are not empty; then one error if bytes are missing, then nothing;
//! * [`single_slice`](IoMemory::single_slice) and [`first_slice`](IoMemory::first_slice) give nothing, or all of the range and a
//!   start of it that is not empty: the same bytes, as far as they may be accessed so;
//! * windows for writing are not read-only;
//! * an access by [`Bytes`] moves what comes before the first byte that may not be accessed so, and fails if that is not all or
//!   says how much it was; a fill likewise; what was written is dirty, and nothing else;
//! * where [`physical_memory`](IoMemory::physical_memory) is given, addresses are not translated: there is memory at each of them.
//!
//! A [`GuestMemory`] is an `IoMemory` as well; [`memory`](crate::memory) asks more of it. Left open: how ranges that touch are cut
//! into windows, and what errors say. All of the memory has to start zeroed and clean.

use guest_memory_bitmap::{BS, BitmapSlice};
use guest_memory_core::{
    Bytes, BytesExt, GuestAddress, GuestMemory, GuestMemorySliceIterator, IoMemory, Permissions,
};
use guest_memory_volatile::VolatileSlice;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::bytes::Data;
use crate::config::{Config, Tracking, expect_bytes, expect_eq, guarded};
use crate::model::Model;
use crate::place::{Map, Spot, buffer_len, count, range_len, spot};

/// What the suite asks for in a range of a memory: start, length in bytes, and what a device may do there.
pub type Range = (GuestAddress, usize, Permissions);

/// A method of the memory with its arguments but for the address.
#[derive(Clone, Copy, Debug)]
enum Call {
    CheckRange { count: usize },
    GetSlices { count: usize },
    SingleSlice { count: usize },
    FirstSlice { count: usize },
    Write(Data),
    WriteSlice(Data),
    Read { len: usize },
    ReadSlice { len: usize },
    Fill { value: u8, count: usize },
}

/// One call at an address; methods that are told an access are told this one.
#[derive(Clone, Copy, Debug)]
struct Operation {
    at: u64,
    access: Permissions,
    call: Call,
}

#[derive(Debug)]
struct Script {
    ranges: Vec<Range>,
    operations: Vec<Operation>,
}

/// Checks the memories that `make` returns for a list of ranges, which is never empty, sorted by start and free of overlaps.
///
/// `kinds` are the permissions that ranges come with, at least one. Dirty pages are not looked at.
///
/// # Panics
///
/// When one does not behave; the message names the operation and the shortest script.
///
/// # Examples
///
/// ```
/// use guest_memory_conformance::io_memory;
/// use guest_memory_core::Permissions;
/// use guest_memory_mmap::GuestMemoryMmap;
///
/// type Memory = GuestMemoryMmap<()>;
///
/// // Memory without an IOMMU before it: all of it may be read and written.
/// io_memory::check(&[Permissions::ReadWrite], |ranges| {
///     let ranges: Vec<_> = ranges.iter().map(|&(start, len, _)| (start, len)).collect();
///     Memory::from_ranges(&ranges).expect("mapped memory")
/// });
/// ```
pub fn check<M: IoMemory>(kinds: &[Permissions], make: impl Fn(&[Range]) -> M) {
    check_with(Config::default().untracked(), kinds, make, |_, _| false);
}

/// Checks memories as [`check`] does, with other settings and with dirty pages; `dirty_at` answers for an address.
///
/// Where pages have more than a byte, ranges start and end where a page does.
///
/// # Panics
///
/// As [`check`], and if there are no kinds.
pub fn check_with<M: IoMemory>(
    config: Config,
    kinds: &[Permissions],
    make: impl Fn(&[Range]) -> M,
    dirty_at: impl Fn(&M, u64) -> bool,
) {
    let dirty_at = &dirty_at;
    let tracking = config.settle("io memory", |len| {
        let memory = make(&[(GuestAddress(0), len, Permissions::ReadWrite)]);
        // Written as a device does; that it can be is for the scripts to tell.
        let _ = memory.write_obj(1u8, GuestAddress(0));
        move |offset| dirty_at(&memory, offset as u64)
    });
    config.run("io memory", &scripts(config, tracking, kinds), |script| {
        let memory = guarded(&("make", &script.ranges), || Ok(make(&script.ranges)))?;
        let mut model = IoModel::new(&script.ranges, tracking);
        guarded(&"a new memory", || model.compare(&memory, dirty_at))?;
        for operation in at_borders(&script.ranges, kinds) {
            guarded(&operation, || apply(operation, &memory, &mut model))?;
        }
        for operation in &script.operations {
            guarded(operation, || {
                apply(*operation, &memory, &mut model)?;
                model.compare(&memory, dirty_at)
            })?;
        }
        Ok(())
    });
}

fn scripts(
    config: Config,
    tracking: Tracking,
    kinds: &[Permissions],
) -> impl Strategy<Value = Script> {
    let page_size = tracking.step();
    let gap = prop_oneof![
        3 => Just(0u64),
        1 => 1u64..=40,
        1 => 0u64..1 << 40,
    ];
    let kind = || select(kinds.to_vec());
    let access = select(ACCESSES.to_vec());
    let first_start = prop_oneof![1 => Just(0u64), 1 => 0u64..1 << 33];
    let at_top = proptest::option::of((range_len(page_size), kind()));
    let rest = vec((gap, range_len(page_size), kind()), 1..5);
    let data = || (any::<u8>(), buffer_len(page_size)).prop_map(|(first, len)| Data { first, len });
    let call = prop_oneof![
        2 => count(page_size).prop_map(|count| Call::CheckRange { count }),
        2 => count(page_size).prop_map(|count| Call::GetSlices { count }),
        2 => count(page_size).prop_map(|count| Call::SingleSlice { count }),
        2 => count(page_size).prop_map(|count| Call::FirstSlice { count }),
        3 => data().prop_map(Call::Write),
        3 => data().prop_map(Call::WriteSlice),
        2 => buffer_len(page_size).prop_map(|len| Call::Read { len }),
        2 => buffer_len(page_size).prop_map(|len| Call::ReadSlice { len }),
        1 => (any::<u8>(), count(page_size)).prop_map(|(value, count)| Call::Fill { value, count }),
    ];
    let raw = vec((spot(), access, call), 1..24);
    (first_start, rest, at_top, raw).prop_map(move |(first_start, rest, at_top, raw)| {
        let ranges = lay_out(config, tracking, first_start, &rest, at_top);
        let places: Vec<_> = ranges.iter().map(|range| (range.0.0, range.1)).collect();
        let map = Map::new(&places, page_size);
        let resolve = |(spot, access, call): (Spot, Permissions, Call)| Operation {
            at: spot.find(&map),
            access,
            call,
        };
        let operations = raw.into_iter().map(resolve).collect();
        Script { ranges, operations }
    })
}

/// The accesses that the suite asks about. One that does nothing is refused or not as the memory likes.
const ACCESSES: [Permissions; 3] = [
    Permissions::Read,
    Permissions::Write,
    Permissions::ReadWrite,
];

/// Puts ranges of (gap before it, length in bytes, permissions) one after another, and the last one at the top.
fn lay_out(
    config: Config,
    tracking: Tracking,
    first_start: u64,
    rest: &[(u64, usize, Permissions)],
    at_top: Option<(usize, Permissions)>,
) -> Vec<Range> {
    let page_size = tracking.page_size.map_or(1, usize::from);
    let wanted_len = |len| config.round_up(len).next_multiple_of(page_size);
    let wanted = |address| {
        let address = config.round_up_address(address);
        address.next_multiple_of(page_size as u64)
    };
    let mut next = wanted(first_start);
    let mut ranges = Vec::new();
    for &(gap, len, kind) in rest {
        let (start, len) = (next + wanted(gap), wanted_len(len));
        ranges.push((GuestAddress(start), len, kind));
        next = start + len as u64;
    }
    if let Some((len, kind)) = at_top {
        let len = wanted_len(len);
        let start = 0u64.wrapping_sub(len as u64);
        ranges.push((GuestAddress(start), len, kind));
    }
    ranges
}

/// Lists what every memory is asked, whatever its script: at the very borders.
fn at_borders(ranges: &[Range], kinds: &[Permissions]) -> Vec<Operation> {
    let mut operations = Vec::new();
    for &(GuestAddress(start), len, _) in ranges {
        let end = start.wrapping_add(len as u64);
        for at in [start.wrapping_sub(1), start, end.wrapping_sub(1), end] {
            for &access in kinds.iter().filter(|kind| ACCESSES.contains(kind)) {
                for count in [0, 1, 2, len, usize::MAX] {
                    let calls = [
                        Call::CheckRange { count },
                        Call::GetSlices { count },
                        Call::SingleSlice { count },
                        Call::FirstSlice { count },
                    ];
                    operations.extend(calls.map(|call| Operation { at, access, call }));
                }
            }
        }
    }
    operations
}

/// The bytes of all ranges, and what may be done with each range.
struct IoModel {
    model: Model,
    kinds: Vec<Permissions>,
}

impl IoModel {
    fn new(ranges: &[Range], tracking: Tracking) -> Self {
        let places: Vec<_> = ranges.iter().map(|range| (range.0.0, range.1)).collect();
        Self {
            model: Model::new(&places, tracking.page_size),
            kinds: ranges.iter().map(|range| range.2).collect(),
        }
    }

    /// Returns how many of `limit` bytes from `at` on may be accessed so, before the first that may not.
    fn allowed(&self, at: u64, limit: usize, access: Permissions) -> usize {
        let pieces = self.model.pieces(at, limit);
        let pieces = pieces.iter();
        pieces
            .take_while(|piece| self.kinds[piece.0].allow(access))
            .map(|piece| piece.2)
            .sum()
    }

    /// Compares the bytes and pages of all ranges; bytes that a device may not read, as far as it sees them.
    fn compare<M: IoMemory>(
        &self,
        memory: &M,
        dirty_at: &impl Fn(&M, u64) -> bool,
    ) -> Result<(), String> {
        for (span, kind) in self.model.spans().iter().zip(&self.kinds) {
            let start = span.start();
            let dirty_at = |offset: usize| dirty_at(memory, start.wrapping_add(offset as u64));
            if !kind.allow(Permissions::Read) {
                span.compare_dirty(dirty_at)?;
                continue;
            }
            let mut bytes = vec![0; span.len()];
            let read = memory.read_slice(&mut bytes, GuestAddress(start));
            read.map_err(|error| format!("reading the range at {start:#x}: {error:?}"))?;
            span.compare(&bytes, dirty_at)?;
        }
        Ok(())
    }

    /// Checks that a window has the bytes that are at `at`, and may be written if it has to.
    fn expect_window<S: BitmapSlice>(
        &self,
        what: &str,
        slice: &VolatileSlice<'_, S>,
        at: u64,
        access: Permissions,
    ) -> Result<(), String> {
        let is_refused = access.has_write() && slice.is_read_only();
        expect_eq(&format!("is_read_only of {what}"), is_refused, false)?;
        let mut bytes = vec![0; slice.len()];
        slice.copy_to(&mut bytes);
        let expected = self.model.read(at, slice.len());
        expect_bytes(&format!("what {what} holds"), 0, &bytes, &expected)
    }
}

fn apply<M: IoMemory>(operation: Operation, memory: &M, model: &mut IoModel) -> Result<(), String> {
    let Operation { at, access, call } = operation;
    let address = GuestAddress(at);
    physical(memory, model)?;
    match call {
        Call::CheckRange { count } => {
            let expected = model.allowed(at, count, access) == count;
            let found = memory.check_range(address, count, access);
            expect_eq("check_range", found, expected)
        }
        Call::GetSlices { count } => get_slices(memory, address, count, access, model),
        Call::SingleSlice { count } => {
            let Some(slice) = memory.single_slice(address, count, access) else {
                return Ok(());
            };
            let allowed = model.allowed(at, count, access);
            let range = format!("all of {count} bytes, of which {allowed} may be accessed,");
            expect_eq(&format!("single_slice of {range}"), allowed, count)?;
            expect_eq("the length of single_slice", slice.len(), count)?;
            model.expect_window("single_slice", &slice, at, access)
        }
        Call::FirstSlice { count } => {
            let Some(slice) = memory.first_slice(address, count, access) else {
                return Ok(());
            };
            let allowed = model.allowed(at, count, access);
            if !(1..=allowed).contains(&slice.len()) {
                return Err(format!(
                    "first_slice has {} bytes, expected 1 to {allowed}, or no slice",
                    slice.len()
                ));
            }
            model.expect_window("first_slice", &slice, at, access)
        }
        Call::Write(data) => {
            let allowed = model.allowed(at, data.len, Permissions::Write);
            let result = memory.write(&data.bytes(), address);
            model.model.write(at, &data.bytes()[..allowed]);
            counted(result, allowed, data.len)
        }
        Call::WriteSlice(data) => {
            let allowed = model.allowed(at, data.len, Permissions::Write);
            let result = memory.write_slice(&data.bytes(), address);
            model.model.write(at, &data.bytes()[..allowed]);
            whole(result, allowed, data.len)
        }
        Call::Read { len } => {
            let allowed = model.allowed(at, len, Permissions::Read);
            let mut buf = vec![0xa5; len];
            let result = memory.read(&mut buf, address);
            expect_buffer(&buf, &model.model.read(at, allowed))?;
            counted(result, allowed, len)
        }
        Call::ReadSlice { len } => {
            let allowed = model.allowed(at, len, Permissions::Read);
            let mut buf = vec![0xa5; len];
            let result = memory.read_slice(&mut buf, address);
            expect_buffer(&buf, &model.model.read(at, allowed))?;
            whole(result, allowed, len)
        }
        Call::Fill { value, count } => {
            let allowed = model.allowed(at, count, Permissions::Write);
            let result = memory.fill(value, address, count);
            model.model.write(at, &vec![value; allowed]);
            whole(result, allowed, count)
        }
    }
}

/// Checks that all memory of a device is that of the guest, if it says that nothing is translated.
fn physical<M: IoMemory>(memory: &M, model: &IoModel) -> Result<(), String> {
    let Some(below) = memory.physical_memory() else {
        return Ok(());
    };
    for span in model.model.spans() {
        let last = span.start().wrapping_add(span.len() as u64 - 1);
        for at in [span.start(), last] {
            let is_there = below.address_in_range(GuestAddress(at));
            let what = format!("address_in_range of physical_memory at {at:#x}");
            expect_eq(&what, is_there, true)?;
        }
    }
    Ok(())
}

fn get_slices<M: IoMemory>(
    memory: &M,
    address: GuestAddress,
    count: usize,
    access: Permissions,
    model: &IoModel,
) -> Result<(), String> {
    let allowed = model.allowed(address.0, count, access);
    let what = |slices: &str| format!("get_slices of {count} bytes gave {slices}");
    let mut slices = match memory.get_slices(address, count, access) {
        Ok(slices) => slices,
        Err(_) if allowed == 0 && count > 0 => return Ok(()),
        Err(error) => {
            return Err(what(&format!("{error:?}, expected windows on {allowed}")));
        }
    };
    let (mut done, mut is_over) = (0usize, false);
    for slice in slices.by_ref() {
        match slice {
            Ok(slice) if !is_over && (1..=allowed - done).contains(&slice.len()) => {
                let at = address.0.wrapping_add(done as u64);
                model.expect_window("a window of get_slices", &slice, at, access)?;
                done += slice.len();
            }
            Err(_) if !is_over && done == allowed && done < count => is_over = true,
            other => {
                return Err(what(&format!(
                    "{other:?} after {done} bytes, expected windows on {allowed}, then an error if bytes are missing, \
                     then nothing"
                )));
            }
        }
    }
    expect_eq("the bytes of get_slices", done, allowed)?;
    expect_eq("get_slices with an error", is_over, allowed < count)?;
    if slices.next().is_some() {
        return Err(what("more after its end, expected nothing"));
    }
    // The same walk, which ends where the other one has its error.
    let stopping = memory.get_slices(address, count, access);
    let stopping = stopping.and_then(GuestMemorySliceIterator::stop_on_error);
    match stopping {
        Ok(slices) if allowed > 0 || count == 0 => {
            let total = slices.map(|slice| len_of::<M>(&slice)).sum::<usize>();
            expect_eq("the bytes of stop_on_error", total, allowed)
        }
        Err(_) if allowed == 0 && count > 0 => Ok(()),
        Ok(_) => Err("stop_on_error returned a walk, expected the first error".into()),
        Err(error) => Err(format!(
            "stop_on_error returned {error:?}, expected a walk over {allowed} bytes"
        )),
    }
}

fn len_of<M: IoMemory>(slice: &VolatileSlice<'_, BS<'_, M::Bitmap>>) -> usize {
    slice.len()
}

/// Checks a count, or an error in its place: where bytes are refused, either will do, unless none was moved.
fn counted<E: std::fmt::Debug>(
    result: Result<usize, E>,
    allowed: usize,
    wanted: usize,
) -> Result<(), String> {
    match result {
        Ok(found) if found == allowed && (allowed > 0 || wanted == 0) => Ok(()),
        Err(_) if allowed < wanted => Ok(()),
        other => Err(format!(
            "returned {other:?}, expected {allowed} of {wanted} bytes"
        )),
    }
}

/// Checks the result of an access that is whole or fails.
fn whole<E: std::fmt::Debug>(
    result: Result<(), E>,
    allowed: usize,
    wanted: usize,
) -> Result<(), String> {
    if result.is_ok() == (allowed == wanted) {
        return Ok(());
    }
    Err(format!(
        "returned {result:?}, expected {}: {allowed} of {wanted} bytes may be accessed",
        if allowed == wanted {
            "success"
        } else {
            "an error"
        }
    ))
}

/// Checks that a buffer holds what was read, and beyond that what it held before.
fn expect_buffer(buf: &[u8], read: &[u8]) -> Result<(), String> {
    let mut expected = read.to_vec();
    expected.resize(buf.len(), 0xa5);
    expect_bytes("the buffer", 0, buf, &expected)
}
