// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Linux: each function makes one call and turns its failure into an [`io::Error`](std::io::Error).

mod advise;
mod affinity;
mod file;
mod holes;
mod map;
mod policy;
mod resident;

pub(crate) use advise::madvise;
pub(crate) use affinity::set_affinity;
pub(crate) use file::{block_device_len, fstatfs, seals, shm_open, shm_unlink, status_flags};
pub(crate) use holes::{punch_hole, seek};
pub(crate) use map::{mmap, mmap_at, mmap_over, mprotect, mremap_over, munmap, page_size};
pub(crate) use policy::{
    Advice, NodeMode, Placement, advise, lock, lock_limit, lock_on_fault, place,
    process_has_no_huge_pages, set_name, unlock,
};
pub(crate) use resident::mincore;
