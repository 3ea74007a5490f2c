// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A pool of huge pages that has none left when memory is touched.

use std::fs::{self, File};

use guest_memory::FaultKind::Beyond;
use guest_memory::{Bytes, GuestAddress, VolatileMemory, fault as guard};

use crate::calls::{fault, slice_fault};
use crate::mapping::{Mapping, START, memory_of, page};

const TWO_MIB: usize = 2 << 20;

/// Returns how many pages of the pool are free.
fn free() -> Result<usize, String> {
    let path = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    text.trim()
        .parse()
        .map_err(|error| format!("{path}: {error}"))
}

/// Maps huge pages without reserving them, more than are free.
fn unreserved() -> Result<(Mapping, usize), String> {
    let free = free()?;
    let flags = libc::MAP_HUGETLB
        | libc::MAP_HUGE_2MB
        | libc::MAP_NORESERVE
        | libc::MAP_PRIVATE
        | libc::MAP_ANONYMOUS;
    let mapping = Mapping::with_flags((free + 1) * TWO_MIB, flags);
    mapping
        .map(|mapping| (mapping, free))
        .map_err(|error| format!("no huge pages can be mapped: {error}"))
}

#[test]
fn the_first_touch_of_a_huge_page_that_the_pool_does_not_have_is_a_fault() {
    guard::install().unwrap();
    // The pool is the whole system's: tests that use it take turns.
    let lock = std::env::temp_dir().join("guest-memory-huge-page-pool.lock");
    let _turn = File::create(lock).and_then(|file| file.lock().map(|()| file));
    let (mapping, free) = match unreserved() {
        Ok(mapped) => mapped,
        Err(reason) => {
            println!("skipped: {reason}");
            return;
        }
    };
    let region = mapping.region(page());
    let slice = region.as_volatile_slice();
    // Pages that are free are taken first; there is one less than are mapped. They go back when it is unmapped.
    for index in 0..free {
        slice.write_obj(1u8, index * TWO_MIB).unwrap();
    }
    let at = free * TWO_MIB + 40;
    let told = slice_fault(
        "load",
        slice
            .load::<u64>(at, std::sync::atomic::Ordering::Relaxed)
            .map(drop),
    );
    assert_eq!(told, (at, 0, Beyond));
    let told = slice_fault("fill", slice.offset(at).unwrap().fill(1));
    assert_eq!(told, (0, 0, Beyond));
    let memory = memory_of(region);
    let address = GuestAddress(START.0 + at as u64);
    let told = fault("write_slice", memory.write_slice(&[1; 100], address));
    assert_eq!(told, (address.0, 0, Beyond));
    let told = fault("read_obj", memory.read_obj::<u32>(address).map(drop));
    assert_eq!(told, (address.0, 0, Beyond));
    if free > 0 {
        let before = GuestAddress(START.0 + (free * TWO_MIB) as u64 - 10);
        let told = fault("write_slice", memory.write_slice(&[1; 100], before));
        assert_eq!(told, (before.0 + 10, 10, Beyond));
    }
    drop(memory);
    drop(mapping);
    assert_eq!(self::free(), Ok(free));
}
