// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Accesses within runs, over seams, and into holes.

use std::sync::Arc;

use guest_memory_core::{
    Bytes, BytesExt, GuestAddress, GuestAddressSpace, GuestMemory, GuestMemoryError,
    GuestMemorySliceIterator, IoMemory, Operation, Permissions,
};
use guest_memory_mmap::{FlatGuestMemory, Protection};
use guest_memory_volatile::VolatileMemoryError;

use super::{PAGE, memory, page, ram, rom};
use crate::files::{BIG_PAGE, file_of};

/// Asserts that an access over the border at `seam` is one slice of both regions' memory.
pub(super) fn assert_seamless(memory: &FlatGuestMemory, seam: GuestAddress) {
    let start = GuestAddress(seam.0 - 8);
    let slices = memory
        .get_slices(start, 16, Permissions::ReadWrite)
        .expect("both regions");
    let slices: Vec<_> = slices.stop_on_error().expect("both regions").collect();
    assert_eq!(slices.len(), 1);
    assert_eq!(slices[0].len(), 16);
    assert!(memory.single_slice(start, 16, Permissions::Write).is_some());
    let value = u128::from_ne_bytes(*b"both sides of it");
    memory.write_obj(value, start).expect("both regions");
    let regions = memory.regions();
    assert_eq!(
        regions.read_obj::<[u8; 8]>(start).expect("both regions"),
        *b"both sid"
    );
    assert_eq!(
        regions.read_obj::<[u8; 8]>(seam).expect("both regions"),
        *b"es of it"
    );
    regions
        .write_slice(b"otherwise", start)
        .expect("both regions");
    assert_eq!(
        memory
            .get_slice(start, 9)
            .expect("both regions")
            .read_obj::<[u8; 9]>(0)
            .expect("both regions"),
        *b"otherwise"
    );
}

#[test]
fn neighbours_of_the_same_protection_are_one_slice() {
    let memory = memory();
    assert_seamless(&memory, page(1));
    let whole = memory.get_slice(page(0), 3 * BIG_PAGE).unwrap();
    assert_eq!(whole.ptr_guard().as_ptr(), memory.as_ptr().cast_const());
    // As many as there are.
    let many = (0..64).fold(
        FlatGuestMemory::<()>::builder(64 * PAGE),
        |builder, number| builder.with_region(page(number), ram(1)),
    );
    let many = many.build().unwrap();
    assert_eq!(many.regions().num_regions(), 64);
    let slices = many.get_slices(page(0), 64 * BIG_PAGE, Permissions::ReadWrite);
    assert_eq!(slices.unwrap().count(), 1);
}

#[test]
fn a_file_descriptor_fills_neighbours_at_once() {
    let memory = memory();
    let mut file = file_of(3 * PAGE);
    memory.fill(0xee, page(0), 3 * BIG_PAGE).unwrap();
    let read = memory.read_volatile_from(page(0), &mut file, 3 * BIG_PAGE);
    assert_eq!(read.unwrap(), 3 * BIG_PAGE);
    assert!(memory.is_zero(page(0), 3 * BIG_PAGE).unwrap());
}

#[test]
fn an_access_into_a_hole_says_how_far_it_came() {
    let memory = memory();
    let near = GuestAddress(3 * PAGE - 5);
    assert_eq!(memory.write(&[1; 9], near).unwrap(), 5);
    assert_eq!(memory.read(&mut [0; 9], near).unwrap(), 5);
    assert!(matches!(
        memory.write_slice(&[1; 9], near),
        Err(GuestMemoryError::PartialBuffer {
            expected: 9,
            completed: 5
        })
    ));
    assert!(matches!(
        memory.read_obj::<u64>(near),
        Err(GuestMemoryError::PartialBuffer {
            expected: 8,
            completed: 5
        })
    ));
    for hole in [
        page(3),
        GuestAddress(4 * PAGE - 1),
        page(6),
        page(8),
        GuestAddress(u64::MAX),
    ] {
        assert!(matches!(
            memory.write_obj(1u8, hole),
            Err(GuestMemoryError::InvalidGuestAddress(at)) if at == hole
        ));
        assert!(memory.single_slice(hole, 1, Permissions::Read).is_none());
        assert!(memory.first_slice(hole, 1, Permissions::Read).is_none());
        assert!(matches!(
            memory.get_slice(hole, 0),
            Err(GuestMemoryError::InvalidGuestAddress(at)) if at == hole
        ));
        // No bytes are nowhere.
        assert_eq!(memory.write(&[], hole).unwrap(), 0);
        assert!(memory.check_range(hole, 0, Permissions::ReadWrite));
    }
    assert!(memory.check_range(page(0), 3 * BIG_PAGE, Permissions::ReadWrite));
    assert!(!memory.check_range(page(0), 3 * BIG_PAGE + 1, Permissions::ReadWrite));
    assert!(matches!(
        memory.get_slice(page(2), BIG_PAGE + 1),
        Err(GuestMemoryError::Access {
            operation: Operation::Slice,
            source: VolatileMemoryError::OutOfBounds { addr },
            ..
        }) if addr == BIG_PAGE
    ));
}

#[test]
fn a_rom_beside_ram_is_read_with_it_and_not_written() {
    let memory = memory();
    let near = GuestAddress(5 * PAGE - 4);
    assert_eq!(memory.read_obj::<u64>(near).unwrap(), 0);
    let slices = memory.get_slices(near, 8, Permissions::Read).unwrap();
    assert_eq!(
        slices.map(|slice| slice.unwrap().len()).collect::<Vec<_>>(),
        [4, 4]
    );
    let error = memory.write_slice(&[7; 8], near).unwrap_err();
    let GuestMemoryError::Interrupted {
        completed, source, ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(completed, 4);
    assert!(matches!(
        *source,
        GuestMemoryError::Access { address, source: VolatileMemoryError::ReadOnly { .. }, .. }
            if address == page(5)
    ));
    assert_eq!(
        memory.read_obj::<[u8; 8]>(near).unwrap(),
        [7, 7, 7, 7, 0, 0, 0, 0]
    );
    assert!(matches!(
        memory.write_obj(1u8, page(5)),
        Err(GuestMemoryError::Access {
            source: VolatileMemoryError::ReadOnly { .. },
            ..
        })
    ));
    assert!(memory.get_slice(page(5), 8).unwrap().is_read_only());
    assert!(!memory.check_range(page(5), 1, Permissions::Write));
    assert!(memory.check_range(page(5), 1, Permissions::Read));
}

#[test]
fn memory_without_access_is_refused_and_has_an_address() {
    let memory = FlatGuestMemory::<()>::builder(4 * PAGE)
        .with_region(page(0), ram(1))
        .with_region(page(1), ram(1).with_protection(Protection::NoAccess))
        .build()
        .unwrap();
    assert!(matches!(
        memory.read_obj::<u8>(page(1)),
        Err(GuestMemoryError::Access {
            source: VolatileMemoryError::NotReadable { .. },
            ..
        })
    ));
    let error = memory
        .read_slice(&mut [0; 8], GuestAddress(PAGE - 4))
        .unwrap_err();
    assert!(
        matches!(error, GuestMemoryError::Interrupted { completed: 4, .. }),
        "{error:?}"
    );
    assert!(memory.host_address(page(1), BIG_PAGE).is_ok());
}

#[test]
#[expect(unsafe_code, reason = "takes access away")]
fn a_protection_that_changes_is_looked_up() {
    let memory = FlatGuestMemory::<()>::builder(4 * PAGE)
        .with_region(page(0), ram(1))
        .with_region(page(1), ram(2).with_changeable_protection())
        .with_region(page(3), rom(1))
        .build()
        .unwrap();
    let over_the_seam = GuestAddress(PAGE - 4);
    memory.write_obj(u64::MAX, over_the_seam).unwrap();
    let region = memory.regions().find_region(page(1)).unwrap();
    // SAFETY: nobody has a window or a pointer.
    unsafe { region.protect(0, BIG_PAGE, Protection::ReadOnly) }.unwrap();
    assert_eq!(memory.read_obj::<u64>(over_the_seam).unwrap(), u64::MAX);
    let error = memory.write_obj(0u64, over_the_seam).unwrap_err();
    assert!(
        matches!(error, GuestMemoryError::Interrupted { completed: 4, .. }),
        "{error:?}"
    );
    memory.write_obj(3u64, page(2)).unwrap();
    // SAFETY: as before.
    unsafe { region.protect(0, BIG_PAGE, Protection::NoAccess) }.unwrap();
    assert!(memory.read_obj::<u8>(page(1)).is_err());
    // SAFETY: gives access.
    unsafe { region.protect(0, BIG_PAGE, Protection::ReadWrite) }.unwrap();
    assert_eq!(memory.read_obj::<u32>(page(1)).unwrap(), u32::MAX);
}

#[test]
fn a_memory_without_regions_has_nothing() {
    let memory = FlatGuestMemory::<()>::builder(PAGE).build().unwrap();
    assert!(memory.read_obj::<u8>(GuestAddress(0)).is_err());
    assert!(memory.read_obj::<u8>(GuestAddress(u64::MAX)).is_err());
    assert_eq!(memory.regions().num_regions(), 0);
    assert!(memory.physical_memory().is_some());
}

#[test]
fn handles_and_threads_share_it() {
    fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<FlatGuestMemory>();
    fn read<S: GuestAddressSpace>(space: &S) -> u64 {
        space.memory().read_obj(GuestAddress(PAGE - 4)).unwrap()
    }
    let memory = Arc::new(memory());
    std::thread::scope(|scope| {
        for index in 0..4u16 {
            let memory = &memory;
            let place = GuestAddress(PAGE - 4 + 2 * u64::from(index));
            scope.spawn(move || memory.write_obj(index, place).unwrap());
        }
    });
    let expected = [0u16, 1, 2, 3].map(u16::to_ne_bytes);
    assert_eq!(read(&memory).to_ne_bytes(), *expected.as_flattened());
    assert_eq!(read(&&*memory).to_ne_bytes(), *expected.as_flattened());
}
