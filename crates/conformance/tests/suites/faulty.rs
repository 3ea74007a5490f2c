// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The toys once more, each with one fault that a suite has to catch.

mod bitmap;
mod bytes;
mod bytes_ext;
mod memory;
mod region;

pub(crate) use bitmap::{BitmapFault, FaultyBitmap};
pub(crate) use bytes::{BytesFault, FaultyBytes};
pub(crate) use memory::{FaultyMemory, MemoryFault};
pub(crate) use region::{FaultyRegion, RegionFault};

/// Makes an offset of an address.
pub(crate) fn offset_of(address: u64) -> usize {
    usize::try_from(address).unwrap_or(usize::MAX)
}
