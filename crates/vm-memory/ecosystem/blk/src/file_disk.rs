// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A disk in a file.

use std::fs::File;
use std::io;

use vm_memory::{ReadVolatile, WriteVolatile};

use crate::disk::{Disk, ID_LEN_BYTES};
use crate::transfer::file_at;

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
        file_at(&self.file, offset)
    }

    fn writer_at(&self, offset: u64) -> impl WriteVolatile + '_ {
        file_at(&self.file, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
