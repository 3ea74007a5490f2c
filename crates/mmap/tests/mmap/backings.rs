// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Each source of memory holds data and says what it is; huge pages have a file of their own.
#![expect(unsafe_code, reason = "tests the backing around a raw pointer")]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use guest_memory_core::FileOffset;
use guest_memory_mmap::{MmapRegion, MmapRegionBuilder, MmapRegionError};
use guest_memory_volatile::VolatileMemory;

use crate::files::{BIG_PAGE, file_of, file_offset};

/// Writes at both ends and over the middle, and reads it back.
pub(crate) fn assert_round_trip(region: &MmapRegion) {
    let size = region.size();
    let slice = region.as_volatile_slice();
    assert_eq!(slice.len(), size);
    assert_eq!(
        slice.read_obj::<u64>(0).expect("the start"),
        0,
        "memory starts zeroed"
    );
    slice
        .write_obj(0x0123_4567_89ab_cdef_u64, 0)
        .expect("the start");
    slice
        .write_obj(0xfedc_ba98_7654_3210_u64, size - 8)
        .expect("the end");
    let pattern = (0..=255u8).collect::<Vec<_>>();
    slice
        .write_slice(&pattern, size / 2 + 1)
        .expect("the middle");
    assert_eq!(
        slice.read_obj::<u64>(0).expect("the start"),
        0x0123_4567_89ab_cdef
    );
    assert_eq!(
        slice.read_obj::<u64>(size - 8).expect("the end"),
        0xfedc_ba98_7654_3210
    );
    let mut copy = vec![0; pattern.len()];
    slice
        .read_slice(&mut copy, size / 2 + 1)
        .expect("the middle");
    assert_eq!(copy, pattern);
}

#[test]
fn anonymous_memory_round_trips() {
    let region = MmapRegion::<()>::new(3 * BIG_PAGE).unwrap();
    assert_round_trip(&region);
    assert_eq!(region.prot(), libc::PROT_READ | libc::PROT_WRITE);
    let flags = libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    assert_eq!(region.flags(), flags);
    assert!(region.owned());
    assert!(region.file_offset().is_none());
    assert_eq!(region.is_hugetlbfs(), None);
}

#[test]
fn a_size_that_is_no_multiple_of_the_page_is_kept() {
    let region = MmapRegion::<()>::new(1001).unwrap();
    assert_round_trip(&region);
    assert!(region.get_slice(1000, 2).is_err());
}

#[test]
fn memory_files_round_trip_and_can_be_mapped_elsewhere() {
    let region = MmapRegionBuilder::new(2 * BIG_PAGE)
        .with_memfd("round-trip")
        .build()
        .unwrap();
    assert_round_trip(&region);
    assert_eq!(region.flags(), libc::MAP_SHARED | libc::MAP_NORESERVE);
    assert_eq!(region.is_hugetlbfs(), Some(false));

    // What a device process that got the descriptor would do.
    let shared = region.file_offset().unwrap();
    let peer = FileOffset::new(shared.file().try_clone().unwrap(), shared.start());
    let peer = MmapRegion::<()>::from_file(peer, region.size()).unwrap();
    region.as_volatile_slice().write_obj(77u32, 64).unwrap();
    assert_eq!(peer.as_volatile_slice().read_obj::<u32>(64).unwrap(), 77);
}

#[test]
fn nobody_resizes_a_memory_file_under_its_mapping() {
    let region: MmapRegion = MmapRegionBuilder::new(BIG_PAGE)
        .with_memfd("sealed")
        .build()
        .unwrap();
    let file = region.file_offset().unwrap().file();
    for len_bytes in [0, 2 * BIG_PAGE as u64] {
        let error = file.set_len(len_bytes).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}

#[test]
fn files_round_trip_from_their_offset_on() {
    let big_page = BIG_PAGE as u64;
    let file = file_of(3 * big_page);
    file.write_all_at(b"before", big_page - 6).unwrap();
    let offset = FileOffset::new(file.try_clone().unwrap(), big_page);
    let region = MmapRegion::<()>::from_file(offset, BIG_PAGE).unwrap();
    assert_round_trip(&region);
    assert_eq!(region.flags(), libc::MAP_SHARED | libc::MAP_NORESERVE);
    assert_eq!(region.is_hugetlbfs(), Some(false));
    assert_eq!(region.file_offset().unwrap().start(), big_page);

    // The mapping is shared: the file has what was written, at its place and only there.
    let mut word = [0; 8];
    file.read_exact_at(&mut word, big_page).unwrap();
    assert_eq!(u64::from_ne_bytes(word), 0x0123_4567_89ab_cdef);
    file.read_exact_at(&mut word[..6], big_page - 6).unwrap();
    assert_eq!(&word[..6], b"before");
}

#[test]
fn a_private_mapping_leaves_the_file_alone() {
    let file = file_of(BIG_PAGE as u64);
    let region = MmapRegion::<()>::build(
        Some(FileOffset::new(file.try_clone().unwrap(), 0)),
        BIG_PAGE,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE,
    );
    assert_round_trip(&region.unwrap());
    let mut start = [1; 8];
    file.read_exact_at(&mut start, 0).unwrap();
    assert_eq!(start, [0; 8]);
}

#[test]
fn a_character_device_has_no_length_to_check() {
    let device = File::options()
        .read(true)
        .write(true)
        .open("/dev/zero")
        .unwrap();
    let region = MmapRegion::<()>::from_file(FileOffset::new(device, 0), BIG_PAGE).unwrap();
    assert_round_trip(&region);
    assert_eq!(region.is_hugetlbfs(), Some(false));
}

#[test]
fn memory_around_a_raw_pointer_round_trips_and_is_not_owned() {
    let owner = MmapRegion::<()>::new(BIG_PAGE).unwrap();
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: `owner` maps these bytes readable and writable, and outlives the region.
    let region = unsafe { MmapRegion::<()>::build_raw(owner.as_ptr(), BIG_PAGE, prot, 0) }.unwrap();
    assert_round_trip(&region);
    assert!(!region.owned());
    assert_eq!(region.as_ptr(), owner.as_ptr());
    assert_eq!(region.is_hugetlbfs(), None);
    drop(region);
    // Still mapped.
    assert_eq!(
        owner.as_volatile_slice().read_obj::<u64>(0).unwrap(),
        0x0123_4567_89ab_cdef
    );
}

#[test]
fn a_raw_pointer_takes_flags_as_a_mere_note() {
    let owner = MmapRegion::<()>::new(BIG_PAGE).unwrap();
    let (prot, flags) = (libc::PROT_READ, libc::MAP_SHARED | libc::MAP_FIXED);
    // SAFETY: `owner` maps these bytes readable, and outlives the region.
    let region = unsafe { MmapRegion::<()>::build_raw(owner.as_ptr(), BIG_PAGE, prot, flags) };
    let region = region.unwrap();
    assert_eq!(region.flags(), flags);
    assert!(region.as_volatile_slice().is_read_only());
}

#[test]
fn the_hint_of_hugetlbfs_counts_where_nothing_is_known() {
    let hinted = |hint| MmapRegionBuilder::<()>::new(BIG_PAGE).with_hugetlbfs(hint);
    for hint in [false, true] {
        assert_eq!(hinted(hint).build().unwrap().is_hugetlbfs(), Some(hint));
    }
    let mut region = MmapRegion::<()>::new(BIG_PAGE).unwrap();
    region.set_hugetlbfs(true);
    assert_eq!(region.is_hugetlbfs(), Some(true));
}

#[test]
fn the_hint_of_hugetlbfs_does_not_override_the_file_system() {
    let size = BIG_PAGE;
    let file = file_offset(size as u64, 0);
    let hinted = MmapRegionBuilder::<()>::new(size).with_hugetlbfs(true);
    let mut region = hinted.with_file_offset(file).build().unwrap();
    assert_eq!(region.is_hugetlbfs(), Some(false));
    region.set_hugetlbfs(true);
    assert_eq!(region.is_hugetlbfs(), Some(false));
    let hinted = MmapRegionBuilder::<()>::new(size).with_hugetlbfs(true);
    assert_eq!(
        hinted.with_memfd("hint").build().unwrap().is_hugetlbfs(),
        Some(false)
    );
}

#[test]
fn a_memory_file_needs_a_name_that_the_system_takes() {
    let error = MmapRegionBuilder::<()>::new(4096)
        .with_memfd("n".repeat(300))
        .build()
        .unwrap_err();
    assert!(matches!(error, MmapRegionError::MemoryFile { .. }));
}
