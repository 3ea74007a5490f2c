// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest physical memory for virtual machine monitors, vhost-user backends, boot loaders and
//! snapshot tools.
//!
//! This crate maps memory for a guest, gives typed access to it that is sound while the guest
//! writes it too, tracks which pages were written, and lets the memory map be swapped while devices
//! keep running. It is a thin facade: each part is a crate of its own and can be used alone.
//!
//! # Example
//!
//! ```
//! use guest_memory::bitmap::{AtomicBitmap, MemoryLog};
//! use guest_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // 1 MiB at address 0, a hole, 64 KiB at 16 MiB; writes are tracked page by page.
//! let ranges = [(GuestAddress(0), 1 << 20), (GuestAddress(16 << 20), 64 << 10)];
//! let memory = GuestMemoryAtomic::new(GuestMemoryMmap::<AtomicBitmap>::from_ranges(&ranges)?);
//!
//! // A device takes the memory of the moment and uses it; another thread may swap the map meanwhile.
//! let snapshot = memory.memory();
//! snapshot.write_obj(0x1234_u32, GuestAddress(0x2000))?;
//! assert_eq!(snapshot.read_obj::<u32>(GuestAddress(0x2000))?, 0x1234);
//!
//! // A guest may name any address: what is not there is an error, never a panic.
//! assert!(snapshot.write_obj(0u8, GuestAddress(0x20_0000)).is_err());
//!
//! // A migration thread asks what was written since it last asked.
//! let dirty = MemoryLog::new(memory.clone()).harvest();
//! assert!(dirty.ranges().eq([(GuestAddress(0x2000), 0x1000)]));
//! # Ok(())
//! # }
//! ```
//!
//! # Main types
//!
//! * [`GuestMemoryMmap`]: a guest's memory, mapped from anonymous memory, memfd, hugetlbfs or
//!   files; [`MmapRegionBuilder`] chooses, [`GuestRegionMmap`] is one range of it.
//!   [`GuestMemoryBuilder`] makes it all from one description; module [`mmap`] has backings and policies,
//!   prefault, discard and residency.
//! * [`FlatGuestMemory`]: the same in one range of host addresses, where translating is an addition and neighbours are one.
//! * [`Bytes`]: reads, writes, atomics and streams by guest address, on a memory, a region or a
//!   slice.
//! * [`BytesExt`]: read-modify-writes, fills and little-endian fields, likewise.
//! * [`GuestMemory`], [`GuestMemoryRegion`]: the traits to write devices against, and to implement
//!   for a memory of your own. [`GuestRegionCollection`] is a memory of any type of region;
//!   [`RegionCache`](region::RegionCache) a view of one that looks at the region of the last access first.
//! * [`IoMemory`]: memory as a device sees it, of which every [`GuestMemory`] is one, and every memory behind an IOMMU.
//! * [`VolatileSlice`]: a window on guest bytes, for devices that look at the same place again and
//!   again.
//! * [`bitmap`]: dirty tracking; `()` for none. [`AtomicBitmap`](bitmap::AtomicBitmap) is the log of a region,
//!   [`MemoryLog`](bitmap::MemoryLog) that of a memory, [`Readers`](bitmap::Readers) share one out.
//! * [`GuestMemoryAtomic`]: the memory map that can be swapped under its users. [`GuestMemoryReader`] is a device thread's
//!   handle on it, [`MemoryWindow`] a range that stays looked up, [`HotplugMemory`] plugs and unplugs with
//!   [`HotplugListener`]s.
//! * With the feature `iommu`, `IommuMemory`: a memory as a device behind an IOMMU sees it; `IommuDevice` is a device
//!   thread's own handle.
//!
//! There is a module of the crate's own name, so a glob is written `use ::guest_memory::*`.
//!
//! # Guarantees
//!
//! * Guest-controlled addresses and lengths never panic and never leave a region.
//! * Races with the guest yield old or new bytes, not undefined behaviour
//!   ([one case](guest_memory_volatile#mixed-sizes) is open); an aligned access of 1, 2, 4 or 8 bytes
//!   is never torn.
//! * Every write through a method of this library is in the dirty bitmap, after the data. Raw
//!   pointers and references that were handed out are the caller's to mark.
//! * Memory that is mapped read-only refuses writes with an error.
//! * A stream over several regions goes on at the byte after the last one; an error says how many bytes were done.
//!
//! # What it does not do
//!
//! * No devices, no virtual CPUs, no hypervisor binding, no allocation of guest addresses. The example monitor `microvm`
//!   shows how those sit on top.
//! * No references to guest bytes from safe code, but to atomics: the guest may write the bytes at any time.
//! * No mappings but on Linux. The crates below `guest-memory-mmap` need no operating system.
//!
//! # Cost
//!
//! An access within one region is a lookup in a sorted array, a bounds check, the access and, with
//! a bitmap, two loads; an atomic operation where the page was clean. `docs/performance.md` in the repository has measurements,
//! and `docs/guide.md` leads through all of the library, chapter by chapter.
//!
//! # Features
//!
//! * `mmap` (default): memory mapped by the operating system; without it there are only the traits.
//! * `atomic` (default): the swappable memory map.
//! * `iommu`: memory behind an IOMMU, module `iommu`; without it devices see guest-physical addresses only.
//! * `fault-guard`: accesses that survive a page which cannot be accessed, module `fault`; without it such a page is the
//!   operating system's signal.
//! * `serde`: descriptions of memory (backings, policies, whole guests) in a monitor's configuration; without it they are
//!   plain values.
//! * `zerocopy`: [`ByteValued`] for types with zerocopy's derives, through the wrapper `Plain`.

#![forbid(unsafe_code)]

#[doc(inline)]
pub use address::{Address, AddressValue};
#[cfg(feature = "atomic")]
#[doc(inline)]
pub use atomic::{
    GuestMemoryAtomic, GuestMemoryExclusiveGuard, GuestMemoryLoadGuard, GuestMemoryReader,
    HotplugListener, HotplugMemory, MemoryWindow,
};
#[doc(inline)]
pub use bytes::*;
#[doc(inline)]
pub use endian::{Be16, Be32, Be64, BeSize, Le16, Le32, Le64, LeSize};
#[doc(inline)]
pub use guest_memory::{
    Error as GuestMemoryError, FileOffset, GuestAddress, GuestAddressSpace, GuestMemory,
    GuestMemorySliceIterator, GuestMemorySlices, GuestUsize, IoMemory, MemoryRegionAddress,
    Operation, Permissions, Result as GuestMemoryResult,
};
#[doc(inline)]
pub use io::{ReadVolatile, ReadVolatileAt, WriteVolatile, WriteVolatileAt};
#[cfg(feature = "iommu")]
#[doc(inline)]
pub use iommu::{Iommu, IommuDevice, IommuMemory, IommuSession, Iotlb, SharedIotlb};
#[cfg(feature = "mmap")]
#[doc(inline)]
pub use mmap::{
    Backing, FlatGuestMemory, GuestMemoryBuilder, GuestMemoryMmap, GuestRegionMmap, HugePageSize,
    MemoryTable, MmapRegion, MmapRegionBuilder, Policies, Protection, RegionKind, RegionSpec,
};
#[doc(inline)]
pub use region::{
    GuestMemoryRegion, GuestMemoryRegionBytes, GuestRegionCollection, GuestRegionCollectionError,
    RegionFromRange,
};
#[doc(inline)]
pub use volatile_memory::{
    Error as VolatileMemoryError, FaultKind, PtrGuard, PtrGuardMut, Result as VolatileMemoryResult,
    VolatileArrayRef, VolatileMemory, VolatileRef, VolatileSlice,
};

/// What an address is.
pub mod address {
    pub use guest_memory_core::{Address, AddressValue};
}

/// The memory map that can be swapped while devices use it.
#[cfg(feature = "atomic")]
pub mod atomic {
    pub use guest_memory_atomic::*;
}

/// Dirty tracking.
pub mod bitmap {
    pub use guest_memory_bitmap::*;
    pub use guest_memory_core::{
        GuestDirtyPages, MS, MemoryLog, MemorySlot, MemorySlots, SlotError,
    };
}

/// Access by address, and the types that can be accessed.
pub mod bytes {
    pub use guest_memory_core::{Bytes, BytesExt};
    pub use guest_memory_volatile::bytes::*;
}

/// Integers of a fixed byte order.
pub mod endian {
    pub use guest_memory_volatile::endian::*;
}

/// Accesses that survive a page which cannot be accessed.
#[cfg(feature = "fault-guard")]
pub mod fault {
    pub use guest_memory_volatile::fault::*;
}

/// A guest's memory: addresses, traits, errors.
///
/// The module has the crate's own name. After `use guest_memory::*`, which brings it in, write
/// `::guest_memory::` for other paths of this crate.
pub mod guest_memory {
    pub use guest_memory_core::{
        FileOffset, GuestAddress, GuestAddressSpace, GuestMemory, GuestMemoryError as Error,
        GuestMemoryResult as Result, GuestMemorySliceIterator, GuestMemorySlices, GuestUsize,
        IoMemory, MemoryRegionAddress, Operation, Permissions,
    };
}

/// Streams into and out of guest memory.
pub mod io {
    pub use guest_memory_volatile::io::*;
}

/// Memory behind an IOMMU.
#[cfg(feature = "iommu")]
pub mod iommu {
    pub use guest_memory_iommu::*;
}

/// Memory mapped by the operating system.
#[cfg(feature = "mmap")]
pub mod mmap {
    pub use guest_memory_bitmap::NewBitmap;
    pub use guest_memory_mmap::*;
}

/// A range of a guest's memory, and sets of them.
pub mod region {
    pub use guest_memory_core::{
        GuestMemoryRegion, GuestMemoryRegionBytes, GuestRegionCollection,
        GuestRegionCollectionError, RegionCache, RegionFromRange,
    };
}

/// Windows on memory that others write.
pub mod volatile_memory {
    pub use guest_memory_volatile::volatile_memory::*;
}

/// The code in these pages is compiled and run.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../README.md")]
    struct Readme;
    // What it shows of faults is for targets whose copy engine is assembly.
    #[cfg(all(
        feature = "iommu",
        feature = "fault-guard",
        any(target_arch = "x86_64", target_arch = "aarch64")
    ))]
    #[doc = include_str!("../../../docs/guide.md")]
    struct Guide;
    #[doc = include_str!("../../../docs/backings.md")]
    struct Backings;
}
