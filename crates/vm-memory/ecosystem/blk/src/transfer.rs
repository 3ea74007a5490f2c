// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The data of a request on its way between a disk and guest memory.
//!
//! There are two ways, with the same three functions; which one is built is decided here and nowhere else. With the
//! feature `vectored` all descriptors of a request move in one system call, which needs more than `vm-memory` 0.18 has.
//! Without it there is one call for each.

#[cfg(not(feature = "vectored"))]
mod single;
#[cfg(feature = "vectored")]
mod vectored;

use vm_memory::{Address, GuestAddress};

#[cfg(not(feature = "vectored"))]
pub(crate) use single::{drain, file_at, fill};
#[cfg(feature = "vectored")]
pub(crate) use vectored::{drain, file_at, fill};

/// The bytes `[address, address + len_bytes)` of guest memory, wherever they are and whether they exist.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffer {
    pub(crate) address: GuestAddress,
    pub(crate) len_bytes: usize,
}

impl Buffer {
    /// Takes `len_bytes` off the front.
    pub(crate) fn cut(&mut self, len_bytes: usize) -> Option<()> {
        self.len_bytes = self.len_bytes.checked_sub(len_bytes)?;
        if self.len_bytes > 0 {
            self.address = self.address.checked_add(len_bytes as u64)?;
        }
        Some(())
    }
}
