// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The two examples that the region trait's documentation gives.

use guest_memory_core::{GuestAddress, GuestMemory, GuestMemoryRegion};
use guest_memory_mmap::{GuestMemoryMmap, GuestRegionMmap, MmapRegion};
use guest_memory_volatile::VolatileMemory;

#[test]
fn a_value_goes_through_a_window_on_the_whole_region() {
    let region = MmapRegion::<()>::new(0x400).expect("Could not create mmap region");
    let region =
        GuestRegionMmap::new(region, GuestAddress(0x0)).expect("Could not create guest memory");
    let slice = region
        .as_volatile_slice()
        .expect("Could not get volatile slice");

    let v = 42u32;
    let r = slice
        .get_ref::<u32>(0x200)
        .expect("Could not get reference");
    r.store(v);
    assert_eq!(r.load(), v);
}

#[test]
fn nothing_is_known_of_hugetlbfs_for_anonymous_memory() {
    let addr = GuestAddress(0x1000);
    let mem = GuestMemoryMmap::<()>::from_ranges(&[(addr, 0x1000)]).unwrap();
    let r = mem.find_region(addr).unwrap();
    assert_eq!(r.is_hugetlbfs(), None);
}
