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
//! // Plug a region: lock, read the map, put the changed one in its place.
//! let region = GuestRegionMmap::from_range(GuestAddress(0x10_0000), 0x1000, None)?;
//! let writer = memory.lock().expect("no writer panicked");
//! let with_region = memory.memory().insert_region(Arc::new(region))?;
//! writer.replace(with_region);
//!
//! assert_eq!(device.memory().num_regions(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! # Main types
//!
//! * [`GuestMemoryAtomic`]: the map in force, a cheap handle to clone.
//! * [`GuestMemoryLoadGuard`]: the map as a reader found it.
//! * [`GuestMemoryExclusiveGuard`]: the one writer.
//!
//! # Guarantees
//!
//! * A reader sees one map or the next, never a mixture, and what it sees stays mapped while its guard lives.
//! * Readers wait for nobody. Writers wait for each other only.
//! * A writer that panics leaves the map as it was.
//!
//! # What it does not do
//!
//! Tell readers that the map changed: they find out at their next load. Wait until nobody uses the old
//! map. Serialise changes that were computed before the lock was taken.
//!
//! # Cost
//!
//! A load is a few atomic operations. A replacement allocates one `Arc` and looks for readers that still use the
//! old map.
//!
//! # Features
//!
//! None.

#![forbid(unsafe_code)]

mod atomic;

pub use atomic::{GuestMemoryAtomic, GuestMemoryExclusiveGuard, GuestMemoryLoadGuard};
