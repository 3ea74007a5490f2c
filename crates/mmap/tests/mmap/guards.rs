// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A stray pointer past either end of a region meets an inaccessible page.

use guest_memory_core::{Bytes, FileOffset, GuestAddress, GuestMemory};
use guest_memory_mmap::{
    Alignment, Backing, GuestMemoryBuilder, GuestMemoryMmap, HugePageSize, MmapRegion,
    MmapRegionBuilder, RegionSpec, Seals, Sharing, ShmObject,
};
use guest_memory_volatile::VolatileMemory;

use crate::child::signal_of_write;
use crate::files::{BIG_PAGE, file_of};
use crate::pool::{TWO_MIB, Turn, pool_or_skip};

fn assert_guarded(turn: &Turn, region: &MmapRegion) {
    let (start, size) = (region.as_ptr(), region.size());
    assert_eq!(signal_of_write(turn, start), None);
    assert_eq!(signal_of_write(turn, start.wrapping_add(size - 1)), None);
    assert_eq!(
        signal_of_write(turn, start.wrapping_add(size)),
        Some(libc::SIGSEGV)
    );
    assert_eq!(
        signal_of_write(turn, start.wrapping_sub(1)),
        Some(libc::SIGSEGV)
    );
    // Through the library it is an error.
    assert!(region.as_volatile_slice().write_obj(1u8, size).is_err());
    assert!(region.get_slice(size - 1, 2).is_err());
}

#[test]
fn every_backing_has_a_guard_page_on_either_side() {
    let turn = &Turn::wait().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ram");
    let private = Sharing::Private;
    let shared = Sharing::Shared;
    let file = |sharing| Backing::File {
        path: path.clone(),
        offset: 0,
        sharing,
        grow: true,
    };
    let anonymous = |sharing| Backing::Anonymous {
        sharing,
        huge_pages: None,
    };
    let backings = [
        anonymous(private),
        anonymous(shared),
        file(private),
        file(shared),
        Backing::Memfd {
            name: "guarded".to_owned(),
            seals: Seals::ALL,
            huge_pages: None,
        },
        Backing::Shm {
            name: format!("/guest-memory-guarded-{}", std::process::id()),
            object: ShmObject::CreateUnlinked,
        },
    ];
    for backing in backings {
        for size in [BIG_PAGE, 4 << 20] {
            let builder = MmapRegionBuilder::new(size).with_backing(backing.clone());
            assert_guarded(turn, &builder.build().unwrap());
        }
    }
    // The builder's other ways to say it.
    let builder = || MmapRegionBuilder::new(BIG_PAGE);
    assert_guarded(turn, &builder().build().unwrap());
    let given = FileOffset::new(file_of(BIG_PAGE as u64), 0);
    assert_guarded(turn, &builder().with_file_offset(given).build().unwrap());
}

#[test]
fn huge_pages_have_guard_pages_too() {
    let pool = pool_or_skip!(TWO_MIB, 2);
    let turn = pool.turn();
    for sharing in [Sharing::Private, Sharing::Shared] {
        let backing = Backing::Anonymous {
            sharing,
            huge_pages: Some(HugePageSize::TwoMiB),
        };
        let builder = MmapRegionBuilder::new(TWO_MIB).with_backing(backing);
        let region: MmapRegion = builder.build().unwrap();
        assert!(region.as_ptr().addr().is_multiple_of(TWO_MIB));
        let end = region.as_ptr().wrapping_add(TWO_MIB);
        assert_eq!(signal_of_write(turn, end), Some(libc::SIGSEGV));
        let before = region.as_ptr().wrapping_sub(1);
        assert_eq!(signal_of_write(turn, before), Some(libc::SIGSEGV));
        assert!(region.get_slice(TWO_MIB - 1, 2).is_err());
    }
}

#[test]
fn memory_is_aligned_as_asked_and_large_memory_to_huge_pages() {
    for (size, alignment, expected) in [
        (BIG_PAGE, None, 4096),
        (TWO_MIB, None, TWO_MIB),
        (5 * TWO_MIB + 4096, None, TWO_MIB),
        (BIG_PAGE, Some(Alignment::TWO_MIB), TWO_MIB),
        (BIG_PAGE, Some(Alignment::ONE_GIB), 1 << 30),
        (BIG_PAGE, Alignment::new(1), 4096),
    ] {
        for has_guards in [true, false] {
            let mut builder = MmapRegionBuilder::<()>::new(size);
            if let Some(alignment) = alignment {
                builder = builder.with_alignment(alignment);
            }
            if !has_guards {
                builder = builder.without_guard_pages();
                if alignment.is_none() {
                    continue;
                }
            }
            let region = builder.build().unwrap();
            assert!(region.as_ptr().addr().is_multiple_of(expected));
            region.as_volatile_slice().write_obj(3u8, size - 1).unwrap();
        }
    }
}

#[test]
fn neighbours_in_the_guest_are_no_neighbours_in_the_host() {
    let turn = &Turn::wait().unwrap();
    let size = BIG_PAGE;
    let memory: GuestMemoryMmap = GuestMemoryBuilder::new()
        .with_region(RegionSpec::new("first", GuestAddress(0), size))
        .with_region(RegionSpec::new("second", GuestAddress(size as u64), size))
        .build()
        .unwrap();
    // An access may cross, a stray pointer may not.
    memory
        .write_obj(7u64, GuestAddress(size as u64 - 4))
        .unwrap();
    let region = memory.find_region(GuestAddress(0)).unwrap();
    let end = region.as_ptr().wrapping_add(size);
    assert_eq!(signal_of_write(turn, end), Some(libc::SIGSEGV));
}
