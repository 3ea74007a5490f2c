// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Each method of the region trait, on a mapped region.
#![expect(unsafe_code, reason = "asks for plain slices of regions")]

use guest_memory_bitmap::{AtomicBitmap, Bitmap};
use guest_memory_core::{
    Bytes, GuestAddress, GuestMemoryError, GuestMemoryRegion, MemoryRegionAddress,
};
use guest_memory_core::{GuestMemory, GuestRegionCollection};
use guest_memory_mmap::{GuestRegionMmap, MmapRegion, MmapRegionBuilder, RegionKind};
use guest_memory_volatile::VolatileMemoryError;

use crate::files::{BIG_PAGE, file_offset};

const BASE: u64 = 0x8000_0000;
const SIZE: usize = BIG_PAGE;
const LEN: u64 = SIZE as u64;

fn region() -> GuestRegionMmap<AtomicBitmap> {
    let mapping = MmapRegion::new(SIZE).expect("memory");
    GuestRegionMmap::new(mapping, GuestAddress(BASE)).expect("it fits")
}

const fn at(offset: u64) -> MemoryRegionAddress {
    MemoryRegionAddress(offset)
}

#[test]
fn len_is_the_size_of_the_mapping() {
    assert_eq!(region().len(), LEN);
    let odd = GuestRegionMmap::new(MmapRegion::<()>::new(1001).unwrap(), GuestAddress(0)).unwrap();
    assert_eq!(odd.len(), 1001);
}

#[test]
fn start_addr_is_where_it_was_placed() {
    assert_eq!(region().start_addr(), GuestAddress(BASE));
}

#[test]
fn bitmap_is_the_mapping_s_and_sees_writes() {
    let region = region();
    region.write_obj(1u8, at(LEN - 1)).unwrap();
    assert!(region.bitmap().dirty_at(SIZE - 1));
    assert!(!region.bitmap().dirty_at(0));
    assert!(std::ptr::eq(
        GuestMemoryRegion::bitmap(&region),
        MmapRegion::bitmap(&region)
    ));
}

#[test]
fn last_addr_is_inclusive_also_at_the_top() {
    assert_eq!(region().last_addr(), GuestAddress(BASE + LEN - 1));
    let mapping = MmapRegion::<()>::new(0x1000).unwrap();
    let top = GuestRegionMmap::new(mapping, GuestAddress(u64::MAX - 0xfff)).unwrap();
    assert_eq!(top.last_addr(), GuestAddress(u64::MAX));
    top.write_obj(3u8, at(0xfff)).unwrap();
    assert_eq!(top.read_obj::<u8>(at(0xfff)).unwrap(), 3);
}

#[test]
fn check_address_and_address_in_range_end_at_the_size() {
    let region = region();
    for (offset, inside) in [(0, true), (LEN - 1, true), (LEN, false), (u64::MAX, false)] {
        assert_eq!(
            region.check_address(at(offset)),
            inside.then_some(at(offset))
        );
        assert_eq!(region.address_in_range(at(offset)), inside);
    }
}

#[test]
fn checked_offset_stays_in_the_region() {
    let region = region();
    assert_eq!(region.checked_offset(at(8), 8), Some(at(16)));
    assert_eq!(region.checked_offset(at(LEN - 1), 0), Some(at(LEN - 1)));
    assert_eq!(region.checked_offset(at(LEN - 1), 1), None);
    assert_eq!(region.checked_offset(at(u64::MAX), usize::MAX), None);
}

#[test]
fn to_region_addr_takes_addresses_of_the_region_only() {
    let region = region();
    assert_eq!(region.to_region_addr(GuestAddress(BASE)), Some(at(0)));
    assert_eq!(
        region.to_region_addr(GuestAddress(BASE + LEN - 1)),
        Some(at(LEN - 1))
    );
    for outside in [0, BASE - 1, BASE + LEN, u64::MAX] {
        assert_eq!(region.to_region_addr(GuestAddress(outside)), None);
    }
}

#[test]
fn get_host_address_is_the_mapping_plus_the_offset() {
    let region = region();
    for offset in [0, 1, SIZE - 1] {
        let host = region.get_host_address(at(offset as u64)).unwrap();
        assert_eq!(host, region.as_ptr().wrapping_add(offset));
    }
    for offset in [LEN, u64::MAX] {
        let error = region.get_host_address(at(offset)).unwrap_err();
        let address = GuestAddress(BASE.wrapping_add(offset));
        assert!(matches!(error, GuestMemoryError::InvalidGuestAddress(a) if a == address));
    }
}

#[test]
fn file_offset_is_that_of_the_file() {
    assert!(GuestMemoryRegion::file_offset(&region()).is_none());
    let file = file_offset(2 * LEN, LEN);
    let region = GuestRegionMmap::<()>::from_range(GuestAddress(0), SIZE, Some(file)).unwrap();
    assert_eq!(
        GuestMemoryRegion::file_offset(&region).unwrap().start(),
        LEN
    );
}

#[test]
fn as_slice_and_as_mut_slice_are_the_memory() {
    let region = region();
    region.write_obj(0x1122_u16, at(6)).unwrap();
    // SAFETY: nobody writes the region while the slice lives.
    let slice = unsafe { region.as_slice() }.unwrap();
    assert_eq!(slice.len(), SIZE);
    assert_eq!(slice[6..8], 0x1122_u16.to_ne_bytes());
    // SAFETY: nobody else uses the region while the slice lives; the one above is gone.
    let slice = unsafe { region.as_mut_slice() }.unwrap();
    slice[SIZE - 1] = 0xee;
    assert_eq!(region.read_obj::<u8>(at(LEN - 1)).unwrap(), 0xee);
}

#[test]
fn a_write_through_as_mut_slice_is_not_tracked() {
    let region = region();
    // SAFETY: nobody else uses the region while the slice lives.
    unsafe { region.as_mut_slice() }.unwrap()[0] = 1;
    assert!(!region.bitmap().dirty_at(0));
}

#[test]
fn get_slice_checks_both_ends() {
    let region = region();
    let slice = region.get_slice(at(LEN - 16), 16).unwrap();
    assert_eq!(slice.len(), 16);
    slice.write_obj(5u64, 8).unwrap();
    assert_eq!(region.read_obj::<u64>(at(LEN - 8)).unwrap(), 5);
    assert!(region.get_slice(at(LEN), 0).unwrap().is_empty());
    for (offset, count) in [
        (LEN - 16, 17),
        (LEN, 1),
        (LEN + 1, 0),
        (u64::MAX, 2),
        (0, usize::MAX),
    ] {
        let error = region.get_slice(at(offset), count).unwrap_err();
        assert!(
            matches!(
                error,
                GuestMemoryError::Access {
                    completed: 0,
                    source: VolatileMemoryError::OutOfBounds { .. }
                        | VolatileMemoryError::Overflow { .. },
                    ..
                }
            ),
            "{error:?}"
        );
    }
}

#[test]
fn a_slice_marks_the_bitmap_at_its_own_offset() {
    let region = region();
    let slice = region.get_slice(at(LEN / 2), 8).unwrap();
    slice.write_obj(1u8, 7).unwrap();
    assert!(region.bitmap().dirty_at(SIZE / 2 + 7));
    assert!(!region.bitmap().dirty_at(0));
}

#[test]
fn as_volatile_slice_is_the_whole_region() {
    let region = region();
    let slice = GuestMemoryRegion::as_volatile_slice(&region).unwrap();
    assert_eq!(slice.len(), SIZE);
    assert_eq!(slice.ptr_guard().as_ptr(), region.as_ptr().cast_const());
}

#[test]
fn is_hugetlbfs_is_the_mapping_s_answer() {
    assert_eq!(GuestMemoryRegion::is_hugetlbfs(&region()), None);
    let builder = MmapRegionBuilder::<()>::new(SIZE).with_memfd("ordinary");
    let region = GuestRegionMmap::new(builder.build().unwrap(), GuestAddress(0)).unwrap();
    assert_eq!(GuestMemoryRegion::is_hugetlbfs(&region), Some(false));
}

#[test]
fn regions_that_share_a_mapping_share_its_bytes() {
    let region = region();
    let alias = GuestRegionMmap::with_arc(region.get_mmap(), GuestAddress(0)).unwrap();
    region.write_obj(42u32, at(4)).unwrap();
    assert_eq!(alias.read_obj::<u32>(at(4)).unwrap(), 42);
    assert!(alias.bitmap().dirty_at(4));
    assert!(GuestRegionMmap::with_arc(region.get_mmap(), GuestAddress(u64::MAX)).is_none());
}

#[test]
fn kind_and_label_are_what_was_noted_and_regions_are_told_apart_by_them() {
    let region = |base, kind, label: &str| {
        let mapping = MmapRegion::<()>::new(0x1000).unwrap();
        let region = GuestRegionMmap::new(mapping, GuestAddress(base)).unwrap();
        region.with_kind(kind).with_label(label)
    };
    let plain = GuestRegionMmap::new(MmapRegion::<()>::new(0x1000).unwrap(), GuestAddress(0));
    let plain = plain.unwrap();
    assert_eq!((plain.kind(), plain.label()), (RegionKind::Ram, None));
    let memory = GuestRegionCollection::from_regions(vec![
        plain,
        region(0x1000, RegionKind::Rom, "bios"),
        region(0x2000, RegionKind::Ram, "dimm0"),
        region(0x3000, RegionKind::DeviceWindow, "vga"),
    ])
    .unwrap();
    let of_kind = |kind| memory.iter().filter(move |region| region.kind() == kind);
    assert_eq!(of_kind(RegionKind::Ram).count(), 2);
    assert!(of_kind(RegionKind::Persistent).next().is_none());
    let labels: Vec<_> = memory.iter().filter_map(|region| region.label()).collect();
    assert_eq!(labels, ["bios", "dimm0", "vga"]);
    assert_eq!(
        format!("{:>8}|{}", RegionKind::Rom, RegionKind::DeviceWindow),
        "     ROM|device window"
    );
}
