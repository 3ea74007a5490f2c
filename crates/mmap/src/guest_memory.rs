// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Mapped regions as one guest memory.

use guest_memory_core::GuestRegionCollection;

use crate::GuestRegionMmap;

/// A guest memory of mapped regions, sorted and free of overlap.
///
/// `from_ranges` maps anonymous memory, `from_ranges_with_files` files, both without guard pages; `from_regions` takes regions
/// that a [`MmapRegionBuilder`](crate::MmapRegionBuilder) made. A [`GuestMemoryBuilder`](crate::GuestMemoryBuilder) makes one from
/// a description.
///
/// # Examples
///
/// ```
/// use guest_memory_core::{Bytes, GuestAddress, GuestMemory};
/// use guest_memory_mmap::GuestMemoryMmap;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Two regions side by side; an access may cross from one to the other.
/// let ranges = [(GuestAddress(0), 0x1000), (GuestAddress(0x1000), 0x1000)];
/// let memory = GuestMemoryMmap::<()>::from_ranges(&ranges)?;
/// memory.write_slice(b"boundary", GuestAddress(0xffc))?;
/// assert_eq!(memory.read_obj::<[u8; 4]>(GuestAddress(0x1000))?, *b"dary");
/// # Ok(())
/// # }
/// ```
pub type GuestMemoryMmap<B = ()> = GuestRegionCollection<GuestRegionMmap<B>>;
