// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Waiting until replaced maps are gone, and what is mapped then.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use guest_memory_atomic::{GuestMemoryAtomic, StillInUse};
use guest_memory_core::{FileOffset, GuestAddress, GuestAddressSpace, GuestMemory};
use guest_memory_mmap::GuestMemoryMmap;

type Memory = GuestMemoryMmap<()>;

const PAGE: usize = 0x1000;
const MOMENT: Duration = Duration::from_millis(20);

fn map() -> Memory {
    Memory::from_ranges(&[(GuestAddress(0), PAGE)]).unwrap()
}

fn swap(memory: &GuestMemoryAtomic<Memory>) {
    memory.lock().unwrap().replace(map());
}

/// A map of a file, which the process's list of mappings names.
struct Listed {
    path: PathBuf,
}

impl Listed {
    fn new(name: &str) -> Self {
        let file = format!("guest-memory-{}-{name}", std::process::id());
        Self {
            path: std::env::temp_dir().join(file),
        }
    }

    fn map(&self) -> Memory {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(&self.path).unwrap();
        file.set_len(PAGE as u64).unwrap();
        let range = (GuestAddress(0), PAGE, Some(FileOffset::new(file, 0)));
        Memory::from_ranges_with_files([range]).unwrap()
    }

    fn is_mapped(&self) -> bool {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        maps.contains(self.path.to_str().unwrap())
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[test]
fn without_older_maps_there_is_nothing_to_wait_for() {
    let memory = GuestMemoryAtomic::new(map());
    let mut reader = memory.reader();
    reader.memory();
    let guard = memory.memory();
    memory.wait_for_readers();
    drop(guard);
    swap(&memory);
    reader.memory();
    memory.wait_for_readers();
}

#[test]
fn each_kind_of_holder_is_waited_for() {
    let memory = GuestMemoryAtomic::new(map());
    let mut reader = memory.reader();
    reader.memory();
    let guard = memory.memory();
    swap(&memory);
    let taken_out = memory.memory().into_inner();
    swap(&memory);

    let left = |map_count| Err(StillInUse { map_count });
    assert_eq!(memory.wait_for_readers_timeout(MOMENT), left(2));
    reader.release();
    assert_eq!(memory.wait_for_readers_timeout(Duration::ZERO), left(2));
    drop(guard);
    assert_eq!(memory.wait_for_readers_timeout(Duration::ZERO), left(1));
    drop(taken_out);
    assert_eq!(memory.wait_for_readers_timeout(Duration::MAX), Ok(()));
    assert_eq!(
        StillInUse { map_count: 2 }.to_string(),
        "2 replaced memory maps are still in use"
    );
}

#[test]
fn a_wait_with_a_limit_ends_at_it() {
    let memory = GuestMemoryAtomic::new(map());
    let _guard = memory.memory();
    swap(&memory);
    let begin = Instant::now();
    assert!(memory.wait_for_readers_timeout(MOMENT).is_err());
    assert!(begin.elapsed() >= MOMENT);
}

#[test]
fn what_only_an_old_map_had_is_unmapped_when_the_wait_returns() {
    let listed = Listed::new("unmapped");
    let memory = GuestMemoryAtomic::new(listed.map());
    let mut reader = memory.reader();
    reader.memory();
    let (stop, stopped) = mpsc::channel::<()>();
    let guard = memory.memory();
    thread::scope(|scope| {
        scope.spawn(move || {
            stopped.recv().unwrap();
            reader.release();
            thread::sleep(MOMENT);
            drop(guard);
        });
        swap(&memory);
        assert!(listed.is_mapped());
        assert!(memory.wait_for_readers_timeout(Duration::ZERO).is_err());
        stop.send(()).unwrap();
        memory.wait_for_readers();
        assert!(!listed.is_mapped());
    });
}

#[test]
fn the_last_reader_may_unmap_while_another_thread_waits() {
    // Many times, for the moment between the last use and the end of the mapping.
    for round in 0..200 {
        let listed = Listed::new(&format!("race-{}", round % 2));
        let memory = GuestMemoryAtomic::new(listed.map());
        let mut reader = memory.reader();
        reader.memory();
        thread::scope(|scope| {
            swap(&memory);
            scope.spawn(move || reader.release());
            memory.wait_for_readers();
            assert!(!listed.is_mapped());
        });
    }
}

#[test]
fn an_idle_thread_with_a_hook_is_asked_to_let_go() {
    let memory = GuestMemoryAtomic::new(map());
    let mut reader = memory.reader();
    reader.memory();
    let (kick, kicked) = mpsc::channel();
    let hook = memory.on_release_request(move || kick.send(()).unwrap());
    thread::scope(|scope| {
        scope.spawn(move || {
            // Sleeps until somebody wants something.
            while kicked.recv().is_ok() {
                reader.release();
            }
        });
        swap(&memory);
        memory.wait_for_readers();
        drop(hook);
    });
}

#[test]
fn hooks_are_not_called_without_need_or_after_their_end() {
    let memory = GuestMemoryAtomic::new(map());
    let is_called = Arc::new(AtomicBool::new(false));
    let shared = Arc::clone(&is_called);
    let hook = memory.on_release_request(move || shared.store(true, Ordering::Relaxed));
    memory.wait_for_readers();
    swap(&memory);
    memory.wait_for_readers();
    assert!(!is_called.load(Ordering::Relaxed));

    let guard = memory.memory();
    swap(&memory);
    assert!(memory.wait_for_readers_timeout(Duration::ZERO).is_err());
    assert!(is_called.swap(false, Ordering::Relaxed));
    drop(hook);
    assert!(memory.wait_for_readers_timeout(Duration::ZERO).is_err());
    assert!(!is_called.load(Ordering::Relaxed));
    assert_eq!(guard.num_regions(), 1);
}

#[test]
fn maps_replaced_during_a_wait_are_not_waited_for() {
    let memory = GuestMemoryAtomic::new(map());
    let first = memory.memory();
    swap(&memory);
    let second = memory.memory();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| memory.wait_for_readers());
        thread::sleep(MOMENT);
        swap(&memory);
        drop(first);
        waiter.join().unwrap();
    });
    drop(second);
}
