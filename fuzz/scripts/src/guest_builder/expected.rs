// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a plan must say, found the naive way.

use guest_memory_mmap::{Asked, Backing, Need, NumaPolicy, PolicyKind, RegionSpec, ShmObject};

use super::script::{FILE_BYTES, MISSING_NODE, WHOLE_PAGES};

/// The most bytes that one mapping can have.
const LARGEST: usize = isize::MAX as usize;

/// Returns the label of each step of building the regions: one to map a region and one for each of its policies, in
/// ascending order of addresses.
pub(super) fn steps(regions: &[RegionSpec]) -> Vec<&str> {
    let mut labels = Vec::new();
    for spec in ascending(regions) {
        let policies = PolicyKind::ALL
            .into_iter()
            .filter(|kind| spec.policies().need(*kind).is_some());
        let steps = 1 + policies.count();
        labels.extend(std::iter::repeat_n(spec.label(), steps));
    }
    labels
}

/// Returns what is wrong with the regions: label and field of each fault, in any order.
pub(super) fn problems(regions: &[RegionSpec]) -> Vec<(&str, &'static str)> {
    let mut problems = Vec::new();
    for (index, spec) in regions.iter().enumerate() {
        let mut found = |is_wrong: bool, field: &'static str| {
            if is_wrong {
                problems.push((spec.label(), field));
            }
        };
        found(!has_valid_size(spec), "size");
        let before = regions.iter().take(index);
        found(
            before.clone().any(|other| other.label() == spec.label()),
            "label",
        );
        found(requires_missing_node(spec), "NUMA policy");
        match spec.backing() {
            Backing::Anonymous { .. } => {}
            Backing::Memfd { name, .. } => {
                found(name.len() > 249 || name.contains('\0'), "name");
            }
            Backing::File {
                path, offset, grow, ..
            } => {
                let is_there = !path.ends_with("file");
                let end = u128::from(*offset) + spec.size() as u128;
                let is_too_far = *grow && spec.size() <= LARGEST && end > i64::MAX as u128;
                found(!is_there, "path");
                found(offset % WHOLE_PAGES != 0 || is_too_far, "offset");
                let is_short = spec.size() > 0 && end > FILE_BYTES as u128;
                found(is_there && !grow && is_short, "size");
            }
            Backing::Shm { name, object } => {
                let rest = name.strip_prefix('/').unwrap_or_default();
                let is_valid = (1..=254).contains(&rest.len()) && !rest.contains(['/', '\0']);
                found(!is_valid || *object == ShmObject::Open, "name");
            }
            Backing::Dax { .. } => found(true, "path"),
            other => panic!("a script has no {other:?}"),
        }
    }
    let ascending = ascending(regions);
    for (index, spec) in ascending.iter().enumerate() {
        if ascending
            .iter()
            .take(index)
            .any(|other| overlap(spec, other))
        {
            problems.push((spec.label(), "start"));
        }
    }
    problems
}

fn ascending(regions: &[RegionSpec]) -> Vec<&RegionSpec> {
    let mut ascending: Vec<_> = regions.iter().collect();
    ascending.sort_by_key(|spec| spec.start());
    ascending
}

/// Returns the first address behind a region, which may be 2^64 or more.
fn end(spec: &RegionSpec) -> u128 {
    u128::from(spec.start().0) + spec.size() as u128
}

fn has_valid_size(spec: &RegionSpec) -> bool {
    spec.size() > 0 && spec.size() <= LARGEST && end(spec) <= 1 << 64
}

/// Tells whether two regions that exist at all have an address in common.
fn overlap(one: &RegionSpec, other: &RegionSpec) -> bool {
    let is_somewhere = |spec: &RegionSpec| spec.size() > 0 && end(spec) <= 1 << 64;
    is_somewhere(one)
        && is_somewhere(other)
        && u128::from(one.start().0) < end(other)
        && u128::from(other.start().0) < end(one)
}

fn requires_missing_node(spec: &RegionSpec) -> bool {
    let Some(Asked {
        policy,
        need: Need::Required,
    }) = spec.policies().numa()
    else {
        return false;
    };
    match policy {
        NumaPolicy::Bind(nodes) | NumaPolicy::Interleave(nodes) => {
            nodes.is_empty() || nodes.contains(MISSING_NODE)
        }
        NumaPolicy::Preferred(node) => *node == MISSING_NODE,
        _ => false,
    }
}
