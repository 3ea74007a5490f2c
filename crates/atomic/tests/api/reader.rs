// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Handles of threads, and changes that are computed from the map.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;

use guest_memory_atomic::{GuestMemoryAtomic, GuestMemoryReader};
use guest_memory_core::{Bytes, GuestAddress, GuestAddressSpace, GuestMemory};
use guest_memory_mmap::GuestMemoryMmap;

type Memory = GuestMemoryMmap<()>;

const PAGE: usize = 0x1000;

fn map_of(pages: usize) -> Memory {
    Memory::from_ranges(&[(GuestAddress(0), pages * PAGE)]).unwrap()
}

/// Returns the last address of such a map.
fn last_of(pages: usize) -> u64 {
    (pages * PAGE) as u64 - 1
}

/// Replaces the map and returns what tells whether the one before is there.
fn replace(memory: &GuestMemoryAtomic<Memory>, pages: usize) -> Weak<Memory> {
    let old = Arc::downgrade(&memory.memory().into_inner());
    memory.lock().unwrap().replace(map_of(pages));
    old
}

#[test]
fn a_reader_gives_the_map_of_the_moment_each_time() {
    let memory = GuestMemoryAtomic::new(map_of(1));
    let mut reader = memory.reader();
    for pages in 2..6 {
        assert_eq!(reader.memory().last_addr().0, last_of(pages - 1));
        replace(&memory, pages);
    }
}

#[test]
fn a_reader_gives_the_same_map_while_nothing_changes() {
    let memory = GuestMemoryAtomic::new(map_of(1));
    let mut reader = memory.reader();
    let first: *const Memory = reader.memory();
    assert!(std::ptr::eq(first, reader.memory()));
    assert!(std::ptr::eq(first, &raw const *memory.memory()));
    // A lock without a replacement is no change.
    drop(memory.lock().unwrap());
    assert!(std::ptr::eq(first, reader.memory()));
}

#[test]
fn a_reader_keeps_its_map_until_its_next_use() {
    let memory = GuestMemoryAtomic::new(map_of(1));
    let mut reader = memory.reader();
    reader.memory();
    let old = replace(&memory, 2);
    assert!(old.upgrade().is_some());
    reader.memory();
    assert!(old.upgrade().is_none());
}

#[test]
fn a_reader_that_released_keeps_nothing_and_finds_the_map_again() {
    let memory = GuestMemoryAtomic::new(map_of(1));
    let mut reader = memory.reader();
    reader.memory().write_obj(5u32, GuestAddress(0)).unwrap();
    reader.release();
    assert_eq!(reader.memory().read_obj::<u32>(GuestAddress(0)).unwrap(), 5);
    reader.release();
    let old = replace(&memory, 2);
    assert!(old.upgrade().is_none());
    assert_eq!(reader.memory().last_addr().0, last_of(2));
}

#[test]
fn a_reader_that_was_never_used_keeps_nothing() {
    let memory = GuestMemoryAtomic::new(map_of(1));
    let mut reader = memory.reader();
    reader.memory();
    let clone = reader.clone();
    drop(reader);
    let old = replace(&memory, 2);
    assert!(old.upgrade().is_none());
    drop(clone);
}

#[test]
fn a_reader_works_without_the_handle_it_came_from() {
    let memory = GuestMemoryAtomic::new(map_of(3));
    let mut reader = memory.reader();
    drop(memory);
    assert_eq!(reader.memory().last_addr().0, last_of(3));
}

#[test]
fn readers_go_to_other_threads_and_print() {
    fn assert_send<T: Send + Clone>() {}
    assert_send::<GuestMemoryReader<Memory>>();
    let mut reader = GuestMemoryAtomic::new(map_of(1)).reader();
    assert!(format!("{reader:?}").contains("kept: None"));
    reader.memory();
    assert!(format!("{reader:?}").contains("GuestRegionMmap"));
}

#[test]
fn a_reader_never_gives_an_older_map_than_a_guard_taken_before() {
    let memory = GuestMemoryAtomic::new(map_of(1));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            let mut reader = memory.reader();
            let (memory, is_over) = (&memory, &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let seen = memory.memory().last_addr();
                    assert!(reader.memory().last_addr() >= seen);
                }
            });
        }
        for pages in 2..200 {
            replace(&memory, pages);
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn updates_of_several_threads_are_all_in_the_map() {
    let memory = GuestMemoryAtomic::new(map_of(1));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let pages: Result<usize, ()> = memory.update(|map| {
                        let region = map.find_region(GuestAddress(0)).unwrap();
                        let pages = region.size() / PAGE + 1;
                        Ok((map_of(pages), pages))
                    });
                    assert!(pages.unwrap() > 1);
                }
            });
        }
    });
    assert_eq!(memory.memory().last_addr().0, last_of(61));
    assert_eq!(memory.generation(), 60);
}

#[test]
fn an_update_that_fails_or_panics_leaves_the_map() {
    let memory = GuestMemoryAtomic::new(map_of(1));
    let before = memory.memory().into_inner();
    assert_eq!(memory.update(|_| Err::<(Memory, ()), _>("no")), Err("no"));
    let thrown = panic::catch_unwind(AssertUnwindSafe(|| {
        memory.update(|_| -> Result<(Memory, ()), ()> { panic!("in a change") })
    }));
    assert!(thrown.is_err());
    assert!(Arc::ptr_eq(&before, &memory.memory().into_inner()));
    assert_eq!(memory.generation(), 0);
    // The next one works nevertheless.
    memory.update(|_| Ok::<_, ()>((map_of(2), ()))).unwrap();
    assert_eq!(memory.generation(), 1);
}

#[test]
fn the_generation_grows_by_one_with_each_replacement() {
    let memory = GuestMemoryAtomic::new(map_of(1));
    for generation in 0..5 {
        assert_eq!(memory.generation(), generation);
        replace(&memory, 1);
    }
}
