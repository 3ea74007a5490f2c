// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! All descriptors of a request in one system call.

use std::fs::File;

use arrayvec::ArrayVec;
use vm_memory::bitmap::BS;
use vm_memory::io::At;
use vm_memory::{
    GuestMemory, GuestMemoryResult, Permissions, ReadVolatile, VolatileMemoryResult, VolatileSlice,
    WriteVolatile,
};

use super::Buffer;

/// Slices of guest memory that go in one call; they are gathered on the stack.
const SLICES_MAX: usize = 64;

/// Returns a stream of the bytes of `file` from `offset` on, so that threads can share the file.
pub(crate) fn file_at(file: &File, offset: u64) -> impl ReadVolatile + WriteVolatile + '_ {
    At::new(file, offset)
}

/// Fills `buffers`, in order.
pub(crate) fn fill<M: GuestMemory>(
    memory: &M,
    buffers: &[Buffer],
    from: &mut impl ReadVolatile,
) -> GuestMemoryResult<()> {
    if let Some(mut slice) = only_slice(memory, buffers, Permissions::Write) {
        return Ok(from.read_exact_volatile(&mut slice)?);
    }
    in_rounds(memory, buffers, Permissions::Write, |slices| {
        from.read_exact_vectored_volatile(slices)
    })
}

/// Takes the bytes of `buffers`, in order.
pub(crate) fn drain<M: GuestMemory>(
    memory: &M,
    buffers: &[Buffer],
    to: &mut impl WriteVolatile,
) -> GuestMemoryResult<()> {
    if let Some(slice) = only_slice(memory, buffers, Permissions::Read) {
        return Ok(to.write_all_volatile(&slice)?);
    }
    in_rounds(memory, buffers, Permissions::Read, |slices| {
        to.write_all_vectored_volatile(slices)
    })
}

/// Returns the slice of guest memory that `buffers` is, if it is one: nothing has to be gathered then.
fn only_slice<'m, M: GuestMemory>(
    memory: &'m M,
    buffers: &[Buffer],
    access: Permissions,
) -> Option<VolatileSlice<'m, BS<'m, M::Bitmap>>> {
    match buffers {
        [buffer] => memory.single_slice(buffer.address, buffer.len_bytes, access),
        _ => None,
    }
}

/// Gives `transfer` the slices of guest memory behind `buffers`, as many at a time as there is room for.
///
/// Nothing moves in a round that meets a buffer which cannot be accessed.
fn in_rounds<'m, M: GuestMemory>(
    memory: &'m M,
    buffers: &[Buffer],
    access: Permissions,
    mut transfer: impl FnMut(&mut [VolatileSlice<'m, BS<'m, M::Bitmap>>]) -> VolatileMemoryResult<()>,
) -> GuestMemoryResult<()> {
    let mut round = ArrayVec::<_, SLICES_MAX>::new();
    for buffer in buffers {
        for slice in memory.get_slices(buffer.address, buffer.len_bytes, access)? {
            if round.is_full() {
                transfer(&mut round)?;
                round.clear();
            }
            round.push(slice?);
        }
    }
    transfer(&mut round)?;
    Ok(())
}
