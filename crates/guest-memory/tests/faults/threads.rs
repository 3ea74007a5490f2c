// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Faults in one thread, as others see them: not at all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use guest_memory::{Bytes, FaultKind, VolatileMemoryError, fault as guard};

use crate::calls::{Slice, fault};
use crate::holes::{Holed, address, hole};
use crate::mapping::{START, page, shared_memory};

#[test]
fn faults_of_one_thread_do_not_disturb_others() {
    let holed = Holed::new();
    let holey = holed.memory();
    let (file, short) = shared_memory(page());
    file.set_len(0).unwrap();
    let (long_file, long) = shared_memory(4 * page());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Two threads with different faults, each of which is told its own.
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let at = address(hole().start - 5);
                let told = fault("read", holey.read(&mut [0; 40], at).map(drop));
                assert_eq!(told, (at.0 + 5, 5, FaultKind::Protection));
            }
        });
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let told = fault("write", short.write(&[0; 40], START).map(drop));
                assert_eq!(told, (START.0, 0, FaultKind::Beyond));
            }
        });
        // Two that have none, next to the hole and elsewhere.
        let copier = scope.spawn(|| {
            let mut back = vec![0; 3 * page()];
            for round in 0..2000usize {
                let data = vec![round.to_le_bytes()[0]; 3 * page()];
                long.write_slice(&data, START).unwrap();
                long.read_slice(&mut back, START).unwrap();
                assert_eq!(back, data);
            }
        });
        let neighbour = scope.spawn(|| {
            let at = address(hole().end);
            for round in 0..100_000u64 {
                holey.write_obj(round, at).unwrap();
                assert_eq!(holey.read_obj::<u64>(at).unwrap(), round);
            }
        });
        let results = [copier.join(), neighbour.join()];
        is_over.store(true, Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok));
    });
    drop(long_file);
}

/// The kind comes from a signal handler behind the compiler's back; it must not take the last one for this one.
#[test]
fn faults_that_follow_each_other_are_each_told_their_own_kind() {
    guard::install().unwrap();
    let holed = Holed::new();
    let (file, short) = shared_memory(page());
    let beyond = guest_memory::GuestMemory::get_slice(&short, START, 8).unwrap();
    let protected = holed.slice(hole().start..hole().start + 8);
    file.set_len(0).unwrap();
    for _ in 0..1000 {
        assert_eq!(
            kinds(&beyond, &protected),
            [FaultKind::Beyond, FaultKind::Protection, FaultKind::Beyond]
        );
    }
}

#[inline(never)]
fn kinds(beyond: &Slice<'_>, protected: &Slice<'_>) -> [FaultKind; 3] {
    let kind = |result: Result<u64, VolatileMemoryError>| match result {
        Err(VolatileMemoryError::Fault { kind, .. }) => kind,
        other => panic!("{other:?}"),
    };
    [
        kind(beyond.read_obj::<u64>(0)),
        kind(protected.read_obj::<u64>(0)),
        kind(beyond.load::<u64>(0, Ordering::Relaxed)),
    ]
}
