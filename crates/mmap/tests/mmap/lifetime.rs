// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a region took from the system goes back when it is dropped, no earlier and no later.

use std::fs;
use std::sync::Arc;

use guest_memory_core::{Bytes, GuestAddress, GuestMemory, GuestMemoryRegion};
use guest_memory_mmap::{
    GuestMemoryMmap, GuestRegionMmap, MmapRegion, MmapRegionBuilder, MmapRegionError,
};
use guest_memory_volatile::VolatileMemory;

use crate::files::BIG_PAGE;

/// Counts the mappings of the memory file of that name.
pub(crate) fn mappings_of(name: &str) -> usize {
    let maps = fs::read_to_string("/proc/self/maps").expect("the list of mappings");
    maps.lines()
        .filter(|line| line.contains(&format!("/memfd:{name} ")))
        .count()
}

/// Counts the open descriptors of the memory file of that name.
pub(crate) fn descriptors_of(name: &str) -> usize {
    let folder = fs::read_dir("/proc/self/fd").expect("the list of descriptors");
    let targets = folder.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets
        .filter(|target| {
            target
                .to_string_lossy()
                .starts_with(&format!("/memfd:{name} "))
        })
        .count()
}

fn named(name: &str) -> MmapRegion {
    MmapRegionBuilder::new(BIG_PAGE)
        .with_memfd(name)
        .build()
        .expect("a memory file")
}

#[test]
fn a_region_is_unmapped_and_its_file_closed_on_drop() {
    let name = "unmapped-on-drop";
    let region = named(name);
    assert_eq!((mappings_of(name), descriptors_of(name)), (1, 1));
    drop(region);
    assert_eq!((mappings_of(name), descriptors_of(name)), (0, 0));
}

#[test]
fn whoever_keeps_the_mapping_keeps_it_mapped() {
    let name = "kept-by-arc";
    let region = GuestRegionMmap::new(named(name), GuestAddress(0)).unwrap();
    let kept = region.get_mmap();
    let memory = GuestMemoryMmap::from_regions(vec![region]).unwrap();
    memory.write_obj(9u8, GuestAddress(1)).unwrap();
    drop(memory);
    assert_eq!(mappings_of(name), 1);
    assert_eq!(kept.as_volatile_slice().read_obj::<u8>(1).unwrap(), 9);
    drop(kept);
    assert_eq!((mappings_of(name), descriptors_of(name)), (0, 0));
}

#[test]
fn a_region_taken_out_of_a_memory_stays_mapped() {
    let name = "removed";
    let region = Arc::new(GuestRegionMmap::new(named(name), GuestAddress(0x10_0000)).unwrap());
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
    let larger = memory.insert_region(region).unwrap();
    let (smaller, removed) = larger
        .remove_region(GuestAddress(0x10_0000), BIG_PAGE as u64)
        .unwrap();
    drop(larger);
    assert_eq!(smaller.num_regions(), 1);
    assert_eq!(mappings_of(name), 1);
    assert_eq!(removed.len(), BIG_PAGE as u64);
    drop(removed);
    assert_eq!(mappings_of(name), 0);
}

#[test]
fn a_build_that_fails_leaves_nothing_behind() {
    let name = "refused";
    let fixed = libc::MAP_SHARED | libc::MAP_FIXED;
    let builder = MmapRegionBuilder::<()>::new(BIG_PAGE)
        .with_memfd(name)
        .with_mmap_flags(fixed);
    assert!(matches!(builder.build(), Err(MmapRegionError::MapFixed)));
    assert_eq!((mappings_of(name), descriptors_of(name)), (0, 0));
}

#[test]
#[cfg(target_pointer_width = "64")]
fn anonymous_memory_gives_its_address_space_back() {
    // Together they would not fit into the 47 bits of address space that a process has.
    for _ in 0..300 {
        let builder = MmapRegionBuilder::<()>::new(1 << 40).with_mmap_prot(libc::PROT_NONE);
        assert_eq!(builder.build().unwrap().size(), 1 << 40);
    }
}

#[test]
fn regions_go_to_other_threads() {
    fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<MmapRegion>();
    assert_send_sync::<GuestRegionMmap>();
    assert_send_sync::<GuestMemoryMmap>();

    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
    std::thread::scope(|scope| {
        for index in 0..4u64 {
            let memory = &memory;
            scope.spawn(move || memory.write_obj(index, GuestAddress(index * 8)).unwrap());
        }
    });
    for index in 0..4u64 {
        assert_eq!(
            memory.read_obj::<u64>(GuestAddress(index * 8)).unwrap(),
            index
        );
    }
}
