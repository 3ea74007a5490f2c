// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest memory map that can be replaced while devices use it.
//!
//! Memory is plugged into a running guest and unplugged from it. [`GuestMemoryAtomic`] holds the map that is
//! in force; device threads load it for each request, without a lock, and a writer puts a new one in its place.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//!
//! use guest_memory_atomic::GuestMemoryAtomic;
//! use guest_memory_core::{GuestAddress, GuestAddressSpace, GuestMemory};
//! use guest_memory_mmap::{GuestMemoryMmap, GuestRegionMmap};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let memory = GuestMemoryAtomic::new(GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x1000)])?);
//!
//! // A device holds a handle of its own.
//! let device = memory.clone();
//!
//! // Plug a region: put the changed map in its place, with other writers locked out.
//! let region = GuestRegionMmap::from_range(GuestAddress(0x10_0000), 0x1000, None)?;
//! memory.update(|map| map.insert_region(Arc::new(region)).map(|larger| (larger, ())))?;
//!
//! assert_eq!(device.memory().num_regions(), 2);
//!
//! // A device thread has a reader of its own, which is faster.
//! let mut reader = device.reader();
//! assert_eq!(reader.memory().num_regions(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! # Main types
//!
//! * [`GuestMemoryAtomic`]: the map in force, a cheap handle to clone.
//! * [`GuestMemoryReader`]: the map as one device thread has it, at the cost of a comparison.
//! * [`GuestMemoryLoadGuard`]: the map as somebody found it, for one request.
//! * [`MemoryWindow`]: a range, such as a virtqueue's ring, that stays looked up while maps come and go.
//! * [`GuestMemoryExclusiveGuard`]: the one writer.
//! * [`HotplugMemory`]: regions plugged and unplugged as transactions, in which a hypervisor's slot table and others
//!   take part as [`HotplugListener`]s.
//!
//! # Guarantees
//!
//! * Who looks sees one map or the next, never a mixture, and what it sees stays mapped while it holds on to it.
//! * Readers wait for nobody. Writers wait for each other, and for readers only when they ask to
//!   ([`wait_for_readers`](GuestMemoryAtomic::wait_for_readers), [`reclaim`](HotplugMemory::reclaim)).
//! * After a replacement has returned, nobody who knows of it is given an older map, by whatever handle.
//! * A writer that panics leaves the map as it was; so does a listener that refuses or panics.
//!
//! # What it does not do
//!
//! * Interrupt readers: they find out at their next look, or when they are woken by a hook of their own.
//! * Serialise changes that were computed before the lock was taken.
//! * Take back slices, raw pointers and host addresses that were handed out.
//! * Plug into memories of every kind: [`HotplugMemory`] and [`MemoryWindow`] are for collections of regions. A memory that
//!   is something else, such as a flat one, is changed by [`update`](GuestMemoryAtomic::update).
//!
//! # Cost
//!
//! A look by a reader or window is a load and a comparison; a load of a guard is a few atomic operations. A replacement
//! allocates twice and looks for guards of the old map.
//!
//! # Features
//!
//! None.

#![forbid(unsafe_code)]

mod atomic;
mod grace;
mod hotplug;
mod reader;
mod sync;
mod versions;
mod window;

pub use atomic::{GuestMemoryAtomic, GuestMemoryExclusiveGuard, GuestMemoryLoadGuard};
pub use grace::{ReleaseHook, StillInUse};
pub use hotplug::{
    ChangeKind, HotplugChange, HotplugError, HotplugListener, HotplugMemory, ListenerId,
    RegionInUse,
};
pub use reader::GuestMemoryReader;
pub use window::{MemoryWindow, WindowError};
