// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A control group's limit of huge pages is an error, although the pool has pages.
//!
//! Its limit of memory is none: the kernel kills a process that populates past it, or stops it where killing is
//! switched off, and never answers with an error.
#![expect(unsafe_code, reason = "starts a process")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use guest_memory_mmap::{
    MmapRegion, MmapRegionBuilder, MmapRegionError, Prefault, PrefaultError, PrefaultReason,
};

use crate::files::errno;
use crate::pool::{TWO_MIB, pool_or_skip};
use crate::rerun;

const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
const HUGE: i32 = libc::MAP_HUGETLB | libc::MAP_HUGE_2MB;

/// A group with the controller of huge pages, which is handed on only as long as it is needed.
struct Group {
    path: PathBuf,
    parent_control: PathBuf,
    was_handed_on: bool,
}

impl Group {
    fn new() -> io::Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let unified = [root.join("unified"), root.to_owned()];
        let mut places = unified.iter().filter(|place| {
            let controllers = fs::read_to_string(place.join("cgroup.controllers"));
            controllers.is_ok_and(|list| list.split_whitespace().any(|name| name == "hugetlb"))
        });
        let parent = places
            .next()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let parent_control = parent.join("cgroup.subtree_control");
        let before = fs::read_to_string(&parent_control)?;
        let was_handed_on = before.split_whitespace().any(|name| name == "hugetlb");
        fs::write(&parent_control, "+hugetlb")?;
        let path = parent.join(format!("guest-memory-test-{}", std::process::id()));
        let group = Self {
            path,
            parent_control,
            was_handed_on,
        };
        fs::create_dir(&group.path)?;
        Ok(group)
    }

    fn limit(&self, name: &str, bytes: &str) {
        fs::write(self.path.join(name), bytes).expect("a limit");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let removed = fs::remove_dir(&self.path);
        if !self.was_handed_on {
            let _ = fs::write(&self.parent_control, "-hugetlb");
        }
        if let Err(error) = removed {
            println!("{}: {error}", self.path.display());
        }
    }
}

fn huge(pages: usize, flags: i32) -> Result<MmapRegion, MmapRegionError> {
    let builder = MmapRegionBuilder::new(pages * TWO_MIB);
    builder.with_mmap_flags(PRIVATE | HUGE | flags).build()
}

#[test]
fn a_groups_limit_of_huge_pages_is_an_error_when_memory_is_populated_or_mapped() {
    if let Some(task) = rerun::task() {
        let (group, limit) = task.split_once(' ').expect("a group and its limit");
        fs::write(Path::new(group).join("cgroup.procs"), "0").expect("a place in the group");
        return match limit {
            "use" => populating_past_the_limit_is_an_error(),
            _ => mapping_past_the_limit_is_an_error(),
        };
    }
    // Our turn, too, to make processes.
    let _pool = pool_or_skip!(TWO_MIB, 4);
    let group = match Group::new() {
        Ok(group) => group,
        Err(error) => {
            println!("skipped: no control group with a limit of huge pages: {error}");
            return;
        }
    };
    let name =
        "cgroups::a_groups_limit_of_huge_pages_is_an_error_when_memory_is_populated_or_mapped";
    let limits = [
        ("use", "hugetlb.2MB.max"),
        ("promise", "hugetlb.2MB.rsvd.max"),
    ];
    for (limit, file) in limits {
        group.limit(file, &(2 * TWO_MIB).to_string());
        let task = format!("{} {limit}", group.path.display());
        // SAFETY: nothing is prepared.
        unsafe { rerun::run(name, &task, || Ok(())) };
        group.limit(file, "max");
    }
}

/// What a process does that may use two huge pages.
fn populating_past_the_limit_is_an_error() {
    for flags in [0, libc::MAP_NORESERVE] {
        let region = huge(3, flags).expect("pages of the pool");
        let error = region.prefault(&Prefault::new()).expect_err("a limit");
        assert_eq!(errno(&error), Some(libc::EFAULT));
        let PrefaultError::Populate {
            offset,
            done,
            reason,
            ..
        } = error
        else {
            panic!("unexpected {error:?}")
        };
        assert_eq!((offset, done), (2 * TWO_MIB, 2 * TWO_MIB));
        assert!(
            matches!(
                reason,
                PrefaultReason::HugePagePool {
                    needed_pages: 1,
                    ..
                }
            ),
            "{reason:?}"
        );
        assert_eq!(
            region.resident_bytes(0, 3 * TWO_MIB).expect("an answer"),
            2 * TWO_MIB
        );
    }
}

/// What a process does that may have two huge pages promised.
fn mapping_past_the_limit_is_an_error() {
    drop(huge(2, 0).expect("promised pages"));
    let error = huge(3, 0).expect_err("a limit");
    // The pool has enough, so that it is not to blame.
    assert!(matches!(error, MmapRegionError::Mmap(_)), "{error:?}");
    assert_eq!(errno(&error), Some(libc::ENOMEM));
}
