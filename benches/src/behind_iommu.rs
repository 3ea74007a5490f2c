// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Accesses behind an IOMMU that only this library has: by a table that is read without a lock, and by a device's handle.

use std::hint::black_box;

use guest_memory::{
    Bytes, GuestAddress, GuestMemoryMmap, IoMemory, IommuDevice, IommuMemory, SharedIotlb,
};

use crate::measure::{Sample, repeat_at};
use crate::{failed, ours};

/// A memory of one region behind a table that is read without a lock.
pub type Memory = IommuMemory<GuestMemoryMmap<()>, SharedIotlb>;

/// A device of such a memory.
pub type Device = IommuDevice<GuestMemoryMmap<()>, SharedIotlb>;

/// As [`ours::iommu::memory`].
pub fn memory(len_bytes: usize, mapping_count: u64) -> Memory {
    let below = ours::access::memory(&[(0, len_bytes)]);
    let table = SharedIotlb::from(ours::iommu::table(mapping_count));
    IommuMemory::new(below, table, true, ())
}

/// Reads an object by an IOVA.
pub fn read_obj(memory: &impl IoMemory, places: &[u64], count: u64) -> Sample {
    repeat_at(places, count, |place| {
        let value = black_box(memory).read_obj::<u64>(GuestAddress(place));
        black_box(value.unwrap_or_else(|_| failed()));
    })
}

/// Fills a buffer from an IOVA on.
pub fn read_slice(memory: &impl IoMemory, buffer: &mut [u8], places: &[u64], count: u64) -> Sample {
    repeat_at(places, count, |place| {
        let result = black_box(memory).read_slice(black_box(&mut *buffer), GuestAddress(place));
        result.unwrap_or_else(|_| failed());
    })
}
