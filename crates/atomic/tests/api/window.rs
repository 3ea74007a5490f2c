// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Windows: what they see of changes elsewhere and of their own region's.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use guest_memory_atomic::{GuestMemoryAtomic, MemoryWindow, WindowError};
use guest_memory_bitmap::{AtomicBitmap, Bitmap};
use guest_memory_core::{Bytes, GuestAddress, GuestAddressSpace, GuestMemory, GuestMemoryRegion};
use guest_memory_mmap::{GuestMemoryMmap, GuestRegionMmap, MmapRegionBuilder};

type Region = GuestRegionMmap<AtomicBitmap>;
type Memory = GuestMemoryAtomic<GuestMemoryMmap<AtomicBitmap>>;

const PAGE: u64 = 0x1000;
const PAGE_LEN: usize = 0x1000;
const RING: GuestAddress = GuestAddress(0x5100);

fn region(page: u64) -> Arc<Region> {
    Arc::new(Region::from_range(GuestAddress(page * PAGE), PAGE_LEN, None).unwrap())
}

/// Pages 0 and 5.
fn memory() -> Memory {
    let map = GuestMemoryMmap::from_arc_regions(vec![region(0), region(5)]).unwrap();
    GuestMemoryAtomic::new(map)
}

fn plug(memory: &Memory, region: &Arc<Region>) {
    memory
        .update(|map| Ok::<_, Box<dyn Error>>((map.insert_region(Arc::clone(region))?, ())))
        .unwrap();
}

fn unplug(memory: &Memory, page: u64) -> Arc<Region> {
    memory
        .update(|map| map.remove_region(GuestAddress(page * PAGE), PAGE))
        .unwrap()
}

fn assert_stale(window: &mut MemoryWindow<Region>) {
    let is_stale = |error: WindowError| matches!(error, WindowError::Stale { start, len } if start == RING && len == 0x40);
    assert!(window.is_stale());
    assert!(window.slice().is_err_and(is_stale));
    assert!(window.read_obj::<u32>(0).is_err_and(is_stale));
    assert!(window.write_obj(0u32, 0).is_err_and(is_stale));
    assert!(
        window
            .load::<u32>(0, Ordering::Acquire)
            .is_err_and(is_stale)
    );
    let stored = window.store(0u32, 0, Ordering::Release);
    assert!(stored.is_err_and(is_stale));
}

#[test]
fn a_window_reads_and_writes_its_range() {
    let memory = memory();
    let mut window = memory.window(RING, 0x40).unwrap();
    assert_eq!((window.start_addr(), window.len()), (RING, 0x40));
    window.write_obj(0x0102_u16, 2).unwrap();
    window.store(7u64, 8, Ordering::Release).unwrap();
    let map = memory.memory();
    assert_eq!(
        map.read_obj::<u16>(GuestAddress(RING.0 + 2)).unwrap(),
        0x0102
    );
    assert_eq!(map.read_obj::<u64>(GuestAddress(RING.0 + 8)).unwrap(), 7);
    assert_eq!(window.read_obj::<u16>(2).unwrap(), 0x0102);
    assert_eq!(window.load::<u64>(8, Ordering::Acquire).unwrap(), 7);
    let slice = window.slice().unwrap();
    assert_eq!(slice.len(), 0x40);
    assert_eq!(slice.read_obj::<u64>(8).unwrap(), 7);
}

#[test]
fn an_access_past_the_window_s_end_is_refused_although_there_is_memory() {
    let mut window = memory().window(RING, 0x40).unwrap();
    assert!(window.read_obj::<u64>(0x38).is_ok());
    for offset in [0x39, 0x40, 0x41, usize::MAX] {
        assert!(matches!(
            window.read_obj::<u64>(offset),
            Err(WindowError::OutOfWindow { offset: at, length: 8, len: 0x40, .. }) if at == offset
        ));
        assert!(window.write_obj(0u64, offset).is_err());
        assert!(window.load::<u64>(offset, Ordering::Relaxed).is_err());
        assert!(window.store(0u64, offset, Ordering::Relaxed).is_err());
    }
}

#[test]
fn only_a_range_within_one_region_is_a_window() {
    let memory = memory();
    plug(&memory, &region(6));
    for (start, len) in [
        (RING.0, 0),
        (RING.0, 0x1000),
        (0x1000, 1),
        (0xfff, 2),
        (u64::MAX, 2),
        (RING.0, usize::MAX),
    ] {
        let refused = memory.window(GuestAddress(start), len);
        let error = refused.expect_err("no window");
        assert!(matches!(error, WindowError::NoWindow { .. }));
        assert!(error.source().is_some());
    }
    assert!(memory.window(GuestAddress(0x5000), PAGE_LEN).is_ok());
}

#[test]
fn changes_elsewhere_leave_a_window_as_it_is() {
    let memory = memory();
    let mut window = memory.window(RING, 0x40).unwrap();
    window.write_obj(9u32, 0).unwrap();
    for page in 10..20 {
        plug(&memory, &region(page));
        assert_eq!(window.read_obj::<u32>(0).unwrap(), 9);
    }
    unplug(&memory, 0);
    assert!(!window.is_stale());
    assert_eq!(window.read_obj::<u32>(0).unwrap(), 9);
}

#[test]
fn an_unplug_makes_a_window_stale_for_good() {
    let memory = memory();
    let mut window = memory.window(RING, 0x40).unwrap();
    let old = unplug(&memory, 5);
    assert_stale(&mut window);
    // Not other memory at the same address, nor the same memory again.
    plug(&memory, &region(5));
    assert_stale(&mut window);
    unplug(&memory, 5);
    plug(&memory, &old);
    assert_stale(&mut window);
    assert_eq!(
        window.slice().expect_err("stale").to_string(),
        "window of 64 bytes at gpa 0x5100 is stale: its memory was unplugged"
    );
}

#[test]
fn other_memory_at_the_same_address_is_noticed() {
    let memory = memory();
    let mut window = memory.window(RING, 0x40).unwrap();
    unplug(&memory, 5);
    plug(&memory, &region(5));
    assert_stale(&mut window);
}

#[test]
fn a_region_that_came_back_between_two_looks_is_the_same() {
    let memory = memory();
    let mut window = memory.window(RING, 0x40).unwrap();
    window.write_obj(3u32, 0).unwrap();
    let region = unplug(&memory, 5);
    plug(&memory, &region);
    assert_eq!(window.read_obj::<u32>(0).unwrap(), 3);
}

#[test]
fn a_window_keeps_its_region_until_it_notices_the_unplug() {
    let memory = memory();
    let mut window = memory.window(RING, 0x40).unwrap();
    let region = Arc::downgrade(&unplug(&memory, 5));
    assert!(region.upgrade().is_some());
    assert!(window.is_stale());
    assert!(region.upgrade().is_none());
}

#[test]
fn a_window_keeps_no_map() {
    let memory = memory();
    let window = memory.window(RING, 0x40).unwrap();
    unplug(&memory, 0);
    memory.wait_for_readers();
    drop(window);
}

#[test]
fn a_renewed_window_is_on_what_is_there_now() {
    let memory = memory();
    let mut window = memory.window(RING, 0x40).unwrap();
    window.write_obj(3u32, 0).unwrap();
    unplug(&memory, 5);
    assert!(matches!(
        window.renew(),
        Err(WindowError::NoWindow {
            start: RING,
            len: 0x40,
            ..
        })
    ));
    assert_stale(&mut window);
    plug(&memory, &region(5));
    window.renew().unwrap();
    assert_eq!(window.read_obj::<u32>(0).unwrap(), 0);
    assert_eq!((window.start_addr(), window.len()), (RING, 0x40));
}

#[test]
fn a_window_works_without_the_handle_it_came_from() {
    let memory = memory();
    let mut window = memory.window(RING, 0x40).unwrap();
    drop(memory);
    window.write_obj(1u8, 0).unwrap();
}

#[test]
fn writes_through_a_window_are_marked_as_any_other() {
    let start = GuestAddress(0);
    let map = GuestMemoryMmap::from_ranges(&[(start, 8 * PAGE_LEN)]).unwrap();
    let memory: Memory = GuestMemoryAtomic::new(map);
    let offset = |page: usize| page * PAGE_LEN;
    let mut window = memory.window(GuestAddress(PAGE), 6 * PAGE_LEN).unwrap();
    window.write_obj(1u8, offset(0)).unwrap();
    window.store(1u64, offset(2), Ordering::Relaxed).unwrap();
    let slice = window.slice().unwrap();
    slice.write_obj(1u8, offset(4)).unwrap();
    let map = memory.memory();
    let bitmap = map.find_region(start).unwrap().bitmap();
    let dirty: Vec<usize> = (0..8)
        .filter(|&page| bitmap.dirty_at(offset(page)))
        .collect();
    assert_eq!(dirty, [1, 3, 5]);
}

#[test]
fn a_failed_access_keeps_its_cause() {
    let mut window = memory().window(RING, 0x40).unwrap();
    let misaligned = window.load::<u32>(1, Ordering::Relaxed).unwrap_err();
    assert!(matches!(misaligned, WindowError::Memory(_)));
    let cause = misaligned.source().unwrap();
    assert!(cause.to_string().contains("0x5101"), "{cause}");
    assert!(cause.source().is_some());
}

#[test]
fn a_window_on_a_rom_refuses_writes() {
    let mapping = MmapRegionBuilder::<()>::new(PAGE_LEN)
        .with_mmap_prot(1)
        .build()
        .unwrap();
    let rom = GuestRegionMmap::new(mapping, GuestAddress(0)).unwrap();
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::from_regions(vec![rom]).unwrap());
    let mut window = memory.window(GuestAddress(0), 0x10).unwrap();
    assert!(window.slice().unwrap().is_read_only());
    assert_eq!(window.read_obj::<u32>(0).unwrap(), 0);
    assert!(matches!(
        window.write_obj(1u32, 0),
        Err(WindowError::Memory(_))
    ));
}

#[test]
fn windows_go_to_other_threads_and_print() {
    fn assert_send<T: Send>() {}
    assert_send::<MemoryWindow<Region>>();
    let window = memory().window(RING, 0x40).unwrap();
    let printed = format!("{window:?}");
    assert!(printed.contains("is_stale: false"), "{printed}");
}
