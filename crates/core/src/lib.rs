// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest addresses, memory regions, and the traits every guest memory implements.
//!
//! A guest's physical memory is a set of regions, each a contiguous range of guest-physical
//! addresses (GPA) with bytes behind it in this process. This crate says what a region and a memory
//! are, finds the region of an address, and carries an access to the bytes; it maps nothing and
//! calls no operating system.
//!
//! # Example
//!
//! A region of your own, here over plain atomics, joins with three methods and one marker:
//!
//! ```
//! use guest_memory_core::{
//!     Bytes, GuestAddress, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes, GuestRegionCollection,
//!     GuestUsize, MemoryRegionAddress,
//! };
//! use guest_memory_volatile::VolatileSlice;
//! use std::sync::atomic::AtomicU64;
//!
//! struct WordRegion {
//!     start: GuestAddress,
//!     words: Box<[AtomicU64]>,
//! }
//!
//! impl GuestMemoryRegion for WordRegion {
//!     type B = ();
//!
//!     fn len(&self) -> GuestUsize {
//!         self.words.len() as u64 * 8
//!     }
//!
//!     fn start_addr(&self) -> GuestAddress {
//!         self.start
//!     }
//!
//!     fn bitmap(&self) -> &() {
//!         &()
//!     }
//!
//!     fn get_slice(
//!         &self,
//!         offset: MemoryRegionAddress,
//!         count: usize,
//!     ) -> Result<VolatileSlice<'_>, GuestMemoryError> {
//!         // Sound: the words live as long as `self`, are initialised, and are atomics, so others may write them.
//!         let whole = unsafe { VolatileSlice::new(self.words.as_ptr() as *mut u8, self.words.len() * 8) };
//!         Ok(whole.subslice(offset.0 as usize, count)?)
//!     }
//! }
//!
//! impl GuestMemoryRegionBytes for WordRegion {}
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let words = (0..512).map(|_| AtomicU64::new(0)).collect();
//! let memory = GuestRegionCollection::from_regions(vec![WordRegion { start: GuestAddress(0x1000), words }])?;
//! memory.write_obj(42u32, GuestAddress(0x1ff8))?;
//! assert_eq!(memory.read_obj::<u32>(GuestAddress(0x1ff8))?, 42);
//! assert!(memory.write_obj(42u32, GuestAddress(0x2000)).is_err());
//! # Ok(())
//! # }
//! ```
//!
//! # Main types
//!
//! * [`GuestAddress`], [`MemoryRegionAddress`]: an address in the guest, an offset in a region.
//! * [`GuestMemoryRegion`]: a contiguous range; [`GuestMemoryRegionBytes`] gives it [`Bytes`].
//! * [`GuestMemory`]: a set of regions; [`GuestRegionCollection`] is the one for regions of one
//!   type.
//! * [`RegionCache`]: a view of a memory that spares the lookup of the region that was accessed last.
//! * [`IoMemory`]: memory as a device sees it, where an access needs [`Permissions`]. Every
//!   [`GuestMemory`] is one, and every one has [`Bytes<GuestAddress>`](Bytes).
//! * [`BytesExt`]: read-modify-writes, fills and little-endian fields, wherever there are [`Bytes`] of this crate.
//! * [`MemoryLog`]: the dirty logs of all regions as one; [`GuestDirtyPages`] is what it yields.
//! * [`GuestAddressSpace`]: a handle from which a device gets the memory of the moment.
//!
//! # Guarantees
//!
//! * No address or length panics or leaves the region; what does not fit is an error or a short
//!   count.
//! * An access of 1, 2, 4 or 8 bytes at an aligned host address is one access of that size.
//! * Writes to memory that is mapped read-only are errors.
//! * A region that gives out a slice of another length than asked for makes an error, nothing else.
//! * A stream over several regions is given all of them at once, and goes on at the byte after the last one that
//!   moved; an interrupted call is tried again, and its end is told from its failure. Nothing is allocated.
//! * Errors keep the operation, the address, the length, what was done, and the cause.
//!
//! # What it does not do
//!
//! It allocates no guest addresses, maps no memory, and has no unsafe code of its own.
//!
//! # Cost
//!
//! An access within one region is a lookup in a sorted array, one bounds check and the access.
//!
//! # Features
//!
//! * `std` (default): [`FileOffset`] can hold a file, streams, I/O errors. Without it the crate is
//!   `no_std`.

#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

mod access;
mod address;
mod address_space;
mod atomically;
mod bytes;
mod bytes_ext;
mod collection;
mod dirty;
mod error;
mod file_offset;
mod fill;
mod guest_address;
mod index;
mod io_memory;
mod memory;
mod memory_bytes;
mod permissions;
mod reach;
mod region;
mod region_bytes;
mod region_cache;
mod shelf;
mod slice_iterator;
#[cfg(feature = "std")]
mod stream;
mod translation;
mod walk;

pub use address::{Address, AddressValue};
pub use address_space::GuestAddressSpace;
pub use bytes::Bytes;
pub use bytes_ext::BytesExt;
pub use collection::{GuestRegionCollection, GuestRegionCollectionError, RegionFromRange};
pub use dirty::{GuestDirtyPages, MemoryLog, MemorySlot, MemorySlots, SlotError};
pub use error::{Error as GuestMemoryError, Operation, Result as GuestMemoryResult};
pub use file_offset::FileOffset;
pub use guest_address::{GuestAddress, GuestUsize, MemoryRegionAddress};
pub use io_memory::IoMemory;
pub use memory::{GuestMemory, GuestMemorySlices, MS};
pub use permissions::Permissions;
pub use region::GuestMemoryRegion;
pub use region_bytes::GuestMemoryRegionBytes;
pub use region_cache::RegionCache;
pub use slice_iterator::GuestMemorySliceIterator;
pub use translation::{FaultCause, IovaRange, TranslationError};

#[doc(no_inline)]
pub use guest_memory_bitmap::{BS, Bitmap};
#[doc(no_inline)]
pub use guest_memory_volatile::{FaultKind, VolatileMemoryError, VolatileSlice};
