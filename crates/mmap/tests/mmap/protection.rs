// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Regions know their protection: what would be a signal is an error.
#![expect(unsafe_code, reason = "asks for plain slices of regions")]

use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use guest_memory_bitmap::{AtomicBitmap, Bitmap};
use guest_memory_core::{
    Bytes, FileOffset, GuestAddress, GuestMemory, GuestMemoryError, GuestMemoryRegion,
    MemoryRegionAddress,
};
use guest_memory_mmap::{GuestMemoryMmap, GuestRegionMmap, MmapRegionBuilder};
use guest_memory_volatile::{VolatileMemory, VolatileMemoryError};

use crate::files::{BIG_PAGE, file_of};

const BASE: GuestAddress = GuestAddress(0x10_0000);

fn guest(prot: i32) -> GuestRegionMmap<AtomicBitmap> {
    let builder = MmapRegionBuilder::new(BIG_PAGE).with_mmap_prot(prot);
    GuestRegionMmap::new(builder.build().expect("memory"), BASE).expect("it fits")
}

/// A memory of one region with a file's contents, mapped for reading only.
fn rom() -> GuestMemoryMmap<AtomicBitmap> {
    let file = file_of(BIG_PAGE as u64);
    file.write_all_at(b"firmware", 16)
        .expect("a write to the file");
    let builder = MmapRegionBuilder::new(BIG_PAGE)
        .with_mmap_prot(libc::PROT_READ)
        .with_file_offset(FileOffset::new(file, 0));
    let region = GuestRegionMmap::new(builder.build().expect("memory"), BASE).expect("it fits");
    GuestMemoryMmap::from_regions(vec![region]).expect("a map")
}

fn is_read_only(error: &GuestMemoryError) -> bool {
    matches!(
        error,
        GuestMemoryError::Access {
            source: VolatileMemoryError::ReadOnly { .. },
            ..
        }
    )
}

#[test]
fn a_region_is_readable_and_writable_unless_asked_otherwise() {
    let region = MmapRegionBuilder::<()>::new(BIG_PAGE).build().unwrap();
    assert_eq!(region.prot(), libc::PROT_READ | libc::PROT_WRITE);
    region.as_volatile_slice().write_obj(1u8, 0).unwrap();
}

#[test]
fn read_only_memory_is_read() {
    let rom = rom();
    assert_eq!(
        rom.read_obj::<[u8; 8]>(GuestAddress(BASE.0 + 16)).unwrap(),
        *b"firmware"
    );
}

#[test]
fn every_write_to_read_only_memory_is_an_error_and_leaves_no_mark() {
    let rom = rom();
    let at = GuestAddress(BASE.0 + 16);
    let errors = [
        rom.write_obj(1u64, at).unwrap_err(),
        rom.write_slice(b"longer than one word", at).unwrap_err(),
        rom.write(b"partial", at).unwrap_err(),
        rom.store(1u32, at, Ordering::Relaxed).unwrap_err(),
    ];
    for error in errors {
        assert!(is_read_only(&error), "{error:?}");
    }
    let mut source: &[u8] = b"a stream";
    assert!(rom.read_exact_volatile_from(at, &mut source, 8).is_err());
    let mut source: &[u8] = b"a stream";
    assert!(rom.read_volatile_from(at, &mut source, 8).is_err());
    // The memory is as it was and nothing is marked.
    assert_eq!(rom.read_obj::<[u8; 8]>(at).unwrap(), *b"firmware");
    assert!(!rom.find_region(BASE).unwrap().bitmap().dirty_at(16));
}

#[test]
fn every_slice_of_read_only_memory_is_read_only() {
    let region = guest(libc::PROT_READ);
    assert!(VolatileMemory::as_volatile_slice(&*region).is_read_only());
    assert!(
        VolatileMemory::get_slice(&*region, 8, 8)
            .unwrap()
            .is_read_only()
    );
    assert!(
        GuestMemoryRegion::as_volatile_slice(&region)
            .unwrap()
            .is_read_only()
    );
    let slice = GuestMemoryRegion::get_slice(&region, MemoryRegionAddress(8), 8).unwrap();
    assert!(slice.is_read_only());
    slice.copy_from(&[1u8; 8]);
    assert_eq!(slice.read_obj::<u64>(0).unwrap(), 0);
    assert!(
        slice
            .get_atomic_ref::<std::sync::atomic::AtomicU32>(0)
            .is_err()
    );
}

#[test]
fn memory_without_read_permission_hands_out_no_slice() {
    for prot in [libc::PROT_NONE, libc::PROT_WRITE] {
        let region = guest(prot);
        assert!(matches!(
            VolatileMemory::get_slice(&*region, 4, 8),
            Err(VolatileMemoryError::NotReadable { addr: 4 })
        ));
        assert!(VolatileMemory::as_volatile_slice(&*region).is_empty());
        assert!(matches!(
            GuestMemoryRegion::as_volatile_slice(&region),
            Err(GuestMemoryError::Access { address: BASE, source, .. })
                if matches!(source, VolatileMemoryError::NotReadable { addr: 0 })
        ));
        assert!(region.read_obj::<u8>(MemoryRegionAddress(0)).is_err());
        assert!(region.write_obj(1u8, MemoryRegionAddress(0)).is_err());
        assert!(
            region
                .load::<u32>(MemoryRegionAddress(0), Ordering::Relaxed)
                .is_err()
        );

        let memory = GuestMemoryMmap::from_regions(vec![region]).unwrap();
        assert!(memory.read_obj::<u64>(BASE).is_err());
        assert!(memory.write_slice(&[1; 100], BASE).is_err());
        // The address is still there for a hypervisor.
        assert!(!memory.get_host_address(BASE).unwrap().is_null());
    }
}

#[test]
fn an_access_past_the_end_of_unreadable_memory_says_so() {
    let region = guest(libc::PROT_NONE);
    let error = VolatileMemory::get_slice(&*region, BIG_PAGE, 1).unwrap_err();
    assert!(matches!(error, VolatileMemoryError::OutOfBounds { .. }));
    let error = VolatileMemory::get_slice(&*region, usize::MAX, 2).unwrap_err();
    assert!(matches!(error, VolatileMemoryError::Overflow { .. }));
}

#[test]
fn plain_slices_follow_the_protection() {
    let (read, write) = (libc::PROT_READ, libc::PROT_WRITE);
    // Protection, whether there is a slice, whether there is one to change.
    let table = [
        (0, false, false),
        (read, true, false),
        (write, false, false),
        (read | write, true, true),
    ];
    for (prot, readable, writable) in table {
        let region = guest(prot);
        // SAFETY: nobody else has the region.
        assert_eq!(unsafe { region.as_slice() }.is_some(), readable);
        // SAFETY: nobody else has the region and the slice above is gone.
        assert_eq!(unsafe { region.as_mut_slice() }.is_some(), writable);
    }
}
