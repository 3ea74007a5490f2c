// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where the regions are.

use guest_memory_core::{
    GuestAddress, GuestMemory, GuestMemoryError, GuestMemoryRegion, MemoryRegionAddress,
};
use guest_memory_mmap::{
    Alignment, FlatGuestMemory, FlatRegionBuilder, HugePageSize, MmapRegionBuilder, Protection,
    RegionKind,
};

use super::{PAGE, memory, page, ram, rom};
use crate::files::BIG_PAGE;
use crate::pool::{TWO_MIB, pool_or_skip};

#[test]
fn each_region_is_at_the_start_plus_its_guest_address() {
    let memory = memory();
    assert_eq!((memory.base(), memory.span()), (GuestAddress(0), 8 * PAGE));
    let starts: Vec<_> = memory
        .regions()
        .iter()
        .map(|region| {
            let offset = usize::try_from(region.start_addr().0).unwrap();
            assert_eq!(region.as_ptr(), memory.as_ptr().wrapping_add(offset));
            region.start_addr()
        })
        .collect();
    assert_eq!(starts, [page(0), page(1), page(4), page(5)]);
}

// It asks for more than 32 bits can say.
#[cfg(target_pointer_width = "64")]
#[test]
fn host_addresses_leave_the_remainders_of_guest_addresses() {
    let gib = 1 << 30;
    for (base, span, alignment) in [
        (0, PAGE, TWO_MIB),
        (3 * PAGE, 4 * PAGE, TWO_MIB),
        (0, gib, 1 << 30),
        (gib - PAGE, 5 * gib, 1 << 30),
        (0u64.wrapping_sub(PAGE), PAGE, TWO_MIB),
    ] {
        let builder = FlatGuestMemory::<()>::builder(span).with_base(GuestAddress(base));
        let memory = builder.build().unwrap();
        let remainder = usize::try_from(base % alignment as u64).unwrap();
        assert_eq!(memory.as_ptr().addr() % alignment, remainder, "{base:#x}");
    }
    let alignment = Alignment::new(1 << 32).unwrap();
    let builder = FlatGuestMemory::<()>::builder(PAGE).with_alignment(alignment);
    assert_eq!(builder.build().unwrap().as_ptr().addr() % (1 << 32), 0);
    let region = ram(1).with_alignment(alignment);
    let builder = FlatGuestMemory::<()>::builder(PAGE).with_region(page(0), region);
    assert_eq!(builder.build().unwrap().as_ptr().addr() % (1 << 32), 0);
}

#[test]
fn a_memory_may_lie_high_and_end_at_the_last_address() {
    let base = GuestAddress(0u64.wrapping_sub(4 * PAGE));
    let last = GuestAddress(0u64.wrapping_sub(PAGE));
    let memory = FlatGuestMemory::<()>::builder(4 * PAGE)
        .with_base(base)
        .with_region(base, ram(1))
        .with_region(last, ram(1))
        .build()
        .unwrap();
    assert_eq!(memory.regions().last_addr(), GuestAddress(u64::MAX));
    assert_eq!(memory.host_address(base, 1).unwrap(), memory.as_ptr());
    let in_host = memory.as_ptr().wrapping_add(3 * BIG_PAGE);
    assert_eq!(memory.host_address(last, BIG_PAGE).unwrap(), in_host);
    assert!(matches!(
        memory.host_address(last, BIG_PAGE + 1),
        Err(GuestMemoryError::GuestAddressOverflow)
    ));
    // Address 0 is what would come after it.
    assert!(memory.host_address(GuestAddress(0), 1).is_err());
}

#[test]
fn host_addresses_are_given_for_memory_only_be_it_one_region_or_several() {
    let memory = memory();
    let at = |number: usize| memory.as_ptr().wrapping_add(number * BIG_PAGE);
    assert_eq!(memory.host_address(page(0), 3 * BIG_PAGE).unwrap(), at(0));
    // Also over the border of RAM and ROM.
    assert_eq!(memory.host_address(page(4), 2 * BIG_PAGE).unwrap(), at(4));
    assert_eq!(memory.host_address(page(5), 0).unwrap(), at(5));
    for (start, len, hole) in [
        (page(0), 3 * BIG_PAGE + 1, page(3)),
        (page(2), usize::MAX, page(3)),
        (page(3), 0, page(3)),
        (page(4), 2 * BIG_PAGE + 1, page(6)),
        (page(8), 1, page(8)),
        (GuestAddress(u64::MAX), 1, GuestAddress(u64::MAX)),
    ] {
        let error = memory.host_address(start, len).unwrap_err();
        assert!(matches!(error, GuestMemoryError::InvalidGuestAddress(at) if at == hole));
    }
}

#[test]
fn what_is_noted_of_a_region_and_of_what_it_is_made_stays_with_it() {
    let firmware = FlatRegionBuilder::new(rom(1))
        .with_kind(RegionKind::Rom)
        .with_label("firmware");
    let memory = FlatGuestMemory::<()>::builder(4 * PAGE)
        .with_region(page(0), ram(1).with_memfd("flat-noted"))
        .with_region(page(3), firmware)
        .build()
        .unwrap();
    let region = |number| memory.regions().find_region(page(number)).unwrap();
    assert!(region(0).file_offset().is_some());
    assert_eq!(
        (region(0).kind(), region(0).label()),
        (RegionKind::Ram, None)
    );
    assert_eq!(region(3).kind(), RegionKind::Rom);
    assert_eq!(region(3).label(), Some("firmware"));
    assert_eq!(region(3).protection(0, BIG_PAGE), Protection::ReadOnly);
    assert!(region(3).owned());
    let last = MemoryRegionAddress(PAGE - 1);
    assert_eq!(
        region(3).get_host_address(last).unwrap(),
        memory.as_ptr().wrapping_add(4 * BIG_PAGE - 1)
    );
}

#[test]
fn a_region_of_huge_pages_lies_among_others() {
    let pool = pool_or_skip!(TWO_MIB, 2);
    let huge = MmapRegionBuilder::new(2 * TWO_MIB).with_huge_pages(HugePageSize::TwoMiB);
    let two_mib = TWO_MIB as u64;
    let memory = FlatGuestMemory::<()>::builder(4 * two_mib)
        .with_region(GuestAddress(0), MmapRegionBuilder::new(TWO_MIB))
        .with_region(GuestAddress(two_mib), huge)
        .with_region(GuestAddress(3 * two_mib), ram(1))
        .build()
        .unwrap();
    let region = memory.regions().find_region(GuestAddress(two_mib)).unwrap();
    assert_eq!(region.page_size(), TWO_MIB);
    super::accesses::assert_seamless(&memory, GuestAddress(two_mib));
    super::accesses::assert_seamless(&memory, GuestAddress(3 * two_mib));
    // The place of the huge pages can be had again, for other memory.
    let (without, removed) = memory.with_region_removed(GuestAddress(two_mib)).unwrap();
    drop((memory, removed));
    assert_eq!(pool.free().unwrap(), pool.count("nr_hugepages").unwrap());
    let again = without.with_region_inserted(GuestAddress(two_mib + PAGE), ram(1));
    assert_eq!(again.unwrap().regions().num_regions(), 3);
}
