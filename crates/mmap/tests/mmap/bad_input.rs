// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Every bad description of memory gets an error that says what is wrong.
#![expect(unsafe_code, reason = "passes raw pointers that must be refused")]

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::Path;
use std::ptr;

use guest_memory_bitmap::AtomicBitmap;
use guest_memory_core::{FileOffset, GuestAddress, GuestRegionCollectionError};
use guest_memory_mmap::{
    FromRangesError, GuestMemoryMmap, GuestRegionMmap, HugePageSize, MmapRegion, MmapRegionBuilder,
    MmapRegionError,
};

use crate::files::{BIG_PAGE, errno, file_offset};

const SHARED: i32 = libc::MAP_SHARED;
const ANONYMOUS: i32 = libc::MAP_ANONYMOUS | libc::MAP_PRIVATE;

/// Builds a region that must be refused.
#[track_caller]
fn refused(builder: MmapRegionBuilder) -> MmapRegionError {
    builder.build().expect_err("the description is wrong")
}

fn of_size(size: usize) -> MmapRegionBuilder {
    MmapRegionBuilder::new(size)
}

#[test]
fn size_zero_is_refused_by_every_backing() {
    let builders = [
        of_size(0),
        of_size(0).with_memfd("empty"),
        of_size(0).with_huge_pages(HugePageSize::TwoMiB),
        of_size(0).with_file_offset(file_offset(4096, 0)),
        // SAFETY: never used, since the size is refused.
        unsafe { of_size(0).with_raw_mmap_pointer(ptr::without_provenance_mut(BIG_PAGE)) },
    ];
    for builder in builders {
        assert!(matches!(refused(builder), MmapRegionError::ZeroSize));
    }
}

#[test]
fn a_size_past_isize_max_is_refused_without_making_its_bitmap() {
    for size in [usize::MAX, isize::MAX.cast_unsigned() + 1] {
        let error = MmapRegion::<AtomicBitmap>::new(size).unwrap_err();
        assert!(matches!(error, MmapRegionError::TooLarge { size: s } if s == size));
    }
}

// On 32 bits there may be as much.
#[cfg(target_pointer_width = "64")]
#[test]
fn a_size_that_the_system_cannot_map_keeps_the_errno() {
    let error = MmapRegion::<AtomicBitmap>::new(isize::MAX.cast_unsigned()).unwrap_err();
    assert!(matches!(error, MmapRegionError::Mmap(_)));
    assert_eq!(errno(&error), Some(libc::ENOMEM));
}

// On 32 bits there may be as much.
#[cfg(target_pointer_width = "64")]
#[test]
fn a_size_that_a_memory_file_cannot_have_keeps_the_errno() {
    let error = refused(of_size(isize::MAX.cast_unsigned()).with_memfd("too large"));
    assert!(errno(&error).is_some(), "{error:?}");
}

#[test]
fn an_unaligned_file_offset_is_refused() {
    let error = refused(of_size(4096).with_file_offset(file_offset(1 << 20, 0x10)));
    assert!(matches!(
        error,
        MmapRegionError::UnalignedFileOffset {
            file_offset: 0x10,
            ..
        }
    ));
    assert!(error.to_string().contains("0x10"), "{error}");
}

#[test]
fn a_file_shorter_than_the_mapping_is_refused_with_both_lengths() {
    let error = refused(of_size(8192).with_file_offset(file_offset(5000, 0)));
    assert!(matches!(
        error,
        MmapRegionError::MappingPastEof {
            file_offset: 0,
            size: 8192,
            file_len: 5000
        }
    ));
    let message = error.to_string();
    assert!(
        message.contains("8192 bytes") && message.contains("5000 bytes"),
        "{message}"
    );
}

#[test]
fn a_file_shorter_than_offset_plus_size_is_refused() {
    let big_page = BIG_PAGE as u64;
    let fits = of_size(BIG_PAGE).with_file_offset(file_offset(2 * big_page, big_page));
    assert!(fits.build().is_ok());
    let error =
        refused(of_size(BIG_PAGE + 1).with_file_offset(file_offset(2 * big_page, big_page)));
    assert!(matches!(error, MmapRegionError::MappingPastEof { .. }));
}

#[test]
fn an_offset_that_overflows_with_the_size_is_refused() {
    // Past 2^64, past the largest file offset, a start past it.
    for start in [u64::MAX, i64::MAX.cast_unsigned() & !0xffff, 1 << 63] {
        let error = refused(of_size(BIG_PAGE).with_file_offset(file_offset(4096, start)));
        assert!(
            matches!(error, MmapRegionError::InvalidOffsetLength),
            "{start:#x}: {error:?}"
        );
    }
}

#[test]
fn a_mapping_past_the_end_of_a_block_device_is_refused() {
    let Some((device, len_bytes)) = block_device() else {
        println!("skipped: no block device that can be opened");
        return;
    };
    let start = len_bytes & !(BIG_PAGE as u64 - 1);
    let builder = of_size(2 * BIG_PAGE)
        .with_mmap_prot(libc::PROT_READ)
        .with_file_offset(FileOffset::new(device, start));
    let error = refused(builder);
    assert!(
        matches!(error, MmapRegionError::MappingPastEof { file_len, .. } if file_len == len_bytes),
        "{error:?}"
    );
}

/// Finds a block device and its length in bytes.
fn block_device() -> Option<(File, u64)> {
    fs::read_dir("/sys/block").ok()?.find_map(|entry| {
        let entry = entry.ok()?;
        let sectors = fs::read_to_string(entry.path().join("size")).ok()?;
        let len_bytes = sectors.trim().parse::<u64>().ok()? * 512;
        let device = File::open(Path::new("/dev").join(entry.file_name())).ok()?;
        (len_bytes > 0).then_some((device, len_bytes))
    })
}

#[test]
fn huge_pages_need_a_multiple_of_their_size() {
    let error = refused(of_size(3 << 20).with_huge_pages(HugePageSize::TwoMiB));
    assert!(matches!(
        error,
        MmapRegionError::SizeNotMultipleOfHugePage {
            size: 0x30_0000,
            huge_page_size: 0x20_0000
        }
    ));
    let message = error.to_string();
    assert!(
        message.contains("3145728 bytes") && message.contains("2097152 bytes"),
        "{message}"
    );
    let error = refused(of_size(2 << 20).with_huge_pages(HugePageSize::OneGiB));
    assert!(matches!(
        error,
        MmapRegionError::SizeNotMultipleOfHugePage { .. }
    ));
}

#[test]
fn a_bitmap_without_bits_over_a_region_is_refused() {
    let page_size = NonZeroUsize::new(4096).unwrap();
    for tracked in [0, 4096] {
        let bitmap = AtomicBitmap::new(tracked, page_size);
        let error = MmapRegionBuilder::new_with_bitmap(8192, bitmap)
            .build()
            .unwrap_err();
        assert!(
            matches!(error, MmapRegionError::BitmapTooShort { tracked: t, size: 8192 } if t == tracked),
            "{error:?}"
        );
    }
    let exact = AtomicBitmap::new(8192, page_size);
    assert!(
        MmapRegionBuilder::new_with_bitmap(8192, exact)
            .build()
            .is_ok()
    );
    let none = Option::<AtomicBitmap>::None;
    assert!(
        MmapRegionBuilder::new_with_bitmap(8192, none)
            .build()
            .is_ok()
    );
}

#[test]
fn a_default_bitmap_covers_the_whole_region() {
    let region = MmapRegionBuilder::<AtomicBitmap>::new(BIG_PAGE)
        .build()
        .unwrap();
    assert!(region.bitmap().byte_size() >= BIG_PAGE);
}

#[test]
fn fixed_addresses_are_refused() {
    for flag in [libc::MAP_FIXED, libc::MAP_FIXED_NOREPLACE] {
        let error = refused(of_size(4096).with_mmap_flags(ANONYMOUS | flag));
        assert!(matches!(error, MmapRegionError::MapFixed));
        let file = file_offset(4096, 0);
        let error = refused(
            of_size(4096)
                .with_file_offset(file)
                .with_mmap_flags(SHARED | flag),
        );
        assert!(matches!(error, MmapRegionError::MapFixed));
    }
}

#[test]
fn a_null_or_unaligned_pointer_is_refused() {
    for address in [0, 1, BIG_PAGE + 8, usize::MAX - 7] {
        let pointer = ptr::without_provenance_mut(address);
        // SAFETY: never used, since the pointer is refused.
        let builder = unsafe { of_size(4096).with_raw_mmap_pointer(pointer) };
        assert!(matches!(refused(builder), MmapRegionError::InvalidPointer));
    }
}

#[test]
fn a_pointer_whose_range_wraps_is_refused() {
    let pointer = ptr::without_provenance_mut(usize::MAX & !(BIG_PAGE - 1));
    // SAFETY: never used, since the pointer is refused.
    let builder = unsafe { of_size(BIG_PAGE + 1).with_raw_mmap_pointer(pointer) };
    assert!(matches!(refused(builder), MmapRegionError::InvalidPointer));
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let pointer = ptr::without_provenance_mut(BIG_PAGE);
    let file = || of_size(4096).with_file_offset(file_offset(4096, 0));
    let raw = |builder: MmapRegionBuilder| {
        // SAFETY: never used, since the options are refused.
        unsafe { builder.with_raw_mmap_pointer(pointer) }
    };
    let conflicts = [
        raw(file()),
        raw(of_size(4096).with_memfd("both")),
        raw(of_size(2 << 20).with_huge_pages(HugePageSize::TwoMiB)),
        file().with_memfd("both"),
        file().with_huge_pages(HugePageSize::TwoMiB),
        file().with_mmap_flags(ANONYMOUS),
        of_size(4096).with_memfd("both").with_mmap_flags(ANONYMOUS),
        of_size(4096).with_mmap_flags(libc::MAP_PRIVATE),
    ];
    for builder in conflicts {
        let error = refused(builder);
        assert!(
            matches!(error, MmapRegionError::ConflictingOptions { .. }),
            "{error:?}"
        );
    }
}

#[test]
fn a_file_opened_for_reading_cannot_be_mapped_for_writing() {
    let named = tempfile::NamedTempFile::new().unwrap();
    named.as_file().set_len(4096).unwrap();
    let read_only = FileOffset::new(File::open(named.path()).unwrap(), 0);
    let error = MmapRegion::<()>::from_file(read_only, 4096).unwrap_err();
    assert!(matches!(
        error,
        MmapRegionError::FileNotOpenFor { access: "writing" }
    ));
}

#[test]
fn a_region_past_the_last_address_is_refused_and_one_that_ends_there_is_not() {
    let place = |base| GuestRegionMmap::new(MmapRegion::<()>::new(0x1000).expect("memory"), base);
    assert!(place(GuestAddress(u64::MAX - 0xfff)).is_some());
    assert!(place(GuestAddress(u64::MAX - 0xffe)).is_none());
    assert!(place(GuestAddress(u64::MAX)).is_none());

    let top = GuestAddress(u64::MAX - 0xfff);
    assert!(GuestMemoryMmap::<()>::from_ranges(&[(top, 0x1000)]).is_ok());
    let error = GuestMemoryMmap::<()>::from_ranges(&[(top, 0x1001)]).unwrap_err();
    assert!(matches!(error, FromRangesError::InvalidGuestRegion));
}

#[test]
fn ranges_that_form_no_map_are_refused() {
    let from = |ranges: &[(GuestAddress, usize)]| {
        GuestMemoryMmap::<()>::from_ranges(ranges).expect_err("no map")
    };
    let at = GuestAddress;
    assert!(matches!(
        from(&[]),
        FromRangesError::Collection(GuestRegionCollectionError::NoMemoryRegion)
    ));
    assert!(matches!(
        from(&[(at(0), 0x2000), (at(0x1fff), 0x1000)]),
        FromRangesError::Collection(GuestRegionCollectionError::MemoryRegionOverlap)
    ));
    assert!(matches!(
        from(&[(at(0x4000), 0x1000), (at(0), 0x1000)]),
        FromRangesError::Collection(GuestRegionCollectionError::UnsortedMemoryRegions)
    ));
    assert!(matches!(
        from(&[(at(0), 0x1000), (at(0x1000), 0)]),
        FromRangesError::MmapRegion(MmapRegionError::ZeroSize)
    ));
}

#[test]
fn a_short_file_among_ranges_is_refused() {
    let ranges = [
        (GuestAddress(0), 4096, Some(file_offset(4096, 0))),
        (GuestAddress(0x10_0000), 4096, Some(file_offset(100, 0))),
    ];
    let error = GuestMemoryMmap::<()>::from_ranges_with_files(&ranges).unwrap_err();
    assert!(matches!(
        error,
        FromRangesError::MmapRegion(MmapRegionError::MappingPastEof { file_len: 100, .. })
    ));
}
