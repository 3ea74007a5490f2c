// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory behind an IOMMU in the suite that is open to everyone's.

use guest_memory_conformance::io_memory::{self, Range};
use guest_memory_core::{GuestAddress, IoMemory, Permissions};
use guest_memory_iommu::{IommuMemory, Iotlb, SharedIotlb};
use guest_memory_mmap::GuestMemoryMmap;

type Memory = GuestMemoryMmap<()>;

const KINDS: [Permissions; 4] = [
    Permissions::ReadWrite,
    Permissions::Read,
    Permissions::Write,
    Permissions::No,
];

/// Returns memory of which a device sees the ranges; they lie in it one after the other, the last one first.
fn below(ranges: &[Range]) -> (Memory, Iotlb) {
    let mut iotlb = Iotlb::new();
    let mut end = 0;
    for &(iova, len, permissions) in ranges.iter().rev() {
        iotlb
            .set_mapping(iova, GuestAddress(end as u64), len, permissions)
            .expect("a range without its like");
        end += len;
    }
    let memory = Memory::from_ranges(&[(GuestAddress(0), end)]).expect("mapped memory");
    (memory, iotlb)
}

#[test]
fn memory_behind_an_iommu_behaves() {
    io_memory::check(&KINDS, |ranges| {
        let (memory, iotlb) = below(ranges);
        IommuMemory::new(memory, SharedIotlb::from(iotlb), true, ())
    });
}

#[test]
fn memory_behind_an_iommu_that_is_off_behaves_as_without() {
    io_memory::check(&[Permissions::ReadWrite], |ranges| {
        let places: Vec<_> = ranges.iter().map(|&(start, len, _)| (start, len)).collect();
        let memory = Memory::from_ranges(&places).expect("mapped memory");
        let memory = IommuMemory::new(memory, SharedIotlb::new(), false, ());
        assert!(memory.physical_memory().is_some());
        memory
    });
}
