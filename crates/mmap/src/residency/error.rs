// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What can go wrong when pages are asked about.

use std::io;

use guest_memory_volatile::VolatileMemoryError;

/// Error of asking what is in a region's memory. Offsets are from the region's start; sizes are in bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResidencyError {
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
    /// The contents of memory mapped without `PROT_READ` cannot be looked at.
    #[error("memory is mapped without PROT_READ and cannot be searched for zeroes")]
    NotReadable,
    /// Only a file has holes.
    #[error("region has no file to ask for its data")]
    NoFile,
    /// The operating system did not answer.
    #[error("cannot {operation} for {length} bytes at offset {offset:#x}")]
    Query {
        /// What failed.
        operation: &'static str,
        /// Where the range starts.
        offset: usize,
        /// Its length.
        length: usize,
        /// Why.
        source: io::Error,
    },
    /// A page could not be read.
    #[error("cannot read the page at offset {offset:#x}")]
    Access {
        /// Where the page starts.
        offset: usize,
        /// Why.
        source: VolatileMemoryError,
    },
}
