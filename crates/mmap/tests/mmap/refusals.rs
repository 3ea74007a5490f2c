// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What cannot be built is refused with a message that names what is wrong and what would be valid.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use guest_memory_core::FileOffset;
use guest_memory_mmap::{
    Backing, HugePageSize, Locking, MmapRegion, MmapRegionBuilder, MmapRegionError, Need, NumaNode,
    NumaPolicy, Policies, PolicyKind, Prefault, PrefaultError, PrefaultReason, Refusal, Seals,
    Sharing,
};

use crate::files::{BIG_PAGE, errno, file_offset};
use crate::pool::{TWO_MIB, Turn, pool_or_skip};
use crate::rerun;

fn of(size: usize) -> MmapRegionBuilder {
    MmapRegionBuilder::new(size)
}

fn file(path: &Path, offset: u64) -> Backing {
    Backing::File {
        path: path.to_owned(),
        offset,
        sharing: Sharing::Shared,
        grow: false,
    }
}

#[track_caller]
fn assert_refused(builder: MmapRegionBuilder, message: &str) -> MmapRegionError {
    let error = builder.build().expect_err("the description is wrong");
    assert_eq!(error.to_string(), message);
    error
}

#[test]
fn a_node_that_does_not_exist_is_named_beside_those_that_do() {
    let online = fs::read_to_string("/sys/devices/system/node/online").unwrap();
    let bind = NumaPolicy::Bind("0,900-901".parse().unwrap());
    let interleave = NumaPolicy::Interleave(NumaNode(900).into());
    for (policy, value, nodes) in [
        (bind, "bind:0,900-901", "900-901"),
        (interleave, "interleave:900", "900"),
    ] {
        let builder = of(BIG_PAGE).with_policies(Policies::new().with_numa(policy, Need::Required));
        let error = builder.build().unwrap_err();
        let MmapRegionError::Policy(policy) = &error else {
            panic!("unexpected {error:?}")
        };
        let message = format!(
            "policy NUMA {value} for 65536 bytes at {:#x}: nodes {nodes} do not exist; online are {}",
            policy.address,
            online.trim_end()
        );
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn pages_that_the_system_has_not_are_named_beside_those_that_it_has() {
    let pools = fs::read_dir("/sys/kernel/mm/hugepages").unwrap();
    let mut supported: Vec<usize> = pools
        .map(|pool| {
            let name = pool.unwrap().file_name().into_string().unwrap();
            let kib = name
                .strip_prefix("hugepages-")
                .unwrap()
                .strip_suffix("kB")
                .unwrap();
            kib.parse::<usize>().unwrap() << 10
        })
        .collect();
    supported.sort_unstable();
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_HUGE_16GB;
    let message = format!(
        "huge pages of 17179869184 bytes are not supported here; supported sizes: {supported:?}"
    );
    assert_refused(of(16 << 30).with_mmap_flags(flags), &message);
}

#[test]
fn sizes_and_offsets_are_named_beside_what_they_must_be_multiples_of() {
    assert_refused(
        of(TWO_MIB + 4096).with_huge_pages(HugePageSize::TwoMiB),
        "size of 2101248 bytes is no multiple of the huge page of 2097152 bytes",
    );
    assert_refused(
        of(TWO_MIB).with_huge_pages(HugePageSize::OneGiB),
        "size of 2097152 bytes is no multiple of the huge page of 1073741824 bytes",
    );
    let unaligned = "file offset 0x64 is not aligned to the page of 4096 bytes";
    assert_refused(
        of(4096).with_file_offset(file_offset(1 << 20, 100)),
        unaligned,
    );
    let named = tempfile::NamedTempFile::new().unwrap();
    named.as_file().set_len(1 << 20).unwrap();
    assert_refused(of(4096).with_backing(file(named.path(), 100)), unaligned);
}

#[test]
fn files_are_named_with_what_is_wrong_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().to_owned();
    let message = format!(
        "{} is not on hugetlbfs; mount one there: mount -t hugetlbfs",
        directory.display()
    );
    assert_refused(
        of(TWO_MIB).with_backing(Backing::HugetlbFile { directory }),
        &message,
    );

    let missing: PathBuf = folder.path().join("missing");
    let message = format!("cannot open {}", missing.display());
    let error = assert_refused(of(4096).with_backing(file(&missing, 0)), &message);
    assert_eq!(errno(&error), Some(libc::ENOENT));

    let path = folder.path().join("read-only");
    fs::write(&path, [0; 4096]).unwrap();
    let read_only = FileOffset::new(File::open(&path).unwrap(), 0);
    assert_refused(
        of(4096).with_file_offset(read_only),
        "the file to map was not opened for writing",
    );
    assert_refused(
        of(8192).with_backing(file(&path, 0)),
        "mapping of 8192 bytes at file offset 0x0 reaches past the end of the file of 4096 bytes",
    );
}

#[test]
fn seals_are_named_that_are_missing_or_in_the_way() {
    let memfd = |seals| {
        let name = "seals".to_owned();
        let backing = Backing::Memfd {
            name,
            seals,
            huge_pages: None,
        };
        of(BIG_PAGE).with_backing(backing).build().unwrap()
    };
    let given = |region: &MmapRegion, size| {
        let file = region.file_offset().unwrap().clone();
        of(size).with_file_offset(file)
    };
    let shrink_only = Seals {
        shrink: true,
        ..Seals::NONE
    };
    assert_refused(
        given(&memfd(shrink_only), BIG_PAGE).with_required_seals(Seals::ALL),
        "the file to map lacks seals: grow, seal",
    );
    let grow_only = Seals {
        grow: true,
        ..Seals::NONE
    };
    let error = assert_refused(
        given(&memfd(grow_only), 2 * BIG_PAGE).with_file_growth(),
        "cannot extend the file from 65536 to 131072 bytes; seals of the file: grow",
    );
    assert_eq!(errno(&error), Some(libc::EPERM));
}

#[test]
fn a_pool_that_is_too_small_when_memory_is_populated_is_named_with_counts() {
    let pool = pool_or_skip!(TWO_MIB, 2);
    // All but one page are somebody else's.
    let others = pool.free().unwrap() - 1;
    let others = of(others * TWO_MIB).with_huge_pages(HugePageSize::TwoMiB);
    let _others = others.build().unwrap();
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let region = of(3 * TWO_MIB)
        .with_mmap_flags(flags | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB)
        .build()
        .unwrap();
    let error = region.prefault(&Prefault::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot populate 2097152 bytes at offset 0x200000 of region 0: 2 huge pages of 2097152 bytes needed from there on, \
         0 free in the pool (2097152 bytes done of 6291456)"
    );
    assert_eq!(errno(&error), Some(libc::EFAULT));
    let PrefaultError::Populate { reason, done, .. } = error else {
        panic!("unexpected {error:?}")
    };
    let expected = PrefaultReason::HugePagePool {
        needed_pages: 2,
        free_pages: 0,
        page_size: TWO_MIB,
    };
    assert_eq!((reason, done), (expected, TWO_MIB));
    assert_eq!(region.resident_bytes(0, 3 * TWO_MIB).unwrap(), TWO_MIB);
}

#[test]
fn a_lock_that_is_not_permitted_is_named_with_the_limit() {
    if rerun::task().is_some() {
        return locks_are_refused();
    }
    let name = "refusals::a_lock_that_is_not_permitted_is_named_with_the_limit";
    let _turn = Turn::wait().unwrap();
    rerun::run_with_lock_limit(name, "lock", 64 << 10);
}

/// What the process with the limit does.
fn locks_are_refused() {
    for locking in [Locking::Now, Locking::OnFault] {
        let asked = |need| of(TWO_MIB).with_policies(Policies::new().with_locking(locking, need));
        let error = asked(Need::Required).build().expect_err("a refusal");
        let MmapRegionError::Policy(policy) = &error else {
            panic!("unexpected {error:?}")
        };
        let message = format!(
            "policy locking {locking} for 2097152 bytes at {:#x}: without CAP_IPC_LOCK the limit (RLIMIT_MEMLOCK) is \
             65536 bytes, 0 are locked already",
            policy.address
        );
        assert_eq!(error.to_string(), message);
        assert_eq!(errno(&error), Some(libc::ENOMEM));
        let region = asked(Need::Wished).build().expect("a region");
        let refused: Vec<_> = region.policies().refused().collect();
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].kind(), PolicyKind::Locking);
        let limit = Refusal::LockLimit {
            errno: libc::ENOMEM,
            locked_bytes: 0,
            limit_bytes: 65536,
        };
        assert_eq!(
            region.policies().outcome(PolicyKind::Locking),
            &guest_memory_mmap::Outcome::Refused(limit)
        );
    }
}
