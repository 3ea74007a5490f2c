// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What an access that is refused tells.

use std::error::Error as _;
use std::sync::atomic::Ordering;

use guest_memory_core::{
    Bytes, BytesExt, FaultCause, GuestAddress, GuestMemoryError, IoMemory, IovaRange, Permissions,
};
use guest_memory_iommu::{Error, Iommu, IommuMemory, Iotlb, SharedIotlb};
use guest_memory_mmap::GuestMemoryMmap;

use crate::locked::Locked;

type Below = GuestMemoryMmap<()>;

fn below() -> Below {
    Below::from_ranges(&[(GuestAddress(0), 0x4000)]).unwrap()
}

/// Two pages mapped the other way round, the second read-only, and one that leads out of memory.
fn fill(table: &mut Iotlb) {
    for (iova, target, allowed) in [
        (0x10_000, 0x2000, Permissions::ReadWrite),
        (0x11_000, 0x1000, Permissions::Read),
        (0x13_000, 0x8000, Permissions::ReadWrite),
    ] {
        table
            .set_mapping(GuestAddress(iova), GuestAddress(target), 0x1000, allowed)
            .unwrap();
    }
}

fn memory() -> IommuMemory<Below, SharedIotlb> {
    let memory = IommuMemory::new(below(), SharedIotlb::new(), true, ());
    memory.iommu().update(fill);
    memory
}

fn fault(base: u64, length: usize, access: Permissions, cause: FaultCause) -> Error {
    let iova_range = IovaRange {
        base: GuestAddress(base),
        length,
    };
    Error::Fault {
        iova_range,
        access,
        cause,
    }
}

#[test]
fn a_long_write_says_how_far_it_came_and_which_iova_was_refused() {
    let memory = memory();
    let error = memory
        .write_slice(&[1; 0x1800], GuestAddress(0x10_800))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "write of 6144 bytes at gpa 0x10800 stopped after 2048 bytes"
    );
    let source = error.source().unwrap();
    assert_eq!(
        source.to_string(),
        "write of 4096 bytes at iova 0x11000 refused: not allowed by the mapping"
    );
    let below = memory.get_backend();
    assert_eq!(below.read_obj::<u8>(GuestAddress(0x2fff)).unwrap(), 1);
    assert_eq!(below.read_obj::<u8>(GuestAddress(0x1000)).unwrap(), 0);
}

#[test]
fn a_refused_first_byte_is_the_fault_itself() {
    let memory = memory();
    let cases = [
        (0x12_000, 4, FaultCause::NotMapped),
        (0xf_ffe, 2, FaultCause::NotMapped),
        (u64::MAX - 3, 4, FaultCause::NotMapped),
    ];
    for (iova, length, cause) in cases {
        let error = memory.read_obj::<u32>(GuestAddress(iova)).unwrap_err();
        let expected = fault(iova, length, Permissions::Read, cause);
        assert!(
            matches!(&error, GuestMemoryError::IommuError(found) if *found == expected),
            "{error:?}"
        );
    }
}

#[test]
fn atomics_fills_and_streams_tell_the_fault() {
    let memory = memory();
    let at = GuestAddress(0x11_008);
    let is = |error: GuestMemoryError, access, length| {
        let expected = fault(0x11_008, length, access, FaultCause::NotAllowed);
        assert!(
            matches!(&error, GuestMemoryError::IommuError(found) if *found == expected),
            "{error:?}"
        );
    };
    let store = memory.store(1u32, at, Ordering::Relaxed);
    is(store.unwrap_err(), Permissions::Write, 4);
    let add = memory.fetch_add(1u32, at, Ordering::Relaxed);
    is(add.unwrap_err(), Permissions::ReadWrite, 4);
    let mut source = &[1u8; 64][..];
    let stream = memory.read_exact_volatile_from(at, &mut source, 16);
    is(stream.unwrap_err(), Permissions::Write, 16);
    assert_eq!(memory.load::<u32>(at, Ordering::Relaxed).unwrap(), 0);
    assert_eq!(source.len(), 64);

    let mut sink = Vec::new();
    let error = memory
        .write_all_volatile_to(GuestAddress(0x11_ff0), &mut sink, 32)
        .unwrap_err();
    let GuestMemoryError::Interrupted {
        completed, source, ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!((completed, sink.len()), (16, 16));
    assert!(matches!(
        *source,
        GuestMemoryError::IommuError(Error::Fault { .. })
    ));
}

#[test]
fn a_mapping_to_no_memory_is_a_fault_with_both_addresses() {
    let memory = memory();
    let target = GuestAddress(0x8010);
    let error = memory.read_obj::<u64>(GuestAddress(0x13_010)).unwrap_err();
    let expected = fault(
        0x13_010,
        8,
        Permissions::Read,
        FaultCause::NoMemory { target },
    );
    assert!(
        matches!(&error, GuestMemoryError::IommuError(found) if *found == expected),
        "{error:?}"
    );
}

#[test]
fn an_access_that_reaches_past_the_last_address_ends_there() {
    let memory = memory();
    let top = GuestAddress(u64::MAX - 7);
    memory
        .iommu()
        .set_mapping(top, GuestAddress(0), 8, Permissions::ReadWrite)
        .unwrap();
    assert_eq!(memory.write(&[7; 16], top).unwrap(), 8);
    assert!(matches!(
        memory.write_slice(&[7; 16], top),
        Err(GuestMemoryError::PartialBuffer {
            expected: 16,
            completed: 8
        })
    ));
    let mut lengths = memory
        .get_slices(top, usize::MAX, Permissions::Read)
        .unwrap()
        .map(|slice| slice.map(|slice| slice.len()));
    assert!(matches!(lengths.next(), Some(Ok(8))));
    assert!(matches!(
        lengths.next(),
        Some(Err(GuestMemoryError::GuestAddressOverflow))
    ));
    assert!(lengths.next().is_none());
    assert!(!memory.check_range(top, 9, Permissions::Read));
}

#[test]
fn an_empty_access_touches_no_mapping() {
    let memory = memory();
    for iova in [0, 0x12_000, u64::MAX] {
        let at = GuestAddress(iova);
        assert_eq!(memory.write(&[], at).unwrap(), 0);
        assert!(memory.check_range(at, 0, Permissions::ReadWrite));
        let slices = memory.get_slices(at, 0, Permissions::ReadWrite).unwrap();
        assert_eq!(slices.count(), 0);
    }
}

#[test]
fn an_iommu_of_its_own_words_is_asked_for_what_comes_before_its_fault() {
    let memory = IommuMemory::new(below(), Locked::default(), true, ());
    fill(&mut memory.iommu().table.write().unwrap());
    let mut buffer = [1; 0x2800];
    let error = memory
        .read_slice(&mut buffer, GuestAddress(0x10_000))
        .unwrap_err();
    assert!(matches!(
        error,
        GuestMemoryError::Interrupted {
            completed: 0x2000,
            ..
        }
    ));
    // A hit is one question.
    memory.iommu().asked.store(0, Ordering::Relaxed);
    memory.read_obj::<u64>(GuestAddress(0x10_000)).unwrap();
    assert_eq!(memory.iommu().asked.load(Ordering::Relaxed), 1);
}

#[test]
fn a_range_in_pieces_has_no_single_address() {
    let memory = memory();
    let whole =
        |iova, length| memory.translate_whole(GuestAddress(iova), length, Permissions::Read);
    assert_eq!(whole(0x10_010, 0xff0).unwrap(), GuestAddress(0x2010));
    let error = whole(0x10_ff0, 0x20).unwrap_err();
    assert!(matches!(
        error,
        Error::Fragmented {
            continuous_length: 0x10,
            ..
        }
    ));
    // Two mappings that go on, with other permissions.
    memory
        .iommu()
        .set_mapping(
            GuestAddress(0x11_000),
            GuestAddress(0x3000),
            0x1000,
            Permissions::Read,
        )
        .unwrap();
    assert_eq!(whole(0x10_ff0, 0x20).unwrap(), GuestAddress(0x2ff0));
    assert!(matches!(whole(0x12_000, 1), Err(Error::Fault { .. })));
    assert!(matches!(whole(0x10_000, 0), Err(Error::Fragmented { .. })));
}

#[test]
fn a_change_that_panics_changes_nothing_and_blocks_nobody() {
    let table = SharedIotlb::new();
    table.update(fill);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        table.update(|table| {
            table.invalidate_all();
            panic!("in the middle");
        })
    }));
    assert!(result.is_err());
    let found = |iova| {
        table
            .first_mapped(GuestAddress(iova), 1, Permissions::Read)
            .is_some()
    };
    assert!(found(0x10_000));
    table.invalidate_all();
    assert!(!found(0x10_000));
}
