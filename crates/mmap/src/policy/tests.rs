// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Policies as the kernel has them after they were applied.
#![expect(unsafe_code, reason = "forks, and limits a child process")]

mod forks;
mod lock_limit;
mod rerun;
#[cfg(feature = "serde")]
mod serialised;
pub(crate) mod smaps;

use std::error::Error as _;
use std::fs;
use std::io;

use guest_memory_core::FileOffset;
use guest_memory_volatile::VolatileMemory;

use self::page_source::PageSource;
use self::smaps::{SmapsEntry, numa_policy_at};
use super::*;
use crate::{MmapRegion, MmapRegionBuilder};

const MIB: usize = 1 << 20;
/// A multiple of every system's page.
const BIG_PAGE: usize = 64 << 10;

fn anonymous(len_bytes: usize) -> MmapRegion {
    MmapRegionBuilder::new(len_bytes).build().unwrap()
}

fn memory_file(len_bytes: usize) -> MmapRegion {
    let builder = MmapRegionBuilder::new(len_bytes).with_memfd("policy");
    builder.build().unwrap()
}

fn with_flags(len_bytes: usize, flags: i32) -> MmapRegion {
    let builder = MmapRegionBuilder::new(len_bytes).with_mmap_flags(flags);
    builder.build().unwrap()
}

/// Memory of huge pages that takes none from the pool: it must not be touched.
fn huge_pages() -> MmapRegion {
    let unreserved = libc::MAP_HUGETLB | libc::MAP_HUGE_2MB | libc::MAP_NORESERVE;
    with_flags(
        2 * MIB,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | unreserved,
    )
}

/// Memory of an ordinary file, unless all files at hand are in memory.
fn ordinary_file(flags: i32) -> Option<MmapRegion> {
    let programs = [std::env::current_exe().unwrap(), "/bin/sh".into()];
    let regions = programs.into_iter().map(|path| {
        let file = fs::File::open(path).unwrap();
        let builder = MmapRegionBuilder::new(BIG_PAGE)
            .with_mmap_prot(libc::PROT_READ)
            .with_mmap_flags(flags)
            .with_file_offset(FileOffset::new(file, 0));
        builder.build().unwrap()
    });
    let found = { regions }.find(|region| PageSource::of(region.extent()) == Ok(PageSource::File));
    if found.is_none() {
        println!("skipped in part: no file on a disk");
    }
    found
}

fn apply(policies: &Policies, region: &MmapRegion) -> Result<PolicyReport, PolicyError> {
    let mut report = PolicyReport::default();
    apply_before_population(policies, region.extent(), &mut report)?;
    apply_after_population(policies, region.extent(), &mut report)?;
    Ok(report)
}

fn touch(region: &MmapRegion) {
    for offset in (0..region.size()).step_by(4096) {
        let byte = region.get_slice(offset, 1).unwrap();
        byte.write_obj(1u8, 0).unwrap();
    }
}

fn smaps(region: &MmapRegion) -> SmapsEntry {
    SmapsEntry::at(region.as_ptr().addr()).expect("a mapping")
}

/// Why a wish does not come true, also said when it is no wish.
fn refusal(policies: &dyn Fn(Need) -> Policies, region: &MmapRegion) -> Refusal {
    let report = apply(&policies(Need::Wished), region).unwrap();
    let refused: Vec<_> = report.refused().collect();
    let error = apply(&policies(Need::Required), region).unwrap_err();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].kind(), error.kind);
    assert_eq!(refused[0].value(), error.value);
    assert_eq!(
        refused[0].outcome(),
        &Outcome::Refused(error.refusal.clone())
    );
    assert_eq!(error.source().is_some(), error.refusal.errno().is_some());
    error.refusal
}

/// Applies policies or says what this machine lacks for them.
macro_rules! applied_or_skip {
    ($policies:expr, $region:expr) => {
        match apply($policies, $region) {
            Ok(report) => report,
            Err(PolicyError {
                refusal:
                    refusal @ (Refusal::Kernel {
                        errno: Some(libc::EINVAL | libc::ENOENT | libc::ENOSYS),
                        ..
                    }
                    | Refusal::HugePagesDisabled { .. }),
                kind,
                ..
            }) => {
                println!("skipped: {kind}: {refusal}");
                return;
            }
            Err(error) => panic!("{error}"),
        }
    };
}

#[test]
fn transparent_huge_pages_are_used_when_advised() {
    let (region, advised) = (anonymous(8 * MIB), TransparentHugePages::Advise);
    let policies = Policies::new().with_transparent_huge_pages(advised, Need::Required);
    applied_or_skip!(&policies, &region);
    touch(&region);
    let entry = smaps(&region);
    assert!(entry.has("hg") && !entry.has("nh"));
    assert!(entry.anon_huge_pages_bytes >= 2 * MIB, "{entry:?}");
}

#[test]
fn transparent_huge_pages_are_not_used_when_ruled_out() {
    for region in [anonymous(8 * MIB), memory_file(8 * MIB)] {
        let policies = Policies::new()
            .with_transparent_huge_pages(TransparentHugePages::Never, Need::Required);
        applied_or_skip!(&policies, &region);
        touch(&region);
        let entry = smaps(&region);
        assert!(entry.has("nh") && !entry.has("hg"));
        assert_eq!(entry.anon_huge_pages_bytes, 0);
        assert_eq!(entry.shmem_pmd_mapped_bytes, 0);
    }
}

#[test]
fn pages_that_are_there_are_collapsed() {
    let policies =
        Policies::new().with_transparent_huge_pages(TransparentHugePages::Collapse, Need::Required);
    let region = anonymous(8 * MIB);
    touch(&region);
    applied_or_skip!(&policies, &region);
    assert!(smaps(&region).anon_huge_pages_bytes >= 2 * MIB);
    assert_eq!(
        region
            .get_slice(8192, 1)
            .unwrap()
            .read_obj::<u8>(0)
            .unwrap(),
        1
    );

    let region = memory_file(8 * MIB);
    touch(&region);
    apply(&policies, &region).unwrap();
    assert!(smaps(&region).shmem_pmd_mapped_bytes >= 2 * MIB);
}

#[test]
fn nothing_is_collapsed_where_nothing_is() {
    let refusal = refusal(
        &|need| Policies::new().with_transparent_huge_pages(TransparentHugePages::Collapse, need),
        &anonymous(8 * MIB),
    );
    assert_eq!(refusal.errno(), Some(libc::EINVAL));
    assert!(refusal.to_string().contains("a page populated in each"));
}

#[test]
fn advice_without_effect_on_memory_files_is_refused() {
    let setting = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    let chosen = fs::read_to_string(setting).unwrap_or_default();
    if !chosen.contains("[never]") {
        println!("skipped: {setting} is {chosen}");
        return;
    }
    let advise =
        |need| Policies::new().with_transparent_huge_pages(TransparentHugePages::Advise, need);
    let shared = with_flags(BIG_PAGE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    for region in [memory_file(BIG_PAGE), shared] {
        let expected = Refusal::HugePagesDisabled {
            setting: setting.into(),
            value: "never".into(),
        };
        assert_eq!(refusal(&advise, &region), expected);
        assert!(!smaps(&region).has("hg"));
    }
}

#[test]
fn a_process_without_transparent_huge_pages_is_told_so() {
    let disable = || {
        // SAFETY: takes integers.
        let status =
            unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1usize, 0usize, 0usize, 0usize) };
        match status {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    if rerun::task().is_none() {
        let name = "policy::tests::a_process_without_transparent_huge_pages_is_told_so";
        // SAFETY: `disable` makes one system call.
        return unsafe { rerun::run(name, "ask for huge pages", disable) };
    }
    let region = anonymous(8 * MIB);
    touch(&region);
    for asked in [TransparentHugePages::Advise, TransparentHugePages::Collapse] {
        let refusal = refusal(
            &|need| Policies::new().with_transparent_huge_pages(asked, need),
            &region,
        );
        assert!(matches!(refusal, Refusal::HugePagesDisabled { .. }));
        assert!(refusal.to_string().contains("PR_SET_THP_DISABLE"));
    }
    let never =
        Policies::new().with_transparent_huge_pages(TransparentHugePages::Never, Need::Required);
    apply(&never, &region).unwrap();
}

#[test]
fn pages_may_be_merged_until_that_is_ruled_out() {
    let region = anonymous(BIG_PAGE);
    let merging = |merging| Policies::new().with_page_merging(merging, Need::Required);
    applied_or_skip!(&merging(PageMerging::Merge), &region);
    assert!(smaps(&region).has("mg"));
    apply(&merging(PageMerging::Never), &region).unwrap();
    assert!(!smaps(&region).has("mg"));
}

#[test]
fn memory_is_left_out_of_dumps_until_that_is_taken_back() {
    for region in [anonymous(BIG_PAGE), memory_file(BIG_PAGE), huge_pages()] {
        let dump = |dump| Policies::new().with_core_dump(dump, Need::Required);
        apply(&dump(CoreDump::Exclude), &region).unwrap();
        assert!(smaps(&region).has("dd"));
        apply(&dump(CoreDump::Include), &region).unwrap();
        assert!(!smaps(&region).has("dd"));
    }
}

#[test]
fn what_a_child_has_shows_in_the_flags() {
    let region = anonymous(BIG_PAGE);
    // Left out, wiped.
    let table = [
        (OnFork::Wipe, false, true),
        (OnFork::Inherit, false, false),
        (OnFork::Exclude, true, false),
        (OnFork::Wipe, false, true),
    ];
    for (on_fork, excluded, wiped) in table {
        apply(
            &Policies::new().with_on_fork(on_fork, Need::Required),
            &region,
        )
        .unwrap();
        let entry = smaps(&region);
        let flags = (entry.has("dc"), entry.has("wf"));
        assert_eq!(flags, (excluded, wiped), "{on_fork}");
    }
    let shared = memory_file(BIG_PAGE);
    let exclude = Policies::new().with_on_fork(OnFork::Exclude, Need::Required);
    apply(&exclude, &shared).unwrap();
    assert!(smaps(&shared).has("dc"));
}

#[test]
fn locked_memory_is_brought_in_now_or_when_touched() {
    let now = Policies::new().with_locking(Locking::Now, Need::Required);
    let on_fault = Policies::new().with_locking(Locking::OnFault, Need::Required);
    // Memory files are not joined to their neighbours: the sizes are theirs.
    let region = memory_file(BIG_PAGE);
    apply(&on_fault, &region).unwrap();
    let entry = smaps(&region);
    assert!(entry.has("lo"));
    assert_eq!((entry.rss_bytes, entry.locked_bytes), (0, 0));
    touch(&region);
    assert_eq!(smaps(&region).locked_bytes, BIG_PAGE);

    let region = memory_file(BIG_PAGE);
    apply(&now, &region).unwrap();
    let entry = smaps(&region);
    assert!(entry.has("lo"));
    assert_eq!((entry.rss_bytes, entry.locked_bytes), (BIG_PAGE, BIG_PAGE));
}

#[test]
fn a_lock_that_cannot_populate_is_taken_back() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(2 * BIG_PAGE as u64).unwrap();
    let offset = FileOffset::new(file.try_clone().unwrap(), 0);
    let region = MmapRegionBuilder::new(2 * BIG_PAGE).with_file_offset(offset);
    let region = region.build().unwrap();
    file.set_len(BIG_PAGE as u64).unwrap();
    let refusal = refusal(
        &|need| Policies::new().with_locking(Locking::Now, need),
        &region,
    );
    assert_eq!(refusal.errno(), Some(libc::ENOMEM));
    assert_eq!(
        refusal.to_string(),
        "not all of the memory could be populated"
    );
    assert!(!smaps(&region).has("lo"));
}

#[test]
fn memory_without_access_is_locked_on_fault_only() {
    let builder = MmapRegionBuilder::<()>::new(BIG_PAGE).with_mmap_prot(libc::PROT_NONE);
    let region = builder.build().unwrap();
    let now = refusal(
        &|need| Policies::new().with_locking(Locking::Now, need),
        &region,
    );
    assert_eq!(now, Refusal::NoAccess);
    assert!(!smaps(&region).has("lo"));
    let on_fault = Policies::new().with_locking(Locking::OnFault, Need::Required);
    apply(&on_fault, &region).unwrap();
    assert!(smaps(&region).has("lo"));
}

#[test]
fn numa_policies_are_those_of_the_mapping() {
    let node = nodes::Available::read().unwrap().usable().iter().next();
    let node = node.expect("a node with memory");
    let table = [
        (NumaPolicy::Bind(node.into()), format!("bind:{node}")),
        (NumaPolicy::Preferred(node), format!("prefer:{node}")),
        (
            NumaPolicy::Interleave(node.into()),
            format!("interleave:{node}"),
        ),
        (NumaPolicy::Local, "local".to_owned()),
    ];
    for (policy, expected) in table {
        let in_memory = [anonymous(BIG_PAGE), memory_file(BIG_PAGE), huge_pages()];
        let copy_on_write = ordinary_file(libc::MAP_PRIVATE);
        for region in in_memory.into_iter().chain(copy_on_write) {
            let policies = Policies::new().with_numa(policy.clone(), Need::Required);
            apply(&policies, &region).unwrap();
            let numa = numa_policy_at(region.as_ptr().addr()).unwrap();
            assert_eq!(numa, expected);
        }
    }
}

#[test]
fn a_node_that_does_not_exist_is_refused_with_those_that_do() {
    let online = fs::read_to_string("/sys/devices/system/node/online").unwrap();
    let online = online.trim();
    let nodes: NumaNodes = online.parse().unwrap();
    let missing = (7..).map(NumaNode).find(|node| !nodes.contains(*node));
    let missing = missing.expect("some number is free");
    let with_one_that_exists: NumaNodes = nodes.iter().chain([missing]).collect();
    let region = anonymous(BIG_PAGE);
    for policy in [
        NumaPolicy::Bind(missing.into()),
        NumaPolicy::Bind(with_one_that_exists.clone()),
        NumaPolicy::Preferred(missing),
        NumaPolicy::Interleave(with_one_that_exists),
    ] {
        let required = Policies::new().with_numa(policy.clone(), Need::Required);
        let error = apply(&required, &region).unwrap_err();
        let message = format!(
            "policy NUMA {policy} for 65536 bytes at {:#x}: nodes {missing} do not exist; online are {online}",
            region.as_ptr().addr()
        );
        assert_eq!(error.to_string(), message);
        let refusal = refusal(
            &|need| Policies::new().with_numa(policy.clone(), need),
            &region,
        );
        assert!(matches!(refusal, Refusal::NodesOffline { .. }));
        let numa = numa_policy_at(region.as_ptr().addr()).unwrap();
        assert_eq!(numa, "default");
    }
}

#[test]
fn a_name_shows_in_the_maps_or_the_kernel_has_none() {
    let name: MemoryName = "guest-ram".parse().unwrap();
    let region = anonymous(BIG_PAGE);
    let wished = Policies::new().with_name(name.clone(), Need::Wished);
    let report = apply(&wished, &region).unwrap();
    match report.outcome(PolicyKind::Name) {
        Outcome::Applied => assert_eq!(smaps(&region).name, "[anon:guest-ram]"),
        Outcome::Refused(refusal) => {
            assert_eq!(refusal.errno(), Some(libc::EINVAL));
            assert!(refusal.to_string().contains("CONFIG_ANON_VMA_NAME"));
            assert_eq!(smaps(&region).name, "");
        }
        Outcome::NotAsked => panic!("{report}"),
    }
}

#[test]
fn what_the_kernel_would_ignore_or_misreport_is_refused() {
    let advise =
        |need| Policies::new().with_transparent_huge_pages(TransparentHugePages::Advise, need);
    let never =
        |need| Policies::new().with_transparent_huge_pages(TransparentHugePages::Never, need);
    let collapse =
        |need| Policies::new().with_transparent_huge_pages(TransparentHugePages::Collapse, need);
    let merge = |need| Policies::new().with_page_merging(PageMerging::Merge, need);
    let wipe = |need| Policies::new().with_on_fork(OnFork::Wipe, need);
    let name = |need| Policies::new().with_name("n".parse().unwrap(), need);
    let local = |need| Policies::new().with_numa(NumaPolicy::Local, need);
    let nowhere = |need| Policies::new().with_numa(NumaPolicy::Bind(NumaNodes::default()), need);
    let shared = || with_flags(BIG_PAGE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    type Ask<'a> = &'a dyn Fn(Need) -> Policies;
    let mut table: Vec<(Ask<'_>, MmapRegion, Refusal)> = vec![
        (&advise, huge_pages(), Refusal::MemoryOfHugePages),
        (&never, huge_pages(), Refusal::MemoryOfHugePages),
        (&collapse, huge_pages(), Refusal::MemoryOfHugePages),
        (&merge, huge_pages(), Refusal::MemoryOfHugePages),
        (&merge, memory_file(BIG_PAGE), Refusal::NotPrivate),
        (&merge, shared(), Refusal::NotPrivate),
        (&wipe, huge_pages(), Refusal::NotPrivateAnonymous),
        (&wipe, memory_file(BIG_PAGE), Refusal::NotPrivateAnonymous),
        (&wipe, shared(), Refusal::NotPrivateAnonymous),
        (&name, memory_file(BIG_PAGE), Refusal::NotPrivateAnonymous),
        (&name, huge_pages(), Refusal::NotPrivateAnonymous),
        (&nowhere, anonymous(BIG_PAGE), Refusal::NoNode),
    ];
    if let Some(copy_on_write) = ordinary_file(libc::MAP_PRIVATE) {
        table.push((&wipe, copy_on_write, Refusal::NotPrivateAnonymous));
    }
    if let Some(page_cache) = ordinary_file(libc::MAP_SHARED) {
        table.push((&local, page_cache, Refusal::SharedFile));
    }
    for (ask, region, expected) in table {
        assert_eq!(refusal(ask, &region), expected);
    }
}

#[test]
fn kinds_of_memory_are_told_apart() {
    let of_file = |flags| {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        file.set_len(BIG_PAGE as u64).unwrap();
        let builder = MmapRegionBuilder::new(BIG_PAGE).with_mmap_flags(flags);
        let builder = builder.with_file_offset(FileOffset::new(file, 0));
        builder.build().unwrap()
    };
    let copy = MmapRegionBuilder::new(BIG_PAGE).with_mmap_flags(libc::MAP_PRIVATE);
    let table = [
        (anonymous(BIG_PAGE), PageSource::Anonymous),
        (
            with_flags(BIG_PAGE, libc::MAP_SHARED | libc::MAP_ANONYMOUS),
            PageSource::MemoryFile,
        ),
        (memory_file(BIG_PAGE), PageSource::MemoryFile),
        (
            copy.with_memfd("copy").build().unwrap(),
            PageSource::MemoryFile,
        ),
        (of_file(libc::MAP_SHARED), PageSource::Tmpfs),
        (of_file(libc::MAP_PRIVATE), PageSource::Tmpfs),
        (huge_pages(), PageSource::HugePages),
    ];
    for (region, expected) in table {
        assert_eq!(PageSource::of(region.extent()), Ok(expected));
    }
}

#[test]
fn placement_comes_before_the_first_page_and_locking_after_the_last() {
    let policies = Policies::new()
        .with_locking(Locking::Now, Need::Required)
        .with_transparent_huge_pages(TransparentHugePages::Collapse, Need::Wished)
        .with_core_dump(CoreDump::Exclude, Need::Required)
        .with_numa(NumaPolicy::Local, Need::Required);
    let region = memory_file(BIG_PAGE);
    let mut report = PolicyReport::default();
    apply_before_population(&policies, region.extent(), &mut report).unwrap();
    let entry = smaps(&region);
    assert_eq!(entry.rss_bytes, 0);
    assert!(entry.has("dd") && !entry.has("lo"));
    let numa = numa_policy_at(region.as_ptr().addr()).unwrap();
    assert_eq!(numa, "local");
    assert_eq!(
        report.outcome(PolicyKind::TransparentHugePages),
        &Outcome::NotAsked
    );

    touch(&region);
    apply_after_population(&policies, region.extent(), &mut report).unwrap();
    assert!(smaps(&region).has("lo"));
    let kinds: Vec<_> = report.iter().map(PolicyEntry::kind).collect();
    let order = [
        PolicyKind::Numa,
        PolicyKind::CoreDump,
        PolicyKind::TransparentHugePages,
        PolicyKind::Locking,
    ];
    assert_eq!(kinds, order);
}

#[test]
fn advice_on_huge_pages_comes_before_population() {
    let policies =
        Policies::new().with_transparent_huge_pages(TransparentHugePages::Never, Need::Wished);
    let region = anonymous(BIG_PAGE);
    let mut report = PolicyReport::default();
    apply_before_population(&policies, region.extent(), &mut report).unwrap();
    assert_ne!(
        report.outcome(PolicyKind::TransparentHugePages),
        &Outcome::NotAsked
    );
    let before = report.clone();
    apply_after_population(&policies, region.extent(), &mut report).unwrap();
    assert_eq!(report, before);
}

#[test]
fn what_is_required_stops_what_comes_after_it() {
    let policies = Policies::new()
        .with_numa(NumaPolicy::Bind(NumaNodes::default()), Need::Required)
        .with_core_dump(CoreDump::Exclude, Need::Required);
    let region = anonymous(BIG_PAGE);
    let error = apply(&policies, &region).unwrap_err();
    assert_eq!(error.kind, PolicyKind::Numa);
    assert!(!smaps(&region).has("dd"));
}

#[test]
fn what_is_wished_does_not() {
    let policies = Policies::new()
        .with_numa(NumaPolicy::Bind(NumaNodes::default()), Need::Wished)
        .with_core_dump(CoreDump::Exclude, Need::Required);
    let region = anonymous(BIG_PAGE);
    let report = apply(&policies, &region).unwrap();
    assert!(smaps(&region).has("dd"));
    let lines = "\
NUMA bind: (wished): refused: no node is given
core dump exclude (required): applied
transparent huge pages: not asked
page merging: not asked
on fork: not asked
name: not asked
population: not asked
locking: not asked
";
    assert_eq!(report.to_string(), lines);
}

#[test]
fn an_outcome_prints_what_the_kernel_said() {
    let error = io::Error::from_raw_os_error(libc::EINVAL);
    let outcome = Outcome::Refused(Refusal::kernel(&error, "needs a newer kernel"));
    assert_eq!(
        outcome.to_string(),
        format!("refused: needs a newer kernel: {error}")
    );
}

#[test]
fn a_set_tells_what_is_asked_for() {
    assert!(Policies::new().is_empty());
    let policies = Policies::new()
        .with_on_fork(OnFork::Wipe, Need::Wished)
        .with_on_fork(OnFork::Exclude, Need::Required);
    assert!(!policies.is_empty());
    let asked = Asked {
        policy: OnFork::Exclude,
        need: Need::Required,
    };
    assert_eq!(policies.on_fork(), Some(&asked));
    assert_eq!(policies.numa(), None);
    for kind in PolicyKind::ALL {
        let expected = (kind == PolicyKind::OnFork).then_some(Need::Required);
        assert_eq!(policies.need(kind), expected);
    }
}
