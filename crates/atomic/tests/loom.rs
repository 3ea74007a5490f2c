// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Swap against reader, window and waiting, in all interleavings and all reorderings that the language's memory model
//! allows.
//!
//! The code is the library's own but for the pointer that is swapped: loom cannot look into arc-swap, so a pointer
//! behind a lock stands in for it, with the same order between a swap and a load that sees it. Memory is really mapped; a
//! flag beside it says whether it still is.
//!
//! Run by `RUSTFLAGS="--cfg loom" cargo test -p guest-memory-atomic --test loom --release`.
#![cfg(loom)]
// A helper that cannot go on is as good as a failed assertion.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;
use std::time::Duration;

use guest_memory_atomic::{GuestMemoryAtomic, HotplugMemory, WindowError};
use guest_memory_core::{
    BS, Bytes, GuestAddress, GuestAddressSpace, GuestMemory, GuestMemoryRegion,
    GuestMemoryRegionBytes, GuestMemoryResult, GuestRegionCollection, GuestUsize,
    MemoryRegionAddress, VolatileSlice,
};
use guest_memory_mmap::GuestRegionMmap;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

const PAGE: usize = 0x1000;
const FIRST: GuestAddress = GuestAddress(0);
const SECOND: GuestAddress = GuestAddress(0x8000);

/// A mapping that tells its end.
struct Region {
    mapping: GuestRegionMmap,
    is_mapped: Arc<AtomicBool>,
}

impl Region {
    fn new(start: GuestAddress) -> Self {
        Self {
            mapping: GuestRegionMmap::from_range(start, PAGE, None).unwrap(),
            is_mapped: Arc::new(AtomicBool::new(true)),
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // Relaxed: whoever is told that the memory is gone must see it without this one's help.
        self.is_mapped.store(false, Ordering::Relaxed);
    }
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
        assert!(self.is_mapped.load(Ordering::Relaxed));
        self.mapping.get_slice(offset, count)
    }
}

impl GuestMemoryRegionBytes for Region {}

type Map = GuestRegionCollection<Region>;
type Memory = GuestMemoryAtomic<Map>;

/// A memory of two regions, and what tells whether the second one is mapped.
fn memory() -> (Memory, Arc<AtomicBool>) {
    let regions = vec![Region::new(FIRST), Region::new(SECOND)];
    let is_mapped = Arc::clone(&regions[1].is_mapped);
    (Memory::new(Map::from_regions(regions).unwrap()), is_mapped)
}

/// Takes the second region out of the map, and lets it go.
fn unplug(memory: &Memory) {
    drop(
        memory
            .update(|map| map.remove_region(SECOND, PAGE as u64))
            .unwrap(),
    );
}

#[test]
fn a_reader_never_gives_an_older_map_than_a_guard_taken_before() {
    loom::model(|| {
        let (memory, _) = memory();
        let mut reader = memory.reader();
        reader.memory();
        let watcher = {
            let memory = memory.clone();
            thread::spawn(move || {
                let seen = memory.memory().num_regions();
                assert!(reader.memory().num_regions() <= seen);
                assert!(reader.memory().num_regions() <= seen);
            })
        };
        unplug(&memory);
        assert_eq!(memory.reader().memory().num_regions(), 1);
        watcher.join().unwrap();
    });
}

#[test]
fn who_knows_of_a_replacement_is_given_no_older_map() {
    loom::model(|| {
        let (memory, _) = memory();
        let is_done = Arc::new(AtomicBool::new(false));
        let mut reader = memory.reader();
        let mut window = memory.window(SECOND, 8).unwrap();
        reader.memory();
        let device = {
            let is_done = Arc::clone(&is_done);
            thread::spawn(move || {
                let knows = is_done.load(Ordering::Acquire);
                let has_region = reader.memory().find_region(SECOND).is_some();
                let read = window.read_obj::<u64>(0);
                if knows {
                    assert!(!has_region);
                    assert!(matches!(read, Err(WindowError::Stale { .. })));
                }
            })
        };
        unplug(&memory);
        is_done.store(true, Ordering::Release);
        device.join().unwrap();
    });
}

#[test]
fn a_window_that_saw_the_unplug_stays_stale_and_one_elsewhere_does_not() {
    loom::model(|| {
        let (memory, _) = memory();
        let mut stays = memory.window(FIRST, 8).unwrap();
        let mut goes = memory.window(SECOND, 8).unwrap();
        let device = thread::spawn(move || {
            let was_stale = goes.is_stale();
            assert!(stays.read_obj::<u64>(0).is_ok());
            assert!(!was_stale || goes.read_obj::<u64>(0).is_err());
        });
        unplug(&memory);
        device.join().unwrap();
    });
}

#[test]
fn a_window_does_not_read_what_was_plugged_in_its_place() {
    loom::model(|| {
        let (memory, _) = memory();
        let (old, new) = (1u64, 2u64);
        memory.memory().write_obj(old, SECOND).unwrap();
        let mut window = memory.window(SECOND, 8).unwrap();
        let device = thread::spawn(move || {
            let first = window.read_obj::<u64>(0).ok();
            let second = window.read_obj::<u64>(0).ok();
            assert!([Some(old), None].contains(&first));
            assert!([first, None].contains(&second));
        });
        let other = Region::new(SECOND);
        other.write_obj(new, MemoryRegionAddress(0)).unwrap();
        unplug(&memory);
        let plug = |map: &Map| map.insert_region(Arc::new(other)).map(|map| (map, ()));
        memory.update(plug).unwrap();
        device.join().unwrap();
    });
}

#[test]
fn a_region_is_reclaimed_from_under_no_window() {
    loom::model(|| {
        let (memory, is_mapped) = memory();
        let mut window = memory.window(SECOND, 8).unwrap();
        let device = thread::spawn(move || {
            // The region looks whether it is mapped: by the second look the window may have let it go, and only then.
            let first = window.read_obj::<u64>(0);
            let second = window.read_obj::<u64>(0);
            assert!(first.is_ok() || second.is_err());
        });
        let hotplug = HotplugMemory::new(memory);
        let region = hotplug.unplug(SECOND, PAGE as u64).unwrap();
        drop(hotplug.reclaim(region, Duration::MAX).unwrap());
        assert!(!is_mapped.load(Ordering::Relaxed));
        device.join().unwrap();
    });
}

#[test]
fn memory_is_unmapped_when_a_wait_for_a_reader_returns() {
    loom::model(|| {
        let (memory, is_mapped) = memory();
        let mut reader = memory.reader();
        reader.memory();
        let device = thread::spawn(move || {
            if let Some(region) = reader.memory().find_region(SECOND) {
                assert!(region.get_slice(MemoryRegionAddress(0), 8).is_ok());
            }
            reader.release();
        });
        unplug(&memory);
        memory.wait_for_readers();
        assert!(!is_mapped.load(Ordering::Relaxed));
        device.join().unwrap();
    });
}

#[test]
fn memory_is_unmapped_when_a_wait_for_a_guard_returns() {
    loom::model(|| {
        let (memory, is_mapped) = memory();
        let guard = memory.memory();
        let device = {
            let memory = memory.clone();
            thread::spawn(move || {
                drop(guard);
                let guard = memory.memory();
                if let Some(region) = guard.find_region(SECOND) {
                    assert!(region.get_slice(MemoryRegionAddress(0), 8).is_ok());
                }
            })
        };
        unplug(&memory);
        memory.wait_for_readers();
        assert!(!is_mapped.load(Ordering::Relaxed));
        device.join().unwrap();
    });
}

#[test]
fn a_reader_that_is_asked_lets_go() {
    loom::model(|| {
        let (memory, is_mapped) = memory();
        let mut reader = memory.reader();
        reader.memory();
        let is_asked = Arc::new(AtomicBool::new(false));
        let hook = {
            let is_asked = Arc::clone(&is_asked);
            memory.on_release_request(move || is_asked.store(true, Ordering::Release))
        };
        let device = thread::spawn(move || {
            // As a thread that wakes once: it was asked, or nobody has waited yet and its map may be the newest.
            let was_asked = is_asked.load(Ordering::Acquire);
            let region_count = reader.memory().num_regions();
            assert!(!was_asked || region_count == 1);
            reader.release();
        });
        unplug(&memory);
        memory.wait_for_readers();
        assert!(!is_mapped.load(Ordering::Relaxed));
        device.join().unwrap();
        drop(hook);
    });
}

#[test]
fn no_change_of_two_writers_is_lost() {
    loom::model(|| {
        let (memory, _) = memory();
        let other = {
            let memory = memory.clone();
            thread::spawn(move || {
                let removed = memory.update(|map| map.remove_region(FIRST, PAGE as u64));
                drop(removed.unwrap());
            })
        };
        unplug(&memory);
        other.join().unwrap();
        assert_eq!(memory.memory().num_regions(), 0);
        assert_eq!(memory.generation(), 2);
    });
}
