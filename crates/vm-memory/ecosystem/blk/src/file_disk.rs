// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A disk in a file.
#![expect(
    unsafe_code,
    reason = "calls pread(2) and pwrite(2) with addresses of guest memory"
)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use vm_memory::bitmap::BitmapSlice;
use vm_memory::{ReadVolatile, VolatileMemoryError, VolatileSlice, WriteVolatile};

use crate::disk::{Disk, ID_LEN_BYTES};

/// A disk image: byte `n` of the disk is byte `n` of the file.
#[derive(Debug)]
pub struct FileDisk {
    file: File,
    len_bytes: u64,
    id: [u8; ID_LEN_BYTES],
}

impl FileDisk {
    /// Takes a file that is open for reading and writing; of `name`, the first 20 bytes become the disk's name.
    ///
    /// # Errors
    ///
    /// Returns the system's error when the file's size cannot be had.
    pub fn new(file: File, name: &str) -> io::Result<Self> {
        let len_bytes = file.metadata()?.len();
        let mut id = [0; ID_LEN_BYTES];
        for (to, from) in id.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        Ok(Self {
            file,
            len_bytes,
            id,
        })
    }
}

impl Disk for FileDisk {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn id(&self) -> [u8; ID_LEN_BYTES] {
        self.id
    }

    fn reader_at(&self, offset: u64) -> impl ReadVolatile + '_ {
        FileAt {
            file: &self.file,
            offset,
        }
    }

    fn writer_at(&self, offset: u64) -> impl WriteVolatile + '_ {
        FileAt {
            file: &self.file,
            offset,
        }
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }
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
