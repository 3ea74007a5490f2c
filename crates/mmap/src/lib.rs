// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest memory that the operating system maps: anonymous, memory files, huge pages, files.
//!
//! This crate turns "so many bytes at this guest address" into memory of this process that a hypervisor can
//! map into a guest, that devices can access through safe, race-sound calls, and whose writes can be tracked.
//!
//! Sizes, lengths and offsets are in bytes unless their names say otherwise, and ranges are half-open, `[start, end)`. A *page*
//! is the unit that the kernel maps a region by ([`MmapRegion::page_size`]): the system's page, or a huge page where the memory
//! consists of such.
//!
//! # Example
//!
//! ```
//! use guest_memory_bitmap::{AtomicBitmap, Bitmap};
//! use guest_memory_core::{Bytes, GuestAddress, GuestMemory, GuestMemoryRegion};
//! use guest_memory_mmap::{GuestMemoryMmap, GuestRegionMmap, MmapRegionBuilder};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // 64 MiB at 0, in a sealed file that could be handed to a device process, with a dirty bitmap.
//! let ram = MmapRegionBuilder::<AtomicBitmap>::new(64 << 20).with_memfd("guest-ram").build()?;
//! let ram = GuestRegionMmap::new(ram, GuestAddress(0)).ok_or("past the last address")?;
//! let memory = GuestMemoryMmap::from_regions(vec![ram])?;
//!
//! memory.write_obj(0x1000_u64, GuestAddress(0x7000))?;
//! assert_eq!(memory.read_obj::<u64>(GuestAddress(0x7000))?, 0x1000);
//!
//! // What a hypervisor needs, and what a migration asks.
//! let region = memory.find_region(GuestAddress(0x7000)).ok_or("a hole")?;
//! assert!(!region.as_ptr().is_null());
//! assert!(region.bitmap().dirty_at(0x7000));
//! # Ok(())
//! # }
//! ```
//!
//! # Main types
//!
//! * [`GuestMemoryMmap`]: the guest's memory map; `from_ranges` for the simple cases, [`GuestMemoryBuilder`] for all others:
//!   a description with a plan that says what will be done and what stands in its way.
//! * [`GuestRegionMmap`]: one region of it, a mapping at a guest address.
//! * [`MmapRegion`]: the mapping; [`MmapRegionBuilder`] has all options. Where memory comes from is a [`Backing`], or a
//!   [file](MmapRegionBuilder::with_file_offset) or [pointer](MmapRegionBuilder::with_raw_mmap_pointer) of the caller's; how the
//!   system treats it are [`Policies`], each [required or wished](Need); what may be done with it is a [`Protection`].
//! * [`Prefault`]: populating memory by several threads, with a progress.
//! * [`MmapRegion::discard`], [`MmapRegion::resident_bytes`] and their like: giving pages back, and finding out which are there.
//! * [`MemoryTable`]: all of that as a table for people to read.
//! * [`FlatGuestMemory`]: a guest's memory in one range of host addresses; [`FlatGuestMemoryBuilder`] describes it.
//!
//! # Guarantees
//!
//! * **Errors, not signals.** What would end in SIGBUS or SIGSEGV at some later access is refused when the region
//!   is built: a file that ends too early, huge pages that the pool does not have. A write to
//!   memory mapped read-only is an error.
//! * **No write goes unrecorded**: a bitmap that says it is too short for its region is refused.
//! * **Memory files cannot be resized**, by nobody, unless that is asked for.
//! * **A stray pointer past the end of a region** that a builder made meets an inaccessible page, unless guard pages are left
//!   out. The short ways to a region ([`MmapRegion::new`], `from_ranges`) leave them out.
//! * **A region unmaps what it mapped**, and only that, when it is dropped; whatever borrows from it cannot outlive it. A build
//!   that fails leaves no mapping, descriptor or huge page behind, and memory that was handed over is still the caller's.
//! * **A policy that the kernel would accept and ignore** is reported as refused.
//! * **Errors have the cause**: the system's errno is their [source](std::error::Error::source), or that of their source.
//! * **Nothing panics** for what a caller, a guest or the system does, but for a report of the caller's own that panics
//!   ([`Prefault::with_progress`]).
//!
//! # What it does not do
//!
//! * Choose guest addresses, or talk to a hypervisor.
//! * Map at a host address of the caller's choice, or resize a region.
//! * Protect against a *given* file that somebody truncates, or whose file system runs full, after it was mapped: that is
//!   SIGBUS at the next access. The memory files made here cannot be resized, but who has the descriptor can punch holes into
//!   one; in a file of huge pages the next access to a hole needs a page that the pool may no longer have,
//!   and is SIGBUS too. Where the fault guard of the volatile crate is installed these are errors.
//! * Undo `MAP_NORESERVE` on huge pages if the caller asks for it.
//! * Know what other parts of the program do to its mappings: who unmaps, remaps or protects them by system calls of their own
//!   takes the ground from under it.
//! * Anything special in a forked child. It has the mappings that the parent has, shared or copied as [`Sharing`] says and as
//!   far as [`OnFork`] leaves them.
//! * Run elsewhere than on Linux.
//!
//! # Cost
//!
//! Building a region is one system call, two or three with guard pages, and three more that ask what a file is. An access adds
//! a bounds check to what it does to the bytes; it follows no pointer but the region's own, unless writes are tracked or the
//! protection may change.
//!
//! # Features
//!
//! * `serde`: descriptions of memory (backings, policies, whole guests) and reports can be read from and written to a
//!   configuration; without it they are plain values.

#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

mod backing;
mod bitmap_choice;
mod builder;
mod bytes_text;
mod discard;
mod error;
mod extent;
mod flat;
mod guest_builder;
mod guest_memory;
mod guest_region;
mod interrupted;
mod mapping;
mod memory_table;
mod number_list;
mod placement;
mod policy;
mod prefault;
mod protect;
mod protection;
mod protections;
mod region;
mod region_kind;
mod reservation;
mod residency;
mod sharing;
mod space;
mod sys;
mod view;
mod whole_pages;

pub use backing::Backing;
pub use backing::hugetlb::HugePageSize;
pub use backing::kind::BackingKind;
pub use backing::seals::Seals;
pub use backing::shm::ShmObject;
pub use builder::MmapRegionBuilder;
pub use discard::{DiscardError, DiscardMethod, DiscardReads, DiscardReport};
pub use error::{FromRangesError, MmapRegionError};
pub use flat::{
    FlatGuestMemory, FlatGuestMemoryBuilder, FlatMemoryError, FlatRegion, FlatRegionBuilder,
    PartBitmap,
};
pub use guest_builder::{
    GuestMemoryBuildError, GuestMemoryBuilder, GuestMemoryPlan, PlanStep, RegionProblem, RegionSpec,
};
pub use guest_memory::GuestMemoryMmap;
pub use guest_region::GuestRegionMmap;
pub use memory_table::MemoryTable;
pub use placement::{Alignment, AlignmentError};
pub use policy::{
    Asked, CoreDump, Locking, MemoryName, MemoryNameError, Need, NumaNode, NumaNodes,
    NumaNodesError, NumaPolicy, OnFork, Outcome, PageMerging, Policies, PolicyEntry, PolicyError,
    PolicyKind, PolicyReport, Population, Refusal, TransparentHugePages,
};
pub use prefault::{
    Prefault, PrefaultError, PrefaultMethod, PrefaultProgress, PrefaultReason, PrefaultReport,
    prefault_all,
};
pub use protect::ProtectError;
pub use protection::Protection;
pub use region::MmapRegion;
pub use region_kind::RegionKind;
pub use residency::ResidencyError;
pub use sharing::Sharing;
