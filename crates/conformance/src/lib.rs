// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Test suites for anyone who implements a dirty bitmap, mapped memory, a region, a whole guest memory, a handle on one, or a
//! stream.
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
//! The page of each suite's function has such an example for its type.
//!
//! # Suites
//!
//! | for a type of yours that is | it promises | run |
//! |---|---|---|
//! | a [`Bitmap`](guest_memory_bitmap::Bitmap) | marks of a range are its pages', slices count from their base, nothing panics or wraps | [`bitmap::check`] |
//! | a [`DirtyLog`](guest_memory_bitmap::DirtyLog) | a harvest is what was marked since the last one, once; switching off loses nothing | [`dirty_log::check`] |
//! | a [`VolatileMemory`](guest_memory_volatile::VolatileMemory) | windows, references and arrays are the bytes asked for or an error, with marks at their place | [`volatile_memory::check`] |
//! | memory that is mapped | it is zeroed, as long as asked, at a host address that stays; it is the file's bytes; read-only is read-only; it is given back | [`backing::check`] |
//! | [`Bytes`](guest_memory_core::Bytes) over one range | counts, exact forms, progress before an error, streams without gaps | [`bytes::check`] |
//! | [`BytesExt`](guest_memory_core::BytesExt), likewise | read-modify-writes, fills, searches for zeroes, little-endian fields | [`bytes_ext::check`] |
//! | [`Bytes`](guest_memory_core::Bytes) with copies of its own | every length and alignment moves exactly its bytes | [`copy::check`] |
//! | | overlapping copies arrive as if read first | [`copy::check_within`] |
//! | | no aligned word is torn | [`copy::check_untorn`] |
//! | [`Bytes`](guest_memory_core::Bytes) that marks a bitmap from outside | a mark never comes before its data, and none is lost on an error | [`mark_order::check`], [`mark_order::check_bytes`] |
//! | a [`GuestMemoryRegion`](guest_memory_core::GuestMemoryRegion) | all that `bytes` asks, its bounds, also at 2^64, its slices, its bitmap | [`region::check`] |
//! | a [`GuestMemory`](guest_memory_core::GuestMemory) | all that `bytes` and `bytes_ext` ask, across borders and into holes; what is found where | [`memory::check`] |
//! | a [`GuestAddressSpace`](guest_memory_core::GuestAddressSpace) | guards and clones have one and the same map | [`address_space::check`] |
//! | one whose map is replaced | handles give the newest map, a guard keeps its own | [`address_space::check_swappable`] |
//! | | so they do for several threads, and no map is seen in part | [`address_space::check_concurrent`] |
//! | a [`ReadVolatile`](guest_memory_volatile::ReadVolatile) | what comes is next, at its place and marked, over many slices too; errors say how far | [`streams::check_source`] |
//! | a [`WriteVolatile`](guest_memory_volatile::WriteVolatile) | the same the other way round; memory stays as it is | [`streams::check_sink`] |
//! | one of these at an offset of a file | the same, without a position | [`streams::check_source_at`], [`streams::check_sink_at_with`] |
//!
//! Most have a twin named `check_with`, or one with that ending, that takes a [`Config`]: the number of cases, the page size, whether
//! dirty pages are tracked at all, and the granule that ranges come in. The head of each module lists its promises one by one. The
//! single operations of `bytes`, `bytes_ext` and `memory`, the [`model`] and the [`place`]s are open too, for scripts that come
//! from elsewhere (a fuzzer).
//!
//! # Can they fail?
//!
//! The kit's own tests keep over 160 wrong implementations: an end that is off by one, a mark of the
//! neighbour's page, a stream that starts its second slice afresh, a guard that follows the swap. Each has to be caught by its
//! suite, with a message that tells what was expected, and the same type without the fault has to pass.
//!
//! # What is not covered
//!
//! Memory ordering and lost marks under concurrent harvests, which need a model of all interleavings; pages that cannot be accessed;
//! and whatever needs unsafe code to call.

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
