// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a device has kept against a change of the table, in all interleavings and all reorderings that the language's
//! memory model allows.
//!
//! The code is the library's own but for the pointer to the table: loom cannot look into arc-swap, so a pointer behind a
//! lock stands in for it. Memory is really mapped. Beside each page is a cell that an access looks at; who was given a page
//! back writes the cell, so that loom finds a device that is in the page, or comes there, after that.
//!
//! Run by `RUSTFLAGS="--cfg loom" cargo test -p guest-memory-iommu --test loom --release`.
#![cfg(loom)]
// A helper that cannot go on is as good as a failed assertion.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "common/silent.rs"]
mod silent;

use std::sync::Arc;

use guest_memory_core::{
    BS, Bytes, GuestAddress, GuestMemory, GuestMemoryRegion, GuestMemoryRegionBytes,
    GuestMemoryResult, GuestRegionCollection, GuestUsize, IoMemory, MemoryRegionAddress,
    Permissions, VolatileSlice,
};
use guest_memory_iommu::{Iommu, IommuDevice, IommuMemory, SharedIotlb};
use guest_memory_mmap::GuestRegionMmap;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use silent::Silent;

const PAGE: usize = 0x1000;
/// Where the device finds its page.
const IOVA: GuestAddress = GuestAddress(0x7000);
/// The page that it has at first, and the one that it may be given instead.
const FIRST: GuestAddress = GuestAddress(0);
const SECOND: GuestAddress = GuestAddress(PAGE as u64);

/// Two pages that note who is in them.
struct Region {
    mapping: GuestRegionMmap,
    pages: [UnsafeCell<()>; 2],
}

impl GuestMemoryRegion for Region {
    type B = ();

    fn len(&self) -> GuestUsize {
        self.mapping.len()
    }

    fn start_addr(&self) -> GuestAddress {
        self.mapping.start_addr()
    }

    fn bitmap(&self) -> &() {
        &()
    }

    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> GuestMemoryResult<VolatileSlice<'_, BS<'_, ()>>> {
        let page = usize::try_from(offset.0).unwrap() / PAGE;
        self.pages[page].with(|_| ());
        self.mapping.get_slice(offset, count)
    }
}

impl GuestMemoryRegionBytes for Region {}

type Memory<I> = IommuMemory<GuestRegionCollection<Region>, I>;

/// A memory behind `iommu`, whose device has the first page.
fn memory<I: Iommu>(iommu: I, table: impl Fn(&I) -> &SharedIotlb) -> Memory<I> {
    map(table(&iommu), FIRST);
    let region = Region {
        mapping: GuestRegionMmap::from_range(GuestAddress(0), 2 * PAGE, None).unwrap(),
        pages: [UnsafeCell::new(()), UnsafeCell::new(())],
    };
    let below = GuestRegionCollection::from_regions(vec![region]).unwrap();
    IommuMemory::new(below, iommu, true, ())
}

fn shared() -> Memory<SharedIotlb> {
    memory(SharedIotlb::new(), |table| table)
}

fn map(table: &SharedIotlb, page: GuestAddress) {
    table
        .set_mapping(IOVA, page, PAGE, Permissions::ReadWrite)
        .unwrap();
}

/// A device that has kept the mapping of the first page.
fn device<I: Iommu>(memory: &Memory<I>) -> IommuDevice<GuestRegionCollection<Region>, I> {
    let mut device = IommuDevice::new(memory.clone());
    assert!(is_there(&device.enter()));
    device
}

/// Accesses the device's page.
fn is_there(memory: &impl IoMemory) -> bool {
    memory.read_obj::<u64>(IOVA).is_ok()
}

/// Uses the first page for something else.
fn take_away<I: Iommu>(memory: &Memory<I>) {
    let region = memory.get_backend().find_region(FIRST).unwrap();
    region.pages[0].with_mut(|_| ());
}

#[test]
fn no_device_is_in_a_page_when_a_wait_for_its_invalidation_returns() {
    loom::model(|| {
        let memory = shared();
        let mut device = device(&memory);
        let device = thread::spawn(move || {
            let session = device.enter();
            // Once gone, it does not come back.
            let was_there = is_there(&session);
            assert!(was_there || !is_there(&session));
        });
        memory.iommu().invalidate_mapping(IOVA, PAGE);
        memory.wait_for_devices();
        take_away(&memory);
        device.join().unwrap();
    });
}

#[test]
fn no_device_is_in_a_page_when_a_wait_for_its_exchange_returns() {
    loom::model(|| {
        let memory = shared();
        let mut device = device(&memory);
        let device = thread::spawn(move || {
            // In the one page or the other, in each of two sessions.
            assert!(is_there(&device.enter()));
            assert!(is_there(&device.enter()));
        });
        map(memory.iommu(), SECOND);
        memory.wait_for_devices();
        take_away(&memory);
        device.join().unwrap();
    });
}

#[test]
fn no_device_is_in_a_page_when_a_wait_for_the_switch_returns() {
    loom::model(|| {
        // Without translation the address of the device leads to no memory.
        let memory = shared();
        let mut device = device(&memory);
        let device = thread::spawn(move || is_there(&device.enter()));
        memory.disable();
        memory.wait_for_devices();
        take_away(&memory);
        device.join().unwrap();
    });
}

#[test]
fn a_device_that_is_added_during_a_wait_is_waited_for_or_finds_the_page_gone() {
    loom::model(|| {
        let memory = shared();
        let device = {
            let memory = memory.clone();
            thread::spawn(move || {
                let mut device = IommuDevice::new(memory);
                is_there(&device.enter())
            })
        };
        memory.iommu().invalidate_all();
        memory.wait_for_devices();
        take_away(&memory);
        device.join().unwrap();
    });
}

#[test]
fn who_knows_of_an_invalidation_accesses_by_no_mapping_that_was_kept() {
    loom::model(|| {
        let memory = shared();
        let mut device = device(&memory);
        let is_done = Arc::new(AtomicBool::new(false));
        let device = {
            let (is_done, memory) = (Arc::clone(&is_done), memory.clone());
            thread::spawn(move || {
                let session = device.enter();
                let knows = is_done.load(Ordering::Acquire);
                assert!(!(is_there(&session) && knows));
                assert!(!(is_there(&memory) && knows));
            })
        };
        memory.iommu().invalidate_mapping(IOVA, PAGE);
        is_done.store(true, Ordering::Release);
        device.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_a_wait_a_device_may_be_in_a_page_that_is_taken_away() {
    loom::model(|| {
        let memory = shared();
        let mut device = device(&memory);
        let device = thread::spawn(move || is_there(&device.enter()));
        memory.iommu().invalidate_mapping(IOVA, PAGE);
        take_away(&memory);
        device.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_a_generation_that_grows_a_device_comes_back_to_a_page_that_was_taken_away() {
    loom::model(|| {
        let memory = memory(Silent::default(), |iommu| &iommu.0);
        let mut device = device(&memory);
        let device = thread::spawn(move || is_there(&device.enter()));
        memory.iommu().0.invalidate_mapping(IOVA, PAGE);
        memory.wait_for_devices();
        take_away(&memory);
        device.join().unwrap();
    });
}
