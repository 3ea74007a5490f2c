// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the machine and its kernel are, and where the kernel has put pages.

use std::collections::BTreeMap;
use std::fs;

use guest_memory::MmapRegion;
use guest_memory::mmap::{NumaNode, NumaNodes};

/// Returns the nodes that are of a kind, `online` or `has_memory`; none if the kernel has no NUMA.
pub(crate) fn nodes(kind: &str) -> NumaNodes {
    let text = fs::read_to_string(format!("/sys/devices/system/node/{kind}"));
    text.unwrap_or_default().trim().parse().unwrap()
}

/// Says what is missing if nodes 0 and 1 do not both have memory.
pub(crate) fn check_two_nodes() -> Result<(), String> {
    let with_memory = nodes("has_memory");
    if [0, 1]
        .iter()
        .all(|node| with_memory.contains(NumaNode(*node)))
    {
        Ok(())
    } else {
        Err(format!(
            "needs memory on nodes 0 and 1, has it on {with_memory}"
        ))
    }
}

/// Returns the kernel's version, the first two numbers of it.
pub(crate) fn kernel_version() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let is_digit = |character: char| character.is_ascii_digit();
    let mut numbers = release
        .split(|character| !is_digit(character))
        .map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// Returns how many pages of the mapping at an address each node holds, and the NUMA policy of it.
///
/// Huge pages of the pool count as one each.
pub(crate) fn placement_of(region: &MmapRegion) -> (String, BTreeMap<u32, usize>) {
    let start = format!("{:08x}", region.as_ptr().addr());
    let text = fs::read_to_string("/proc/self/numa_maps").unwrap();
    let mut mappings = text.lines().map(|line| line.split_whitespace());
    let mut words = mappings
        .find(|words| words.clone().next() == Some(&start))
        .unwrap_or_else(|| panic!("no mapping starts at {start}:\n{text}"));
    let policy = words.nth(1).unwrap().to_owned();
    let pages = words.filter_map(|word| {
        let (node, pages) = word.strip_prefix('N')?.split_once('=')?;
        Some((node.parse().unwrap(), pages.parse().unwrap()))
    });
    (policy, pages.collect())
}

/// Ends the test if something is missing.
macro_rules! skip_without {
    ($check:expr) => {
        if let Err(reason) = $check {
            println!("skipped: {reason}");
            return;
        }
    };
}

pub(crate) use skip_without;
