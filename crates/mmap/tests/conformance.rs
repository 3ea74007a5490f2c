// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Mapped regions and memories in the suites that are open to everyone's.

use std::num::NonZeroUsize;

use guest_memory_bitmap::AtomicBitmap;
use guest_memory_conformance::{Config, memory, region};
use guest_memory_core::{FileOffset, GuestAddress};
use guest_memory_mmap::{GuestMemoryMmap, GuestRegionMmap, MmapRegionBuilder};

/// Page size of a bitmap finer than the system's pages, in bytes.
const FINE_PAGE: NonZeroUsize = NonZeroUsize::new(32).expect("32 is not zero");

type Tracked = GuestRegionMmap<AtomicBitmap>;

fn anonymous(start: GuestAddress, len: usize) -> Tracked {
    Tracked::from_range(start, len, None).expect("mapped memory")
}

fn memfd(start: GuestAddress, len: usize) -> Tracked {
    let mapping = MmapRegionBuilder::new(len)
        .with_memfd("conformance")
        .build()
        .expect("mapped memory");
    Tracked::new(mapping, start).expect("an end by 2^64")
}

fn of_file(start: GuestAddress, len: usize) -> Tracked {
    let file = tempfile::tempfile().expect("a temporary file");
    file.set_len(len as u64).expect("a longer file");
    Tracked::from_range(start, len, Some(FileOffset::new(file, 0))).expect("mapped memory")
}

fn of_fine_pages(start: GuestAddress, len: usize) -> Tracked {
    let bitmap = AtomicBitmap::new(len, FINE_PAGE);
    let mapping = MmapRegionBuilder::new_with_bitmap(len, bitmap)
        .build()
        .expect("mapped memory");
    Tracked::new(mapping, start).expect("an end by 2^64")
}

#[test]
fn anonymous_region_behaves() {
    region::check(anonymous);
}

#[test]
fn untracked_region_behaves() {
    let make = |start, len| GuestRegionMmap::<()>::from_range(start, len, None).unwrap();
    region::check_with(Config::default().untracked(), make);
}

#[test]
fn region_with_an_optional_bitmap_behaves() {
    let make =
        |start, len| GuestRegionMmap::<Option<AtomicBitmap>>::from_range(start, len, None).unwrap();
    region::check(make);
}

#[test]
fn region_of_fine_dirty_pages_behaves() {
    region::check(of_fine_pages);
}

#[test]
fn memfd_region_behaves() {
    region::check_with(Config::default().cases(64), memfd);
}

#[test]
fn region_of_a_file_behaves() {
    region::check_with(Config::default().cases(64), of_file);
}

#[test]
fn memory_of_ranges_behaves() {
    memory::check(|ranges| GuestMemoryMmap::<AtomicBitmap>::from_ranges(ranges).unwrap());
}

#[test]
fn untracked_memory_of_ranges_behaves() {
    memory::check_with(Config::default().untracked(), |ranges| {
        GuestMemoryMmap::<()>::from_ranges(ranges).unwrap()
    });
}

#[test]
fn memory_of_fine_dirty_pages_behaves() {
    memory::check(|ranges| {
        let regions = ranges
            .iter()
            .map(|&(start, len)| of_fine_pages(start, len))
            .collect();
        GuestMemoryMmap::from_regions(regions).unwrap()
    });
}

#[test]
fn memory_of_whole_pages_behaves() {
    let config = Config::default()
        .cases(64)
        .granule(NonZeroUsize::new(4096).unwrap());
    memory::check_with(config, |ranges| {
        let regions = ranges
            .iter()
            .map(|&(start, len)| memfd(start, len))
            .collect();
        GuestMemoryMmap::from_regions(regions).unwrap()
    });
}
