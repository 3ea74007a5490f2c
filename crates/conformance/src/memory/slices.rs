// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a memory says of slices: their pieces, their ends, copies between them.

use guest_memory_core::{
    GuestAddress, GuestMemory, GuestMemoryError, GuestMemoryRegion, IoMemory, Permissions,
};

use crate::config::expect_eq;
use crate::model::Model;

pub(super) fn get_slice<M: GuestMemory>(
    memory: &M,
    address: GuestAddress,
    count: usize,
    model: &Model,
) -> Result<bool, String> {
    let in_one_range = match model.pieces(address.0, count)[..] {
        [] => count == 0 && model.find(address.0).is_some(),
        [(_, _, len)] => len == count,
        _ => false,
    };
    match memory.get_slice(address, count) {
        Ok(slice) if in_one_range => {
            expect_eq("the length of the slice", slice.len(), count)?;
            Ok(true)
        }
        Ok(slice) => Err(format!(
            "get_slice returned {} bytes, expected an error",
            slice.len()
        )),
        Err(GuestMemoryError::InvalidGuestAddress(at)) if at == address && !in_one_range => {
            Ok(false)
        }
        // There is memory, and what the region says of the rest is its own.
        Err(_) if !in_one_range && model.find(address.0).is_some() => Ok(false),
        Err(error) if !in_one_range => Err(format!(
            "get_slice of a hole returned {error:?}, expected InvalidGuestAddress of {address}"
        )),
        Err(error) => Err(format!(
            "get_slice returned {error:?}, expected {count} bytes"
        )),
    }
}

pub(super) fn find_span<M: GuestMemory>(
    memory: &M,
    address: GuestAddress,
    count: usize,
    model: &Model,
) -> Result<bool, String> {
    let expected = match model.pieces(address.0, count)[..] {
        [(index, offset, len)] if len == count => {
            let start = GuestAddress(model.spans()[index].start());
            Some((start, offset as u64))
        }
        _ => None,
    };
    let found = memory.to_region_span(address, count);
    let found = found.map(|(region, offset)| (region.start_addr(), offset.0));
    expect_eq("to_region_span", found, expected)?;
    if count > 0 {
        // An empty range has an address or not, as `get_slice` says.
        let expected = memory.get_slice(address, count).ok();
        let expected = expected.map(|slice| slice.ptr_guard().as_ptr());
        let found = memory.get_host_address_range(address, count).ok();
        let found = found.map(<*mut u8>::cast_const);
        expect_eq("get_host_address_range", found, expected)?;
    }
    Ok(expected.is_some())
}

/// The pieces of an access as (address of the first byte in the host, length in bytes).
type Pieces = Vec<(*const u8, usize)>;

fn expected_pieces<M: GuestMemory>(
    memory: &M,
    address: GuestAddress,
    count: usize,
    model: &Model,
) -> Result<Pieces, String> {
    let mut pieces = Vec::new();
    let mut next = address.0;
    for (_, _, len) in model.pieces(address.0, count) {
        let slice = memory.get_slice(GuestAddress(next), len);
        let slice = slice.map_err(|error| format!("get_slice of a piece: {error:?}"))?;
        pieces.push((slice.ptr_guard().as_ptr(), len));
        next = next.wrapping_add(len as u64);
    }
    Ok(pieces)
}

pub(super) fn get_slices<M: GuestMemory>(
    memory: &M,
    address: GuestAddress,
    count: usize,
    model: &Model,
) -> Result<bool, String> {
    let expected = expected_pieces(memory, address, count, model)?;
    let is_all_mapped = model.mapped(address.0, count) == count;

    let mut found = Pieces::new();
    let mut slices = GuestMemory::get_slices(memory, address, count);
    let mut error = None;
    for slice in slices.by_ref() {
        match slice {
            Ok(slice) if error.is_none() => found.push((slice.ptr_guard().as_ptr(), slice.len())),
            Ok(slice) => return Err(format!("get_slices gave {slice:?} after an error")),
            Err(_) if error.is_some() => return Err("get_slices gave two errors".into()),
            Err(reason) => error = Some(reason),
        }
    }
    if slices.next().is_some() {
        return Err("get_slices went on after its end".into());
    }
    expect_eq("the pieces of get_slices", found, expected.clone())?;
    expect_eq(
        "get_slices without an error",
        error.is_none(),
        is_all_mapped,
    )?;

    let access = Permissions::ReadWrite;
    let Ok(slices) = IoMemory::get_slices(memory, address, count, access) else {
        expect_eq(
            "get_slices of IoMemory without an error",
            false,
            is_all_mapped,
        )?;
        return Ok(false);
    };
    let found: Pieces = slices
        .map_while(|slice| {
            slice
                .ok()
                .map(|slice| (slice.ptr_guard().as_ptr(), slice.len()))
        })
        .collect();
    expect_eq("the pieces of get_slices of IoMemory", found, expected)?;
    Ok(is_all_mapped)
}

/// How the callback of a walk takes what it is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// All of it.
    All,
    /// At most so many bytes each time, at least one.
    AtMost(usize),
    /// All, until it was called so often; then nothing.
    UntilCall(usize),
    /// One byte more than there is.
    TooMuch,
    /// It fails when it is called for so many times.
    FailAtCall(usize),
}

/// One call of the callback: bytes done before, bytes offered, offset in the region, start of the region.
type Offer = (usize, usize, u64, GuestAddress);

/// Returns the calls that a walk has to make, and what it has to return; `None` for an error.
fn expected_walk(
    address: GuestAddress,
    count: usize,
    take: Take,
    model: &Model,
) -> (Vec<Offer>, Option<usize>) {
    let (mut offers, mut done) = (Vec::new(), 0usize);
    while done < count {
        let next = address.0.checked_add(done as u64);
        let piece = next.and_then(|next| model.pieces(next, count - done).first().copied());
        let Some((index, offset, len)) = piece else {
            break;
        };
        let start = GuestAddress(model.spans()[index].start());
        offers.push((done, len, offset as u64, start));
        match taken(take, offers.len(), len) {
            None => return (offers, None),
            Some(0) => return (offers, Some(done)),
            Some(more) if more > len => return (offers, None),
            Some(more) => done += more,
        }
    }
    let result = (done > 0 || count == 0).then_some(done);
    (offers, result)
}

/// Returns what the callback returns when it is called for the `call`th time with `len` bytes; `None` for its error.
fn taken(take: Take, call: usize, len: usize) -> Option<usize> {
    match take {
        Take::All => Some(len),
        Take::AtMost(most) => Some(len.min(most.max(1))),
        Take::UntilCall(last) if call > last => Some(0),
        Take::UntilCall(_) => Some(len),
        Take::TooMuch => Some(len + 1),
        Take::FailAtCall(last) if call >= last => None,
        Take::FailAtCall(_) => Some(len),
    }
}

pub(super) fn try_access<M: GuestMemory>(
    memory: &M,
    address: GuestAddress,
    count: usize,
    take: Take,
    model: &Model,
) -> Result<bool, String> {
    let (offers, expected) = expected_walk(address, count, take, model);
    let mut found = Vec::new();
    let result = memory.try_access(count, address, |done, len, offset, region| {
        found.push((done, len, offset.0, region.start_addr()));
        // An error that no memory makes by itself.
        taken(take, found.len(), len).ok_or(GuestMemoryError::InvalidBackendAddress)
    });
    expect_eq("the pieces of try_access", found, offers)?;
    match (result, expected) {
        (Ok(total), Some(expected)) => {
            expect_eq("the count of try_access", total, expected)?;
            Ok(true)
        }
        (Err(GuestMemoryError::InvalidBackendAddress), None)
            if matches!(take, Take::FailAtCall(_)) =>
        {
            Ok(false)
        }
        (Err(GuestMemoryError::CallbackOutOfRange), None) if take == Take::TooMuch => Ok(false),
        (Err(GuestMemoryError::InvalidGuestAddress(at)), None) if at == address => Ok(false),
        (other, expected) => {
            let expected = expected.map_or("the error".to_owned(), |count| format!("{count}"));
            Err(format!(
                "try_access returned {other:?}, expected {expected}"
            ))
        }
    }
}

pub(super) fn copy_slice<M: GuestMemory>(
    memory: &M,
    source: GuestAddress,
    target: GuestAddress,
    count: usize,
    model: &mut Model,
) -> Result<bool, String> {
    // That these are refused where they have to be is checked elsewhere.
    let slices = (
        memory.get_slice(source, count),
        memory.get_slice(target, count),
    );
    let (Ok(from), Ok(to)) = slices else {
        return Ok(false);
    };
    let data = model.read(source.0, count);
    model.write(target.0, &data);
    match from.try_copy_to_volatile_slice(to) {
        Ok(copied) => expect_eq("the bytes copied", copied, count).map(|()| true),
        Err(error) => Err(format!("the copy returned {error:?}")),
    }
}
