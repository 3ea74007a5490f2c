// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the library does as the kernel's version allows: what it chose, and that it works.

use std::fs;
use std::num::NonZeroUsize;
use std::thread;

use guest_memory::bitmap::{AtomicBitmap, MarkOrdering};
use guest_memory::mmap::{
    DiscardError, DiscardMethod, Locking, MemoryName, Need, Outcome, PolicyKind, Prefault,
    PrefaultMethod, Refusal, Seals, Sharing,
};
use guest_memory::{
    Backing, HugePageSize, MmapRegion, MmapRegionBuilder, Policies, VolatileMemory,
};

use crate::machine::kernel_version;
use crate::pool::{TWO_MIB, pool_or_skip};

const SIZE: usize = 1 << 20;

fn anonymous(sharing: Sharing, huge_pages: Option<HugePageSize>) -> Backing {
    Backing::Anonymous {
        sharing,
        huge_pages,
    }
}

fn memory_file(huge_pages: Option<HugePageSize>) -> Backing {
    Backing::Memfd {
        name: "older".into(),
        seals: Seals::ALL,
        huge_pages,
    }
}

fn region_of(size: usize, backing: Backing, policies: Policies) -> MmapRegion {
    MmapRegionBuilder::new(size)
        .with_backing(backing)
        .with_policies(policies)
        .build()
        .unwrap()
}

/// Returns where in `/proc/self/maps` the mapping that starts at an address is, and all of its lines.
fn maps_at(address: usize) -> (usize, Vec<String>) {
    let text = fs::read_to_string("/proc/self/maps").unwrap();
    let lines: Vec<String> = text.lines().map(String::from).collect();
    let start = format!("{address:08x}-");
    let index = lines.iter().position(|line| line.starts_with(&start));
    (index.unwrap_or_else(|| panic!("{start}:\n{text}")), lines)
}

#[test]
fn prefault_asks_the_kernel_from_linux_5_14_on_and_touches_before() {
    let expected = if kernel_version() >= (5, 14) {
        PrefaultMethod::Populate
    } else {
        PrefaultMethod::Touch
    };
    for backing in [
        anonymous(Sharing::Private, None),
        anonymous(Sharing::Shared, None),
        memory_file(None),
    ] {
        let region = region_of(SIZE, backing, Policies::new());
        assert_eq!(region.resident_bytes(0, SIZE).unwrap(), 0);
        let report = region.prefault(&Prefault::new()).unwrap();
        assert_eq!((report.method, report.populated), (expected, SIZE));
        assert_eq!(region.resident_bytes(0, SIZE).unwrap(), SIZE);
    }
}

#[test]
fn each_kind_of_memory_is_discarded_in_its_way() {
    for (backing, method) in [
        (anonymous(Sharing::Private, None), DiscardMethod::DontNeed),
        (anonymous(Sharing::Shared, None), DiscardMethod::Remove),
        (memory_file(None), DiscardMethod::PunchHole),
    ] {
        let region = region_of(SIZE, backing, Policies::new());
        let slice = region.as_volatile_slice();
        slice.fill(7).unwrap();
        let report = region.discard(SIZE / 4, SIZE / 2).unwrap();
        assert_eq!((report.method, report.freed), (method, Some(SIZE / 2)));
        assert_eq!(region.resident_bytes(0, SIZE).unwrap(), SIZE / 2);
        assert!(
            slice
                .subslice(SIZE / 4, SIZE / 2)
                .unwrap()
                .is_zero()
                .unwrap()
        );
        assert_eq!(slice.read_obj::<u8>(SIZE / 4 - 1).unwrap(), 7);
        assert_eq!(slice.read_obj::<u8>(SIZE / 4 * 3).unwrap(), 7);
    }
}

#[test]
fn locked_memory_is_discarded_from_linux_5_18_on() {
    let policies = Policies::new().with_locking(Locking::Now, Need::Required);
    let region = region_of(SIZE, Backing::default(), policies);
    let slice = region.as_volatile_slice();
    slice.write_obj(7u8, 0).unwrap();
    let done = region.discard(0, SIZE);
    if kernel_version() >= (5, 18) {
        assert_eq!(done.unwrap().method, DiscardMethod::DontNeedLocked);
        assert_eq!(slice.read_obj::<u8>(0).unwrap(), 0);
    } else {
        assert!(matches!(done, Err(DiscardError::Locked { .. })), "{done:?}");
        assert_eq!(slice.read_obj::<u8>(0).unwrap(), 7);
    }
}

/// The harvester copies what is marked while another thread writes. What it misses would differ in the end.
#[test]
fn no_write_is_lost_to_a_harvest_by_the_ordering_that_the_kernel_grants() {
    const PAGE: usize = 4096;
    const PAGES: usize = 64;
    const WRITES: u64 = 50_000;
    let preferred = MarkOrdering::preferred();
    if kernel_version() >= (4, 14) {
        assert_eq!(preferred, MarkOrdering::Asymmetric, "membarrier is refused");
    }
    for ordering in [preferred, MarkOrdering::Symmetric] {
        let bitmap = AtomicBitmap::new(PAGES * PAGE, NonZeroUsize::new(PAGE).unwrap());
        let bitmap = bitmap.with_ordering(ordering).unwrap();
        let builder = MmapRegionBuilder::new_with_bitmap(PAGES * PAGE, bitmap);
        let region = builder.build().unwrap();
        let memory = region.as_volatile_slice();
        let mut copy = vec![0u64; PAGES];
        let mut harvests_with_marks = 0;
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for count in 1..=WRITES {
                    let page = usize::try_from(count * 29 % PAGES as u64).unwrap();
                    memory.write_obj(count, page * PAGE).unwrap();
                }
            });
            loop {
                // Looked at before the harvest: after the last write there is one more.
                let is_last = writer.is_finished();
                let dirty = region.bitmap().harvest();
                harvests_with_marks += u32::from(!dirty.is_empty());
                for page in dirty.pages() {
                    copy[page] = memory.read_obj(page * PAGE).unwrap();
                }
                if is_last {
                    break;
                }
            }
        });
        assert!(harvests_with_marks > 0);
        for (page, copied) in copy.iter().enumerate() {
            let written: u64 = memory.read_obj(page * PAGE).unwrap();
            assert_eq!(*copied, written, "page {page}, {ordering:?}");
        }
    }
}

#[test]
fn a_name_shows_or_the_refusal_says_what_the_kernel_lacks() {
    let name: MemoryName = "guest-ram".parse().unwrap();
    let policies = Policies::new().with_name(name, Need::Wished);
    let region = region_of(SIZE, Backing::default(), policies);
    let (index, lines) = maps_at(region.as_ptr().addr());
    let is_shown = lines[index].ends_with("[anon:guest-ram]");
    match region.policies().outcome(PolicyKind::Name) {
        Outcome::Applied => assert!(is_shown, "{}", lines[index]),
        Outcome::Refused(Refusal::Kernel { errno, hint }) => {
            println!("the kernel takes no names");
            assert_eq!(*errno, Some(22));
            assert_eq!(hint, "needs a kernel with CONFIG_ANON_VMA_NAME");
            assert!(!is_shown, "{}", lines[index]);
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_sealed_memory_file_keeps_its_length() {
    let region = region_of(SIZE, memory_file(None), Policies::new());
    let file = region.file_offset().unwrap().file();
    for len in [0, SIZE as u64 - 4096, SIZE as u64 + 4096] {
        let error = file.set_len(len).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "{len}");
    }
    assert_eq!(file.metadata().unwrap().len(), SIZE as u64);
    region.as_volatile_slice().fill(1).unwrap();
}

/// Before Linux 5.16 huge pages could not be moved into the place that was reserved for them.
#[test]
fn huge_pages_are_put_between_guard_pages_and_discarded() {
    let size = 2 * TWO_MIB;
    let _pool = pool_or_skip!(TWO_MIB, 2);
    let huge = Some(HugePageSize::TwoMiB);
    for backing in [
        anonymous(Sharing::Private, huge),
        anonymous(Sharing::Shared, huge),
        memory_file(huge),
    ] {
        let region = region_of(size, backing, Policies::new());
        let start = region.as_ptr().addr();
        assert!(start.is_multiple_of(TWO_MIB));
        let (index, lines) = maps_at(start);
        assert!(lines[index].starts_with(&format!("{start:08x}-{:08x} rw", start + size)));
        let (before, after) = (&lines[index - 1], &lines[index + 1]);
        assert!(before.contains(&format!("-{start:08x} ---p")), "{before}");
        let end = format!("{:08x}-", start + size);
        assert!(
            after.starts_with(&end) && after.contains(" ---p "),
            "{after}"
        );

        let slice = region.as_volatile_slice();
        let report = region.prefault(&Prefault::new()).unwrap();
        assert_eq!(report.populated, size);
        slice.fill(7).unwrap();
        if kernel_version() >= (5, 18) || region.file_offset().is_some() {
            let report = region.discard(TWO_MIB, TWO_MIB).unwrap();
            assert!(report.back_to_pool);
            region.prefault(&Prefault::new()).unwrap();
            assert_eq!(slice.read_obj::<u8>(TWO_MIB - 1).unwrap(), 7);
            assert_eq!(slice.read_obj::<u8>(TWO_MIB).unwrap(), 0);
        }
    }
}
