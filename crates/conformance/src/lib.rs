// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Test suites for anyone who implements a dirty bitmap, a region or a whole guest memory.
//!
//! Each suite runs random scripts of operations on the implementation and on a naive twin (a
//! `Vec<u8>` and a set of dirty pages) and compares everything: results, errors, bytes, dirty pages.
//! Scripts crowd around the places where faults live: ends of ranges, borders of pages and regions,
//! holes, sums that overflow. A failure is shrunk to the shortest script that shows it, and the
//! message names the operation.
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
//! # Suites
//!
//! * [`bitmap::check`]: any [`Bitmap`](guest_memory_bitmap::Bitmap), made for a length;
//! * [`dirty_log::check`]: such a bitmap that is also a [`DirtyLog`](guest_memory_bitmap::DirtyLog);
//! * [`bytes::check`]: any [`Bytes`](guest_memory_core::Bytes) over one contiguous range;
//! * [`bytes_ext::check`]: any [`BytesExt`](guest_memory_core::BytesExt), likewise;
//! * [`region::check`]: any [`GuestMemoryRegion`](guest_memory_core::GuestMemoryRegion), made for a
//!   start and a length;
//! * [`memory::check`]: any [`GuestMemory`](guest_memory_core::GuestMemory), made for a list of
//!   ranges.
//!
//! Each has a twin named `check_with` that takes a [`Config`]: the number of cases, the page size,
//! whether dirty pages are tracked at all, and the granule that ranges come in. The single
//! operations of `bytes`, `bytes_ext` and `memory`, the [`model`] and the [`place`]s are open too, for scripts
//! that come from elsewhere (a fuzzer).
//!
//! # What is not covered
//!
//! Concurrent access, memory ordering, read-only memory, and whatever needs unsafe code to call.

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
