// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Accesses over regions, into holes, to read-only memory, and to regions that lie.

use std::sync::atomic::Ordering;

use guest_memory_core::{
    Bytes, GuestAddress, GuestMemory, GuestMemoryError as Error, IoMemory, Operation, Permissions,
    VolatileMemoryError,
};

use crate::toy::{Kind, Toy, dirty, memory};

/// Two adjacent regions, a hole, one at the end of addresses.
fn ram() -> guest_memory_core::GuestRegionCollection<Toy> {
    memory(&[
        (0x100, 16, Kind::Ram),
        (0x110, 32, Kind::Ram),
        (u64::MAX - 15, 16, Kind::Ram),
    ])
}

#[test]
fn an_access_over_two_regions_is_whole_and_marks_both() {
    let memory = ram();
    let data: Vec<u8> = (1..=20).collect();
    memory.write_slice(&data, GuestAddress(0x106)).unwrap();
    let mut back = [0; 20];
    memory.read_slice(&mut back, GuestAddress(0x106)).unwrap();
    assert_eq!(back.as_slice(), data);
    assert_eq!(dirty(&memory), [0x100, 0x108, 0x110, 0x118]);
    memory
        .write_obj(0x1122_3344_5566_7788_u64, GuestAddress(0x10c))
        .unwrap();
    assert_eq!(
        memory.read_obj::<u64>(GuestAddress(0x10c)).unwrap(),
        0x1122_3344_5566_7788
    );
}

#[test]
fn an_access_into_a_hole_says_how_far_it_came() {
    let memory = ram();
    let addr = GuestAddress(0x12a);
    assert_eq!(memory.write(&[7; 10], addr).unwrap(), 6);
    assert_eq!(memory.read(&mut [0; 10], addr).unwrap(), 6);
    assert!(matches!(
        memory.write_slice(&[7; 10], addr),
        Err(Error::PartialBuffer {
            expected: 10,
            completed: 6
        })
    ));
    assert!(matches!(
        memory.read_obj::<u64>(addr),
        Err(Error::PartialBuffer {
            expected: 8,
            completed: 6
        })
    ));
    assert_eq!(dirty(&memory), [0x128]);
}

#[test]
fn the_end_of_addresses_is_an_end_like_any_other() {
    let memory = ram();
    let last = GuestAddress(u64::MAX);
    memory.write_obj(9u8, last).unwrap();
    assert_eq!(memory.read_obj::<u8>(last).unwrap(), 9);
    assert_eq!(
        memory.write(&[1; 4], GuestAddress(u64::MAX - 1)).unwrap(),
        2
    );
    assert!(matches!(
        memory.write_slice(&[1; 4], GuestAddress(u64::MAX - 1)),
        Err(Error::PartialBuffer {
            expected: 4,
            completed: 2
        })
    ));
    assert!(GuestMemory::check_range(
        &memory,
        GuestAddress(u64::MAX - 15),
        16
    ));
    assert!(!GuestMemory::check_range(
        &memory,
        GuestAddress(u64::MAX - 15),
        17
    ));
}

#[test]
fn an_access_outside_names_the_address() {
    let memory = ram();
    for addr in [0, 0xff, 0x130, u64::MAX - 16].map(GuestAddress) {
        assert!(
            matches!(memory.write(&[1], addr), Err(Error::InvalidGuestAddress(at)) if at == addr)
        );
        assert!(
            matches!(memory.read(&mut [1], addr), Err(Error::InvalidGuestAddress(at)) if at == addr)
        );
        assert!(
            matches!(memory.write_obj(1u32, addr), Err(Error::InvalidGuestAddress(at)) if at == addr)
        );
        assert!(matches!(
            memory.load::<u32>(addr, Ordering::Acquire),
            Err(Error::InvalidGuestAddress(at)) if at == addr
        ));
        assert!(
            matches!(memory.get_slice(addr, 1), Err(Error::InvalidGuestAddress(at)) if at == addr)
        );
        memory.write_slice(&[], addr).unwrap();
        memory.read_slice(&mut [], addr).unwrap();
    }
    assert!(dirty(&memory).is_empty());
}

#[test]
fn atomics_need_alignment_and_one_region() {
    let memory = ram();
    memory
        .store(5u64, GuestAddress(0x118), Ordering::Release)
        .unwrap();
    assert_eq!(
        memory
            .load::<u64>(GuestAddress(0x118), Ordering::Acquire)
            .unwrap(),
        5
    );
    assert_eq!(dirty(&memory), [0x118]);
    assert!(matches!(
        memory.store(5u32, GuestAddress(0x11a), Ordering::Release),
        Err(Error::Access {
            operation: Operation::Store,
            address: GuestAddress(0x11a),
            length: 4,
            completed: 0,
            source: VolatileMemoryError::Misaligned { alignment: 4, .. },
        })
    ));
    assert!(matches!(
        memory.load::<u64>(GuestAddress(0x10c), Ordering::Acquire),
        Err(Error::Access {
            operation: Operation::Load,
            address: GuestAddress(0x10c),
            source: VolatileMemoryError::OutOfBounds { addr: 4 },
            ..
        })
    ));
}

#[test]
fn read_only_memory_refuses_writes_and_can_be_read() {
    let memory = memory(&[(0x100, 16, Kind::Ram), (0x110, 16, Kind::Rom)]);
    let rom = GuestAddress(0x110);
    let refused = |error: Error, at: u64, len: usize| {
        matches!(error, Error::Access {
            operation: Operation::Write,
            address,
            length,
            completed: 0,
            source: VolatileMemoryError::ReadOnly { .. },
        } if address.0 == at && length == len)
    };
    assert!(refused(memory.write(&[1; 4], rom).unwrap_err(), 0x110, 4));
    assert!(refused(
        memory.write_slice(&[1; 4], rom).unwrap_err(),
        0x110,
        4
    ));
    assert!(refused(memory.write_obj(1u16, rom).unwrap_err(), 0x110, 2));
    assert!(matches!(
        memory.store(1u32, rom, Ordering::Relaxed),
        Err(Error::Access {
            operation: Operation::Store,
            address: GuestAddress(0x110),
            length: 4,
            source: VolatileMemoryError::ReadOnly { .. },
            ..
        })
    ));
    assert_eq!(memory.read_obj::<u32>(rom).unwrap(), 0);
    assert_eq!(memory.load::<u32>(rom, Ordering::Relaxed).unwrap(), 0);

    // Half of it goes to RAM, and the error tells how much and why not more.
    let error = memory
        .write_slice(&[1; 8], GuestAddress(0x10c))
        .unwrap_err();
    match error {
        Error::Interrupted {
            address: GuestAddress(0x10c),
            length: 8,
            completed: 4,
            source,
            ..
        } => {
            assert!(refused(*source, 0x110, 4));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        memory.read_obj::<u32>(GuestAddress(0x10c)).unwrap(),
        0x0101_0101
    );

    assert!(IoMemory::check_range(&memory, rom, 16, Permissions::Read));
    assert!(!IoMemory::check_range(&memory, rom, 16, Permissions::Write));
    assert!(IoMemory::check_range(
        &memory,
        GuestAddress(0x100),
        32,
        Permissions::Read
    ));
    assert!(!IoMemory::check_range(
        &memory,
        GuestAddress(0x100),
        17,
        Permissions::ReadWrite
    ));

    // A window on it, as a device would take one, refuses as well.
    let window = memory.get_slice(rom, 8).unwrap();
    assert!(matches!(
        window.write_obj(1u8, 0),
        Err(VolatileMemoryError::ReadOnly { addr: 0 })
    ));
}

#[test]
fn a_region_that_lies_about_its_slices_makes_an_error() {
    for kind in [Kind::Short, Kind::Long] {
        let memory = memory(&[(0x100, 16, kind)]);
        let addr = GuestAddress(0x104);
        let lied = |error: Error, len: usize| {
            matches!(error, Error::SliceLength { address: GuestAddress(0x104), expected, actual }
                if expected == len && actual == if kind == Kind::Short { len - 1 } else { len + 1 })
        };
        assert!(
            lied(memory.write(&[1; 4], addr).unwrap_err(), 4),
            "{kind:?}"
        );
        assert!(
            lied(memory.read_slice(&mut [1; 4], addr).unwrap_err(), 4),
            "{kind:?}"
        );
        assert!(
            lied(memory.read_obj::<u16>(addr).unwrap_err(), 2),
            "{kind:?}"
        );
        assert!(
            lied(memory.load::<u32>(addr, Ordering::Relaxed).unwrap_err(), 4),
            "{kind:?}"
        );
        assert!(lied(memory.get_slice(addr, 3).unwrap_err(), 3), "{kind:?}");
        assert!(
            lied(memory.get_host_address_range(addr, 3).unwrap_err(), 3),
            "{kind:?}"
        );
        assert!(!GuestMemory::check_range(&memory, addr, 4), "{kind:?}");
        assert!(dirty(&memory).is_empty());
    }
}

#[test]
fn windows_over_several_regions_come_one_a_region() {
    let memory = ram();
    let lengths = |addr, count| -> Vec<Result<usize, String>> {
        let slices = GuestMemory::get_slices(&memory, GuestAddress(addr), count);
        slices
            .map(|slice| {
                slice
                    .map(|slice| slice.len())
                    .map_err(|error| error.to_string())
            })
            .collect()
    };
    assert_eq!(lengths(0x108, 20), [Ok(8), Ok(12)]);
    assert_eq!(lengths(0x108, 0), []);
    let hole = || Err("no memory mapped at gpa 0x130".to_owned());
    assert_eq!(lengths(0x108, 64), [Ok(8), Ok(32), hole()]);
    assert_eq!(lengths(0x130, 1), [hole()]);
    assert_eq!(
        lengths(u64::MAX - 1, 4),
        [Ok(2), Err("guest address overflow".to_owned())]
    );

    let stopped = GuestMemory::get_slices(&memory, GuestAddress(0x108), 64)
        .stop_on_error()
        .unwrap();
    assert_eq!(
        stopped.map(|slice| slice.len()).collect::<Vec<_>>(),
        [8, 32]
    );
    let at_once = GuestMemory::get_slices(&memory, GuestAddress(0x130), 1).stop_on_error();
    assert!(matches!(
        at_once.err(),
        Some(Error::InvalidGuestAddress(GuestAddress(0x130)))
    ));
}

#[test]
fn try_access_offers_each_stretch_and_believes_no_wrong_count() {
    let memory = ram();
    let mut offers = Vec::new();
    let taken = memory
        .try_access(40, GuestAddress(0x10c), |done, offered, offset, region| {
            use guest_memory_core::GuestMemoryRegion;
            offers.push((done, offered, offset.0, region.start_addr().0));
            Ok(usize::min(offered, 20))
        })
        .unwrap();
    assert_eq!(taken, 36);
    assert_eq!(
        offers,
        [(0, 4, 12, 0x100), (4, 32, 0, 0x110), (24, 12, 20, 0x110)]
    );

    let nothing = memory
        .try_access(8, GuestAddress(0x100), |_, _, _, _| Ok(0))
        .unwrap();
    assert_eq!(nothing, 0);
    let too_much = memory.try_access(8, GuestAddress(0x100), |_, offered, _, _| Ok(offered + 1));
    assert!(matches!(too_much, Err(Error::CallbackOutOfRange)));
    let outside = memory.try_access(8, GuestAddress(0), |_, offered, _, _| Ok(offered));
    assert!(matches!(
        outside,
        Err(Error::InvalidGuestAddress(GuestAddress(0)))
    ));
}
