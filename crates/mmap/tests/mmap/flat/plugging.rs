// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Regions come and go: memories are values, and a place is free when nobody has its region.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use guest_memory_core::{
    Bytes, GuestAddress, GuestMemory, GuestMemoryError, IoMemory, MemoryRegionAddress, Permissions,
};
use guest_memory_mmap::{FlatGuestMemory, FlatMemoryError};

use super::accesses::assert_seamless;
use super::{PAGE, memory, page, ram};
use crate::files::BIG_PAGE;

fn assert_still_mapped(memory: &FlatGuestMemory, start: GuestAddress) {
    let error = memory.with_region_inserted(start, ram(1)).err();
    assert!(
        matches!(error, Some(FlatMemoryError::StillMapped { start: at, .. }) if at == start),
        "{error:?}"
    );
}

#[test]
fn a_plugged_region_joins_its_neighbours() {
    let before = memory();
    let after = before.with_region_inserted(page(3), ram(1)).unwrap();
    assert_seamless(&after, page(3));
    assert_seamless(&after, page(4));
    assert_eq!(
        after.get_slice(page(0), 5 * BIG_PAGE).unwrap().len(),
        5 * BIG_PAGE
    );
    // The memory from before has what it had.
    assert!(before.read_obj::<u8>(page(3)).is_err());
    assert_eq!(before.as_ptr(), after.as_ptr());
    before.write_obj(9u8, page(0)).unwrap();
    assert_eq!(after.read_obj::<u8>(page(0)).unwrap(), 9);
}

#[test]
fn an_unplugged_region_leaves_a_hole_in_a_run() {
    let memory = memory();
    memory.write_obj(3u8, page(2)).unwrap();
    let (smaller, region) = memory.with_region_removed(page(1)).unwrap();
    assert_eq!(smaller.regions().num_regions(), 3);
    let near = GuestAddress(PAGE - 2);
    assert_eq!(smaller.write(&[1; 4], near).unwrap(), 2);
    assert!(matches!(
        smaller.read_obj::<u8>(page(2)),
        Err(GuestMemoryError::InvalidGuestAddress(_))
    ));
    // Who still has the region, or the memory that does, has its bytes.
    assert_eq!(region.read_obj::<u8>(MemoryRegionAddress(PAGE)).unwrap(), 3);
    assert_eq!(memory.read_obj::<u8>(page(2)).unwrap(), 3);
}

#[test]
fn a_place_is_free_when_the_last_holder_of_its_region_is_gone() {
    let old = memory();
    old.write_obj(7u8, page(4)).unwrap();
    let (memory, region) = old.with_region_removed(page(4)).unwrap();
    let mapping = region.get_mmap();
    assert_still_mapped(&memory, page(4));
    drop(old);
    assert_still_mapped(&memory, page(4));
    drop(region);
    assert_still_mapped(&memory, page(4));
    drop(mapping);
    let again = memory.with_region_inserted(page(4), ram(1)).unwrap();
    assert_eq!(again.read_obj::<u8>(page(4)).unwrap(), 0, "fresh memory");
    // The same in a memory that does not know of it.
    assert_still_mapped(&memory, page(4));
    assert_eq!(
        memory
            .with_region_inserted(page(3), ram(2))
            .unwrap_err()
            .to_string(),
        "region of 131072 bytes at gpa 0x30000 would lie where 65536 bytes at gpa 0x40000 are still mapped for a region \
         of another version of the memory"
    );
    drop(again);
    assert!(memory.with_region_inserted(page(3), ram(2)).is_ok());
}

#[test]
fn regions_are_removed_by_their_start() {
    let memory = memory();
    for start in [
        page(2),
        page(3),
        GuestAddress(PAGE + 1),
        GuestAddress(u64::MAX),
    ] {
        let error = memory.with_region_removed(start).unwrap_err();
        assert!(matches!(error, FlatMemoryError::NoRegion { start: at } if at == start));
    }
    let mut rest = memory;
    for start in [page(0), page(1), page(4), page(5)] {
        rest = rest.with_region_removed(start).unwrap().0;
        assert!(rest.read_obj::<u8>(start).is_err());
    }
    assert_eq!(rest.regions().num_regions(), 0);
    let again = rest.with_region_inserted(page(0), ram(8)).unwrap();
    assert!(again.check_range(page(0), 8 * BIG_PAGE, Permissions::ReadWrite));
}

#[test]
fn what_is_accessed_while_regions_come_and_go_is_whole() {
    const SLOTS: u64 = 6;
    const CHANGES: u64 = 600;
    const LIMIT: Duration = Duration::from_secs(120);
    let first = FlatGuestMemory::<()>::builder((SLOTS + 1) * PAGE);
    // A page at the end that stays, so that there is always a memory.
    let first = first.with_region(page(SLOTS), ram(1)).build().unwrap();
    let current = Mutex::new(first);
    let is_over = AtomicBool::new(false);
    let seen = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for reader in 0..3u64 {
            let (current, is_over, seen) = (&current, &is_over, &seen);
            scope.spawn(move || {
                let mut turn = reader;
                while !is_over.load(Ordering::Relaxed) {
                    let memory = current.lock().unwrap().clone();
                    for _ in 0..64 {
                        turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let slot = (turn >> 33) % SLOTS;
                        // Each word of a slot's region has the slot's number, from the first moment on.
                        match memory.read_obj::<[u64; 2]>(GuestAddress(page(slot + 1).0 - 16)) {
                            Ok(words) => {
                                assert_eq!(words, [slot; 2]);
                                seen.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(GuestMemoryError::InvalidGuestAddress(_)) => {}
                            Err(error) => panic!("{error:?}"),
                        }
                    }
                }
            });
        }
        let start = Instant::now();
        let mut changes = 0;
        let mut turn = 1u64;
        while changes < CHANGES || seen.load(Ordering::Relaxed) == 0 {
            turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let slot = (turn >> 33) % SLOTS;
            let memory = current.lock().unwrap().clone();
            let next = match memory.with_region_removed(page(slot)) {
                Ok((next, _)) => next,
                Err(_) => match memory.with_region_inserted(page(slot), ram(1)) {
                    Ok(next) => {
                        let words: Vec<u8> = slot.to_ne_bytes().repeat(BIG_PAGE / 8);
                        next.write_slice(&words, page(slot)).unwrap();
                        next
                    }
                    // A reader still has the memory from before, but not for long.
                    Err(FlatMemoryError::StillMapped { .. }) if start.elapsed() < LIMIT => continue,
                    Err(error) => {
                        is_over.store(true, Ordering::Relaxed);
                        panic!("{error:?}");
                    }
                },
            };
            *current.lock().unwrap() = next;
            changes += 1;
        }
        is_over.store(true, Ordering::Relaxed);
    });
}
