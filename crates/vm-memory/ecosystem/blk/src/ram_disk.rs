// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A disk in memory: no system calls, so that a measurement shows what the device itself costs.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::{PoisonError, RwLock};

use vm_memory::bitmap::BitmapSlice;
use vm_memory::{ReadVolatile, VolatileMemoryError, VolatileSlice, WriteVolatile};

use crate::disk::{Disk, ID_LEN_BYTES};

/// A disk in the memory of this process.
#[derive(Debug)]
pub struct RamDisk {
    bytes: RwLock<Vec<u8>>,
    len_bytes: usize,
}

impl RamDisk {
    /// Creates a disk of `len_bytes` zeros.
    pub fn new(len_bytes: usize) -> Self {
        Self {
            bytes: RwLock::new(vec![0; len_bytes]),
            len_bytes,
        }
    }
}

impl Disk for RamDisk {
    fn len_bytes(&self) -> u64 {
        self.len_bytes as u64
    }

    fn id(&self) -> [u8; ID_LEN_BYTES] {
        *b"ram-disk\0\0\0\0\0\0\0\0\0\0\0\0"
    }

    fn reader_at(&self, offset: u64) -> impl ReadVolatile + '_ {
        RamAt {
            bytes: self.bytes.read().unwrap_or_else(PoisonError::into_inner),
            offset: usize::try_from(offset).unwrap_or(usize::MAX),
        }
    }

    fn writer_at(&self, offset: u64) -> impl WriteVolatile + '_ {
        RamAt {
            bytes: self.bytes.write().unwrap_or_else(PoisonError::into_inner),
            offset: usize::try_from(offset).unwrap_or(usize::MAX),
        }
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream over the disk from `offset` on, which holds the disk's lock.
struct RamAt<G> {
    bytes: G,
    offset: usize,
}

impl<G: Deref<Target = Vec<u8>>> ReadVolatile for RamAt<G> {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        buf: &mut VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        let mut rest = self.bytes.get(self.offset..).unwrap_or_default();
        let count = rest.read_volatile(buf)?;
        self.offset += count;
        Ok(count)
    }
}

impl<G: DerefMut<Target = Vec<u8>>> WriteVolatile for RamAt<G> {
    fn write_volatile<B: BitmapSlice>(
        &mut self,
        buf: &VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        let mut rest = self.bytes.get_mut(self.offset..).unwrap_or_default();
        let count = rest.write_volatile(buf)?;
        self.offset += count;
        Ok(count)
    }
}
