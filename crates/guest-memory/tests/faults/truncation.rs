// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory of a file that becomes shorter.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use guest_memory::FaultKind::Beyond;
use guest_memory::{
    GuestAddress, GuestMemory, GuestMemoryError, VolatileMemoryError, fault as guard,
};

use crate::calls::{ON_SLICE, SEARCHES, by_address, fault, slice_fault};
use crate::mapping::{Memory, START, page, shared_memory};

const THREADS: usize = 8;

/// Calls everything at one address; each call succeeds or is stopped by the file's end.
fn call_all(memory: &Memory, at: GuestAddress) {
    for call in by_address() {
        match (call.run)(memory, at) {
            Ok(()) => {}
            Err(GuestMemoryError::Fault {
                address,
                completed,
                kind: Beyond,
            }) if completed < call.len && address.0 == at.0 + completed as u64 => {}
            other => panic!("{}: {other:?}", call.name),
        }
    }
    for call in ON_SLICE.iter().chain(SEARCHES) {
        let slice = memory.get_slice(at, call.len).unwrap();
        match (call.run)(&slice) {
            Ok(()) => {}
            Err(VolatileMemoryError::Fault {
                addr,
                completed,
                kind: Beyond,
            }) if completed < call.len && addr == completed => {}
            other => panic!("{}: {other:?}", call.name),
        }
    }
}

/// Calls everything at one address; each call is stopped before its first byte.
fn call_all_in_vain(memory: &Memory, at: GuestAddress) {
    for call in by_address() {
        let told = fault(call.name, (call.run)(memory, at));
        assert_eq!(told, (at.0, 0, Beyond), "{}", call.name);
    }
    for call in ON_SLICE.iter().chain(SEARCHES) {
        let slice = memory.get_slice(at, call.len).unwrap();
        let told = slice_fault(call.name, (call.run)(&slice));
        assert_eq!(told, (0, 0, Beyond), "{}", call.name);
    }
}

#[test]
fn every_call_of_eight_threads_survives_a_file_that_is_truncated() {
    guard::install().unwrap();
    let len = 64 * page();
    let (file, memory) = shared_memory(len);
    let is_truncated = AtomicBool::new(false);
    let rounds = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (memory, is_truncated, rounds) = (&memory, &is_truncated, &rounds);
            scope.spawn(move || {
                let address = |round: usize| {
                    let offset = (round * 40 + thread * 8) % (len - 2 * page());
                    GuestAddress(START.0 + offset as u64)
                };
                let mut round = 0;
                while !is_truncated.load(Ordering::Acquire) {
                    call_all(memory, address(round));
                    rounds.fetch_add(1, Ordering::Relaxed);
                    round += 1;
                }
                for round in round..round + 20 {
                    call_all_in_vain(memory, address(round));
                }
            });
        }
        while rounds.load(Ordering::Relaxed) < 10 * THREADS {
            thread::sleep(Duration::from_millis(1));
        }
        file.set_len(0).unwrap();
        is_truncated.store(true, Ordering::Release);
    });
    // The file may grow again, and all works again.
    file.set_len(len as u64).unwrap();
    call_all(&memory, START);
    for call in by_address() {
        (call.run)(&memory, START).unwrap();
    }
}

#[test]
fn a_call_across_the_new_end_of_the_file_counts_the_bytes_before_it() {
    guard::install().unwrap();
    let (file, memory) = shared_memory(8 * page());
    let kept = 3 * page();
    file.set_len(kept as u64).unwrap();
    let end = START.0 + kept as u64;
    for call in by_address() {
        for before in befores(call.len, call.alignment) {
            let at = GuestAddress(end - before as u64);
            let told = (call.run)(&memory, at);
            if before > 0 && call.is_one_transfer() {
                // What came before the page is a short count.
                assert!(told.is_ok(), "{} at {at}: {told:?}", call.name);
                continue;
            }
            let told = fault(call.name, told);
            assert_eq!(told, (end, before, Beyond), "{} at {at}", call.name);
        }
    }
    for call in ON_SLICE {
        for before in befores(call.len, call.alignment) {
            let at = GuestAddress(end - before as u64);
            let slice = memory.get_slice(at, call.len).unwrap();
            let told = slice_fault(call.name, (call.run)(&slice));
            assert_eq!(told, (before, before, Beyond), "{} at {at}", call.name);
        }
    }
    memory.get_slice(START, kept).unwrap().zero().unwrap();
    for call in SEARCHES {
        for before in befores(call.len, call.alignment) {
            let at = GuestAddress(end - before as u64);
            let slice = memory.get_slice(at, call.len).unwrap();
            let told = slice_fault(call.name, (call.run)(&slice));
            assert_eq!(told, (before, before, Beyond), "{} at {at}", call.name);
        }
    }
}

/// Returns how many bytes before the end a call may start and still reach across.
fn befores(len: usize, alignment: usize) -> impl Iterator<Item = usize> {
    (0..len).step_by(alignment).filter(move |before| {
        // All near both ends, some between.
        *before < 70 || *before > len - 20 || before % 61 == 0
    })
}
