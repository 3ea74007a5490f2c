// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One system call for each descriptor, with what `vm-memory` 0.18 has.
#![expect(
    unsafe_code,
    reason = "calls pread(2) and pwrite(2) with addresses of guest memory"
)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use vm_memory::bitmap::BitmapSlice;
use vm_memory::{
    Bytes, GuestMemory, GuestMemoryResult, ReadVolatile, VolatileMemoryError, VolatileSlice,
    WriteVolatile,
};

use super::Buffer;

/// Returns a stream of the bytes of `file` from `offset` on.
pub(crate) fn file_at(file: &File, offset: u64) -> impl ReadVolatile + WriteVolatile + '_ {
    FileAt { file, offset }
}

/// Fills `buffers`, in order.
pub(crate) fn fill<M: GuestMemory>(
    memory: &M,
    buffers: &[Buffer],
    from: &mut impl ReadVolatile,
) -> GuestMemoryResult<()> {
    buffers.iter().try_for_each(|buffer| {
        memory.read_exact_volatile_from(buffer.address, from, buffer.len_bytes)
    })
}

/// Takes the bytes of `buffers`, in order.
pub(crate) fn drain<M: GuestMemory>(
    memory: &M,
    buffers: &[Buffer],
    to: &mut impl WriteVolatile,
) -> GuestMemoryResult<()> {
    buffers
        .iter()
        .try_for_each(|buffer| memory.write_all_volatile_to(buffer.address, to, buffer.len_bytes))
}

/// A stream with a position of its own, so that threads can share the file.
struct FileAt<'a> {
    file: &'a File,
    offset: u64,
}

impl FileAt<'_> {
    /// Calls `transfer` with the position until no signal interrupts it, and moves on by the bytes it reports.
    fn transfer(
        &mut self,
        transfer: impl Fn(i32, libc::off64_t) -> isize,
    ) -> Result<usize, VolatileMemoryError> {
        let position = libc::off64_t::try_from(self.offset)
            .map_err(|_| VolatileMemoryError::IOError(io::ErrorKind::InvalidInput.into()))?;
        loop {
            if let Ok(count) = usize::try_from(transfer(self.file.as_raw_fd(), position)) {
                self.offset += count as u64;
                return Ok(count);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(VolatileMemoryError::IOError(error));
            }
        }
    }
}

impl ReadVolatile for FileAt<'_> {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        buf: &mut VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        let guard = buf.ptr_guard_mut();
        let count = self.transfer(|file, position| {
            // SAFETY: `pread` may write `buf.len()` bytes from `guard` on: that is the slice, which stays mapped as long
            // as it is borrowed, and no Rust reference covers it. Its bytes may hold any value.
            unsafe { libc::pread64(file, guard.as_ptr().cast(), buf.len(), position) }
        })?;
        buf.bitmap().mark_dirty(0, count);
        Ok(count)
    }
}

impl WriteVolatile for FileAt<'_> {
    fn write_volatile<B: BitmapSlice>(
        &mut self,
        buf: &VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        let guard = buf.ptr_guard();
        self.transfer(|file, position| {
            // SAFETY: `pwrite` may read `buf.len()` bytes from `guard` on: that is the slice, which stays mapped as long
            // as it is borrowed. What a guest changes meanwhile is the guest's loss.
            unsafe { libc::pwrite64(file, guard.as_ptr().cast(), buf.len(), position) }
        })
    }
}
