// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Accesses behind an IOMMU, and changes of its table.
//!
//! Compiled twice, see the crate's page. The IOMMU is what a user of `vm-memory` writes: a table behind a lock.

use std::hint::black_box;
use std::sync::{RwLock, RwLockReadGuard};

use super::names::{
    Bytes, GuestAddress, GuestMemoryMmap, Iommu, IommuError, IommuMemory, Iotlb, IotlbIterator,
    Permissions,
};
use crate::failed;
use crate::measure::{Sample, repeat_at};

/// Bytes of a mapping.
const PAGE: u64 = 4096;

/// A table behind a lock.
#[derive(Debug)]
pub struct Locked(RwLock<Iotlb>);

impl Iommu for Locked {
    type IotlbGuard<'a> = RwLockReadGuard<'a, Iotlb>;

    fn translate(
        &self,
        iova: GuestAddress,
        length: usize,
        access: Permissions,
    ) -> Result<IotlbIterator<RwLockReadGuard<'_, Iotlb>>, IommuError> {
        let table = self.0.read().unwrap_or_else(|_| failed());
        Iotlb::lookup(table, iova, length, access).map_err(|_| IommuError::IommuMisconfigured {
            reason: "the benchmark left its mappings".into(),
        })
    }
}

/// A memory of one region behind such an IOMMU.
pub type Memory = IommuMemory<GuestMemoryMmap<()>, Locked>;

/// Fills a table: the IOVA page of each number is mapped to the same page, counted from the last one down.
pub fn table(mapping_count: u64) -> Iotlb {
    let mut table = Iotlb::new();
    for number in 0..mapping_count {
        let target = GuestAddress((mapping_count - 1 - number) * PAGE);
        let iova = GuestAddress(number * PAGE);
        done(table.set_mapping(iova, target, 4096, Permissions::ReadWrite));
    }
    table
}

/// Maps a memory of `len_bytes` and puts it behind an IOMMU with so many mappings.
pub fn memory(len_bytes: usize, mapping_count: u64) -> Memory {
    let below = super::access::memory(&[(0, len_bytes)]);
    IommuMemory::new(below, Locked(RwLock::new(table(mapping_count))), true, ())
}

/// Reads an object by an IOVA.
pub fn read_obj(memory: &Memory, places: &[u64], count: u64) -> Sample {
    repeat_at(places, count, |place| {
        black_box(done(black_box(memory).read_obj::<u64>(GuestAddress(place))));
    })
}

/// Fills a buffer from an IOVA on.
pub fn read_slice(memory: &Memory, buffer: &mut [u8], places: &[u64], count: u64) -> Sample {
    repeat_at(places, count, |place| {
        done(black_box(memory).read_slice(black_box(&mut *buffer), GuestAddress(place)));
    })
}

/// Takes a page out of a table and puts it back.
pub fn remap(table: &RwLock<Iotlb>, places: &[u64], count: u64) -> Sample {
    repeat_at(places, count, |place| {
        let mut table = table.write().unwrap_or_else(|_| failed());
        let iova = GuestAddress(place);
        table.invalidate_mapping(iova, 4096);
        done(table.set_mapping(iova, GuestAddress(place ^ PAGE), 4096, Permissions::Read));
    })
}

fn done<T, E>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|_| failed())
}
