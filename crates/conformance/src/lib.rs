// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Test suites for anyone who implements a dirty bitmap, mapped memory, a region, a whole guest memory, memory behind an IOMMU,
//! a handle on memory, or a stream.
//!
//! Most suites run random scripts of operations on the implementation and on a naive twin (a `Vec<u8>` and a set of dirty pages)
//! and compare everything: results, errors, bytes, dirty pages. Scripts crowd around the places where faults live: ends of ranges,
//! borders of pages and regions, holes, sums that overflow. A failure is shrunk to the shortest script that shows it. Where all
//! cases can be listed, such as the lengths and alignments of a copy, they are. Each message names the operation, what was
//! found and what was expected.
//!
//! # Example
//!
//! A test of a bitmap of one's own (here the workspace's) in five lines:
//!
//! ```
//! use guest_memory_bitmap::{AtomicBitmap, NewBitmap};
//!
//! # /*
//! #[test]
//! # */
//! fn my_bitmap_behaves() {
//!     guest_memory_conformance::bitmap::check(|len| AtomicBitmap::with_len(len));
//! }
//! # my_bitmap_behaves();
//! ```
//!
//! A region and a memory of such regions:
//!
//! ```
//! use guest_memory_bitmap::AtomicBitmap;
//! use guest_memory_conformance::{Config, memory, region};
//! use guest_memory_mmap::{GuestMemoryMmap, GuestRegionMmap};
//!
//! type Region = GuestRegionMmap<AtomicBitmap>;
//! type Memory = GuestMemoryMmap<AtomicBitmap>;
//!
//! # /*
//! #[test]
//! # */
//! fn my_region_and_my_memory_behave() {
//!     let config = Config::default().cases(64);
//!     region::check_with(config, |start, len| Region::from_range(start, len, None).unwrap());
//!     memory::check_with(config, |ranges| Memory::from_ranges(ranges).unwrap());
//! }
//! # my_region_and_my_memory_behave();
//! ```
//!
//! Put the crate under `[dev-dependencies]`. The page of each suite's function has such an example for its type.
//!
//! # Suites
//!
//! Each suite is a function that is given a closure, which makes what is tested; more closures are told where they are needed.
//! Names of traits link to what is promised, names of functions to how it is asked.
//!
//! | for a type of yours that is | run | it needs | it checks that |
//! |---|---|---|---|
//! | a [`Bitmap`](guest_memory_bitmap::Bitmap) | [`bitmap::check`] | one for a length | marks of a range are its pages', slices count from their base, nothing panics or wraps |
//! | and [`Sync`] | [`bitmap::check_concurrent`] | the same | no mark is lost where several threads mark |
//! | a [`DirtyLog`](guest_memory_bitmap::DirtyLog) | [`dirty_log::check`] | one for a length, that is a `Bitmap` too | a harvest is what was marked since the last one, once, whatever it is put into; switching off loses nothing |
//! | a [`VolatileMemory`](guest_memory_volatile::VolatileMemory) | [`volatile_memory::check`] | one for a length, zeroed | windows, references, arrays and atomics are the bytes asked for or an error, with marks at their place |
//! | memory that is mapped | [`backing::check`] | one for a length; by a [`Backing`](backing::Backing) also of a file, without write access | it is zeroed, as long as asked, at a host address that stays; it is the file's bytes; read-only is read-only; it is given back |
//! | [`Bytes`](guest_memory_core::Bytes) over one range | [`bytes::check`] | one for a length, zeroed; an address of an offset | counts, exact forms, progress before an error, streams without gaps |
//! | [`BytesExt`](guest_memory_core::BytesExt), likewise | [`bytes_ext::check`] | the same | read-modify-writes, fills, searches for zeroes, little-endian fields |
//! | and [`Sync`] | [`bytes_ext::check_concurrent`] | the same | no read-modify-write of two threads is lost |
//! | [`Bytes`](guest_memory_core::Bytes) with copies of its own | [`copy::check`] | the same | every length and alignment moves exactly its bytes |
//! | | [`copy::check_within`] | and a copy from one offset to another | overlapping copies arrive as if read first |
//! | | [`copy::check_untorn`] | one that is [`Sync`] | no aligned word, object or atomic is torn |
//! | [`Bytes`](guest_memory_core::Bytes) that mark a bitmap from outside | [`mark_order::check`], [`mark_order::check_bytes`] | one for a length and a bitmap of the suite's | a mark never comes before its data, and none is lost on an error |
//! | a [`GuestMemoryRegion`](guest_memory_core::GuestMemoryRegion) | [`region::check`] | one for a start and a length, zeroed | all that `bytes` asks, its bounds, also at 2^64, its slices, its bitmap |
//! | one that must not be written | [`region::check_read_only`] | the same | every way to write is refused, by it and by its windows |
//! | a [`GuestMemory`](guest_memory_core::GuestMemory) | [`memory::check`] | one for a list of starts and lengths | all that `bytes` and `bytes_ext` ask, across borders and into holes; what is found where |
//! | an [`IoMemory`](guest_memory_core::IoMemory) | [`io_memory::check`] | one for a list of starts, lengths and permissions | no byte is accessed without permission, those before it are, and windows are what they say |
//! | a [`GuestAddressSpace`](guest_memory_core::GuestAddressSpace) | [`address_space::check`] | a handle on memory for a list | guards and clones have one and the same map |
//! | one whose map is replaced | [`address_space::check_swappable`] | and what replaces it | handles give the newest map, a guard keeps its own |
//! | | [`address_space::check_concurrent`] | a handle that is [`Send`] and [`Sync`] | so they do for several threads, and no map is seen in part |
//! | a [`ReadVolatile`](guest_memory_volatile::ReadVolatile) | [`streams::check_source`] | one that gives these bytes | what comes is next, at its place and marked, over many slices too; errors say how far |
//! | a [`WriteVolatile`](guest_memory_volatile::WriteVolatile) | [`streams::check_sink`] | one with room for so many bytes; what it took | the same the other way round; memory stays as it is |
//! | a [`ReadVolatileAt`](guest_memory_volatile::ReadVolatileAt) | [`streams::check_source_at`] | as a source | the same, without a position |
//! | a [`WriteVolatileAt`](guest_memory_volatile::WriteVolatileAt) | [`streams::check_sink_at`] | as a sink | the same, without a position |
//!
//! Most have a twin named `check_with`, or one with that ending, that takes a [`Config`]: the number of cases, the page size, whether
//! dirty pages are tracked at all, and the granule that ranges come in. The head of each module lists its promises one by one. The
//! single operations of `bytes`, `bytes_ext` and `memory`, the [`model`] and the [`place`]s are open too, for scripts that come
//! from elsewhere (a fuzzer).
//!
//! # Can they fail?
//!
//! The kit's own tests keep some 200 wrong implementations: an end that is off by one, a mark of the
//! neighbour's page, a stream that starts its second slice afresh, a guard that follows the swap. Each has to be caught by its
//! suite, with a message that tells what was expected, and the same type without the fault has to pass.
//!
//! # What it does not do
//!
//! Look for lost marks under concurrent harvests or for wrong memory ordering, which need a model of all interleavings; for what
//! happens at pages that cannot be accessed; or for whatever needs unsafe code to call. A suite that passes found nothing: what depends
//! on two threads meeting (`check_concurrent`, `check_untorn`) it finds by chance.

#![forbid(unsafe_code)]

mod access;
pub mod address_space;
pub mod backing;
pub mod bitmap;
pub mod bytes;
pub mod bytes_ext;
mod config;
pub mod copy;
pub mod dirty_log;
pub mod io_memory;
mod kept;
pub mod mark_order;
pub mod memory;
pub mod model;
pub mod place;
mod read_only;
pub mod region;
mod stream;
pub mod streams;
pub mod volatile_memory;

pub use config::{Config, Pages};
pub use kept::kept;
