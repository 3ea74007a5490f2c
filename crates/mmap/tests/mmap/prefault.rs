// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Populated memory is there, holds what it held, and a page that cannot be had is an error.
#![expect(unsafe_code, reason = "asks which processors a thread may run on")]

use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};

use guest_memory_bitmap::{AtomicBitmap, Bitmap};
use guest_memory_core::{FileOffset, GuestAddress, GuestMemory};
use guest_memory_mmap::{
    GuestMemoryMmap, HugePageSize, MmapRegion, MmapRegionBuilder, Need, Policies, Prefault,
    PrefaultError, PrefaultMethod, PrefaultProgress, PrefaultReason, Protection,
    TransparentHugePages, prefault_all,
};
use guest_memory_volatile::VolatileMemory;

use crate::files::{BIG_PAGE, errno, file_of};
use crate::pool::{TWO_MIB, pool_or_skip};
use crate::sources::{SOURCES, bytes_of, file_on};

/// More than one piece, and not a whole number of them.
const SIZE: usize = (40 << 20) + BIG_PAGE;

fn threads(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).expect("not zero")
}

#[test]
fn one_thread_or_two_populate_every_source() {
    for source in SOURCES {
        for count in [1, 2, 1000] {
            let region = source.region(SIZE);
            region.as_volatile_slice().write_obj(7u8, BIG_PAGE).unwrap();
            region.bitmap().reset();
            let seen = Mutex::new(Vec::new());
            let progress = |progress: PrefaultProgress| {
                seen.lock().unwrap().push((progress.done, progress.total));
            };
            let how = Prefault::new()
                .with_threads(threads(count))
                .with_progress(&progress);
            let report = region.prefault(&how).unwrap();
            assert_eq!(report.populated, SIZE);
            assert_eq!(report.method, PrefaultMethod::Populate);
            assert!(region.is_resident(0, SIZE).unwrap(), "{source:?}");

            let seen = seen.into_inner().unwrap();
            assert!(seen.len() >= 3, "{seen:?}");
            assert!(seen.is_sorted_by(|one, next| one.0 < next.0), "{seen:?}");
            assert!(seen.iter().all(|(_, total)| *total == SIZE));
            assert_eq!(seen.last(), Some(&(SIZE, SIZE)));

            let dirty = (0..SIZE)
                .step_by(4096)
                .any(|at| region.bitmap().dirty_at(at));
            assert!(!dirty, "nothing was written");
            let mut expected = vec![0; SIZE];
            expected[BIG_PAGE] = 7;
            assert!(bytes_of(&region) == expected, "{source:?}");
        }
    }
}

#[test]
fn private_memory_of_a_file_is_copied_already() {
    let file = file_of(BIG_PAGE as u64);
    let builder = MmapRegionBuilder::<()>::new(BIG_PAGE)
        .with_file_offset(FileOffset::new(file.try_clone().unwrap(), 0))
        .with_mmap_flags(libc::MAP_PRIVATE);
    let region = builder.build().unwrap();
    region.prefault(&Prefault::new()).unwrap();
    file.write_all_at(&[9], 0).unwrap();
    let slice = region.as_volatile_slice();
    assert_eq!(slice.read_obj::<u8>(0).unwrap(), 0, "the page is a copy");
}

#[test]
fn read_only_memory_is_populated_for_reading() {
    let builder = MmapRegionBuilder::<()>::new(SIZE).with_mmap_prot(libc::PROT_READ);
    let region = builder.with_memfd("read-only").build().unwrap();
    let report = region.prefault(&Prefault::new()).unwrap();
    assert_eq!(report.populated, SIZE);
    assert!(region.is_resident(0, SIZE).unwrap());
}

#[test]
fn pages_are_populated_for_what_may_be_done_with_them() {
    let file = file_of(3 * BIG_PAGE as u64);
    let builder = MmapRegionBuilder::<AtomicBitmap>::new(3 * BIG_PAGE)
        .with_file_offset(FileOffset::new(file.try_clone().unwrap(), 0))
        .with_mmap_flags(libc::MAP_PRIVATE);
    let mut region = builder.build().unwrap();
    region
        .set_protection(BIG_PAGE, BIG_PAGE, Protection::ReadOnly)
        .unwrap();
    let report = region.prefault(&Prefault::new()).unwrap();
    assert_eq!(report.populated, 3 * BIG_PAGE);
    // Where it may be written it is a copy of the file's pages, elsewhere they show.
    file.write_all_at(&vec![9; 3 * BIG_PAGE], 0).unwrap();
    for (at, byte) in [(0, 0), (BIG_PAGE, 9), (2 * BIG_PAGE, 0)] {
        let slice = region.get_slice(at, BIG_PAGE).unwrap();
        assert_eq!(slice.read_obj::<u8>(0).unwrap(), byte, "at {at:#x}");
    }

    region
        .set_protection(2 * BIG_PAGE, BIG_PAGE, Protection::NoAccess)
        .unwrap();
    let error = region.prefault(&Prefault::new()).unwrap_err();
    assert!(matches!(error, PrefaultError::NoAccess { region: 0 }));
    let accessible = region.prefault_range(0, 2 * BIG_PAGE, &Prefault::new());
    assert_eq!(accessible.unwrap().populated, 2 * BIG_PAGE);
}

#[test]
fn a_range_is_populated_with_the_pages_around_it() {
    // By small pages, so that none brings in more than its own.
    let small =
        Policies::new().with_transparent_huge_pages(TransparentHugePages::Never, Need::Required);
    let builder = MmapRegionBuilder::<()>::new(SIZE).with_policies(small);
    let region = builder.build().unwrap();
    let report = region.prefault_range(BIG_PAGE - 1, 2, &Prefault::new());
    let populated = report.unwrap().populated;
    assert_eq!(region.resident_bytes(0, SIZE).unwrap(), populated);
    assert!(region.is_resident(BIG_PAGE - 1, 2).unwrap());
    assert!((2..=2 * BIG_PAGE).contains(&populated));
    let nothing = region.prefault_range(SIZE, 0, &Prefault::new()).unwrap();
    assert_eq!(nothing.populated, 0);
}

#[test]
fn a_range_past_the_end_and_memory_without_access_are_refused() {
    let region = MmapRegion::<()>::new(SIZE).unwrap();
    for (offset, length) in [(SIZE, 1), (0, SIZE + 1), (usize::MAX, 2)] {
        let error = region.prefault_range(offset, length, &Prefault::new());
        assert!(matches!(
            error.unwrap_err(),
            PrefaultError::OutOfBounds { size: SIZE, .. }
        ));
    }
    let builder = MmapRegionBuilder::<()>::new(SIZE).with_mmap_prot(libc::PROT_NONE);
    let closed = builder.build().unwrap();
    let error = closed.prefault(&Prefault::new()).unwrap_err();
    assert!(matches!(error, PrefaultError::NoAccess { region: 0 }));
    // Among others it is found before anything is done.
    let error = prefault_all([&region, &closed], &Prefault::new()).unwrap_err();
    assert!(matches!(error, PrefaultError::NoAccess { region: 1 }));
    assert_eq!(region.resident_bytes(0, SIZE).unwrap(), 0);
}

#[test]
fn several_regions_are_one_piece_of_work() {
    let ranges = [(GuestAddress(0), SIZE), (GuestAddress(1 << 32), BIG_PAGE)];
    let memory = GuestMemoryMmap::<AtomicBitmap>::from_ranges(&ranges).unwrap();
    let last = Mutex::new((0, 0));
    let progress = |progress: PrefaultProgress| {
        *last.lock().unwrap() = (progress.done, progress.total);
    };
    let how = Prefault::new()
        .with_threads(threads(2))
        .with_progress(&progress);
    let report = prefault_all(memory.iter().map(|region| &**region), &how).unwrap();
    let total = SIZE + BIG_PAGE;
    assert_eq!(report.populated, total);
    assert_eq!(*last.lock().unwrap(), (total, total));
    for region in memory.iter() {
        assert!(region.is_resident(0, region.size()).unwrap());
    }
    let none: [&MmapRegion; 0] = [];
    assert_eq!(prefault_all(none, &how).unwrap().populated, 0);
}

#[test]
fn who_cancels_before_gets_nothing_and_in_between_what_was_done() {
    let region = MmapRegion::<()>::new(SIZE).unwrap();
    let cancelled = AtomicBool::new(true);
    let how = Prefault::new().with_cancellation(&cancelled);
    let error = region.prefault(&how).unwrap_err();
    assert!(matches!(
        error,
        PrefaultError::Cancelled {
            done: 0,
            total: SIZE
        }
    ));
    assert_eq!(region.resident_bytes(0, SIZE).unwrap(), 0);

    for count in [1, 2] {
        let region = MmapRegion::<()>::new(8 * SIZE).unwrap();
        let cancelled = AtomicBool::new(false);
        let progress = |_: PrefaultProgress| cancelled.store(true, Ordering::Relaxed);
        let how = Prefault::new()
            .with_threads(threads(count))
            .with_progress(&progress)
            .with_cancellation(&cancelled);
        let error = region.prefault(&how).unwrap_err();
        let PrefaultError::Cancelled { done, total } = error else {
            panic!("unexpected {error:?}");
        };
        assert_eq!(total, 8 * SIZE);
        assert!(done > 0 && done <= total / 2, "{done} of {total}");
        assert_eq!(region.resident_bytes(0, total).unwrap(), done);
    }
}

#[test]
fn a_report_that_panics_ends_the_work_and_goes_on_to_the_caller() {
    for count in [1, 2] {
        let region = MmapRegion::<()>::new(SIZE).unwrap();
        let progress = |_: PrefaultProgress| panic!("by the test");
        let how = Prefault::new()
            .with_threads(threads(count))
            .with_progress(&progress);
        let result = panic::catch_unwind(AssertUnwindSafe(|| region.prefault(&how)));
        assert!(result.is_err());
    }
}

/// Counts the processors that the calling thread may run on, and says whether one is among them.
fn processors(cpu: usize) -> (i32, bool) {
    // SAFETY: plain integers, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set has the size given and is writable.
    let status = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    assert_eq!(status, 0);
    // SAFETY: counts bits.
    let count = unsafe { libc::CPU_COUNT(&set) };
    // SAFETY: the number is below the size of the set.
    (count, unsafe { libc::CPU_ISSET(cpu, &set) })
}

#[test]
fn threads_run_on_the_processors_given_and_the_caller_where_it_was() {
    let region = MmapRegion::<()>::new(SIZE).unwrap();
    let (before, has_first) = processors(0);
    if !has_first {
        println!("skipped: processor 0 is not for this process");
        return;
    }
    let seen: Mutex<Vec<(ThreadId, (i32, bool))>> = Mutex::new(Vec::new());
    let progress = |_: PrefaultProgress| {
        let mut seen = seen.lock().unwrap();
        seen.push((thread::current().id(), processors(0)));
    };
    let how = Prefault::new().with_cpus([0]).with_progress(&progress);
    region.prefault(&how).unwrap();
    assert_eq!(processors(0).0, before);
    let seen = seen.into_inner().unwrap();
    assert!(!seen.is_empty());
    for (id, on) in seen {
        assert_ne!(id, thread::current().id());
        assert_eq!(on, (1, true));
    }
    for absent in [4095, usize::MAX] {
        let how = Prefault::new().with_cpus([absent]);
        let error = region.prefault(&how).unwrap_err();
        assert!(matches!(error, PrefaultError::Thread { .. }));
        assert_eq!(errno(&error), Some(libc::EINVAL));
    }
}

#[test]
fn huge_pages_are_populated() {
    let pool = pool_or_skip!(TWO_MIB, 4);
    for count in [1, 2] {
        let builder = MmapRegionBuilder::<()>::new(4 * TWO_MIB);
        let region = builder.with_huge_pages(HugePageSize::TwoMiB).build();
        let region = region.unwrap();
        assert_eq!(region.resident_bytes(0, 4 * TWO_MIB).unwrap(), 0);
        let before = pool.free_pages().unwrap();
        // Of a huge page any byte is the whole.
        let one = region.prefault_range(TWO_MIB + 1, 1, &Prefault::new());
        assert_eq!(one.unwrap().populated, TWO_MIB);
        assert_eq!(pool.free_pages().unwrap(), before - 1);
        let how = Prefault::new().with_threads(threads(count));
        assert_eq!(region.prefault(&how).unwrap().populated, 4 * TWO_MIB);
        assert_eq!(pool.free_pages().unwrap(), before - 4);
        assert!(region.is_resident(0, 4 * TWO_MIB).unwrap());
    }
}

#[test]
fn a_pool_that_is_too_small_is_an_error_and_no_signal() {
    let pool = pool_or_skip!(TWO_MIB, 3);
    let flags = libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB;
    let free = pool.free().unwrap();
    let pages = free + 5;
    let size = pages * TWO_MIB;
    let builders = || {
        let unreserved = |flags: i32| flags | libc::MAP_NORESERVE;
        let new = || MmapRegionBuilder::<()>::new(size);
        [
            new().with_mmap_flags(unreserved(flags | libc::MAP_PRIVATE)),
            new().with_mmap_flags(unreserved(flags | libc::MAP_SHARED)),
            new()
                .with_huge_pages(HugePageSize::TwoMiB)
                .with_mmap_flags(unreserved(libc::MAP_SHARED)),
        ]
    };
    for count in [1, 2] {
        for builder in builders() {
            let region = builder.build().unwrap();
            let how = Prefault::new().with_threads(threads(count));
            let error = region.prefault(&how).unwrap_err();
            assert_eq!(errno(&error), Some(libc::EFAULT));
            let message = error.to_string();
            let PrefaultError::Populate {
                region: 0,
                offset,
                length: TWO_MIB,
                done,
                total,
                reason:
                    PrefaultReason::HugePagePool {
                        needed_pages,
                        free_pages: 0,
                        page_size: TWO_MIB,
                    },
                ..
            } = error
            else {
                panic!("unexpected {error:?}");
            };
            assert_eq!(total, size);
            // Somebody who takes no turn may have had some.
            assert!(done > 0 && done <= free * TWO_MIB, "{done} {free}");
            assert_eq!(needed_pages, pages - offset / TWO_MIB);
            if count == 1 {
                assert_eq!(offset, done);
            }
            // Of two threads the one that fails may have the last page of all.
            let pages = if needed_pages == 1 { "page" } else { "pages" };
            let counts = format!("{needed_pages} huge {pages} of 2097152 bytes needed");
            assert!(message.contains(&counts), "{message}");
            assert!(!region.is_resident(offset, 1).unwrap());
            assert_eq!(region.resident_bytes(0, size).unwrap(), done);
        }
    }
}

#[test]
fn a_file_cut_short_is_an_error_at_its_end() {
    let file = file_of(SIZE as u64);
    let offset = FileOffset::new(file.try_clone().unwrap(), 0);
    let region = MmapRegion::<()>::from_file(offset, SIZE).unwrap();
    let file_len = 3 * BIG_PAGE as u64;
    file.set_len(file_len).unwrap();
    let error = region.prefault(&Prefault::new()).unwrap_err();
    assert_eq!(errno(&error), Some(libc::EFAULT));
    let PrefaultError::Populate {
        offset,
        done,
        reason,
        ..
    } = error
    else {
        panic!("unexpected {error:?}");
    };
    assert_eq!((offset, done), (3 * BIG_PAGE, 3 * BIG_PAGE));
    let expected = PrefaultReason::FileTooShort {
        file_offset: file_len,
        file_len,
    };
    assert_eq!(reason, expected);
}

#[test]
fn a_file_system_that_is_full_is_an_error() {
    let file = match file_on("tmpfs", "size=1m") {
        Ok(file) => file,
        Err(reason) => {
            println!("skipped: {reason}");
            return;
        }
    };
    file.set_len(4 << 20).unwrap();
    let region = MmapRegion::<()>::from_file(FileOffset::new(file, 0), 4 << 20).unwrap();
    let error = region.prefault(&Prefault::new()).unwrap_err();
    let PrefaultError::Populate {
        offset,
        done,
        total,
        reason: PrefaultReason::File,
        ..
    } = error
    else {
        panic!("unexpected {error:?}");
    };
    assert_eq!((offset, done, total), (1 << 20, 1 << 20, 4 << 20));
}
