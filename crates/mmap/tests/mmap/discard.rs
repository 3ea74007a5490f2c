// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Discarded memory leaves the process, reads as the report says, and is dirty; its neighbours are not touched.
#![expect(unsafe_code, reason = "locks memory, seals files, takes a raw pointer")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::thread;

use guest_memory_bitmap::{AtomicBitmap, Bitmap};
use guest_memory_core::FileOffset;
use guest_memory_mmap::{
    Backing, DiscardError, DiscardMethod, DiscardReads, HugePageSize, MmapRegion,
    MmapRegionBuilder, Prefault, PrefaultError, PrefaultReason, Protection, Seals,
};
use guest_memory_volatile::VolatileMemory;
use proptest::prelude::*;

use crate::files::{BIG_PAGE, errno};
use crate::pool::{TWO_MIB, pool_or_skip};
use crate::sources::{FILE_BYTE, SOURCES, Source, allocated, bytes_of, file_on};

const SIZE: usize = 8 * BIG_PAGE;
const USED: u8 = 0xaa;

/// A region of which every byte was written, with a clean bitmap.
fn used(source: Source, size: usize) -> MmapRegion<AtomicBitmap> {
    let region = source.region_over_content(size);
    let filled = region.as_volatile_slice().fill(USED);
    filled.expect("a write");
    region.bitmap().reset();
    region
}

fn dirty_bytes(region: &MmapRegion<AtomicBitmap>) -> Vec<usize> {
    (0..region.size())
        .filter(|at| region.bitmap().dirty_at(*at))
        .collect()
}

#[test]
fn whole_pages_leave_and_nothing_else_changes() {
    for source in SOURCES {
        let region = used(source, SIZE);
        let file = region.file_offset().map(|offset| offset.file());
        let allocated_before = file.map(allocated);
        let range = 2 * BIG_PAGE..5 * BIG_PAGE;

        let report = region.discard(range.start, range.len()).unwrap();
        assert_eq!(report.discarded, range, "{source:?}");
        assert_eq!((report.unaligned_head, report.unaligned_tail), (0, 0));
        assert_eq!(report.freed, Some(range.len()), "{source:?}");
        assert!(!report.back_to_pool);
        let method = match source {
            Source::SharedAnonymous => DiscardMethod::Remove,
            Source::MemoryFile | Source::SharedFile => DiscardMethod::PunchHole,
            _ => DiscardMethod::DontNeed,
        };
        assert_eq!(report.method, method, "{source:?}");

        // Before a byte is looked at, which would bring pages back.
        if source.is_private_file() {
            assert_eq!(file.map(allocated), allocated_before, "the file keeps all");
        } else {
            let resident = region.resident_bytes(range.start, range.len()).unwrap();
            assert_eq!(resident, 0, "{source:?}");
            assert_eq!(
                file.map(allocated),
                allocated_before.map(|before| before - range.len()),
                "{source:?}"
            );
        }
        let (reads, byte) = if source.is_private_file() {
            (DiscardReads::FileContent, FILE_BYTE)
        } else {
            (DiscardReads::Zero, 0)
        };
        assert_eq!(report.reads, reads, "{source:?}");
        for (at, found) in bytes_of(&region).into_iter().enumerate() {
            let expected = if range.contains(&at) { byte } else { USED };
            assert_eq!(found, expected, "{source:?} at {at:#x}");
        }
        assert_eq!(
            dirty_bytes(&region),
            range.collect::<Vec<_>>(),
            "{source:?}"
        );
    }
}

#[test]
fn discarded_memory_can_be_used_again() {
    for source in SOURCES {
        let region = used(source, SIZE);
        region.discard(0, SIZE).unwrap();
        region.as_volatile_slice().fill(7).unwrap();
        assert!(
            bytes_of(&region).iter().all(|byte| *byte == 7),
            "{source:?}"
        );
    }
}

#[test]
fn a_peer_sees_the_hole_in_a_shared_file() {
    let region = used(Source::MemoryFile, SIZE);
    let offset = region.file_offset().unwrap();
    let peer = FileOffset::from_arc(offset.arc().clone(), 0);
    let peer = MmapRegion::<()>::from_file(peer, SIZE).unwrap();
    region.discard(0, BIG_PAGE).unwrap();
    assert_eq!(offset.file().metadata().unwrap().len(), SIZE as u64);
    let bytes = bytes_of(&peer);
    assert!(bytes[..BIG_PAGE].iter().all(|byte| *byte == 0));
    assert!(bytes[BIG_PAGE..].iter().all(|byte| *byte == USED));
}

#[test]
fn a_range_without_a_whole_page_is_left_alone() {
    let region = used(Source::Anonymous, SIZE);
    for (offset, length) in [(1, 4095), (0, 0), (SIZE, 0), (100, 50), (4095, 2)] {
        let report = region.discard(offset, length).unwrap();
        assert!(report.discarded.is_empty());
        assert_eq!(report.unaligned_head + report.unaligned_tail, length);
        assert_eq!(report.freed, Some(0));
    }
    assert!(bytes_of(&region).iter().all(|byte| *byte == USED));
    assert!(dirty_bytes(&region).is_empty());
}

const PAGE: usize = 4096;
const ODD_SIZE: usize = 6 * PAGE + 1000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn discards_are_those_of_a_naive_twin(
        source in proptest::sample::select(&SOURCES[..]),
        ranges in proptest::collection::vec((0..ODD_SIZE, 0..ODD_SIZE), 1..4),
    ) {
        let region = used(source, ODD_SIZE);
        let page_size = region.bitmap().page_size().get();
        let mut model = vec![USED; ODD_SIZE];
        let mut dirty = vec![false; ODD_SIZE];
        for (offset, length) in ranges {
            let length = length.min(ODD_SIZE - offset);
            let report = region.discard(offset, length).unwrap();
            prop_assert_eq!(
                report.unaligned_head + report.discarded.len() + report.unaligned_tail, length
            );
            for page in (0..ODD_SIZE).step_by(page_size) {
                let bytes = page..page + page_size;
                let is_whole = offset <= bytes.start && bytes.end <= offset + length;
                let in_report =
                    report.discarded.start <= bytes.start && bytes.end <= report.discarded.end;
                prop_assert_eq!(is_whole, in_report);
                if is_whole {
                    let byte = if source.is_private_file() { FILE_BYTE } else { 0 };
                    model[bytes.clone()].fill(byte);
                    dirty[bytes].fill(true);
                }
            }
        }
        prop_assert_eq!(bytes_of(&region), model);
        let dirty_found: Vec<_> = (0..ODD_SIZE).map(|at| region.bitmap().dirty_at(at)).collect();
        prop_assert_eq!(dirty_found, dirty);
    }
}

#[test]
fn a_range_past_the_end_is_refused() {
    let region = used(Source::Anonymous, SIZE);
    for (offset, length) in [(SIZE, 1), (0, SIZE + 1), (usize::MAX, 2), (1, usize::MAX)] {
        let error = region.discard(offset, length).unwrap_err();
        assert!(matches!(
            error,
            DiscardError::OutOfBounds { size: SIZE, .. }
        ));
    }
    assert!(dirty_bytes(&region).is_empty());
}

#[test]
fn memory_that_must_not_be_written_is_not_discarded() {
    for (prot, protection) in [
        (libc::PROT_READ, Protection::ReadOnly),
        (libc::PROT_NONE, Protection::NoAccess),
    ] {
        let builder = MmapRegionBuilder::<()>::new(SIZE).with_mmap_prot(prot);
        let region = builder.with_memfd("kept").build().unwrap();
        let file = region.file_offset().unwrap().file();
        file.write_all_at(&[USED], 0).unwrap();
        let error = region.discard(0, SIZE).unwrap_err();
        assert!(
            matches!(error, DiscardError::NotWritable { protection: p } if p == protection),
            "{error:?}"
        );
        let error = region.discard_zero_pages(0, SIZE).unwrap_err();
        assert!(matches!(error, DiscardError::NotWritable { .. }));
        let mut byte = [0];
        file.read_exact_at(&mut byte, 0).unwrap();
        assert_eq!(byte, [USED]);
    }
}

#[test]
fn memory_of_somebody_else_is_not_discarded() {
    let owner = used(Source::Anonymous, SIZE);
    // SAFETY: the owner lives longer, and its memory is read through slices only.
    let region = unsafe {
        MmapRegion::<()>::build_raw(
            owner.as_ptr(),
            SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        )
    }
    .unwrap();
    assert!(matches!(
        region.discard(0, SIZE).unwrap_err(),
        DiscardError::External
    ));
    assert!(matches!(
        region.discard_zero_pages(0, SIZE).unwrap_err(),
        DiscardError::External
    ));
    assert!(bytes_of(&owner).iter().all(|byte| *byte == USED));
}

fn lock(region: &MmapRegion<AtomicBitmap>) {
    // SAFETY: the range is the region's; a lock changes no byte.
    let status = unsafe { libc::mlock(region.as_ptr().cast(), region.size()) };
    assert_eq!(status, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn locked_memory_is_discarded_where_the_kernel_can() {
    for source in SOURCES {
        let region = used(source, SIZE);
        lock(&region);
        let result = region.discard(BIG_PAGE, BIG_PAGE);
        let method = match source {
            Source::SharedAnonymous => {
                let error = result.unwrap_err();
                assert!(matches!(
                    error,
                    DiscardError::Locked {
                        offset: BIG_PAGE,
                        length: BIG_PAGE,
                        method: DiscardMethod::Remove,
                        ..
                    }
                ));
                assert_eq!(errno(&error), Some(libc::EINVAL));
                // Nothing was discarded, but who cannot know marks.
                assert!(bytes_of(&region).iter().all(|byte| *byte == USED));
                assert!(region.bitmap().dirty_at(BIG_PAGE));
                continue;
            }
            Source::MemoryFile | Source::SharedFile => DiscardMethod::PunchHole,
            _ => DiscardMethod::DontNeedLocked,
        };
        assert_eq!(result.unwrap().method, method, "{source:?}");
        let byte = if source.is_private_file() {
            FILE_BYTE
        } else {
            0
        };
        assert_eq!(bytes_of(&region)[BIG_PAGE..][..BIG_PAGE], [byte; BIG_PAGE]);
    }
}

#[test]
fn a_device_that_maps_memory_loses_it() {
    let device = File::options().read(true).write(true).open("/dev/zero");
    let device = FileOffset::new(device.unwrap(), 0);
    let region = MmapRegion::<AtomicBitmap>::from_file(device, SIZE).unwrap();
    region.as_volatile_slice().fill(USED).unwrap();
    let report = region.discard(0, BIG_PAGE).unwrap();
    assert_eq!(report.method, DiscardMethod::Remove);
    assert_eq!(bytes_of(&region)[..BIG_PAGE], [0; BIG_PAGE]);
    assert_eq!(bytes_of(&region)[BIG_PAGE], USED);
}

#[test]
fn a_file_system_without_holes_is_an_error_with_its_name() {
    let file = match file_on("ramfs", "") {
        Ok(file) => file,
        Err(reason) => {
            println!("skipped: {reason}");
            return;
        }
    };
    file.set_len(SIZE as u64).unwrap();
    let region = MmapRegion::<AtomicBitmap>::from_file(FileOffset::new(file, 0), SIZE).unwrap();
    region.as_volatile_slice().fill(USED).unwrap();
    let error = region.discard(0, BIG_PAGE).unwrap_err();
    assert!(matches!(
        error,
        DiscardError::System {
            offset: 0,
            length: BIG_PAGE,
            method: DiscardMethod::PunchHole,
            ..
        }
    ));
    assert_eq!(errno(&error), Some(libc::EOPNOTSUPP));
    assert_eq!(
        error.to_string(),
        "FALLOC_FL_PUNCH_HOLE of 65536 bytes at offset 0x0 failed"
    );
    assert!(bytes_of(&region).iter().all(|byte| *byte == USED));
}

#[test]
fn a_file_sealed_against_writes_keeps_its_bytes() {
    let backing = Backing::Memfd {
        name: "sealed-later".to_owned(),
        seals: Seals {
            seal: false,
            ..Seals::ALL
        },
        huge_pages: None,
    };
    let region = MmapRegionBuilder::<AtomicBitmap>::new(SIZE)
        .with_backing(backing)
        .build()
        .unwrap();
    region.as_volatile_slice().fill(USED).unwrap();
    let file = region.file_offset().unwrap().file();
    // SAFETY: the descriptor is open; the command takes an integer.
    let status = unsafe {
        libc::fcntl(
            file.as_raw_fd(),
            libc::F_ADD_SEALS,
            libc::F_SEAL_FUTURE_WRITE,
        )
    };
    assert_eq!(status, 0);
    let error = region.discard(0, SIZE).unwrap_err();
    assert!(matches!(error, DiscardError::System { .. }));
    assert_eq!(errno(&error), Some(libc::EPERM));
    assert!(bytes_of(&region).iter().all(|byte| *byte == USED));
}

#[test]
fn what_may_be_discarded_is_up_to_the_pages() {
    let mut region = used(Source::Anonymous, SIZE);
    region
        .set_protection(BIG_PAGE, BIG_PAGE, Protection::ReadOnly)
        .unwrap();
    for (offset, length) in [(0, SIZE), (BIG_PAGE, BIG_PAGE), (BIG_PAGE / 2, BIG_PAGE)] {
        for error in [
            region.discard(offset, length).unwrap_err(),
            region.discard_zero_pages(offset, length).unwrap_err(),
        ] {
            let is_refused = matches!(
                error,
                DiscardError::NotWritable {
                    protection: Protection::ReadOnly
                }
            );
            assert!(is_refused, "{error:?}");
        }
    }
    assert!(bytes_of_parts(&region).iter().all(|byte| *byte == USED));
    assert!(dirty_bytes(&region).is_empty());
    region.discard(0, BIG_PAGE + 1).unwrap();
    region.discard(2 * BIG_PAGE - 1, BIG_PAGE + 1).unwrap();
    let expected = |at: usize| !(at < BIG_PAGE || (2 * BIG_PAGE..3 * BIG_PAGE).contains(&at));
    for (at, byte) in bytes_of_parts(&region).into_iter().enumerate() {
        assert_eq!(byte == USED, expected(at), "at {at:#x}");
    }
}

/// Returns all bytes of a region whose pages are all readable, not all in the same way.
fn bytes_of_parts(region: &MmapRegion<AtomicBitmap>) -> Vec<u8> {
    let mut bytes = vec![0; SIZE];
    for (part, at) in bytes.chunks_mut(BIG_PAGE).zip((0..).step_by(BIG_PAGE)) {
        let slice = region.get_slice(at, BIG_PAGE).expect("a readable page");
        slice.read_slice(part, 0).expect("a read");
    }
    bytes
}

#[test]
fn huge_pages_go_back_to_the_pool() {
    let pool = pool_or_skip!(TWO_MIB, 8);
    let flags = libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB;
    let by_flag = |sharing| {
        MmapRegionBuilder::<AtomicBitmap>::new(4 * TWO_MIB).with_mmap_flags(flags | sharing)
    };
    let file = || MmapRegionBuilder::new(4 * TWO_MIB).with_huge_pages(HugePageSize::TwoMiB);
    let table = [
        (file(), DiscardMethod::PunchHole),
        (
            file().with_mmap_flags(libc::MAP_SHARED | libc::MAP_NORESERVE),
            DiscardMethod::PunchHole,
        ),
        (by_flag(libc::MAP_PRIVATE), DiscardMethod::DontNeed),
        (by_flag(libc::MAP_SHARED), DiscardMethod::Remove),
        (
            by_flag(libc::MAP_PRIVATE | libc::MAP_NORESERVE),
            DiscardMethod::DontNeed,
        ),
    ];
    for (builder, method) in table {
        let region = builder.build().unwrap();
        region.as_volatile_slice().fill(USED).unwrap();
        region.bitmap().reset();
        let before = pool.free_pages().unwrap();
        // Half a page on either side is left alone.
        let report = region.discard(TWO_MIB / 2, 3 * TWO_MIB).unwrap();
        assert_eq!(report.discarded, TWO_MIB..3 * TWO_MIB);
        assert_eq!(report.unaligned_head, TWO_MIB / 2);
        assert_eq!(report.unaligned_tail, TWO_MIB / 2);
        assert_eq!(report.freed, Some(2 * TWO_MIB));
        assert_eq!((report.method, report.reads), (method, DiscardReads::Zero));
        assert!(report.back_to_pool);
        assert_eq!(pool.free_pages().unwrap(), before + 2, "{method}");
        for page in 0..4 {
            let discarded = (1..3).contains(&page);
            assert_eq!(region.bitmap().dirty_at(page * TWO_MIB), discarded);
            assert_eq!(
                region.bitmap().dirty_at((page + 1) * TWO_MIB - 1),
                discarded
            );
        }
        let bytes = bytes_of(&region);
        assert!(bytes[TWO_MIB..3 * TWO_MIB].iter().all(|byte| *byte == 0));
        assert!(bytes[..TWO_MIB].iter().all(|byte| *byte == USED));
        assert!(bytes[3 * TWO_MIB..].iter().all(|byte| *byte == USED));
    }
}

#[test]
fn a_pool_that_ran_empty_after_a_discard_is_an_error_of_prefault() {
    let pool = pool_or_skip!(TWO_MIB, 4);
    let file = || MmapRegionBuilder::<()>::new(2 * TWO_MIB).with_huge_pages(HugePageSize::TwoMiB);
    let region = file().build().unwrap();
    region.as_volatile_slice().fill(USED).unwrap();
    region.discard(0, 2 * TWO_MIB).unwrap();
    let others = MmapRegionBuilder::<()>::new(pool.free().unwrap() * TWO_MIB)
        .with_huge_pages(HugePageSize::TwoMiB);
    let _others = others.build().unwrap();
    let result = region.prefault_range(0, TWO_MIB, &Prefault::new());
    let error = result.unwrap_err();
    assert!(
        matches!(
            error,
            PrefaultError::Populate {
                offset: 0,
                done: 0,
                reason: PrefaultReason::HugePagePool {
                    needed_pages: 1,
                    free_pages: 0,
                    page_size: TWO_MIB
                },
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn a_discard_among_writers_is_one_more_writer() {
    let region = used(Source::Anonymous, SIZE);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let slice = region.as_volatile_slice();
                for round in 0..50_000usize {
                    let at = round * 4096 % SIZE;
                    slice.write_obj(u64::MAX, at).unwrap();
                    let found = slice.read_obj::<u64>(at).unwrap();
                    assert!(found == 0 || found == u64::MAX, "{found:#x}");
                }
            });
        }
        for round in 0..500 {
            region.discard(round % 8 * BIG_PAGE, BIG_PAGE).unwrap();
        }
    });
}

#[test]
fn pages_of_zeroes_are_found_and_leave() {
    for source in SOURCES {
        let region = used(source, SIZE);
        let slice = region.as_volatile_slice();
        let zeroes = region.get_slice(BIG_PAGE, 2 * BIG_PAGE).unwrap();
        zeroes.zero().unwrap();
        region.discard(6 * BIG_PAGE, BIG_PAGE).unwrap();
        region.bitmap().reset();
        let result = region.discard_zero_pages(0, SIZE);
        if source.is_private_file() {
            assert!(matches!(result.unwrap_err(), DiscardError::FileContent));
            assert_eq!(slice.read_obj::<u8>(BIG_PAGE).unwrap(), 0);
            continue;
        }
        // Without those that were gone already.
        assert_eq!(result.unwrap(), 2 * BIG_PAGE, "{source:?}");
        assert_eq!(region.resident_bytes(BIG_PAGE, 2 * BIG_PAGE).unwrap(), 0);
        assert_eq!(
            region.resident_bytes(0, SIZE).unwrap(),
            SIZE - 3 * BIG_PAGE,
            "{source:?}"
        );
        assert!(!region.bitmap().dirty_at(6 * BIG_PAGE));
    }
}
