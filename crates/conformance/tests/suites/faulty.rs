// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The toys once more, each with one fault that a suite has to catch, or with none.

mod backing;
mod bitmap;
mod bytes;
mod bytes_ext;
mod io;
mod log;
mod memory;
mod order;
mod region;
mod rom;
mod space;
mod stream;
mod volatile;

pub(crate) use backing::{BackingFault, FaultyBacking};
pub(crate) use bitmap::{BitmapFault, FaultyBitmap};
pub(crate) use bytes::{BytesFault, FaultyBytes, WithinFault};
pub(crate) use io::{FaultyIo, IoFault};
pub(crate) use log::{FaultyLog, LogFault};
pub(crate) use memory::{FaultyMemory, MemoryFault};
pub(crate) use order::{FaultyOrder, OrderFault};
pub(crate) use region::{FaultyRegion, RegionFault};
pub(crate) use rom::{FaultyRom, RomFault};
pub(crate) use space::{FaultySpace, SpaceFault};
pub(crate) use stream::{FaultyFile, FaultyStream, StreamFault};
pub(crate) use volatile::{FaultyVolatile, VolatileFault};

/// Makes an offset of an address.
pub(crate) fn offset_of(address: u64) -> usize {
    usize::try_from(address).unwrap_or(usize::MAX)
}
