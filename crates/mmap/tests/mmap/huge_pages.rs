// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Huge pages come from the system's pool, and what the pool cannot give is an error.

use guest_memory_core::{FileOffset, GuestAddress, GuestMemoryRegion};
use guest_memory_mmap::{
    GuestRegionMmap, HugePageSize, MmapRegion, MmapRegionBuilder, MmapRegionError,
};
use guest_memory_volatile::VolatileMemory;

use crate::backings::assert_round_trip;
use crate::files::errno;
use crate::pool::{TWO_MIB, pool_or_skip};

const ANONYMOUS: i32 = libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_HUGETLB;

fn huge(pages: usize) -> MmapRegionBuilder {
    MmapRegionBuilder::new(pages * TWO_MIB).with_huge_pages(HugePageSize::TwoMiB)
}

#[test]
fn huge_pages_round_trip_and_are_known_to_be_such() {
    let _pool = pool_or_skip!(TWO_MIB, 2);
    let region = huge(2).with_memfd("huge").build().unwrap();
    assert_round_trip(&region);
    assert_eq!(region.is_hugetlbfs(), Some(true));
    assert_eq!(region.flags(), libc::MAP_SHARED);
    let region = GuestRegionMmap::new(region, GuestAddress(0)).unwrap();
    assert_eq!(GuestMemoryRegion::is_hugetlbfs(&region), Some(true));
}

#[test]
fn huge_pages_of_one_gibibyte_round_trip() {
    let size = HugePageSize::OneGiB.size_bytes();
    let _pool = pool_or_skip!(size, 1);
    let builder = MmapRegionBuilder::<()>::new(size).with_huge_pages(HugePageSize::OneGiB);
    let region = builder.build().unwrap();
    assert_round_trip(&region);
    assert_eq!(region.is_hugetlbfs(), Some(true));
}

#[test]
fn the_file_system_is_asked_also_for_a_file_of_the_caller() {
    let _pool = pool_or_skip!(TWO_MIB, 2);
    let maker = huge(2).build().unwrap();
    let file = maker.file_offset().unwrap().arc();
    let hinted = MmapRegionBuilder::new(TWO_MIB).with_hugetlbfs(false);
    let region = hinted.with_file_offset(FileOffset::from_arc(file.clone(), TWO_MIB as u64));
    let region: MmapRegion = region.build().unwrap();
    assert_eq!(region.is_hugetlbfs(), Some(true));
    assert_eq!(
        region.flags(),
        libc::MAP_SHARED,
        "huge pages are reserved by default"
    );
    maker
        .get_slice(TWO_MIB, 8)
        .unwrap()
        .write_obj(5u64, 0)
        .unwrap();
    assert_eq!(region.as_volatile_slice().read_obj::<u64>(0).unwrap(), 5);

    let error = MmapRegion::<()>::from_file(FileOffset::from_arc(file.clone(), 4096), TWO_MIB);
    assert!(matches!(
        error.unwrap_err(),
        MmapRegionError::UnalignedFileOffset {
            file_offset: 4096,
            page_size: TWO_MIB
        }
    ));
    let error = MmapRegion::<()>::from_file(FileOffset::from_arc(file.clone(), 0), 4096);
    assert!(matches!(
        error.unwrap_err(),
        MmapRegionError::SizeNotMultipleOfHugePage { .. }
    ));
    let error = MmapRegion::<()>::from_file(FileOffset::from_arc(file.clone(), 0), 3 * TWO_MIB);
    assert!(matches!(
        error.unwrap_err(),
        MmapRegionError::MappingPastEof { .. }
    ));
}

#[test]
fn anonymous_huge_pages_by_flag_are_known_to_be_such() {
    let _pool = pool_or_skip!(TWO_MIB, 1);
    let flags = ANONYMOUS | libc::MAP_HUGE_2MB;
    let builder = MmapRegionBuilder::<()>::new(TWO_MIB).with_mmap_flags(flags);
    let region = builder.build().unwrap();
    assert_round_trip(&region);
    assert_eq!(region.is_hugetlbfs(), Some(true));
}

#[test]
fn a_pool_that_is_too_small_is_an_error_with_both_counts() {
    let pool = pool_or_skip!(TWO_MIB, 0);
    let free = pool.free().unwrap();
    // More than memory is likely to have, if a size can say so.
    let missing = if cfg!(target_pointer_width = "64") {
        1 << 20
    } else {
        1 << 8
    };
    let needed = free + missing;
    let by_flag =
        MmapRegionBuilder::new(needed * TWO_MIB).with_mmap_flags(ANONYMOUS | libc::MAP_HUGE_2MB);
    for builder in [huge(needed), by_flag] {
        let error = builder.build().unwrap_err();
        let message = error.to_string();
        assert!(
            matches!(
                error,
                MmapRegionError::HugePagePool { needed_pages, free_pages, page_size: TWO_MIB, .. }
                    if needed_pages == needed && free_pages == free
            ),
            "{error:?}"
        );
        assert_eq!(errno(&error), Some(libc::ENOMEM));
        let counts = format!("{needed} huge pages of 2097152 bytes needed, {free} free");
        assert!(message.starts_with(&counts), "{message}");
    }
}

#[test]
fn pages_are_reserved_when_built_and_given_back_when_dropped() {
    let pool = pool_or_skip!(TWO_MIB, 4);
    let before = pool.free().unwrap();
    let region = huge(3).build().unwrap();
    assert_eq!(
        pool.free().unwrap(),
        before - 3,
        "reserved before the first touch"
    );
    region.as_volatile_slice().write_obj(1u8, TWO_MIB).unwrap();
    assert_eq!(
        pool.free().unwrap(),
        before - 3,
        "a touch takes what was reserved"
    );
    // What is left does not suffice for a second one, and that is known now.
    let error = huge(before).build().unwrap_err();
    assert!(matches!(error, MmapRegionError::HugePagePool { .. }));
    drop(region);
    assert_eq!(pool.free().unwrap(), before);
}
