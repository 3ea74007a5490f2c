// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The swappable map in the suite that is open to everyone's handles.
#![cfg(not(loom))]

use std::convert::Infallible;

use guest_memory_atomic::GuestMemoryAtomic;
use guest_memory_bitmap::AtomicBitmap;
use guest_memory_conformance::{Config, address_space};
use guest_memory_core::GuestAddress;
use guest_memory_mmap::GuestMemoryMmap;

type Memory = GuestMemoryMmap<AtomicBitmap>;

fn memory(ranges: &[(GuestAddress, usize)]) -> Memory {
    Memory::from_ranges(ranges).expect("mapped memory")
}

fn replaced_under_the_lock(handle: &GuestMemoryAtomic<Memory>, ranges: &[(GuestAddress, usize)]) {
    let guard = handle.lock().expect("no writer panicked");
    guard.replace(memory(ranges));
}

fn updated(handle: &GuestMemoryAtomic<Memory>, ranges: &[(GuestAddress, usize)]) {
    let changed = handle.update(|_| Ok::<_, Infallible>((memory(ranges), ())));
    changed.expect("a change that cannot fail");
}

#[test]
fn swappable_map_behaves() {
    let make = |ranges: &[_]| GuestMemoryAtomic::new(memory(ranges));
    address_space::check_swappable(make, replaced_under_the_lock);
    address_space::check_swappable(make, updated);
}

#[test]
fn swappable_map_behaves_for_several_threads() {
    let make = |ranges: &[_]| GuestMemoryAtomic::new(memory(ranges));
    let config = Config::default();
    address_space::check_concurrent(config, make, replaced_under_the_lock);
    address_space::check_concurrent(config, make, updated);
}
