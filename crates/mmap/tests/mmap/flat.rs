// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest memory in one range of host addresses.

mod accesses;
mod ends;
mod layouts;
mod marks;
mod model;
mod plugging;
mod refusals;

use guest_memory_core::GuestAddress;
use guest_memory_mmap::{FlatGuestMemory, MmapRegionBuilder, Protection};

use crate::files::BIG_PAGE;

/// The same as an address or a size of the guest's.
const PAGE: u64 = BIG_PAGE as u64;

fn ram(pages: usize) -> MmapRegionBuilder {
    MmapRegionBuilder::new(pages * BIG_PAGE)
}

fn rom(pages: usize) -> MmapRegionBuilder {
    ram(pages).with_protection(Protection::ReadOnly)
}

fn page(number: u64) -> GuestAddress {
    GuestAddress(number * PAGE)
}

/// RAM in pages 0, 1 and 2, as regions of one and two pages; a hole; RAM in page 4, ROM in page 5; a hole up to page 8.
fn memory() -> FlatGuestMemory {
    FlatGuestMemory::builder(8 * PAGE)
        .with_region(page(1), ram(2))
        .with_region(page(0), ram(1))
        .with_region(page(4), ram(1).with_memfd("flat"))
        .with_region(page(5), rom(1))
        .build()
        .expect("a flat memory")
}
