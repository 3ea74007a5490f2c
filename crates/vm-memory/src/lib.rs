// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The `guest-memory` workspace under the names, module paths and features of `vm-memory` 0.18.
//!
//! A program that uses `vm-memory` 0.18, itself or through its dependencies, switches with
//!
//! ```toml
//! [patch.crates-io]
//! vm-memory = { path = "guest-memory/crates/vm-memory" }
//! ```
//!
//! This crate holds re-exports and nothing else: every type here *is* the type of the crate it comes from. Where
//! the two libraries name a trait differently, 0.18's name is given: [`GuestMemoryBackend`] is
//! [`guest_memory_core::GuestMemory`], [`GuestMemory`] is [`guest_memory_core::IoMemory`], and
//! [`guest_memory::GuestMemoryBackendSliceIterator`] is [`guest_memory_core::GuestMemorySlices`].
//! `docs/migration.md` in the repository says what changes with the switch and what does not.
//!
//! # Example
//!
//! ```
//! # #[cfg(all(feature = "backend-mmap", feature = "backend-bitmap"))]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use vm_memory::bitmap::AtomicBitmap;
//! use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
//!
//! let memory = GuestMemoryMmap::<AtomicBitmap>::from_ranges(&[(GuestAddress(0), 0x10_000)])?;
//! memory.write_obj(7u32, GuestAddress(0x1000))?;
//! let region = memory.find_region(GuestAddress(0x1000)).ok_or("no region")?;
//! assert!(region.bitmap().is_addr_set(0x1000));
//! # Ok(())
//! # }
//! # #[cfg(not(all(feature = "backend-mmap", feature = "backend-bitmap")))]
//! # fn main() {}
//! ```
//!
//! # Guarantees
//!
//! * A type has one identity: what a dependency makes by a name of this crate is what `guest-memory` means by its own.
//! * Every name and signature of 0.18 compiles, but for those that `api/accepted.txt` in this package lists with a reason;
//!   `api/compare` checks that.
//!
//! # What it does not do
//!
//! * Add names for all that the library has: what 0.18 does not know, such as flat memory, policies or readers of a map,
//!   is in `guest-memory`, which can be used beside this crate.
//! * Xen's mappings and mappings on Windows.
//!
//! # Features
//!
//! * `rawfd` (default): changes nothing; streams over file descriptors are always here.
//! * `backend-mmap`: module `mmap` and its types; without it only the traits.
//! * `backend-atomic`: module `atomic`, the memory map that can be swapped.
//! * `backend-bitmap`: the dirty bitmap `AtomicBitmap` and its slices; without it only the traits.
//! * `iommu`: module `iommu`, memory behind an IOMMU.
//! * `fault-guard`: beyond the original, module `fault`: accesses that survive a page which cannot be accessed.

#![forbid(unsafe_code)]

#[doc(no_inline)]
pub use address::{Address, AddressValue};
#[cfg(feature = "backend-atomic")]
#[doc(no_inline)]
pub use atomic::{GuestMemoryAtomic, GuestMemoryLoadGuard};
#[doc(no_inline)]
pub use bytes::{AtomicAccess, ByteValued, Bytes};
#[doc(no_inline)]
pub use endian::{Be16, Be32, Be64, BeSize, Le16, Le32, Le64, LeSize};
#[doc(no_inline)]
pub use guest_memory::{
    Error as GuestMemoryError, FileOffset, GuestAddress, GuestAddressSpace, GuestMemory,
    GuestMemoryBackend, GuestUsize, MemoryRegionAddress, Permissions, Result as GuestMemoryResult,
};
#[doc(no_inline)]
pub use guest_memory_volatile::AtomicInteger;
#[doc(no_inline)]
pub use io::{ReadVolatile, ReadVolatileAt, WriteVolatile, WriteVolatileAt};
#[cfg(feature = "iommu")]
#[doc(no_inline)]
pub use iommu::{Iommu, IommuMemory, Iotlb};
#[cfg(feature = "backend-mmap")]
#[doc(no_inline)]
pub use mmap::{GuestMemoryMmap, GuestRegionMmap, MmapRegion};
#[doc(no_inline)]
pub use region::{
    GuestMemoryRegion, GuestMemoryRegionBytes, GuestRegionCollection, GuestRegionCollectionError,
};
#[doc(no_inline)]
pub use volatile_memory::{
    Error as VolatileMemoryError, Result as VolatileMemoryResult, VolatileArrayRef, VolatileMemory,
    VolatileRef, VolatileSlice,
};

/// What an address is.
pub mod address {
    pub use guest_memory_core::{Address, AddressValue};
}

/// The memory map that can be swapped while devices use it.
#[cfg(feature = "backend-atomic")]
pub mod atomic {
    pub use guest_memory_atomic::{
        GuestMemoryAtomic, GuestMemoryExclusiveGuard, GuestMemoryLoadGuard,
    };
}

/// Dirty tracking.
pub mod bitmap {
    #[cfg(feature = "backend-bitmap")]
    pub use guest_memory_bitmap::{ArcSlice, AtomicBitmap, RefSlice};
    pub use guest_memory_bitmap::{BS, Bitmap, BitmapSlice, NewBitmap, WithBitmapSlice};
    // What the original does not have.
    #[cfg(feature = "backend-bitmap")]
    pub use guest_memory_bitmap::{
        DirtyLog, DirtyPages, ExternalLog, ExternalLogError, MarkOrdering, MarkOrderingError,
        PageSet, Reader, Readers, SwappableLog, le_words,
    };
    pub use guest_memory_core::MS;
    #[cfg(feature = "backend-bitmap")]
    pub use guest_memory_core::{GuestDirtyPages, MemoryLog, MemorySlot, MemorySlots, SlotError};
}

/// Access by address, and the types that can be accessed.
pub mod bytes {
    pub use guest_memory_core::Bytes;
    pub use guest_memory_volatile::{AtomicAccess, ByteValued};
}

/// Integers of a fixed byte order.
pub mod endian {
    pub use guest_memory_volatile::endian::{Be16, Be32, Be64, BeSize, Le16, Le32, Le64, LeSize};
}

/// Accesses that survive a page which cannot be accessed; the original has no such thing.
#[cfg(feature = "fault-guard")]
pub mod fault {
    pub use guest_memory_volatile::fault::*;
}

/// A guest's memory: addresses, traits, errors.
pub mod guest_memory {
    pub use guest_memory_core::{
        FileOffset, GuestAddress, GuestAddressSpace, GuestMemory as GuestMemoryBackend,
        GuestMemoryError as Error, GuestMemoryResult as Result, GuestMemorySliceIterator,
        GuestMemorySlices as GuestMemoryBackendSliceIterator, GuestUsize, IoMemory as GuestMemory,
        MemoryRegionAddress, Operation, Permissions,
    };
}

/// Streams into and out of guest memory; those at an offset of a file are beyond the original.
pub mod io {
    pub use guest_memory_volatile::io::{
        At, ReadVolatile, ReadVolatileAt, WriteVolatile, WriteVolatileAt,
    };
}

/// Memory behind an IOMMU.
#[cfg(feature = "iommu")]
pub mod iommu {
    pub use guest_memory_iommu::{
        Error, Iommu, IommuMemory, IommuMemorySliceIterator, Iotlb, IotlbFails, IotlbIterator,
        IovaRange, MappedRange,
    };
    // What the original does not have.
    pub use guest_memory_iommu::{
        FaultCause, IommuDevice, IommuSession, IotlbSnapshot, Mapping, SharedIotlb,
    };
}

/// Memory mapped by the operating system.
#[cfg(feature = "backend-mmap")]
pub mod mmap {
    pub use guest_memory_bitmap::NewBitmap;
    pub use guest_memory_mmap::{
        FromRangesError, GuestMemoryMmap, GuestRegionMmap, HugePageSize, MmapRegion,
        MmapRegionBuilder, MmapRegionError,
    };
}

/// A range of a guest's memory, and sets of them.
pub mod region {
    pub use guest_memory_core::{
        GuestMemoryRegion, GuestMemoryRegionBytes, GuestRegionCollection,
        GuestRegionCollectionError, RegionFromRange,
    };
}

/// Windows on memory that others write.
pub mod volatile_memory {
    pub use guest_memory_volatile::volatile_memory::{
        Error, FaultKind, PtrGuard, PtrGuardMut, Result, VolatileArrayRef, VolatileMemory,
        VolatileRef, VolatileSlice, compute_offset,
    };
}
