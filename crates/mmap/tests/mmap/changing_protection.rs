// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The protection of a region, or of a part of it, changes while it lives; the region knows.
#![expect(unsafe_code, reason = "takes access away from a region in use")]

use std::sync::Arc;

use guest_memory_bitmap::{AtomicBitmap, Bitmap};
use guest_memory_core::{Bytes, GuestAddress, GuestMemory, GuestMemoryRegion, MemoryRegionAddress};
use guest_memory_mmap::{
    GuestMemoryMmap, GuestRegionMmap, MmapRegion, MmapRegionBuilder, ProtectError, Protection,
};
use guest_memory_volatile::VolatileMemory;
use proptest::prelude::*;

use crate::child::signal_of_write;
use crate::files::BIG_PAGE;
use crate::pool::Turn;
use crate::rerun;

const SIZE: usize = 8 * BIG_PAGE;
const BASE: GuestAddress = GuestAddress(0x100_0000);

fn changeable() -> MmapRegion<AtomicBitmap> {
    let builder = MmapRegionBuilder::new(SIZE).with_changeable_protection();
    builder.build().expect("memory")
}

#[test]
fn a_firmware_is_loaded_and_then_read_only() {
    let mapping = MmapRegion::<AtomicBitmap>::new(SIZE).unwrap();
    let mut region = GuestRegionMmap::new(mapping, BASE).unwrap();
    region
        .write_slice(b"firmware", MemoryRegionAddress(16))
        .unwrap();
    region
        .set_protection(0, SIZE, Protection::ReadOnly)
        .unwrap();
    assert_eq!(region.prot(), libc::PROT_READ);
    assert_eq!(region.protection(0, SIZE), Protection::ReadOnly);
    assert!(region.write_obj(1u8, MemoryRegionAddress(16)).is_err());
    assert!(
        GuestMemoryRegion::as_volatile_slice(&region)
            .unwrap()
            .is_read_only()
    );
    // Not only the library knows.
    assert_eq!(
        signal_of_write(&Turn::wait().unwrap(), region.as_ptr()),
        Some(libc::SIGSEGV)
    );
    let memory = GuestMemoryMmap::from_regions(vec![region]).unwrap();
    let at = GuestAddress(BASE.0 + 16);
    assert_eq!(memory.read_obj::<[u8; 8]>(at).unwrap(), *b"firmware");
    assert!(memory.write_slice(b"x", at).is_err());
}

#[test]
fn a_part_is_protected_and_the_rest_is_not() {
    let mut region = MmapRegion::<AtomicBitmap>::new(SIZE).unwrap();
    region
        .set_protection(BIG_PAGE, BIG_PAGE, Protection::ReadOnly)
        .unwrap();
    region
        .set_protection(3 * BIG_PAGE, BIG_PAGE, Protection::NoAccess)
        .unwrap();
    assert_eq!(region.protection(0, BIG_PAGE), Protection::ReadWrite);
    assert_eq!(region.protection(0, BIG_PAGE + 1), Protection::ReadOnly);
    assert_eq!(region.protection(0, SIZE), Protection::NoAccess);
    assert_eq!(region.protection(SIZE, 0), Protection::ReadWrite);
    assert_eq!(region.protection(SIZE, 1), Protection::NoAccess);

    let region = GuestRegionMmap::new(region, BASE).unwrap();
    let memory = GuestMemoryMmap::from_regions(vec![region]).unwrap();
    let at = |offset: usize| GuestAddress(BASE.0 + offset as u64);
    memory.write_obj(5u64, at(BIG_PAGE - 8)).unwrap();
    // An access that begins where it may is refused as a whole, as one of a read-only region is.
    assert!(memory.write_obj(5u64, at(BIG_PAGE - 4)).is_err());
    assert_eq!(memory.read_obj::<u64>(at(BIG_PAGE - 8)).unwrap(), 5);
    assert_eq!(memory.read_obj::<u64>(at(2 * BIG_PAGE - 4)).unwrap(), 0);
    assert!(memory.read_obj::<u64>(at(3 * BIG_PAGE - 4)).is_err());
    assert!(memory.get_slice(at(0), SIZE).is_err());
    let region = memory.find_region(BASE).unwrap();
    assert!(region.bitmap().dirty_at(BIG_PAGE - 8));
    assert!(!region.bitmap().dirty_at(BIG_PAGE));
    // SAFETY: nobody else has the memory.
    assert!(unsafe { region.as_slice() }.is_none());
}

#[test]
fn a_region_in_use_changes_if_it_was_built_for_it() {
    let region = Arc::new(changeable());
    let guest = GuestRegionMmap::with_arc(Arc::clone(&region), BASE).unwrap();
    guest.write_obj(7u64, MemoryRegionAddress(0)).unwrap();
    // SAFETY: no window is open.
    unsafe { region.protect(0, BIG_PAGE, Protection::ReadOnly) }.unwrap();
    assert!(guest.write_obj(8u64, MemoryRegionAddress(0)).is_err());
    assert_eq!(guest.read_obj::<u64>(MemoryRegionAddress(0)).unwrap(), 7);
    assert!(
        VolatileMemory::get_slice(&*region, 0, 8)
            .unwrap()
            .is_read_only()
    );
    assert!(VolatileMemory::as_volatile_slice(&*region).is_read_only());
    // SAFETY: no window is open.
    unsafe { region.protect(0, SIZE, Protection::ReadWrite) }.unwrap();
    guest.write_obj(8u64, MemoryRegionAddress(0)).unwrap();
    assert!(!VolatileMemory::as_volatile_slice(&*region).is_read_only());
}

#[test]
fn what_cannot_be_protected_is_refused_and_says_why() {
    let region = changeable();
    // SAFETY: nothing of it is granted, so nothing is taken away.
    let error = unsafe { region.protect(BIG_PAGE, SIZE, Protection::ReadOnly) }.unwrap_err();
    assert!(matches!(
        error,
        ProtectError::OutOfBounds { size: SIZE, .. }
    ));
    // SAFETY: likewise.
    let error = unsafe { region.protect(usize::MAX, 2, Protection::ReadOnly) }.unwrap_err();
    assert!(matches!(error, ProtectError::OutOfBounds { .. }));
    // SAFETY: likewise.
    let error = unsafe { region.protect(16, BIG_PAGE, Protection::ReadOnly) }.unwrap_err();
    assert_eq!(
        error.to_string(),
        "[0x10, +65536) is not made of whole pages of 4096 bytes"
    );
    let mut fixed = MmapRegion::<()>::new(SIZE).unwrap();
    // SAFETY: likewise.
    let error = unsafe { fixed.protect(0, SIZE, Protection::ReadOnly) }.unwrap_err();
    assert!(matches!(error, ProtectError::Fixed));
    fixed.set_protection(0, 0, Protection::NoAccess).unwrap();
    fixed.as_volatile_slice().write_obj(1u8, 0).unwrap();

    let shared = Arc::new(fixed);
    let mut guest = GuestRegionMmap::with_arc(Arc::clone(&shared), BASE).unwrap();
    let error = guest
        .set_protection(0, SIZE, Protection::ReadOnly)
        .unwrap_err();
    assert!(matches!(error, ProtectError::Fixed));
}

#[test]
fn a_file_opened_for_reading_stays_read_only() {
    let named = tempfile::NamedTempFile::new().unwrap();
    named.as_file().set_len(SIZE as u64).unwrap();
    let file = std::fs::File::open(named.path()).unwrap();
    let file = guest_memory_core::FileOffset::new(file, 0);
    let builder = MmapRegionBuilder::<()>::new(SIZE)
        .with_file_offset(file)
        .with_protection(Protection::ReadOnly);
    let mut region = builder.build().unwrap();
    let error = region
        .set_protection(0, SIZE, Protection::ReadWrite)
        .unwrap_err();
    assert!(matches!(error, ProtectError::Refused { .. }));
    assert_eq!(crate::files::errno(&error), Some(libc::EACCES));
    // Nothing is granted that is not there.
    assert!(region.as_volatile_slice().write_obj(1u8, 0).is_err());
    let error = region
        .set_protection(0, BIG_PAGE, Protection::ReadWrite)
        .unwrap_err();
    assert!(matches!(error, ProtectError::Refused { .. }));
    assert!(region.get_slice(0, 8).unwrap().write_obj(1u8, 0).is_err());
}

#[test]
fn what_is_refused_on_the_way_leaves_no_access_that_is_not_there() {
    let name = "changing_protection::what_is_refused_on_the_way_leaves_no_access_that_is_not_there";
    if rerun::task().is_none() {
        // In a process without other threads, which could map something in the hole.
        let _turn = Turn::wait().unwrap();
        // SAFETY: nothing is prepared.
        return unsafe { rerun::run(name, "protect", || Ok(())) };
    }
    let pages = MmapRegion::<()>::new(2 * BIG_PAGE).unwrap();
    // SAFETY: the pages stay mapped until the region below is dropped, but for one that nobody accesses.
    let builder =
        unsafe { MmapRegionBuilder::<()>::new(2 * BIG_PAGE).with_raw_mmap_pointer(pages.as_ptr()) };
    let mut region = builder.build().unwrap();
    let second = pages.as_ptr().wrapping_add(BIG_PAGE);
    // The kernel comes to this hole after it has changed what is before it.
    // SAFETY: the page is that of `pages`, which is not accessed and unmaps what is mapped at the end.
    assert_eq!(unsafe { libc::munmap(second.cast(), BIG_PAGE) }, 0);
    let error = region
        .set_protection(0, 2 * BIG_PAGE, Protection::ReadOnly)
        .unwrap_err();
    assert!(matches!(error, ProtectError::Refused { .. }));
    assert_eq!(crate::files::errno(&error), Some(libc::ENOMEM));
    assert_eq!(region.protection(0, BIG_PAGE), Protection::ReadOnly);
    // Not a signal.
    let first = region.get_slice(0, BIG_PAGE).unwrap();
    assert!(first.write_obj(1u8, 0).is_err());
    assert_eq!(first.read_obj::<u8>(0).unwrap(), 0);
}

fn any_protection() -> impl Strategy<Value = Protection> {
    prop_oneof![
        Just(Protection::NoAccess),
        Just(Protection::ReadOnly),
        Just(Protection::ReadWrite)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// No access that the region grants ends in a signal, and it grants exactly what the pages allow.
    #[test]
    fn what_is_granted_is_what_the_pages_allow(
        changes in prop::collection::vec((0..8usize, 1..8usize, any_protection(), any::<bool>()), 0..8),
        accesses in prop::collection::vec((0..SIZE, 1..2 * BIG_PAGE), 1..16),
    ) {
        let mut region = changeable();
        let mut model = [Protection::ReadWrite; 8];
        for (first, pages, protection, is_exclusive) in changes {
            let pages = pages.min(8 - first);
            let (offset, length) = (first * BIG_PAGE, pages * BIG_PAGE);
            if is_exclusive {
                region.set_protection(offset, length, protection).unwrap();
            } else {
                // SAFETY: no window is open.
                unsafe { region.protect(offset, length, protection) }.unwrap();
            }
            model[first..first + pages].fill(protection);
        }
        for (offset, count) in accesses {
            let count = count.min(SIZE - offset);
            let pages = &model[offset / BIG_PAGE..=(offset + count - 1) / BIG_PAGE];
            let least = *pages.iter().min().unwrap();
            prop_assert_eq!(region.protection(offset, count), least);
            let slice = region.get_slice(offset, count);
            prop_assert_eq!(slice.is_ok(), least.is_readable());
            if let Ok(slice) = slice {
                let mut bytes = vec![0; count];
                slice.read_slice(&mut bytes, 0).unwrap();
                prop_assert_eq!(slice.write_slice(&bytes, 0).is_ok(), least.is_writable());
            }
        }
    }
}
