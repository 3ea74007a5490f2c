// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a region was built with is what the kernel says of its memory, and what its report says.

#[path = "../../src/policy/tests/smaps.rs"]
pub(crate) mod smaps;

use std::error::Error as _;
use std::io;
use std::num::NonZeroUsize;

use guest_memory_bitmap::{AtomicBitmap, Bitmap};
use guest_memory_mmap::{
    CoreDump, HugePageSize, Locking, MmapRegion, MmapRegionBuilder, MmapRegionError, Need,
    NumaNode, NumaPolicy, OnFork, Outcome, PageMerging, Policies, PolicyError, PolicyKind,
    Population, Refusal, TransparentHugePages,
};

use self::smaps::{SmapsEntry, numa_policy_at};
use crate::files::BIG_PAGE;
use crate::lifetime::{descriptors_of, mappings_of};
use crate::pool::{TWO_MIB, pool_or_skip};

const ANONYMOUS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
/// Huge pages that are not set aside when they are mapped.
const UNRESERVED: i32 = libc::MAP_HUGETLB | libc::MAP_HUGE_2MB | libc::MAP_NORESERVE;

fn smaps(region: &MmapRegion) -> SmapsEntry {
    SmapsEntry::at(region.as_ptr().addr()).expect("a mapping")
}

fn populated(threads: usize) -> Policies {
    let threads = NonZeroUsize::new(threads).expect("a thread");
    Policies::new().with_population(Population { threads }, Need::Required)
}

#[track_caller]
fn refused(builder: MmapRegionBuilder) -> PolicyError {
    match builder.build() {
        Err(MmapRegionError::Policy(error)) => *error,
        other => panic!("unexpected {other:?}"),
    }
}

#[test]
fn memory_is_made_of_the_pages_that_were_asked_for() {
    let small = MmapRegionBuilder::<()>::new(BIG_PAGE).build().unwrap();
    assert_eq!(smaps(&small).kernel_page_size_bytes, small.page_size());
    for page_size in [HugePageSize::TwoMiB, HugePageSize::OneGiB] {
        let size = page_size.size_bytes();
        let _pool = pool_or_skip!(size, 1);
        let builder = MmapRegionBuilder::<()>::new(size).with_huge_pages(page_size);
        let region = builder.build().unwrap();
        let entry = smaps(&region);
        assert_eq!(entry.kernel_page_size_bytes, size);
        assert_eq!(region.page_size(), size);
        assert!(entry.has("ht"));
    }
}

#[test]
fn each_policy_shows_in_the_kernels_flags() {
    let required = Need::Required;
    let huge_pages = |policy| Policies::new().with_transparent_huge_pages(policy, required);
    let on_fork = |policy| Policies::new().with_on_fork(policy, required);
    let table = [
        (huge_pages(TransparentHugePages::Advise), "hg"),
        (huge_pages(TransparentHugePages::Never), "nh"),
        (
            Policies::new().with_page_merging(PageMerging::Merge, required),
            "mg",
        ),
        (
            Policies::new().with_core_dump(CoreDump::Exclude, required),
            "dd",
        ),
        (on_fork(OnFork::Exclude), "dc"),
        (on_fork(OnFork::Wipe), "wf"),
        (
            Policies::new().with_locking(Locking::OnFault, required),
            "lo",
        ),
    ];
    let plain = MmapRegionBuilder::new(TWO_MIB).build().unwrap();
    for (policies, flag) in table {
        assert!(!smaps(&plain).has(flag), "{flag}");
        let builder = MmapRegionBuilder::new(TWO_MIB).with_policies(policies);
        let region = match builder.build() {
            Ok(region) => region,
            // What a kernel or its settings may leave out.
            Err(MmapRegionError::Policy(error))
                if matches!(
                    error.kind,
                    PolicyKind::TransparentHugePages | PolicyKind::PageMerging
                ) =>
            {
                println!("skipped in part: {error}");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        assert!(smaps(&region).has(flag), "{flag}");
        let entries: Vec<_> = region.policies().iter().collect();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].outcome(), &Outcome::Applied);
        assert_eq!(entries[0].need(), required);
    }
}

#[test]
fn all_policies_go_together_and_are_reported_in_their_order() {
    let region: MmapRegion = MmapRegionBuilder::new(TWO_MIB)
        .with_policies(
            populated(2)
                .with_locking(Locking::Now, Need::Wished)
                .with_name("all-policies".parse().unwrap(), Need::Wished)
                .with_on_fork(OnFork::Inherit, Need::Wished)
                .with_core_dump(CoreDump::Exclude, Need::Required)
                .with_page_merging(PageMerging::Never, Need::Wished)
                .with_transparent_huge_pages(TransparentHugePages::Never, Need::Required)
                .with_numa(NumaPolicy::Bind(NumaNode(0).into()), Need::Required),
        )
        .build()
        .unwrap();
    let report = region.policies();
    let kinds: Vec<PolicyKind> = report.iter().map(|entry| entry.kind()).collect();
    assert_eq!(kinds, PolicyKind::ALL);
    // Names are a choice of whoever configures the kernel.
    let name = report.outcome(PolicyKind::Name);
    let expected = format!(
        "NUMA bind:0 (required): applied\n\
         transparent huge pages never (required): applied\n\
         page merging never (wished): applied\n\
         core dump exclude (required): applied\n\
         on fork inherit (wished): applied\n\
         name all-policies (wished): {name}\n\
         population by 2 threads (required): applied\n\
         locking now (wished): applied\n"
    );
    assert_eq!(report.to_string(), expected);

    let entry = smaps(&region);
    assert!(
        entry.has("nh") && entry.has("dd") && entry.has("lo"),
        "{entry:?}"
    );
    assert!(!entry.has("dc") && !entry.has("mg"));
    match name {
        Outcome::Applied => assert_eq!(entry.name, "[anon:all-policies]"),
        _ => {
            println!("skipped in part: {name}");
            assert_eq!(entry.name, "");
        }
    }
    assert_eq!((entry.rss_bytes, entry.locked_bytes), (TWO_MIB, TWO_MIB));
    assert_eq!(
        numa_policy_at(region.as_ptr().addr()).as_deref(),
        Some("bind:0")
    );
}

#[test]
fn wishes_that_do_not_come_true_are_reported_and_change_nothing() {
    let node = NumaNode(900);
    let region: MmapRegion = MmapRegionBuilder::new(BIG_PAGE)
        .with_memfd("wishes")
        .with_policies(
            Policies::new()
                .with_numa(NumaPolicy::Preferred(node), Need::Wished)
                .with_page_merging(PageMerging::Merge, Need::Wished)
                .with_core_dump(CoreDump::Exclude, Need::Wished)
                .with_name("a-file".parse().unwrap(), Need::Wished),
        )
        .build()
        .unwrap();
    let report = region.policies();
    let refused: Vec<_> = report.refused().map(|entry| entry.kind()).collect();
    assert_eq!(
        refused,
        [PolicyKind::Numa, PolicyKind::PageMerging, PolicyKind::Name]
    );
    let outcome = |kind| report.outcome(kind);
    assert!(matches!(
        outcome(PolicyKind::Numa),
        Outcome::Refused(Refusal::NodesOffline { nodes, .. }) if nodes.contains(node)
    ));
    assert_eq!(
        outcome(PolicyKind::PageMerging),
        &Outcome::Refused(Refusal::NotPrivate)
    );
    assert_eq!(
        outcome(PolicyKind::Name),
        &Outcome::Refused(Refusal::NotPrivateAnonymous)
    );
    assert_eq!(outcome(PolicyKind::CoreDump), &Outcome::Applied);
    assert_eq!(outcome(PolicyKind::Locking), &Outcome::NotAsked);
    let entry = smaps(&region);
    assert!(entry.has("dd") && !entry.has("mg"), "{entry:?}");
    assert!(entry.name.starts_with("/memfd:wishes"), "{entry:?}");
}

#[test]
fn a_required_policy_that_fails_leaves_nothing_mapped() {
    let name = "required-and-refused";
    let bind = NumaPolicy::Bind(NumaNode(900).into());
    let required = Need::Required;
    // The first to be applied, and one after others that hold.
    let first = Policies::new().with_numa(bind, required);
    let later = populated(1)
        .with_core_dump(CoreDump::Exclude, required)
        .with_name("not-of-files".parse().unwrap(), required);
    for (policies, kind) in [(first, PolicyKind::Numa), (later, PolicyKind::Name)] {
        let of_a_file = MmapRegionBuilder::new(BIG_PAGE).with_memfd(name);
        let error = refused(of_a_file.with_policies(policies));
        assert_eq!(error.kind, kind);
        assert_eq!((mappings_of(name), descriptors_of(name)), (0, 0));
    }
}

#[test]
fn population_populates_and_marks_nothing() {
    for builder in [
        MmapRegionBuilder::<AtomicBitmap>::new(8 * TWO_MIB),
        MmapRegionBuilder::new(8 * TWO_MIB).with_memfd("populated"),
    ] {
        let region = builder.with_policies(populated(2)).build().unwrap();
        let size = region.size();
        assert_eq!(region.resident_bytes(0, size).unwrap(), size);
        let entry = SmapsEntry::at(region.as_ptr().addr()).unwrap();
        assert_eq!(entry.rss_bytes, size);
        assert!(
            (0..size)
                .step_by(4096)
                .all(|page| !region.bitmap().dirty_at(page))
        );
    }
}

#[test]
fn population_takes_pages_of_the_pool() {
    let pool = pool_or_skip!(TWO_MIB, 2);
    let unused = pool.free_pages().unwrap();
    let builder = MmapRegionBuilder::<()>::new(2 * TWO_MIB).with_huge_pages(HugePageSize::TwoMiB);
    let region = builder.with_policies(populated(2)).build().unwrap();
    assert_eq!(pool.free_pages().unwrap(), unused - 2);
    assert!(region.is_resident(0, 2 * TWO_MIB).unwrap());
    drop(region);
    assert_eq!(pool.free_pages().unwrap(), unused);
}

#[test]
fn population_past_the_pool_is_an_error_with_counts_and_leaves_nothing_mapped() {
    let pool = pool_or_skip!(TWO_MIB, 3);
    // All but two pages are somebody else's.
    let others = pool.free().unwrap() - 2;
    let builder = MmapRegionBuilder::<()>::new(others * TWO_MIB);
    let _others = builder
        .with_huge_pages(HugePageSize::TwoMiB)
        .build()
        .unwrap();
    let unused = pool.free_pages().unwrap();
    let builder = MmapRegionBuilder::new(4 * TWO_MIB).with_mmap_flags(ANONYMOUS | UNRESERVED);
    let error = refused(builder.with_policies(populated(1)));
    assert_eq!(error.kind, PolicyKind::Population);
    let message = format!(
        "policy population by 1 thread for 8388608 bytes at {:#x}: cannot populate 2097152 bytes at offset 0x400000 of \
         region 0: 2 huge pages of 2097152 bytes needed from there on, 0 free in the pool (4194304 bytes done of 8388608)",
        error.address
    );
    assert_eq!(error.to_string(), message);
    let cause = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!(cause.raw_os_error(), Some(libc::EFAULT));
    // The pages that were had are back.
    assert_eq!(pool.free_pages().unwrap(), unused);
    assert_eq!(pool.free().unwrap(), 2);
}
