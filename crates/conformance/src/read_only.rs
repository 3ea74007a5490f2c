// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What holds for a window on memory that must not be written.

use std::fmt::Debug;
use std::sync::atomic::Ordering::SeqCst;

use guest_memory_bitmap::BitmapSlice;
use guest_memory_volatile::{VolatileMemory, VolatileMemoryError, VolatileSlice};

use crate::config::expect_eq;

/// Tries every way to write to a window of at least a byte that must not be written; `is_tracked` says whether its bitmap
/// records anything.
pub(crate) fn check<B: BitmapSlice>(
    slice: &VolatileSlice<'_, B>,
    is_tracked: bool,
) -> Result<(), String> {
    expect_eq("is_read_only", slice.is_read_only(), true)?;
    let part = slice.subslice(slice.len() / 2, slice.len() - slice.len() / 2);
    let part = part.map_err(|error| format!("a part of it is {error:?}, expected one"))?;
    expect_eq("is_read_only of a part", part.is_read_only(), true)?;
    let before = read(slice)?;
    let other: Vec<u8> = before.iter().map(|byte| !byte).collect();

    refused("try_copy_from", slice.try_copy_from(&other))?;
    refused("write", slice.write(&other, 0))?;
    refused("write_slice", slice.write_slice(&other, 0))?;
    refused("write_obj", slice.write_obj(other[0], 0))?;
    refused("store", slice.store(other[0], 0, SeqCst))?;
    refused("swap", slice.swap(other[0], 0, SeqCst))?;
    refused("fill", slice.fill(other[0]))?;
    refused(
        "read_volatile_from",
        slice.read_volatile_from(0, &mut &*other, other.len()),
    )?;
    refused(
        "read_exact_volatile_from",
        slice.read_exact_volatile_from(0, &mut &*other, other.len()),
    )?;
    let mut copy = other.clone();
    let source = VolatileSlice::from(&mut *copy);
    refused(
        "try_copy_to_volatile_slice",
        source.try_copy_to_volatile_slice(slice.clone()),
    )?;
    refused(
        "get_atomic_ref",
        slice.get_atomic_ref::<std::sync::atomic::AtomicU8>(0),
    )?;
    let one = slice.get_ref::<u8>(0);
    let one = one.map_err(|error| format!("get_ref returned {error:?}, expected a reference"))?;
    refused("try_store", one.try_store(other[0]))?;

    // Those that return nothing leave the bytes alone.
    slice.copy_from(&other);
    source.copy_to_volatile_slice(slice.clone());
    one.store(other[0]);

    expect_eq(
        "the memory after writes that were refused",
        read(slice)?,
        before,
    )?;
    for offset in 0..slice.len() {
        let is_dirty = is_tracked && slice.bitmap().dirty_at(offset);
        expect_eq("dirty_at after writes that were refused", is_dirty, false)?;
    }
    Ok(())
}

fn read<B: BitmapSlice>(slice: &VolatileSlice<'_, B>) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0xa5; slice.len()];
    let count = slice.try_copy_to(&mut bytes);
    let count = count.map_err(|error| format!("reading it: {error:?}"))?;
    expect_eq("the number of bytes read", count, slice.len())?;
    Ok(bytes)
}

fn refused<T: Debug>(what: &str, result: Result<T, VolatileMemoryError>) -> Result<(), String> {
    match result {
        Err(VolatileMemoryError::ReadOnly { .. }) => Ok(()),
        other => Err(format!("{what} returned {other:?}, expected ReadOnly")),
    }
}
