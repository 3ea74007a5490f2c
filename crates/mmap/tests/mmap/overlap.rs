// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Regions that show the same bytes of a file find each other, whatever descriptor they came by.

use std::fs::File;

use guest_memory_bitmap::AtomicBitmap;
use guest_memory_core::FileOffset;
use guest_memory_mmap::{MmapRegion, MmapRegionBuilder};

use crate::files::{BIG_PAGE, file_of};

fn map(file: &File, first_page: u64, pages: usize) -> MmapRegion {
    let file = file.try_clone().expect("a duplicated descriptor");
    let start = first_page * BIG_PAGE as u64;
    MmapRegion::from_file(FileOffset::new(file, start), pages * BIG_PAGE).expect("a mapping")
}

#[test]
fn duplicated_descriptors_do_not_hide_an_overlap() {
    let file = file_of(8 * BIG_PAGE as u64);
    // First page and pages of another region, and whether it overlaps pages [2, 4).
    let table = [
        (0, 2, false),
        (0, 3, true),
        (0, 8, true),
        (2, 1, true),
        (2, 2, true),
        (3, 1, true),
        (3, 4, true),
        (4, 1, false),
        (5, 3, false),
    ];
    let region = map(&file, 2, 2);
    for (first_page, pages, expected) in table {
        let other = map(&file, first_page, pages);
        assert_eq!(
            region.fds_overlap(&other),
            expected,
            "{first_page} + {pages}"
        );
        assert_eq!(
            other.fds_overlap(&region),
            expected,
            "{first_page} + {pages}, swapped"
        );
    }
}

#[test]
fn the_same_file_opened_twice_or_linked_overlaps() {
    let folder = tempfile::tempdir().unwrap();
    let (path, link) = (folder.path().join("ram"), folder.path().join("link"));
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    file.set_len(BIG_PAGE as u64).unwrap();
    std::fs::hard_link(&path, &link).unwrap();
    let region = map(&file, 0, 1);
    for path in [path, link] {
        let again = File::options().read(true).write(true).open(path).unwrap();
        assert!(region.fds_overlap(&map(&again, 0, 1)));
    }
}

#[test]
fn different_files_do_not_overlap() {
    let (one, other) = (file_of(BIG_PAGE as u64), file_of(BIG_PAGE as u64));
    assert!(!map(&one, 0, 1).fds_overlap(&map(&other, 0, 1)));
    let memory_file = || {
        MmapRegionBuilder::<()>::new(BIG_PAGE)
            .with_memfd("same name")
            .build()
            .unwrap()
    };
    assert!(!memory_file().fds_overlap(&memory_file()));
}

#[test]
fn memory_without_a_file_overlaps_nothing() {
    let anonymous = MmapRegion::<()>::new(BIG_PAGE).unwrap();
    let file = file_of(BIG_PAGE as u64);
    assert!(!anonymous.fds_overlap(&anonymous));
    assert!(!anonymous.fds_overlap(&map(&file, 0, 1)));
    assert!(!map(&file, 0, 1).fds_overlap(&anonymous));
}

#[test]
fn bitmaps_of_different_types_and_private_mappings_compare() {
    let file = file_of(BIG_PAGE as u64);
    let private = MmapRegionBuilder::<AtomicBitmap>::new(BIG_PAGE)
        .with_mmap_flags(libc::MAP_PRIVATE)
        .with_file_offset(FileOffset::new(file.try_clone().unwrap(), 0))
        .build()
        .unwrap();
    assert!(map(&file, 0, 1).fds_overlap(&private));
}
