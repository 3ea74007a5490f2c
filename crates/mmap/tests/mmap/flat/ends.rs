// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What lies around regions cannot be accessed, and all goes back to the system at the end.

use std::fs;

use guest_memory_core::{Bytes, GuestAddress};
use guest_memory_mmap::{FlatGuestMemory, FlatMemoryError, MmapRegionBuilder};

use super::{PAGE, memory, page, ram};
use crate::child::signal_of_write;
use crate::files::BIG_PAGE;
use crate::lifetime::{descriptors_of, mappings_of};
use crate::policies::smaps::protections_in;
use crate::pool::Turn;

#[test]
fn holes_and_both_ends_are_inaccessible() {
    let turn = &Turn::wait().unwrap();
    let memory = memory();
    let at = |offset: usize| memory.as_ptr().wrapping_add(offset);
    for inside in [0, BIG_PAGE - 1, BIG_PAGE, 3 * BIG_PAGE - 1, 4 * BIG_PAGE] {
        assert_eq!(signal_of_write(turn, at(inside)), None, "{inside:#x}");
    }
    // Before the base, in the holes, in the ROM, behind the span.
    let before = 0usize.wrapping_sub(1);
    let hole = [3 * BIG_PAGE, 4 * BIG_PAGE - 1];
    for outside in [
        before,
        hole[0],
        hole[1],
        5 * BIG_PAGE,
        6 * BIG_PAGE,
        8 * BIG_PAGE - 1,
        8 * BIG_PAGE,
    ] {
        assert_eq!(
            signal_of_write(turn, at(outside)),
            Some(libc::SIGSEGV),
            "{outside:#x}"
        );
    }
    for outside in [
        u64::MAX,
        3 * PAGE,
        4 * PAGE - 1,
        5 * PAGE,
        6 * PAGE,
        8 * PAGE - 1,
        8 * PAGE,
    ] {
        assert!(memory.write_obj(1u8, GuestAddress(outside)).is_err());
    }
}

#[test]
fn a_memory_that_is_full_has_guards_as_well() {
    let turn = &Turn::wait().unwrap();
    let memory = FlatGuestMemory::<()>::builder(PAGE);
    let memory = memory.with_region(page(0), ram(1)).build().unwrap();
    let before = memory.as_ptr().wrapping_sub(1);
    assert_eq!(signal_of_write(turn, before), Some(libc::SIGSEGV));
    let behind = memory.as_ptr().wrapping_add(BIG_PAGE);
    assert_eq!(signal_of_write(turn, behind), Some(libc::SIGSEGV));
    assert_eq!(signal_of_write(turn, behind.wrapping_sub(1)), None);
}

#[test]
fn a_place_is_inaccessible_again_once_its_region_is_gone() {
    let before = memory();
    let place = before.as_ptr().addr() + 4 * BIG_PAGE;
    assert_eq!(protections_in(place, BIG_PAGE), ["rw-s"]);
    let (memory, region) = before.with_region_removed(page(4)).unwrap();
    drop(before);
    assert_eq!(protections_in(place, BIG_PAGE), ["rw-s"]);
    drop(region);
    assert_eq!(protections_in(place, BIG_PAGE), ["---p"]);
    assert!(memory.read_obj::<u8>(page(4)).is_err());
    assert!(memory.read_obj::<u8>(page(5)).is_ok());
}

#[test]
fn all_is_unmapped_when_the_last_holder_goes() {
    let name = "flat-last-holder";
    let memory = FlatGuestMemory::<()>::builder(4 * PAGE)
        .with_region(page(1), ram(1).with_memfd(name))
        .build()
        .unwrap();
    let region = memory.regions().arc_regions().next().unwrap().clone();
    let mapping = region.get_mmap();
    drop(memory);
    assert_eq!((mappings_of(name), descriptors_of(name)), (1, 1));
    drop(region);
    assert_eq!((mappings_of(name), descriptors_of(name)), (1, 1));
    drop(mapping);
    assert_eq!((mappings_of(name), descriptors_of(name)), (0, 0));
}

#[test]
#[cfg(target_pointer_width = "64")]
fn the_range_of_addresses_goes_back_to_the_system() {
    // Together they would not fit into the 47 bits of address space that a process has.
    for _ in 0..300 {
        let builder = FlatGuestMemory::<()>::builder(1 << 40);
        let memory = builder.with_region(page(7), ram(1)).build().unwrap();
        memory.write_obj(1u8, page(7)).unwrap();
    }
}

#[test]
fn a_build_that_fails_leaves_nothing_behind() {
    let name = "flat-refused";
    let directory = fs::File::open("/").unwrap();
    let directory = guest_memory_core::FileOffset::new(directory, 0);
    let wrong = MmapRegionBuilder::new(BIG_PAGE)
        .with_file_offset(directory)
        .with_mmap_prot(libc::PROT_READ)
        .with_mmap_flags(libc::MAP_SHARED);
    let builder = FlatGuestMemory::<()>::builder(4 * PAGE)
        .with_region(page(0), ram(1).with_memfd(name))
        .with_region(page(1), wrong);
    let error = builder.build().unwrap_err();
    assert!(matches!(error, FlatMemoryError::Region { start, .. } if start == page(1)));
    assert_eq!((mappings_of(name), descriptors_of(name)), (0, 0));
}
