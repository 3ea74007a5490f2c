// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Dirty bitmaps: which pages of a guest's memory were written since somebody last asked.
//!
//! A monitor that migrates or snapshots a running guest copies its memory while it changes, and then
//! copies again what was written meanwhile. The hypervisor logs what the guest's processors write;
//! this crate logs what the monitor's own threads write. It knows offsets and lengths in bytes, and
//! nothing of addresses, pointers or mappings, so it serves any memory, also one that the rest of
//! this project did not map.
//!
//! ```
//! use core::num::NonZeroUsize;
//! use guest_memory_bitmap::{AtomicBitmap, Bitmap, DirtyPages};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // One bit per 4 KiB of a memory of 64 MiB.
//! let bitmap = AtomicBitmap::new(64 << 20, NonZeroUsize::try_from(4096)?);
//!
//! // A device that was given the memory from 1 MiB on stores 6,000 bytes at its offset 100, then marks.
//! let device_view = bitmap.slice_at(1 << 20);
//! device_view.mark_dirty(100, 6000);
//! assert!(bitmap.dirty_at((1 << 20) + 6099));
//!
//! // The migration thread takes the marks, round by round into the same set, which each harvest overwrites, then copies what they name.
//! let mut pages = DirtyPages::default();
//! bitmap.harvest_into(&mut pages);
//! for range in pages.ranges() {
//!     assert_eq!(range, 1 << 20..(1 << 20) + 0x2000); // copy it
//! }
//! assert!(!bitmap.dirty_at((1 << 20) + 100));
//! # Ok(())
//! # }
//! ```
//!
//! # Main types
//!
//! * [`Bitmap`] is what a memory needs of its bitmap: mark a range, ask, slice. [`NewBitmap`] makes
//!   one from a length.
//! * [`AtomicBitmap`] is the one to use: shared between threads, one bit per page, switched on and off while writers run.
//! * `()` records nothing and costs nothing; `Option<B>` decides at run time.
//! * [`BitmapSlice`] is a bitmap seen from an offset on: [`RefSlice`] borrows, [`ArcSlice`] shares.
//!   [`WithBitmapSlice`] and [`BS`] name a bitmap's slice type.
//! * [`DirtyPages`] is what a harvest yields: ranges, pages, union, difference, other page sizes, a hypervisor's words.
//! * [`DirtyLog`] is what can be harvested. `Readers` share one log out to several, each in its own time.
//! * `SwappableLog` marks in an `ExternalLog`, memory that another process reads, as vhost has it.
//!
//! # Guarantees
//!
//! * **No write is lost**, as long as the writer marks after it has stored its data. A write whose
//!   mark returned before a harvest began is in that harvest or was in an earlier one, and its data
//!   is visible to the harvester. A write that races with a harvest is visible to whoever copies the page after it,
//!   or is in the next one. The same holds when tracking is switched on, for whoever reads memory from then on.
//! * **Nothing here panics or wraps** on an offset or a length, whatever a guest chose: what lies past
//!   the end is ignored, sums saturate. [`AtomicBitmap::new`] panics at a page size that is no power of two, and a harvest
//!   if the system takes back the barrier it granted ([`MarkOrdering`]). (A bitmap larger than memory fails as every
//!   allocation does.)
//! * **Harvests are clean**: bits past the last page are zero.
//!
//! # What it does not do
//!
//! Find writers: whoever stores marks, or uses a memory that does. Cover writes by the guest or by
//! other processes; what those logged can be merged. Tell when a page was written, or how often. Check that a bitmap is as
//! long as its memory; [`Bitmap::tracked_bytes`] lets whoever joins the two do so.
//!
//! # Cost
//!
//! A bit per page and a sixty-fourth of that: 2 MiB for 64 GiB in pages of 4 KiB, allocated zeroed and not touched before use.
//! Marking a page that is dirty costs two loads where the system has the barrier that [`MarkOrdering::Asymmetric`] needs,
//! else a fence; marking a clean one an atomic operation or two. A harvest costs what is dirty and one load per 4,096 pages.
//!
//! # Features
//!
//! * `std` (default): [`NewBitmap::with_len`] uses the host's page size on Unix, marks need no fence on Linux, and there are
//!   `Readers`, `ExternalLog` and `SwappableLog`. Without it pages are 4 KiB, each mark has a fence, and
//!   the crate needs `alloc` and 64-bit atomics, and no other crate.
#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod atomic_bitmap;
mod barrier;
mod bitmap;
mod dirty_log;
mod dirty_pages;
#[cfg(feature = "std")]
mod external_log;
mod geometry;
mod marks;
mod ordering;
mod page_size;
#[cfg(feature = "std")]
mod readers;
mod slice;
#[cfg(feature = "std")]
mod swappable_log;
mod sync;
mod words;

pub use atomic_bitmap::AtomicBitmap;
pub use bitmap::{BS, Bitmap, BitmapSlice, NewBitmap, WithBitmapSlice};
pub use dirty_log::{DirtyLog, PageSet};
pub use dirty_pages::{DirtyPages, le_words};
#[cfg(feature = "std")]
pub use external_log::{ExternalLog, ExternalLogError};
pub use ordering::{MarkOrdering, MarkOrderingError};
pub use page_size::PageSizeError;
#[cfg(feature = "std")]
pub use readers::{Reader, Readers};
pub use slice::{ArcSlice, BaseSlice, RefSlice};
#[cfg(feature = "std")]
pub use swappable_log::SwappableLog;
