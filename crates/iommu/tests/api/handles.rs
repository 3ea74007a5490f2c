// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Clones, the switch, exchanged memories, and what devices keep.

use guest_memory_bitmap::{AtomicBitmap, Bitmap, NewBitmap};
use guest_memory_core::{
    Bytes, GuestAddress, GuestMemory, GuestMemoryRegion, IoMemory, Permissions,
};
use guest_memory_iommu::{Iommu, IommuDevice, IommuMemory, SharedIotlb};
use guest_memory_mmap::GuestMemoryMmap;

use crate::silent::Silent;

type Below = GuestMemoryMmap<AtomicBitmap>;

const IOVA: GuestAddress = GuestAddress(0x5000);

fn below() -> Below {
    Below::from_ranges(&[(GuestAddress(0), 0x8000)]).unwrap()
}

/// A memory behind `iommu` in which each page has its number in it.
fn memory<I: Iommu>(iommu: I) -> IommuMemory<Below, I> {
    let below = below();
    for page in 0..8 {
        below.write_obj(page, GuestAddress(page * 0x1000)).unwrap();
    }
    below.iter().for_each(|region| {
        region.bitmap().reset();
    });
    IommuMemory::new(below, iommu, true, AtomicBitmap::with_len(0x10_000))
}

fn map(table: &SharedIotlb, page: u64) {
    table
        .set_mapping(
            IOVA,
            GuestAddress(page * 0x1000),
            0x1000,
            Permissions::ReadWrite,
        )
        .unwrap();
}

fn page(memory: &impl IoMemory) -> Option<u64> {
    memory.read_obj(IOVA).ok()
}

#[test]
fn the_switch_is_that_of_all_clones_and_of_devices() {
    let memory = memory(SharedIotlb::new());
    map(memory.iommu(), 2);
    let clone = memory.clone();
    let replaced = memory.with_replaced_backend(memory.get_backend().clone());
    let mut device = IommuDevice::new(memory.clone());
    for (is_on, expected) in [(true, 2), (false, 5), (true, 2)] {
        match is_on {
            true => clone.enable(),
            false => clone.disable(),
        }
        for handle in [&memory, &clone, &replaced] {
            assert_eq!(handle.get_iommu_enabled(), is_on);
            assert_eq!(handle.physical_memory().is_some(), !is_on);
            assert_eq!(page(handle), Some(expected));
        }
        assert_eq!(page(&device.enter()), Some(expected));
    }
}

#[test]
fn a_handle_that_is_switched_alone_parts_from_the_others() {
    let mut memory = memory(SharedIotlb::new());
    map(memory.iommu(), 2);
    let other = memory.clone();
    memory.set_iommu_enabled(false);
    assert_eq!((page(&memory), page(&other)), (Some(5), Some(2)));
    let clone = memory.clone();
    other.disable();
    clone.enable();
    assert_eq!((page(&memory), page(&other)), (Some(2), Some(5)));
}

#[test]
fn writes_mark_iovas_while_translated_and_addresses_while_not() {
    let memory = memory(SharedIotlb::new());
    map(memory.iommu(), 2);
    let region = || memory.get_backend().iter().next().unwrap();
    let mut device = IommuDevice::new(memory.clone());
    device.enter().write_obj(1u8, IOVA).unwrap();
    assert!(memory.bitmap().dirty_at(0x5000) && !memory.bitmap().dirty_at(0x2000));
    assert!(!region().bitmap().dirty_at(0x2000));

    memory.bitmap().reset();
    memory.disable();
    device.enter().write_obj(1u8, IOVA).unwrap();
    assert!(!memory.bitmap().dirty_at(0x5000) && region().bitmap().dirty_at(0x5000));
}

#[test]
fn a_device_follows_changes_of_the_table() {
    let memory = memory(SharedIotlb::new());
    let mut device = IommuDevice::new(memory.clone());
    let session = device.enter();
    for number in [1, 2, 7, 2] {
        map(memory.iommu(), number);
        assert_eq!(page(&session), Some(number));
        assert_eq!(page(&session), Some(number));
        memory.iommu().invalidate_mapping(GuestAddress(0x5004), 1);
        assert_eq!(page(&session), None);
        assert_eq!(
            session.read_obj::<u8>(IOVA).ok(),
            number.to_ne_bytes().first().copied()
        );
    }
    memory.iommu().invalidate_all();
    assert!(session.read_obj::<u8>(IOVA).is_err());
}

#[test]
fn a_device_goes_on_with_another_memory() {
    let memory = memory(SharedIotlb::new());
    map(memory.iommu(), 2);
    let mut device = IommuDevice::new(memory.clone());
    assert_eq!(page(&device.enter()), Some(2));
    let other = below();
    other.write_obj(99u64, GuestAddress(0x2000)).unwrap();
    device.replace_backend(other);
    assert_eq!(page(&device.enter()), Some(99));
    memory.disable();
    assert_eq!(page(&device.enter()), Some(0));
}

#[test]
fn more_mappings_than_a_device_keeps_are_all_found() {
    let memory = memory(SharedIotlb::new());
    let iova = |n: u64| GuestAddress(0x10_0000 + n * 0x1000);
    memory.iommu().update(|table| {
        for n in 0..500 {
            let target = GuestAddress((n * 5 % 8) * 0x1000);
            table
                .set_mapping(iova(n), target, 0x1000, Permissions::Read)
                .unwrap();
        }
    });
    let mut device = IommuDevice::new(memory);
    let session = device.enter();
    for n in (0..500).chain(0..500) {
        assert_eq!(session.read_obj::<u64>(iova(n)).unwrap(), n * 5 % 8);
        assert!(session.write_obj(1u8, iova(n)).is_err());
    }
}

#[test]
fn nobody_waits_for_a_device_that_is_idle_or_gone() {
    let memory = memory(SharedIotlb::new());
    let mut device = IommuDevice::new(memory.clone());
    drop(device.enter());
    memory.wait_for_devices();
    std::mem::forget(device.enter());
    drop(device);
    memory.wait_for_devices();
}

#[test]
fn a_device_that_is_not_told_of_a_change_keeps_the_old_mapping() {
    // Shows that translations are kept at all, and that the generation is what drops them.
    let memory = memory(Silent::default());
    map(&memory.iommu().0, 2);
    let mut device = IommuDevice::new(memory.clone());
    assert_eq!(page(&device.enter()), Some(2));
    map(&memory.iommu().0, 3);
    assert_eq!(page(&device.enter()), Some(2));
    assert_eq!(page(&memory), Some(3));
}

#[test]
fn handles_go_to_other_threads() {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    is_send::<IommuMemory<Below, SharedIotlb>>();
    is_sync::<IommuMemory<Below, SharedIotlb>>();
    is_send::<IommuDevice<Below, SharedIotlb>>();
}
