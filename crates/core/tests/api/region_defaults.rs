// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The provided methods of a region, one by one.
#![expect(unsafe_code, reason = "calls the unsafe defaults")]

use guest_memory_bitmap::Bitmap;
use guest_memory_core::{
    Bytes, GuestAddress, GuestMemory, GuestMemoryError, GuestMemoryRegion, MemoryRegionAddress,
};

use crate::toy::{Kind, Toy, memory};

const START: u64 = 0x1000;
const LEN: usize = 0x100;

fn region() -> Toy {
    Toy::new(START, LEN, Kind::Ram)
}

const fn at(offset: u64) -> MemoryRegionAddress {
    MemoryRegionAddress(offset)
}

#[test]
fn required_methods_give_what_the_implementor_said() {
    let region = region();
    assert_eq!(region.len(), LEN as u64);
    assert_eq!(region.start_addr(), GuestAddress(START));
    assert!(!region.bitmap().dirty_at(0));
}

#[test]
fn last_addr_is_the_last_byte_also_at_the_end_of_addresses() {
    assert_eq!(region().last_addr(), GuestAddress(0x10ff));
    let top = Toy::new(u64::MAX - 7, 8, Kind::Ram);
    assert_eq!(top.last_addr(), GuestAddress(u64::MAX));
    // No collection takes an empty region, but asking it must not panic.
    assert_eq!(Toy::new(0, 0, Kind::Ram).last_addr(), GuestAddress(0));
}

#[test]
fn addresses_are_checked_against_the_length() {
    let region = region();
    for (offset, inside) in [(0, true), (0xff, true), (0x100, false), (u64::MAX, false)] {
        assert_eq!(region.address_in_range(at(offset)), inside);
        assert_eq!(
            region.check_address(at(offset)),
            inside.then_some(at(offset))
        );
    }
}

#[test]
fn checked_offset_neither_leaves_the_region_nor_overflows() {
    let region = region();
    assert_eq!(region.checked_offset(at(0x80), 0x7f), Some(at(0xff)));
    assert_eq!(region.checked_offset(at(0x80), 0x80), None);
    assert_eq!(region.checked_offset(at(u64::MAX), 1), None);
    assert_eq!(region.checked_offset(at(1), usize::MAX), None);
}

#[test]
fn guest_addresses_become_offsets() {
    let region = region();
    assert_eq!(region.to_region_addr(GuestAddress(START)), Some(at(0)));
    assert_eq!(region.to_region_addr(GuestAddress(0x10ff)), Some(at(0xff)));
    assert_eq!(region.to_region_addr(GuestAddress(0x1100)), None);
    assert_eq!(region.to_region_addr(GuestAddress(0xfff)), None);
}

#[test]
fn what_the_implementor_does_not_give_is_not_there() {
    let region = region();
    assert!(matches!(
        region.get_host_address(at(0)),
        Err(GuestMemoryError::HostAddressNotAvailable)
    ));
    assert!(region.file_offset().is_none());
    assert_eq!(region.is_hugetlbfs(), None);
    // SAFETY: nothing comes out.
    assert!(unsafe { region.as_slice() }.is_none());
    // SAFETY: nothing comes out.
    assert!(unsafe { region.as_mut_slice() }.is_none());
}

#[test]
fn as_volatile_slice_is_the_whole_region() {
    let region = region();
    let slice = region.as_volatile_slice().unwrap();
    assert_eq!(slice.len(), LEN);
    slice.write_obj(7u8, LEN - 1).unwrap();
    assert_eq!(region.read_obj::<u8>(at(0xff)).unwrap(), 7);
    assert!(region.get_slice(at(0xf0), 0x10).is_ok() && region.get_slice(at(0xf0), 0x11).is_err());
}

#[test]
fn access_by_offset_stops_at_the_regions_end() {
    let region = region();
    assert_eq!(region.write(&[1; 8], at(0xfc)).unwrap(), 4);
    assert!(matches!(
        region.write_slice(&[1; 8], at(0xfc)),
        Err(GuestMemoryError::PartialBuffer {
            expected: 8,
            completed: 4
        })
    ));
    assert!(matches!(
        region.read_obj::<u8>(at(0x100)),
        Err(GuestMemoryError::InvalidGuestAddress(GuestAddress(0x1100)))
    ));
    assert_eq!(region.write(&[], at(u64::MAX)).unwrap(), 0);
}

#[test]
fn the_defaults_of_a_memory_find_the_same_as_a_search() {
    let memory = memory(&[
        (0x1000, 16, Kind::Ram),
        (0x1010, 16, Kind::Ram),
        (0x2000, 16, Kind::Ram),
    ]);
    assert_eq!(memory.num_regions(), 3);
    assert_eq!(memory.last_addr(), GuestAddress(0x200f));
    assert!(memory.check_range(GuestAddress(0x1008), 16));
    assert!(!memory.check_range(GuestAddress(0x1018), 16));
    assert!(memory.check_range(GuestAddress(5), 0));
    assert!(!memory.check_range(GuestAddress(u64::MAX), 2));
    assert_eq!(
        memory.checked_offset(GuestAddress(0x1000), 0x1000),
        Some(GuestAddress(0x2000))
    );
    assert_eq!(memory.checked_offset(GuestAddress(0x1000), 0x20), None);
    assert_eq!(memory.checked_offset(GuestAddress(u64::MAX), 1), None);
    assert_eq!(memory.check_address(GuestAddress(0x1fff)), None);
}
