// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Devices that access memory while mappings come and go.
//!
//! Round after round one page is given to the devices, with the number of the round in it, and taken away again. A device
//! that reads a number knows by which mapping it came there.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use guest_memory_core::{Bytes, FaultCause, GuestAddress, GuestMemoryError, IoMemory, Permissions};
use guest_memory_iommu::{Error, IommuDevice, IommuMemory, SharedIotlb};
use guest_memory_mmap::GuestMemoryMmap;

const IOVA: GuestAddress = GuestAddress(0x7000);
const PAGES: u64 = 16;
/// In pages that no device has.
const POISON: u64 = u64::MAX;
/// Where devices write, from the start of the page.
const MARK: u64 = 64;

const SPAN: Duration = Duration::from_millis(400);

type Memory = IommuMemory<GuestMemoryMmap<()>, SharedIotlb>;

fn memory() -> Memory {
    let below = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000 * 16)]).unwrap();
    for page in 0..PAGES {
        let at = GuestAddress(page * 0x1000);
        below.store(POISON, at, Ordering::Relaxed).unwrap();
    }
    IommuMemory::new(below, SharedIotlb::new(), true, ())
}

/// What controller and devices tell each other.
#[derive(Default)]
struct Talk {
    /// The last round whose mapping was removed before the store of this.
    removed: AtomicU64,
    stop: AtomicBool,
    reads: AtomicU64,
    faults: AtomicU64,
}

/// Reads the number of the round, checks that its mapping was not removed before, and leaves a mark.
fn access(memory: &impl IoMemory, talk: &Talk) -> Option<u64> {
    let removed = talk.removed.load(Ordering::Acquire);
    let read = memory.load::<u64>(IOVA, Ordering::Relaxed);
    let written = memory.store(1u64, GuestAddress(IOVA.0 + MARK), Ordering::Relaxed);
    for result in [read.as_ref().err(), written.as_ref().err()] {
        let is_miss = |error: &GuestMemoryError| {
            matches!(
                error,
                GuestMemoryError::IommuError(Error::Fault {
                    cause: FaultCause::NotMapped,
                    ..
                })
            )
        };
        assert!(result.is_none_or(is_miss), "{result:?}");
    }
    match read {
        Ok(round) => {
            assert!(round > removed, "round {round}, but {removed} was removed");
            talk.reads.fetch_add(1, Ordering::Relaxed);
            Some(round)
        }
        Err(_) => {
            talk.faults.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

fn device(memory: Memory, talk: &Talk) {
    let mut device = IommuDevice::new(memory);
    while !talk.stop.load(Ordering::Relaxed) {
        let session = device.enter();
        for _ in 0..8 {
            // A session is waited for: no page is taken away under it.
            assert_ne!(access(&session, talk), Some(POISON));
        }
    }
}

fn control(memory: &Memory, talk: &Talk) {
    let below = memory.get_backend();
    let (mut round, start) = (0, Instant::now());
    while start.elapsed() < SPAN {
        round += 1;
        let page = GuestAddress(round % PAGES * 0x1000);
        let mark = GuestAddress(page.0 + MARK);
        let left = below.load::<u64>(mark, Ordering::Relaxed).unwrap();
        assert_eq!(left, 0, "a device wrote to a page that it no longer had");
        below.store(round, page, Ordering::Relaxed).unwrap();
        let table = memory.iommu();
        table
            .set_mapping(IOVA, page, 0x1000, Permissions::ReadWrite)
            .unwrap();
        if round % 2 == 0 {
            thread::yield_now();
        }
        // Whole, in part, by another mapping.
        match round % 3 {
            0 => table.invalidate_mapping(GuestAddress(0), usize::MAX),
            1 => table.invalidate_mapping(IOVA, 0x100),
            _ => table.invalidate_all(),
        }
        talk.removed.store(round, Ordering::Release);
        memory.wait_for_devices();
        below.store(POISON, page, Ordering::Relaxed).unwrap();
        below.store(0u64, mark, Ordering::Relaxed).unwrap();
    }
    talk.stop.store(true, Ordering::Relaxed);
}

#[test]
fn a_removed_mapping_is_used_by_no_device_afterwards() {
    let memory = memory();
    let talk = Talk::default();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| device(memory.clone(), &talk));
        }
        control(&memory, &talk);
    });
    assert!(talk.reads.into_inner() > 0 && talk.faults.into_inner() > 0);
}

#[test]
fn a_removed_mapping_is_used_by_no_access_that_begins_afterwards() {
    let memory = memory();
    let talk = Talk::default();
    let mut rounds = 0;
    thread::scope(|scope| {
        for _ in 0..3 {
            let clone = memory.clone();
            let talk = &talk;
            scope.spawn(move || {
                while !talk.stop.load(Ordering::Relaxed) {
                    // Without a session: a page may be taken away in the middle of the access, but not before it.
                    access(&clone, talk);
                }
            });
        }
        let start = Instant::now();
        while start.elapsed() < SPAN {
            rounds += 1;
            let page = GuestAddress(rounds % PAGES * 0x1000);
            let below = memory.get_backend();
            below.store(rounds, page, Ordering::Relaxed).unwrap();
            let table = memory.iommu();
            table
                .set_mapping(IOVA, page, 0x1000, Permissions::ReadWrite)
                .unwrap();
            table.invalidate_all();
            talk.removed.store(rounds, Ordering::Release);
        }
        talk.stop.store(true, Ordering::Relaxed);
    });
    assert!(rounds > 0 && talk.faults.into_inner() > 0);
}
