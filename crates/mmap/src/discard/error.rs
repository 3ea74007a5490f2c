// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What can go wrong when memory is given back.

use std::io;

use super::DiscardMethod;
use crate::{Protection, ResidencyError};

/// Error of giving memory back. Offsets are from the region's start; sizes are in bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscardError {
    /// The range reaches past the end of the region.
    #[error(
        "{length} bytes at offset {offset:#x} reach past the end of the region of {size} bytes"
    )]
    OutOfBounds {
        /// Where the range starts.
        offset: usize,
        /// Its length.
        length: usize,
        /// Size of the region: the range must end there or before.
        size: usize,
    },
    /// To discard is to write zeroes, and the memory is not mapped for reading and writing.
    #[error("cannot discard memory mapped for {protection} access: it would be written")]
    NotWritable {
        /// How it is mapped.
        protection: Protection,
    },
    /// Somebody else mapped the memory: what would become of it is not known.
    #[error("cannot discard memory that somebody else mapped")]
    External,
    /// Somebody locked pages of the range in memory (mlock), and the way that works for this memory does not work for those.
    ///
    /// The range can be discarded once it is unlocked. The pages of a device that is mapped privately count as locked.
    #[error("{method} of {length} bytes at offset {offset:#x} failed: pages are locked in memory")]
    Locked {
        /// Where the discarded pages would start.
        offset: usize,
        /// Their length.
        length: usize,
        /// What failed.
        method: DiscardMethod,
        /// What the kernel said.
        source: io::Error,
    },
    /// The operating system refused. Some of the pages may have been discarded; all are marked.
    #[error("{method} of {length} bytes at offset {offset:#x} failed")]
    System {
        /// Where the discarded pages would start.
        offset: usize,
        /// Their length.
        length: usize,
        /// What failed. A file system that has no holes refuses `PunchHole` with EOPNOTSUPP.
        method: DiscardMethod,
        /// What the kernel said.
        source: io::Error,
    },
    /// Pages of zeroes cannot be told in a private mapping of a file from pages whose file would show.
    #[error("cannot discard zero pages of a private mapping of a file: the file would show")]
    FileContent,
    /// The pages of zeroes could not be found.
    #[error("cannot find the pages of zeroes")]
    Residency(#[from] ResidencyError),
}
