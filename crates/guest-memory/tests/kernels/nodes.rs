// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory of a chosen NUMA node, where there are two.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;

use guest_memory::mmap::{
    MmapRegionError, Need, NumaNode, NumaNodes, NumaPolicy, Population, Prefault, Refusal,
};
use guest_memory::{
    Backing, GuestAddress, GuestMemory, GuestMemoryBuilder, GuestMemoryMmap, HugePageSize,
    MemoryTable, MmapRegion, MmapRegionBuilder, Policies, RegionSpec,
};

use crate::machine::{check_two_nodes, nodes, placement_of, skip_without};
use crate::pool::{TWO_MIB, Turn};

const SIZE: usize = 4 << 20;

/// Kinds of memory that a node can be chosen for, and the size of their pages.
fn backings() -> [(Backing, usize); 2] {
    let page = MmapRegion::<()>::new(1).unwrap().page_size();
    let memory_file = Backing::Memfd {
        name: "nodes".into(),
        seals: Default::default(),
        huge_pages: None,
    };
    [(Backing::default(), page), (memory_file, page)]
}

fn placed(policy: NumaPolicy) -> Policies {
    Policies::new().with_numa(policy, Need::Required)
}

fn populated(policies: Policies) -> Policies {
    let threads = NonZeroUsize::MIN;
    policies.with_population(Population { threads }, Need::Required)
}

fn build(size: usize, backing: Backing, policies: Policies) -> Result<MmapRegion, MmapRegionError> {
    MmapRegionBuilder::new(size)
        .with_backing(backing)
        .with_policies(policies)
        .build()
}

/// Maps memory by a policy and has all of it touched by a processor of a node.
fn touched_from(node: u32, backing: Backing, policy: NumaPolicy) -> MmapRegion {
    let region = build(SIZE, backing, placed(policy)).unwrap();
    let how = Prefault::new().on_node(NumaNode(node)).unwrap();
    assert_eq!(region.prefault(&how).unwrap().populated, SIZE);
    region
}

fn one_node(node: u32) -> NumaNodes {
    NumaNode(node).into()
}

#[test]
fn bound_memory_is_on_its_node_alone() {
    skip_without!(check_two_nodes());
    for (backing, page) in backings() {
        for node in [1, 0] {
            let policy = NumaPolicy::Bind(one_node(node));
            let region = touched_from(1 - node, backing.clone(), policy);
            let expected = (
                format!("bind:{node}"),
                BTreeMap::from([(node, SIZE / page)]),
            );
            assert_eq!(placement_of(&region), expected, "{backing:?}");
        }
    }
}

#[test]
fn memory_is_on_the_preferred_node_while_that_has_some() {
    skip_without!(check_two_nodes());
    for (backing, page) in backings() {
        for node in [1, 0] {
            let policy = NumaPolicy::Preferred(NumaNode(node));
            let region = touched_from(1 - node, backing.clone(), policy);
            let (policy, pages) = placement_of(&region);
            // Kernels differ in whether they say that there may be several.
            assert!(policy.starts_with("prefer") && policy.ends_with(&format!(":{node}")));
            assert_eq!(pages, BTreeMap::from([(node, SIZE / page)]), "{backing:?}");
        }
    }
}

#[test]
fn interleaved_memory_is_half_on_either_node() {
    skip_without!(check_two_nodes());
    for (backing, page) in backings() {
        let both = NumaNodes::from_iter([NumaNode(0), NumaNode(1)]);
        let region = touched_from(1, backing.clone(), NumaPolicy::Interleave(both));
        let half = SIZE / page / 2;
        let expected = (
            "interleave:0-1".into(),
            BTreeMap::from([(0, half), (1, half)]),
        );
        assert_eq!(placement_of(&region), expected, "{backing:?}");
    }
}

#[test]
fn a_node_that_does_not_exist_is_refused_with_those_that_do() {
    let online = nodes("online");
    if online.is_empty() || online.contains(NumaNode(5)) {
        println!("skipped: needs NUMA without a node 5, has {online}");
        return;
    }
    let policies = placed(NumaPolicy::Bind(one_node(5)));
    let error = build(SIZE, Backing::default(), policies).unwrap_err();
    let MmapRegionError::Policy(error) = error else {
        panic!("{error:?}");
    };
    assert_eq!(
        error.refusal,
        Refusal::NodesOffline {
            nodes: one_node(5),
            online: online.clone(),
        }
    );
    let message = error.to_string();
    let ending = format!("nodes 5 do not exist; online are {online}");
    assert!(message.ends_with(&ending), "{message}");
}

#[test]
fn prefault_by_the_processors_of_a_node_brings_its_memory() {
    skip_without!(check_two_nodes());
    for (backing, page) in backings() {
        for node in [1, 0] {
            let region = build(SIZE, backing.clone(), Policies::new()).unwrap();
            let how = Prefault::new().on_node(NumaNode(node)).unwrap();
            assert_eq!(region.prefault(&how).unwrap().populated, SIZE);
            let expected = ("default".into(), BTreeMap::from([(node, SIZE / page)]));
            assert_eq!(placement_of(&region), expected, "{backing:?}");
        }
    }
}

#[test]
fn the_table_of_a_memory_shows_the_node_of_each_region() {
    skip_without!(check_two_nodes());
    let mut builder = GuestMemoryBuilder::new();
    for node in [1, 0] {
        let policies = populated(placed(NumaPolicy::Bind(one_node(node))));
        let start = GuestAddress(u64::from(node) << 30);
        let region = RegionSpec::new(format!("ram{node}"), start, SIZE);
        builder = builder.with_region(region.with_policies(policies));
    }
    let memory: GuestMemoryMmap = builder.build().unwrap();
    assert_eq!(memory.num_regions(), 2);
    let table = MemoryTable::new(&memory).to_string();
    let column = table.find("  node  ").unwrap() + 2;
    let node_of = |label: &str| {
        let line = table.lines().find(|line| line.contains(label)).unwrap();
        line[column..].split("  ").next().unwrap()
    };
    assert_eq!((node_of("ram0"), node_of("ram1")), ("0", "1"), "{table}");
}

/// One node's pool of huge pages, made larger; it is put back on drop.
struct NodePool {
    folder: String,
    before: usize,
    _turn: Turn,
}

impl NodePool {
    fn count(node: u32, name: &str) -> Result<usize, String> {
        let folder = Self::folder(node);
        let text = fs::read_to_string(format!("{folder}/{name}"));
        let text = text.map_err(|error| format!("{folder}: {error}"))?;
        text.trim().parse().map_err(|error| format!("{error}"))
    }

    /// Waits for its turn and sees to `free` pages on the node that nobody uses.
    fn with_free(turn: Turn, node: u32, free: usize) -> Result<Self, String> {
        let pool = Self {
            folder: Self::folder(node),
            before: Self::count(node, "nr_hugepages")?,
            _turn: turn,
        };
        let missing = free.saturating_sub(Self::count(node, "free_hugepages")?);
        pool.resize(pool.before + missing)?;
        if Self::count(node, "free_hugepages")? < free {
            return Err(format!("node {node} has no {free} huge pages to spare"));
        }
        Ok(pool)
    }

    fn folder(node: u32) -> String {
        format!("/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB")
    }

    fn resize(&self, pages: usize) -> Result<(), String> {
        let path = format!("{}/nr_hugepages", self.folder);
        fs::write(&path, pages.to_string()).map_err(|error| format!("{path}: {error}"))
    }
}

impl Drop for NodePool {
    fn drop(&mut self) {
        if let Err(error) = self.resize(self.before) {
            println!("{error}");
        }
    }
}

#[test]
fn huge_pages_come_from_the_pool_of_their_node_or_are_refused() {
    skip_without!(check_two_nodes());
    let pool = Turn::wait().and_then(|turn| {
        // More than node 0 has, so that they cannot be had from there.
        let pages = NodePool::count(0, "free_hugepages")? + 2;
        NodePool::with_free(turn, 1, pages).map(|pool| (pool, pages))
    });
    let (_pool, pages) = match pool {
        Ok(pool) => pool,
        Err(reason) => {
            println!("skipped: {reason}");
            return;
        }
    };
    let memory_file = Backing::Memfd {
        name: "nodes".into(),
        seals: Default::default(),
        huge_pages: Some(HugePageSize::TwoMiB),
    };
    let anonymous = Backing::Anonymous {
        sharing: Default::default(),
        huge_pages: Some(HugePageSize::TwoMiB),
    };
    for backing in [anonymous, memory_file] {
        let size = pages * TWO_MIB;
        let on_node = |node| {
            let policy = NumaPolicy::Bind(one_node(node));
            build(size, backing.clone(), populated(placed(policy)))
        };
        let region = on_node(1).unwrap();
        let expected = ("bind:1".into(), BTreeMap::from([(1, pages)]));
        assert_eq!(placement_of(&region), expected, "{backing:?}");
        drop(region);
        let message = on_node(0).unwrap_err().to_string();
        assert!(
            message.contains("huge pages of 2097152 bytes needed"),
            "{message}"
        );
    }
}
