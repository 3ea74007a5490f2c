// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The swappable map, from outside: what readers and writers see of each other.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use guest_memory_atomic::{GuestMemoryAtomic, GuestMemoryLoadGuard};
use guest_memory_core::{Bytes, GuestAddress, GuestAddressSpace, GuestMemory, GuestMemoryRegion};
use guest_memory_mmap::{GuestMemoryMmap, GuestRegionMmap};

type Memory = GuestMemoryMmap<()>;

const PAGE: usize = 0x1000;

/// Makes a map of `pages` regions of one page each, with holes between them.
fn map_of(pages: u64) -> Memory {
    let ranges = (0..pages)
        .map(|page| (region_start(page), PAGE))
        .collect::<Vec<_>>();
    Memory::from_ranges(&ranges).expect("a map")
}

fn region_start(page: u64) -> GuestAddress {
    GuestAddress(page * 2 * PAGE as u64)
}

/// Replaces the map by one with a region more, the way the crate's page says.
fn plug(memory: &GuestMemoryAtomic<Memory>) {
    let writer = memory.lock().expect("no writer panicked");
    let now = memory.memory();
    let start = region_start(now.num_regions() as u64);
    let region = GuestRegionMmap::from_range(start, PAGE, None).expect("a region");
    let larger = now.insert_region(Arc::new(region)).expect("a map");
    writer.replace(larger);
}

#[test]
fn a_load_gives_the_map_of_the_moment() {
    let memory = GuestMemoryAtomic::new(map_of(1));
    assert_eq!(memory.memory().num_regions(), 1);
    memory.lock().unwrap().replace(map_of(3));
    assert_eq!(memory.memory().num_regions(), 3);
}

#[test]
fn clones_and_their_clones_see_the_swap() {
    let memory = GuestMemoryAtomic::new(map_of(1));
    let (device, other) = (memory.clone(), memory.clone().clone());
    device.lock().unwrap().replace(map_of(2));
    for handle in [&memory, &device, &other] {
        assert_eq!(handle.memory().num_regions(), 2);
    }
}

#[test]
fn an_arc_becomes_the_map_without_a_copy() {
    let map = Arc::new(map_of(1));
    let memory = GuestMemoryAtomic::from(Arc::clone(&map));
    assert!(Arc::ptr_eq(&map, &memory.memory().into_inner()));
}

#[test]
fn a_guard_keeps_the_old_map_readable_and_writable() {
    let memory = GuestMemoryAtomic::new(map_of(2));
    let guard = memory.memory();
    guard.write_obj(0x55_u64, region_start(1)).unwrap();
    memory.lock().unwrap().replace(map_of(1));
    assert_eq!(guard.num_regions(), 2);
    assert_eq!(guard.read_obj::<u64>(region_start(1)).unwrap(), 0x55);
    assert!(memory.memory().read_obj::<u64>(region_start(1)).is_err());
}

#[test]
fn clones_of_a_guard_show_the_same_map_after_it_is_gone() {
    let memory = GuestMemoryAtomic::new(map_of(2));
    let guard = memory.memory();
    let clone = guard.clone();
    assert!(std::ptr::eq(&*guard, &*clone));
    memory.lock().unwrap().replace(map_of(1));
    drop(guard);
    assert_eq!(clone.num_regions(), 2);
}

#[test]
fn into_inner_is_the_map_itself() {
    let memory = GuestMemoryAtomic::new(map_of(1));
    let map: Arc<Memory> = memory.memory().into_inner();
    assert!(std::ptr::eq(&*map, &*memory.memory()));
    memory.lock().unwrap().replace(map_of(2));
    assert_eq!(map.num_regions(), 1);
}

#[test]
fn the_old_map_goes_with_its_last_user() {
    let map = Arc::new(map_of(1));
    let weak = Arc::downgrade(&map);
    let memory = GuestMemoryAtomic::from(map);
    let guard = memory.memory();
    memory.lock().unwrap().replace(map_of(2));
    assert!(weak.upgrade().is_some());
    drop(guard);
    assert!(weak.upgrade().is_none());
}

#[test]
fn a_thread_with_many_guards_loads_on() {
    let memory = GuestMemoryAtomic::new(map_of(1));
    let guards = (0..100).map(|_| memory.memory()).collect::<Vec<_>>();
    memory.lock().unwrap().replace(map_of(2));
    assert!(guards.iter().all(|guard| guard.num_regions() == 1));
    assert_eq!(memory.memory().num_regions(), 2);
}

#[test]
fn readers_see_whole_maps_while_writers_swap() {
    let memory = GuestMemoryAtomic::new(map_of(1));
    let (done, loads) = (AtomicBool::new(false), AtomicUsize::new(0));
    let start = Barrier::new(3);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                start.wait();
                while !done.load(Ordering::Relaxed) {
                    let map = memory.memory();
                    // The regions of one map are all there and mapped, however often it was replaced.
                    for region in map.iter() {
                        map.write_obj(7u64, region.start_addr()).unwrap();
                        assert_eq!(map.read_obj::<u64>(region.start_addr()).unwrap(), 7);
                    }
                    assert_eq!(
                        map.last_addr().0 + 1,
                        region_start(map.num_regions() as u64).0 - PAGE as u64
                    );
                    loads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        start.wait();
        for round in 0..300 {
            memory.lock().unwrap().replace(map_of(1 + round % 5));
        }
        // On a busy machine the readers may not have run yet.
        while loads.load(Ordering::Relaxed) < 4 {
            thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn no_writer_undoes_another_writer_s_change() {
    let memory = GuestMemoryAtomic::new(map_of(1));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..8 {
                    plug(&memory);
                }
            });
        }
    });
    assert_eq!(memory.memory().num_regions(), 1 + 4 * 8);
}

#[test]
fn the_lock_keeps_other_writers_out_but_not_readers() {
    let memory = GuestMemoryAtomic::new(map_of(1));
    let writer = memory.lock().unwrap();
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let memory = &memory;
        scope.spawn(move || {
            sender.send(memory.memory().num_regions()).unwrap();
            memory.lock().unwrap().replace(map_of(3));
            sender.send(memory.memory().num_regions()).unwrap();
        });
        // The other thread reads at once and then waits for the lock.
        assert_eq!(receiver.recv().unwrap(), 1);
        assert!(receiver.recv_timeout(Duration::from_millis(100)).is_err());
        assert_eq!(memory.memory().num_regions(), 1);
        writer.replace(map_of(2));
        assert_eq!(receiver.recv().unwrap(), 3);
    });
    assert_eq!(memory.memory().num_regions(), 3);
}

#[test]
fn a_lock_dropped_without_replacing_leaves_the_map() {
    let memory = GuestMemoryAtomic::new(map_of(2));
    drop(memory.lock().unwrap());
    assert_eq!(memory.memory().num_regions(), 2);
    assert!(memory.lock().is_ok());
}

#[test]
fn a_writer_that_panics_is_reported_and_the_guard_in_the_error_works() {
    let memory = GuestMemoryAtomic::new(map_of(2));
    let panicked = panic::catch_unwind(AssertUnwindSafe(|| {
        let _writer = memory.lock().unwrap();
        panic!("a writer fails (this message is part of the test)");
    }));
    assert!(panicked.is_err());
    assert_eq!(memory.memory().num_regions(), 2);
    let poisoned = memory.lock().expect_err("poisoned");
    poisoned.into_inner().replace(map_of(3));
    assert_eq!(memory.memory().num_regions(), 3);
}

#[test]
fn handles_and_guards_print_their_map() {
    let memory = GuestMemoryAtomic::new(map_of(1));
    assert!(format!("{memory:?}").starts_with("GuestMemoryAtomic"));
    assert!(format!("{:?}", memory.memory()).starts_with("GuestMemoryLoadGuard"));
    assert!(format!("{:?}", memory.lock()).contains("GuestMemoryExclusiveGuard"));
}

#[test]
fn handles_and_guards_go_to_other_threads() {
    fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<GuestMemoryAtomic<Memory>>();
    assert_send_sync::<GuestMemoryLoadGuard<Memory>>();
}

#[test]
fn a_device_written_for_any_address_space_takes_the_handle() {
    fn fill<S: GuestAddressSpace<M = Memory>>(space: &S, value: u8) {
        space
            .memory()
            .write_slice(&[value; 16], GuestAddress(8))
            .expect("mapped");
    }
    let memory = GuestMemoryAtomic::new(map_of(1));
    fill(&memory, 0xab);
    assert_eq!(
        memory.memory().read_obj::<u128>(GuestAddress(8)).unwrap(),
        u128::from_ne_bytes([0xab; 16])
    );
}
