// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The workloads on this library.

mod names {
    pub(super) use guest_memory::bitmap::AtomicBitmap;
    pub(super) use guest_memory::iommu::{Error as IommuError, IotlbIterator};
    pub(super) use guest_memory::mmap::NewBitmap;
    pub(super) use guest_memory::{
        AtomicAccess, ByteValued, Bytes, GuestAddress, GuestAddressSpace, GuestMemory,
        GuestMemoryAtomic, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap, Iommu, IommuMemory,
        Iotlb, MmapRegion, Permissions, ReadVolatile,
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
