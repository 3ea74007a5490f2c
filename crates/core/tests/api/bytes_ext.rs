// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Read-modify-writes, fills and little-endian fields, by guest address, region offset and slice offset.

use std::fmt::Debug;
use std::sync::atomic::Ordering;
use std::thread;

use guest_memory_bitmap::Bitmap;
use guest_memory_core::{
    Bytes, BytesExt, GuestAddress, GuestMemory, GuestMemoryError as Error, GuestMemoryRegion,
    GuestRegionCollection, MemoryRegionAddress, Operation, VolatileMemoryError,
};
use guest_memory_volatile::AtomicAccess;

use crate::toy::{Kind, Toy, dirty, memory};

const SEQ: Ordering = Ordering::SeqCst;

/// Three neighbours, a hole, one at the end of addresses.
fn ram() -> GuestRegionCollection<Toy> {
    memory(&[
        (0x100, 16, Kind::Ram),
        (0x110, 24, Kind::Ram),
        (0x128, 16, Kind::Ram),
        (u64::MAX - 15, 16, Kind::Ram),
    ])
}

/// Calls every read-modify-write of a `T` and returns the errors, each with its operation.
fn each_error<T, A, M>(memory: &M, addr: A) -> Vec<(Operation, M::E)>
where
    T: AtomicAccess + Default + Debug,
    A: Copy,
    M: BytesExt<A>,
    M::E: Debug,
{
    let zero = T::default;
    let changed = [
        memory.swap(zero(), addr, SEQ),
        memory.fetch_add(zero(), addr, SEQ),
        memory.fetch_and(zero(), addr, SEQ),
        memory.fetch_or(zero(), addr, SEQ),
        memory.fetch_xor(zero(), addr, SEQ),
    ];
    let changed = changed.map(|result| (Operation::ReadModifyWrite, result.unwrap_err()));
    let exchanged = memory.compare_exchange(zero(), zero(), addr, SEQ, SEQ);
    let exchanged = (Operation::CompareExchange, exchanged.unwrap_err());
    changed.into_iter().chain([exchanged]).collect()
}

macro_rules! every_operation {
    ($memory:expr, $addr:expr, $($integer:ty)*) => {$(
        let (memory, addr) = (&$memory, $addr);
        let (first, second) = (<$integer>::MAX - 5, <$integer>::MAX / 3);
        memory.store(first, addr, SEQ).unwrap();
        assert_eq!(memory.fetch_add(9, addr, SEQ).unwrap(), first);
        let sum = first.wrapping_add(9);
        assert_eq!(memory.fetch_xor(second, addr, SEQ).unwrap(), sum);
        assert_eq!(memory.fetch_or(6, addr, SEQ).unwrap(), sum ^ second);
        assert_eq!(memory.fetch_and(12, addr, SEQ).unwrap(), (sum ^ second) | 6);
        let masked = ((sum ^ second) | 6) & 12;
        assert_eq!(memory.swap(second, addr, SEQ).unwrap(), masked);
        let exchanged = memory.compare_exchange(first, 1, addr, SEQ, SEQ);
        assert_eq!(exchanged.unwrap(), Err(second));
        let exchanged = memory.compare_exchange(second, 1, addr, SEQ, Ordering::Relaxed);
        assert_eq!(exchanged.unwrap(), Ok(second));
        assert_eq!(memory.load::<$integer>(addr, SEQ).unwrap(), 1);
    )*};
}

#[test]
fn every_operation_is_there_for_every_integer_by_every_kind_of_address() {
    let memory = ram();
    every_operation!(memory, GuestAddress(0x118), u8 u16 u32 u64 usize i8 i16 i32 i64 isize);
    assert_eq!(dirty(&memory), [0x118]);
    let region = memory.find_region(GuestAddress(0x110)).unwrap();
    let offset = MemoryRegionAddress(16);
    every_operation!(*region, offset, u8 u16 u32 u64 usize i8 i16 i32 i64 isize);
    assert_eq!(dirty(&memory), [0x118, 0x120]);
    let slice = region.as_volatile_slice().unwrap();
    every_operation!(slice, 0, u8 u16 u32 u64 usize i8 i16 i32 i64 isize);
    assert_eq!(dirty(&memory), [0x110, 0x118, 0x120]);
    every_operation!(memory, GuestAddress(u64::MAX - 7), u64 i64);
    assert_eq!(dirty(&memory), [0x110, 0x118, 0x120, u64::MAX - 7]);
}

#[test]
fn an_exchange_marks_only_if_it_stores() {
    let memory = ram();
    let addr = GuestAddress(0x114);
    let failed = memory.compare_exchange(1u32, 2, addr, SEQ, SEQ);
    assert_eq!(failed.unwrap(), Err(0));
    assert!(dirty(&memory).is_empty());
    let stored = memory.compare_exchange(0u32, 2, addr, SEQ, SEQ);
    assert_eq!(stored.unwrap(), Ok(0));
    assert_eq!(dirty(&memory), [0x110]);
}

#[test]
fn a_value_over_a_border_or_misaligned_is_refused() {
    let memory = ram();
    let refused = |found: Error, meant, addr, bytes, cause: fn(&VolatileMemoryError) -> bool| {
        let Error::Access {
            operation,
            address,
            length,
            completed: 0,
            source,
        } = &found
        else {
            panic!("{found:?}");
        };
        assert_eq!((*operation, *address, *length), (meant, addr, bytes));
        assert!(cause(source), "{found:?}");
    };
    // Two regions, and a region and a hole.
    for addr in [0x10c, 0x134].map(GuestAddress) {
        for (operation, error) in each_error::<u64, _, _>(&memory, addr) {
            refused(error, operation, addr, 8, |cause| {
                matches!(cause, VolatileMemoryError::OutOfBounds { addr: 4 })
            });
        }
    }
    let addr = GuestAddress(0x112);
    for (operation, error) in each_error::<i32, _, _>(&memory, addr) {
        refused(error, operation, addr, 4, |cause| {
            matches!(cause, VolatileMemoryError::Misaligned { alignment: 4, .. })
        });
    }
    for addr in [0, 0xff, 0x138, u64::MAX - 16].map(GuestAddress) {
        for (operation, error) in each_error::<u8, _, _>(&memory, addr) {
            let is_named = matches!(error, Error::InvalidGuestAddress(at) if at == addr);
            assert!(is_named, "{operation}: {error:?}");
        }
    }
    let region = memory.find_region(GuestAddress(0x110)).unwrap();
    for (operation, error) in each_error::<u16, _, _>(region, MemoryRegionAddress(23)) {
        refused(error, operation, GuestAddress(0x127), 2, |cause| {
            matches!(cause, VolatileMemoryError::OutOfBounds { addr: 1 })
        });
    }
    assert!(dirty(&memory).is_empty());
    assert!(memory.is_zero(GuestAddress(0x100), 0x38).unwrap());
}

#[test]
fn read_only_memory_refuses_changes_and_can_be_searched() {
    let memory = memory(&[(0x100, 16, Kind::Rom)]);
    let addr = GuestAddress(0x108);
    let is_read_only = |error: &Error, meant: Operation| {
        matches!(
            error,
            Error::Access {
                operation,
                address: GuestAddress(0x108),
                completed: 0,
                source: VolatileMemoryError::ReadOnly { .. },
                ..
            } if *operation == meant
        )
    };
    for (operation, error) in each_error::<u32, _, _>(&memory, addr) {
        assert!(is_read_only(&error, operation), "{error:?}");
    }
    let error = memory.fill(1, addr, 4).unwrap_err();
    assert!(is_read_only(&error, Operation::Fill), "{error:?}");
    let error = memory.zero(addr, 4).unwrap_err();
    assert!(is_read_only(&error, Operation::Fill), "{error:?}");
    assert!(memory.is_zero(addr, 8).unwrap());
    let slice = memory.get_slice(GuestAddress(0x100), 16).unwrap();
    let error = BytesExt::fill(&slice, 1, 3, 4).unwrap_err();
    assert!(matches!(error, VolatileMemoryError::ReadOnly { addr: 3 }));
    assert!(dirty(&memory).is_empty());
}

#[test]
fn a_fill_over_three_regions_is_whole_and_marks_what_it_wrote() {
    let memory = ram();
    memory.fill(0xee, GuestAddress(0x10b), 0x20).unwrap();
    assert_eq!(dirty(&memory), [0x108, 0x110, 0x118, 0x120, 0x128]);
    let mut all = [0; 0x38];
    memory.read_slice(&mut all, GuestAddress(0x100)).unwrap();
    for (offset, byte) in all.into_iter().enumerate() {
        let is_filled = (0xb..0x2b).contains(&offset);
        assert_eq!(byte, if is_filled { 0xee } else { 0 }, "{offset:#x}");
    }
    assert!(!memory.is_zero(GuestAddress(0x100), 0x38).unwrap());
    assert!(memory.is_zero(GuestAddress(0x100), 0xb).unwrap());
    assert!(memory.is_zero(GuestAddress(0x12b), 0xd).unwrap());
    memory.zero(GuestAddress(0x10b), 0x20).unwrap();
    assert!(memory.is_zero(GuestAddress(0x100), 0x38).unwrap());
}

#[test]
fn a_search_finds_each_single_byte_and_no_other() {
    let memory = ram();
    for at in 0x100..0x138u64 {
        memory.write_obj(1u8, GuestAddress(at)).unwrap();
        for start in (0x100..0x138).step_by(3) {
            for end in (start..0x138).step_by(5) {
                let found =
                    memory.is_zero(GuestAddress(start), usize::try_from(end - start).unwrap());
                assert_eq!(found.unwrap(), !(start..end).contains(&at), "{at:#x}");
            }
        }
        memory.write_obj(0u8, GuestAddress(at)).unwrap();
    }
}

#[test]
fn a_fill_into_a_hole_says_how_far_it_came() {
    let memory = ram();
    for count in [0x1c, usize::MAX] {
        let error = memory.fill(7, GuestAddress(0x11d), count).unwrap_err();
        let is_counted = matches!(
            error,
            Error::PartialBuffer { expected, completed: 0x1b } if expected == count
        );
        assert!(is_counted, "{error:?}");
    }
    assert_eq!(dirty(&memory), [0x118, 0x120, 0x128, 0x130]);
    let slice = memory.get_slice(GuestAddress(0x110), 24).unwrap();
    let partial = BytesExt::fill(&slice, 8, 20, 5).unwrap_err();
    assert!(matches!(
        partial,
        VolatileMemoryError::PartialBuffer {
            expected: 5,
            completed: 4
        }
    ));
    assert_eq!(
        memory.read_obj::<[u8; 6]>(GuestAddress(0x123)).unwrap(),
        [7, 8, 8, 8, 8, 7]
    );
    let last = GuestAddress(u64::MAX - 1);
    let partial = memory.fill(9, last, 3).unwrap_err();
    assert!(matches!(
        partial,
        Error::PartialBuffer {
            expected: 3,
            completed: 2
        }
    ));
    assert_eq!(memory.read_obj::<[u8; 2]>(last).unwrap(), [9, 9]);
}

#[test]
fn a_search_into_a_hole_ends_at_a_byte_that_is_not_zero() {
    let memory = ram();
    let partial = memory.is_zero(GuestAddress(0x120), 0x19).unwrap_err();
    assert!(matches!(
        partial,
        Error::PartialBuffer {
            expected: 0x19,
            completed: 0x18
        }
    ));
    memory.write_obj(1u8, GuestAddress(0x137)).unwrap();
    assert!(!memory.is_zero(GuestAddress(0x120), 0x19).unwrap());
    let slice = memory.get_slice(GuestAddress(0x128), 16).unwrap();
    assert!(!BytesExt::is_zero(&slice, 4, 40).unwrap());
    let slice = slice.subslice(0, 15).unwrap();
    let partial = BytesExt::is_zero(&slice, 4, 40).unwrap_err();
    assert!(matches!(
        partial,
        VolatileMemoryError::PartialBuffer {
            expected: 40,
            completed: 11
        }
    ));
}

#[test]
fn a_fill_that_starts_outside_names_the_address_and_an_empty_one_succeeds() {
    let memory = ram();
    for addr in [0, 0xff, 0x138, u64::MAX - 16].map(GuestAddress) {
        let outside = |error| matches!(error, Error::InvalidGuestAddress(at) if at == addr);
        assert!(outside(memory.fill(1, addr, 2).unwrap_err()));
        assert!(outside(memory.zero(addr, usize::MAX).unwrap_err()));
        assert!(outside(memory.is_zero(addr, 1).unwrap_err()));
        memory.fill(1, addr, 0).unwrap();
        assert!(memory.is_zero(addr, 0).unwrap());
    }
    let region = memory.find_region(GuestAddress(0x100)).unwrap();
    let slice = region.as_volatile_slice().unwrap();
    for offset in [16, 17, u64::MAX] {
        let addr = MemoryRegionAddress(offset);
        assert!(region.fill(1, addr, 1).is_err());
        assert!(region.is_zero(addr, 1).is_err());
        region.fill(1, addr, 0).unwrap();
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let outside = BytesExt::fill(&slice, 1, offset, usize::MAX).unwrap_err();
        assert!(matches!(outside, VolatileMemoryError::OutOfBounds { addr } if addr == offset));
        BytesExt::fill(&slice, 1, offset, 0).unwrap();
        assert!(BytesExt::is_zero(&slice, offset, 0).unwrap());
    }
    assert!(dirty(&memory).is_empty());
}

#[test]
fn a_fill_that_runs_into_read_only_memory_says_how_far_it_came() {
    let memory = memory(&[(0x100, 16, Kind::Ram), (0x110, 16, Kind::Rom)]);
    let error = memory.fill(1, GuestAddress(0x10a), 12).unwrap_err();
    let Error::Interrupted {
        operation: Operation::Fill,
        address: GuestAddress(0x10a),
        length: 12,
        completed: 6,
        ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(dirty(&memory), [0x108]);
    assert!(memory.is_zero(GuestAddress(0x110), 16).unwrap());
}

#[test]
fn fields_lie_in_little_endian_order() {
    let memory = ram();
    let addr = GuestAddress(0x118);
    memory
        .store_le(0x0102_0304u32, addr, Ordering::Release)
        .unwrap();
    assert_eq!(memory.read_obj::<[u8; 4]>(addr).unwrap(), [4, 3, 2, 1]);
    assert_eq!(
        memory.load_le::<u16>(addr, Ordering::Acquire).unwrap(),
        0x0304
    );
    assert_eq!(dirty(&memory), [0x118]);
    let slice = memory.get_slice(addr, 4).unwrap();
    assert_eq!(
        BytesExt::load_le::<u32>(&slice, 0, SEQ).unwrap(),
        0x0102_0304
    );
    assert!(memory.load_le::<u64>(GuestAddress(0x10c), SEQ).is_err());
}

#[test]
fn a_region_that_lies_about_its_slices_makes_an_error() {
    for kind in [Kind::Short, Kind::Long] {
        let region = Toy::new(0x100, 16, kind);
        let at = MemoryRegionAddress(0);
        let lied = |error| matches!(error, Error::SliceLength { expected: 8, .. });
        for (operation, error) in each_error::<u64, _, _>(&region, at) {
            assert!(lied(error), "{operation}");
        }
        assert!(lied(region.fill(1, at, 8).unwrap_err()));
        assert!(lied(region.is_zero(at, 8).unwrap_err()));
        assert!((0..16).all(|offset| !region.bitmap().dirty_at(offset)));
    }
}

#[test]
fn no_addition_of_several_threads_is_lost() {
    const THREADS: u32 = 4;
    const ROUNDS: u32 = if cfg!(miri) { 20 } else { 5_000 };
    let memory = ram();
    let addr = GuestAddress(0x114);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    memory.fetch_add(1u32, addr, Ordering::Relaxed).unwrap();
                    memory
                        .fetch_xor(u64::MAX, GuestAddress(0x118), SEQ)
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(memory.load::<u32>(addr, SEQ).unwrap(), THREADS * ROUNDS);
    assert_eq!(memory.load::<u64>(GuestAddress(0x118), SEQ).unwrap(), 0);
}

#[test]
#[should_panic(expected = "a failed exchange does not release")]
fn an_exchange_whose_failure_releases_panics() {
    drop(ram().compare_exchange(0u32, 1, GuestAddress(0x100), SEQ, Ordering::Release));
}
