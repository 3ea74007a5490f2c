// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where a disk's sectors live.

use std::io;

use vm_memory::{ReadVolatile, WriteVolatile};

/// The unit of a disk's addresses, in bytes.
pub const SECTOR_LEN_BYTES: u64 = 512;

/// The length of a disk's name, in bytes.
pub const ID_LEN_BYTES: usize = 20;

/// Sectors that streams read and write.
///
/// The device asks for ranges within [`len_bytes`](Self::len_bytes) only.
pub trait Disk: Send + Sync {
    /// Returns the disk's size in bytes; what is behind the last whole sector is out of the guest's reach.
    fn len_bytes(&self) -> u64;

    /// Returns the disk's name, padded with zeros.
    fn id(&self) -> [u8; ID_LEN_BYTES];

    /// Returns a stream of the disk's bytes from `offset` on.
    fn reader_at(&self, offset: u64) -> impl ReadVolatile + '_;

    /// Returns a stream that overwrites the disk's bytes from `offset` on.
    fn writer_at(&self, offset: u64) -> impl WriteVolatile + '_;

    /// Makes everything written so far survive the machine's end.
    ///
    /// # Errors
    ///
    /// Returns what the storage reports.
    fn flush(&self) -> io::Result<()>;
}
