// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest memory behind an IOMMU: each access of a device is translated and checked.
//!
//! A device behind an IOMMU names memory by addresses of its own (IOVA, I/O virtual addresses). An [`Iotlb`] says what they
//! are mapped to, guest-physical addresses (GPA), and whether the device may read or write there. [`IommuMemory`] puts one
//! in front of any guest memory.
//!
//! # Example
//!
//! ```
//! use guest_memory_core::{Bytes, GuestAddress, GuestMemoryError, Permissions};
//! use guest_memory_iommu::{Error, FaultCause, IommuMemory, SharedIotlb};
//! use guest_memory_mmap::GuestMemoryMmap;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let below = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x10_000)])?;
//! let memory = IommuMemory::new(below, SharedIotlb::new(), true, ());
//!
//! // The guest maps two pages for its device: one to read, one to write.
//! let iommu = memory.iommu();
//! iommu.set_mapping(GuestAddress(0x4000), GuestAddress(0x8000), 0x1000, Permissions::Read)?;
//! iommu.set_mapping(GuestAddress(0x5000), GuestAddress(0x2000), 0x1000, Permissions::Write)?;
//! memory.write_obj(7u32, GuestAddress(0x5010))?;
//! assert_eq!(memory.get_backend().read_obj::<u32>(GuestAddress(0x2010))?, 7);
//!
//! // What it may not do comes back as an error that says what, where and why.
//! let Err(GuestMemoryError::IommuError(error)) = memory.write_obj(7u32, GuestAddress(0x4010)) else {
//!     return Err("no fault".into());
//! };
//! assert!(matches!(error, Error::Fault { cause: FaultCause::NotAllowed, .. }));
//! assert_eq!(error.to_string(), "write of 4 bytes at iova 0x4010 refused: not allowed by the mapping");
//! # Ok(())
//! # }
//! ```
//!
//! # Main types
//!
//! * [`Iotlb`]: the table: map, unmap, translate. What it holds are [`Mapping`]s, what it yields [`MappedRange`]s, and
//!   [`IotlbFails`] is all that is wrong with a range.
//! * [`Iommu`]: what translates, a trait. [`SharedIotlb`] is a ready one: a table that changes while devices read it, without a lock.
//! * [`IommuMemory`]: a guest memory behind an IOMMU, which can be switched off. It is an
//!   [`IoMemory`](guest_memory_core::IoMemory), so what accesses guest memory accesses it.
//! * [`IommuDevice`]: a device thread's own handle, which keeps translations; [`IommuSession`] is its time of accesses.
//!
//! # Guarantees
//!
//! * No IOVA and no length panics or leaves what is mapped. Ranges may end at 2^64.
//! * An access moves what comes before the first byte that it may not access, and says how much, which IOVAs are refused, how
//!   they were to be accessed, and why.
//! * An access that begins after a mapping was removed does not use it, whatever a device has kept; those under way can be
//!   waited for ([`IommuMemory::wait_for_devices`]).
//! * A translated write marks exactly its IOVAs, after the data, in the bitmap of the [`IommuMemory`].
//!   It does not mark the bitmaps of the regions below, so a log of those lacks what devices wrote by IOVA: whoever migrates
//!   with such devices harvests both.
//! * Devices that hit wait for nobody.
//!
//! # What it does not do
//!
//! * Emulate an IOMMU: page tables in guest memory, command queues and fault queues are a device model's.
//! * Get mappings that are missing: an [`Iommu`] of yours can.
//! * Bound the number of mappings: whoever takes them from a guest should.
//! * Take back a host pointer or an address that was handed out.
//! * Tell devices apart: a table is that of one address space; one for each device (or group of them) is yours to keep.
//!
//! # Cost
//!
//! A translation is a search among the mappings, 10 to 20 ns among a thousand, and by [`SharedIotlb`] as much again to hold
//! the table. In a session one that is kept costs one or two nanoseconds. A change of an [`Iotlb`] costs a search and
//! moving at most 127 mappings; one of a [`SharedIotlb`] copies those, and a pointer for each hundred of the others.
//!
//! # Features
//!
//! None.

#![forbid(unsafe_code)]

mod chunk;
mod device;
mod iommu;
mod iotlb;
mod mapping;
mod memory;
mod seats;
mod shared;
mod slices;
mod sync;
mod table;

pub use device::{IommuDevice, IommuSession};
pub use iommu::Iommu;
pub use iotlb::{Iotlb, IotlbFails, IotlbIterator};
pub use mapping::{MappedRange, Mapping};
pub use memory::IommuMemory;
pub use shared::{IotlbSnapshot, SharedIotlb};
pub use slices::IommuMemorySliceIterator;

#[doc(no_inline)]
pub use guest_memory_core::{FaultCause, IovaRange, TranslationError as Error};
