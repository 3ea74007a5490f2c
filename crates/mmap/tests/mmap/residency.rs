// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is in memory and what is data in a file.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use guest_memory_core::FileOffset;
use guest_memory_mmap::{
    HugePageSize, MmapRegion, MmapRegionBuilder, Need, Policies, ResidencyError,
    TransparentHugePages,
};
use guest_memory_volatile::VolatileMemory;

use crate::files::BIG_PAGE;
use crate::pool::{TWO_MIB, pool_or_skip};
use crate::sources::{SOURCES, Source};

const SIZE: usize = 8 * BIG_PAGE;

#[test]
fn what_is_touched_is_in_memory() {
    for source in SOURCES {
        let region = source.region(SIZE);
        assert_eq!(region.resident_bytes(0, SIZE).unwrap(), 0, "{source:?}");
        assert!(region.resident_ranges(0, SIZE).unwrap().is_empty());
        let touched = region.get_slice(2 * BIG_PAGE, BIG_PAGE).unwrap();
        touched.fill(1).unwrap();
        let touched = region.get_slice(5 * BIG_PAGE, 2 * BIG_PAGE).unwrap();
        touched.fill(1).unwrap();

        assert!(region.is_resident(2 * BIG_PAGE, BIG_PAGE).unwrap());
        assert!(region.is_resident(5 * BIG_PAGE, 2 * BIG_PAGE).unwrap());
        if matches!(source, Source::SharedFile | Source::PrivateFile) {
            // A file on a disk is read ahead: what else is in memory is up to the kernel.
            continue;
        }
        let expected = [2 * BIG_PAGE..3 * BIG_PAGE, 5 * BIG_PAGE..7 * BIG_PAGE];
        assert_eq!(
            region.resident_ranges(0, SIZE).unwrap(),
            expected,
            "{source:?}"
        );
        assert_eq!(region.resident_bytes(0, SIZE).unwrap(), 3 * BIG_PAGE);
        assert!(!region.is_resident(5 * BIG_PAGE, 2 * BIG_PAGE + 1).unwrap());
        assert!(!region.is_resident(5 * BIG_PAGE - 1, 2).unwrap());
    }
}

#[test]
fn answers_are_cut_to_the_bytes_asked_about() {
    let region = Source::Anonymous.region(SIZE);
    let touched = region.get_slice(BIG_PAGE, 2 * BIG_PAGE).unwrap();
    touched.fill(1).unwrap();
    let (offset, length) = (BIG_PAGE + 5, 100);
    let inside = region.resident_ranges(offset, length).unwrap();
    assert_eq!(inside, vec![offset..offset + length]);
    assert_eq!(region.resident_bytes(offset, length).unwrap(), length);
    let around = region.resident_ranges(7, SIZE - 8).unwrap();
    assert_eq!(around, vec![BIG_PAGE..3 * BIG_PAGE]);
    for at in [0, BIG_PAGE, SIZE] {
        assert!(region.is_resident(at, 0).unwrap());
        assert_eq!(region.resident_bytes(at, 0).unwrap(), 0);
    }
}

#[test]
fn a_region_that_ends_within_a_page_ends_there() {
    let region = MmapRegion::<()>::new(1001).unwrap();
    region.as_volatile_slice().write_obj(1u8, 1000).unwrap();
    assert_eq!(region.resident_ranges(0, 1001).unwrap(), vec![0..1001]);
    assert_eq!(region.resident_bytes(1, 1000).unwrap(), 1000);
}

#[test]
fn a_large_region_is_asked_about_in_pieces() {
    // More pages than one call asks about, with a run across the border.
    let size = 300 << 20;
    // By small pages, so that a write brings in no more than its own.
    let small =
        Policies::new().with_transparent_huge_pages(TransparentHugePages::Never, Need::Required);
    let builder = MmapRegionBuilder::<()>::new(size).with_policies(small);
    let region = builder.build().unwrap();
    let border = 128 << 20;
    let across = region.get_slice(border - BIG_PAGE, 2 * BIG_PAGE).unwrap();
    across.fill(1).unwrap();
    region.as_volatile_slice().write_obj(1u8, size - 1).unwrap();
    let base_page = region.page_size();
    let ranges = region.resident_ranges(0, size).unwrap();
    assert_eq!(ranges.len(), 2, "{ranges:?}");
    assert_eq!(ranges[0], border - BIG_PAGE..border + BIG_PAGE);
    assert_eq!(ranges[1], size - base_page..size);
}

#[test]
fn what_a_peer_wrote_to_a_memory_file_is_in_memory() {
    let region = Source::MemoryFile.region(SIZE);
    let file = region.file_offset().unwrap().file();
    file.write_all_at(&[1], BIG_PAGE as u64).unwrap();
    assert!(region.is_resident(BIG_PAGE, 1).unwrap());
    assert!(!region.is_resident(0, 1).unwrap());
}

#[test]
fn a_range_past_the_end_is_refused() {
    let region = Source::MemoryFile.region(SIZE);
    for (offset, length) in [(SIZE, 1), (0, SIZE + 1), (usize::MAX, 2)] {
        let errors = [
            region.is_resident(offset, length).unwrap_err(),
            region.resident_bytes(offset, length).unwrap_err(),
            region.resident_ranges(offset, length).unwrap_err(),
            region.data_ranges(offset, length).unwrap_err(),
            region.zero_ranges(offset, length).unwrap_err(),
        ];
        for error in errors {
            assert!(
                matches!(error, ResidencyError::OutOfBounds { size: SIZE, .. }),
                "{error:?}"
            );
        }
    }
}

#[test]
fn memory_without_access_can_be_asked_about() {
    let builder = MmapRegionBuilder::<()>::new(SIZE).with_mmap_prot(libc::PROT_NONE);
    let region = builder.with_memfd("closed").build().unwrap();
    let file = region.file_offset().unwrap().file();
    file.write_all_at(&[1], BIG_PAGE as u64).unwrap();
    assert!(region.is_resident(BIG_PAGE, 1).unwrap());
    assert!(!region.is_resident(0, 1).unwrap());
    assert!(matches!(
        region.zero_ranges(0, SIZE).unwrap_err(),
        ResidencyError::NotReadable
    ));
}

#[test]
fn huge_pages_are_in_memory_as_a_whole() {
    let _pool = pool_or_skip!(TWO_MIB, 6);
    let flags = libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB;
    let new = || MmapRegionBuilder::<()>::new(3 * TWO_MIB);
    for builder in [
        new().with_huge_pages(HugePageSize::TwoMiB),
        new().with_mmap_flags(flags | libc::MAP_PRIVATE),
    ] {
        let region = builder.build().unwrap();
        region
            .as_volatile_slice()
            .write_obj(1u8, TWO_MIB + 77)
            .unwrap();
        let ranges = region.resident_ranges(0, 3 * TWO_MIB).unwrap();
        assert_eq!(ranges, vec![TWO_MIB..2 * TWO_MIB]);
    }
}

#[test]
fn the_data_of_a_file_is_what_was_written() {
    for source in [
        Source::MemoryFile,
        Source::PrivateMemoryFile,
        Source::SharedFile,
        Source::PrivateFile,
    ] {
        let region = source.region(SIZE);
        let offset = region.file_offset().unwrap();
        let (mut file, start) = (offset.file(), offset.start());
        assert!(region.data_ranges(0, SIZE).unwrap().is_empty());
        let page = vec![1; BIG_PAGE];
        for at in [BIG_PAGE, 2 * BIG_PAGE, 7 * BIG_PAGE] {
            file.write_all_at(&page, start + at as u64).unwrap();
        }
        file.seek(SeekFrom::Start(123)).unwrap();
        let expected = [BIG_PAGE..3 * BIG_PAGE, 7 * BIG_PAGE..8 * BIG_PAGE];
        assert_eq!(region.data_ranges(0, SIZE).unwrap(), expected, "{source:?}");
        let part = region.data_ranges(2 * BIG_PAGE + 1, 3 * BIG_PAGE).unwrap();
        assert_eq!(part, vec![2 * BIG_PAGE + 1..3 * BIG_PAGE], "{source:?}");
        assert_eq!(file.stream_position().unwrap(), 123, "left where it was");
    }
}

#[test]
fn the_data_ends_with_the_range_where_the_file_goes_on() {
    let region = Source::MemoryFile.region(SIZE);
    let offset = region.file_offset().unwrap();
    offset.file().write_all_at(&vec![1; SIZE], 0).unwrap();
    assert_eq!(
        region.data_ranges(5, BIG_PAGE).unwrap(),
        vec![5..5 + BIG_PAGE]
    );
    assert!(region.data_ranges(5, 0).unwrap().is_empty());
}

#[test]
fn what_cannot_tell_its_holes_is_data() {
    let device = File::options().read(true).write(true).open("/dev/zero");
    let device = FileOffset::new(device.unwrap(), 0);
    let region = MmapRegion::<()>::from_file(device, SIZE).unwrap();
    assert_eq!(
        region.data_ranges(BIG_PAGE, BIG_PAGE).unwrap(),
        vec![BIG_PAGE..2 * BIG_PAGE]
    );
    let error = MmapRegion::<()>::new(SIZE).unwrap().data_ranges(0, SIZE);
    assert!(matches!(error.unwrap_err(), ResidencyError::NoFile));

    let _pool = pool_or_skip!(TWO_MIB, 2);
    let builder = MmapRegionBuilder::<()>::new(2 * TWO_MIB);
    let region = builder.with_huge_pages(HugePageSize::TwoMiB).build();
    let data = region.unwrap().data_ranges(0, 2 * TWO_MIB).unwrap();
    assert_eq!(data, vec![0..2 * TWO_MIB]);
}
