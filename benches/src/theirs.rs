// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The workloads on `vm-memory`.
#![expect(
    clippy::duplicate_mod,
    reason = "the same files for both libraries are the point"
)]

mod names {
    pub(super) use vm_memory::bitmap::{AtomicBitmap, NewBitmap};
    pub(super) use vm_memory::iommu::{Error as IommuError, IotlbIterator};
    pub(super) use vm_memory::{
        AtomicAccess, ByteValued, Bytes, GuestAddress, GuestAddressSpace, GuestMemoryAtomic,
        GuestMemoryBackend as GuestMemory, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
        Iommu, IommuMemory, Iotlb, MmapRegion, Permissions, ReadVolatile,
    };
}

#[path = "workloads/access.rs"]
pub mod access;
#[path = "workloads/dirty.rs"]
pub mod dirty;
#[path = "workloads/iommu.rs"]
pub mod iommu;
#[path = "workloads/map.rs"]
pub mod map;
#[path = "workloads/scatter.rs"]
pub mod scatter;
