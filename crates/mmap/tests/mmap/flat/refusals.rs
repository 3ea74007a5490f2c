// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Descriptions that make no flat memory, and what the errors say.
#![expect(unsafe_code, reason = "describes memory that is mapped already")]

use std::num::NonZeroUsize;

use guest_memory_bitmap::AtomicBitmap;
use guest_memory_core::GuestAddress;
use guest_memory_mmap::{
    Alignment, FlatGuestMemory, FlatGuestMemoryBuilder, FlatMemoryError, HugePageSize, MmapRegion,
    MmapRegionBuilder, MmapRegionError,
};

use super::{PAGE, memory, page, ram};
use crate::files::BIG_PAGE;
use crate::lifetime::descriptors_of;
use crate::pool::{TWO_MIB, pool_or_skip};

fn builder() -> FlatGuestMemoryBuilder {
    FlatGuestMemory::builder(8 * PAGE)
}

#[test]
fn spans_that_cannot_be() {
    let span = |base: u64, span| {
        FlatGuestMemory::<()>::builder(span)
            .with_base(GuestAddress(base))
            .build()
    };
    assert!(matches!(span(0, 0), Err(FlatMemoryError::ZeroSpan)));
    for (base, bytes) in [
        (PAGE, 0u64.wrapping_sub(PAGE) + 1),
        (0, 1 << 63),
        (0, (1 << 63) - 1),
        (0, u64::MAX),
    ] {
        let error = span(base, bytes).unwrap_err();
        let is_refused = matches!(
            error,
            FlatMemoryError::SpanTooLarge { .. } | FlatMemoryError::Reserve { .. }
        );
        assert!(is_refused, "{error:?}");
    }
    let error = span(0x1001, PAGE).unwrap_err();
    assert!(matches!(
        error,
        FlatMemoryError::UnalignedBase {
            base: GuestAddress(0x1001),
            ..
        }
    ));
    let error = span(0, 1 << 60).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot reserve {} bytes of addresses", 1u64 << 60)
    );
    assert_eq!(crate::files::errno(&error), Some(libc::ENOMEM));
}

#[test]
fn a_bitmap_that_is_too_short() {
    let bitmap = AtomicBitmap::new(BIG_PAGE, NonZeroUsize::new(4096).unwrap());
    let error = FlatGuestMemoryBuilder::new_with_bitmap(PAGE + 1, bitmap)
        .build()
        .unwrap_err();
    let message = "dirty bitmap tracks 65536 bytes of a flat memory that spans 65537 bytes";
    assert_eq!(error.to_string(), message);
}

#[test]
fn regions_outside_the_span() {
    for (start, pages) in [(7, 2), (8, 1), (0, 9), (u64::MAX / PAGE, 1)] {
        let error = builder()
            .with_region(page(start), ram(pages))
            .build()
            .unwrap_err();
        assert!(
            matches!(error, FlatMemoryError::OutsideSpan { .. }),
            "{error:?}"
        );
    }
    let high = builder().with_base(page(8)).with_region(page(7), ram(1));
    assert_eq!(
        high.build().unwrap_err().to_string(),
        "region of 65536 bytes at gpa 0x70000 does not fit into the flat memory of 524288 bytes from gpa 0x80000 on"
    );
}

#[test]
fn regions_that_overlap_are_found_before_anything_is_made() {
    let name = "flat-overlap";
    let error = builder()
        .with_region(page(2), ram(2))
        .with_region(page(1), ram(2).with_memfd(name))
        .build()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "region of 131072 bytes at gpa 0x20000 overlaps the one of 131072 bytes at gpa 0x10000"
    );
    assert_eq!(descriptors_of(name), 0);
    let error = memory().with_region_inserted(page(3), ram(2)).unwrap_err();
    assert!(matches!(
        error,
        FlatMemoryError::Overlap { start, other_start, other_size: PAGE, .. }
            if (start, other_start) == (page(3), page(4))
    ));
}

#[test]
fn regions_that_start_within_a_page() {
    let error = builder()
        .with_region(GuestAddress(0x1_0010), ram(1))
        .build()
        .unwrap_err();
    let FlatMemoryError::UnalignedRegion {
        multiple,
        below,
        above,
        ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!((below.0, above.0), (0x1_0000, 0x1_0000 + multiple as u64));
    let aligned = ram(1).with_alignment(Alignment::new(2 * BIG_PAGE).unwrap());
    let error = builder().with_region(page(1), aligned).build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "region of 65536 bytes at gpa 0x10000 must start at a multiple of 131072 bytes, such as 0x0 or 0x20000"
    );
}

#[test]
fn regions_that_start_within_a_huge_page() {
    let pool = pool_or_skip!(TWO_MIB, 1);
    let huge = || MmapRegionBuilder::new(TWO_MIB).with_huge_pages(HugePageSize::TwoMiB);
    let builder = FlatGuestMemory::<()>::builder(8 << 20);
    let error = builder
        .with_region(GuestAddress(0x21_0000), huge())
        .build()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "region of 2097152 bytes at gpa 0x210000 must start at a multiple of 2097152 bytes, such as 0x200000 or 0x400000"
    );
    // Where the pool is empty the region says so, and its place can be had by other memory.
    let free = pool.free().unwrap();
    let memory = FlatGuestMemory::<()>::builder(1 << 40).build().unwrap();
    let too_many =
        MmapRegionBuilder::new((free + 1) * TWO_MIB).with_huge_pages(HugePageSize::TwoMiB);
    let error = memory
        .with_region_inserted(GuestAddress(0), too_many)
        .unwrap_err();
    let FlatMemoryError::Region { source, .. } = error else {
        panic!("{error:?}");
    };
    assert!(
        matches!(*source, MmapRegionError::HugePagePool { .. }),
        "{source:?}"
    );
    assert!(memory.with_region_inserted(GuestAddress(0), ram(1)).is_ok());
}

#[test]
fn an_alignment_beyond_that_of_the_memory() {
    let aligned = ram(1).with_alignment(Alignment::ONE_GIB);
    let error = memory().with_region_inserted(page(0), aligned).unwrap_err();
    // Said before it is seen that the place is taken.
    assert_eq!(
        error.to_string(),
        "region of 65536 bytes at gpa 0x0 needs host addresses aligned to 1073741824 bytes; the flat memory is aligned to 2097152"
    );
}

#[test]
fn memory_that_cannot_be_moved_and_sizes_that_cannot_be() {
    let mapped = MmapRegion::<()>::new(BIG_PAGE).unwrap();
    // SAFETY: as the region says, which lives longer.
    let given = unsafe { ram(1).with_raw_mmap_pointer(mapped.as_ptr()) };
    let error = builder().with_region(page(0), given).build().unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(
        cause,
        "a raw pointer cannot be combined with a place in a flat memory"
    );
    let error = builder().with_region(page(0), ram(0)).build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot map the region of 0 bytes at gpa 0x0"
    );
}
