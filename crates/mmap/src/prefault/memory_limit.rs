// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the control groups of this process leave for it.
//!
//! A process that populates more than its group may have is killed, not refused. So what surely is too much is found
//! before.

use std::fs;
use std::path::{Path, PathBuf};

/// A limit of a control group, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct MemoryLimit {
    /// What the group may have.
    pub(super) limit: u64,
    /// What it has that cannot be dropped: memory of processes, and of tmpfs. Caches of files can.
    pub(super) used: u64,
}

impl MemoryLimit {
    /// Returns how many bytes more the group may have.
    pub(super) fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    /// Returns the limit that leaves least; nothing where there is none, or where pages can be swapped out.
    pub(super) fn tightest() -> Option<Self> {
        let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
        if swaps.lines().count() > 1 {
            return None;
        }
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        Self::tightest_of(&groups, Path::new("/sys/fs/cgroup"))
    }

    fn tightest_of(groups: &str, mounts: &Path) -> Option<Self> {
        let lines = groups.lines().filter_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            Some((controllers, path.trim_start_matches('/')))
        });
        let limits = lines.filter_map(|(controllers, path)| match controllers {
            "" => Self::unified(mounts, path),
            _ if controllers.split(',').any(|name| name == "memory") => {
                Self::of_controller(&mounts.join("memory"), path)
            }
            _ => None,
        });
        limits.min_by_key(Self::left)
    }

    /// Reads the groups of a unified hierarchy, from this process's up to the root.
    fn unified(mount: &Path, path: &str) -> Option<Self> {
        let own = folder(mount, path);
        let up = own.ancestors().take_while(|group| group.starts_with(mount));
        let limits = up.filter_map(|group| {
            let limit = fs::read_to_string(group.join("memory.max")).ok()?;
            let stat = fs::read_to_string(group.join("memory.stat")).ok()?;
            Some(Self {
                limit: limit.trim().parse().ok()?,
                used: field(&stat, "anon")?.saturating_add(field(&stat, "shmem")?),
            })
        });
        limits.min_by_key(Self::left)
    }

    /// Reads the group of a hierarchy of memory alone; it knows the limits above it.
    fn of_controller(mount: &Path, path: &str) -> Option<Self> {
        let stat = fs::read_to_string(folder(mount, path).join("memory.stat")).ok()?;
        Some(Self {
            limit: field(&stat, "hierarchical_memory_limit")?,
            used: field(&stat, "total_rss")?.saturating_add(field(&stat, "total_shmem")?),
        })
    }
}

/// Returns the folder of a group. In a container the mount may begin at the group itself.
fn folder(mount: &Path, path: &str) -> PathBuf {
    let folder = mount.join(path);
    if folder.is_dir() {
        folder
    } else {
        mount.to_owned()
    }
}

fn field(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(folder: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
    }

    #[test]
    fn of_unified_groups_the_one_that_leaves_least_counts() {
        let mounts = tempfile::tempdir().unwrap();
        let root = mounts.path();
        let stat = ("memory.stat", "anon 600\nfile 5000\nshmem 100\n");
        group(&root.join("a"), &[("memory.max", "1000\n"), stat]);
        group(&root.join("a/b"), &[("memory.max", "max\n"), stat]);
        let found = MemoryLimit::tightest_of("0::/a/b\n", root).unwrap();
        assert_eq!((found.limit, found.used, found.left()), (1000, 700, 300));
        group(&root.join("a/b"), &[("memory.max", "650\n"), stat]);
        assert_eq!(
            MemoryLimit::tightest_of("0::/a/b\n", root).unwrap().left(),
            0
        );
        assert_eq!(MemoryLimit::tightest_of("0::/elsewhere\n", root), None);
    }

    #[test]
    fn a_group_of_the_memory_controller_knows_the_limits_above_it() {
        let mounts = tempfile::tempdir().unwrap();
        let root = mounts.path();
        let stat = "rss 1\nhierarchical_memory_limit 5000\ntotal_rss 1200\ntotal_shmem 300\n";
        group(&root.join("memory/c"), &[("memory.stat", stat)]);
        let groups = "3:cpuset:/\n4:memory:/c\n0::/\n";
        let found = MemoryLimit::tightest_of(groups, root).unwrap();
        assert_eq!((found.limit, found.used), (5000, 1500));
        // In a container the path is the host's.
        group(&root.join("memory"), &[("memory.stat", stat)]);
        let groups = "4:cpu,memory:/docker/1234\n";
        assert_eq!(MemoryLimit::tightest_of(groups, root), Some(found));
    }
}
