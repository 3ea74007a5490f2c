// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! NUMA nodes: one, a set of them, and which ones this machine has.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::str::FromStr;

use super::Refusal;
use crate::number_list;

/// Where the kernel lists nodes, in folders and files by what the nodes are.
const NODES: &str = "/sys/devices/system/node";
/// What the kernel says of the calling thread.
const STATUS: &str = "/proc/thread-self/status";
/// Largest node that text may name: no kernel has been built for more than 2^10 nodes.
const LAST_NODE: u32 = 1023;

/// A NUMA node, by the number that the kernel gives it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct NumaNode(
    /// The number, as in `/sys/devices/system/node/node0`.
    pub u32,
);

impl fmt::Display for NumaNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of NUMA nodes, written as the kernel writes it: `0,2-3`.
///
/// # Examples
///
/// ```
/// use guest_memory_mmap::{NumaNode, NumaNodes};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let nodes: NumaNodes = "0,2-3".parse()?;
/// assert!(nodes.contains(NumaNode(2)));
/// assert_eq!(nodes, [0, 2, 3].map(NumaNode).into_iter().collect());
/// assert_eq!(nodes.to_string(), "0,2-3");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub struct NumaNodes(BTreeSet<NumaNode>);

impl NumaNodes {
    /// Says whether the node is one of the set.
    #[must_use]
    pub fn contains(&self, node: NumaNode) -> bool {
        self.0.contains(&node)
    }

    /// Says whether the set has no node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the nodes in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = NumaNode> + '_ {
        self.0.iter().copied()
    }

    /// Returns the nodes that `other` lacks.
    fn without(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }
}

impl FromIterator<NumaNode> for NumaNodes {
    fn from_iter<I: IntoIterator<Item = NumaNode>>(nodes: I) -> Self {
        Self(nodes.into_iter().collect())
    }
}

impl From<NumaNode> for NumaNodes {
    fn from(node: NumaNode) -> Self {
        Self::from_iter([node])
    }
}

impl FromStr for NumaNodes {
    type Err = NumaNodesError;

    /// Parses numbers up to 1023 and ranges of them, both ends included, with commas between; nothing is the empty set.
    ///
    /// # Errors
    ///
    /// If a part between two commas is something else; the error has it.
    fn from_str(text: &str) -> Result<Self, NumaNodesError> {
        let ranges = number_list::parse(text, LAST_NODE).map_err(NumaNodesError::at)?;
        Ok(ranges.into_iter().flatten().map(NumaNode).collect())
    }
}

impl fmt::Display for NumaNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nodes = self.0.iter().map(|node| node.0).peekable();
        let mut separator = "";
        while let Some(first) = nodes.next() {
            let mut last = first;
            while let Some(next) = nodes.next_if(|node| last.checked_add(1) == Some(*node)) {
                last = next;
            }
            match first == last {
                true => write!(f, "{separator}{first}")?,
                false => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

impl TryFrom<String> for NumaNodes {
    type Error = NumaNodesError;

    fn try_from(text: String) -> Result<Self, NumaNodesError> {
        text.parse()
    }
}

impl From<NumaNodes> for String {
    fn from(nodes: NumaNodes) -> Self {
        nodes.to_string()
    }
}

/// Error of reading a set of NUMA nodes from text.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{item:?} is no node from 0 to {LAST_NODE} and no ascending range such as 2-3")]
pub struct NumaNodesError {
    item: String,
}

impl NumaNodesError {
    fn at(item: &str) -> Self {
        Self { item: item.into() }
    }

    /// Returns the part of the text, between two commas, that is wrong.
    #[must_use]
    pub fn item(&self) -> &str {
        &self.item
    }
}

/// The nodes that memory can come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Available {
    /// Those that exist.
    online: NumaNodes,
    /// Those of them that have memory.
    with_memory: NumaNodes,
    /// Those that the calling thread may take memory from, by its cpuset.
    allowed: NumaNodes,
}

impl Available {
    /// Asks the kernel.
    pub(super) fn read() -> io::Result<Self> {
        let listed = |name: &str| parse(fs::read_to_string(format!("{NODES}/{name}"))?.trim_end());
        Ok(Self {
            online: listed("online")?,
            with_memory: listed("has_memory")?,
            allowed: parse(allowed(&fs::read_to_string(STATUS)?))?,
        })
    }

    /// Returns those that memory can come from.
    #[cfg(test)]
    pub(super) fn usable(&self) -> NumaNodes {
        let is_usable = |node: &NumaNode| self.check(&(*node).into()).is_ok();
        self.online.iter().filter(is_usable).collect()
    }

    /// Checks that memory can come from each of the nodes, and that there is one.
    ///
    /// The kernel would leave out those that it cannot use, without a word as long as one is left.
    pub(super) fn check(&self, nodes: &NumaNodes) -> Result<(), Refusal> {
        let lacking = |available: &NumaNodes| {
            let lacking = nodes.without(available);
            (!lacking.is_empty()).then_some(lacking)
        };
        if nodes.is_empty() {
            Err(Refusal::NoNode)
        } else if let Some(nodes) = lacking(&self.online) {
            let online = self.online.clone();
            Err(Refusal::NodesOffline { nodes, online })
        } else if let Some(nodes) = lacking(&self.with_memory) {
            let with_memory = self.with_memory.clone();
            Err(Refusal::NodesWithoutMemory { nodes, with_memory })
        } else if let Some(nodes) = lacking(&self.allowed) {
            let allowed = self.allowed.clone();
            Err(Refusal::NodesNotAllowed { nodes, allowed })
        } else {
            Ok(())
        }
    }
}

fn parse(text: &str) -> io::Result<NumaNodes> {
    text.parse()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Returns the nodes that a thread may use from what the kernel says of it.
fn allowed(status: &str) -> &str {
    super::status_field(status, "Mems_allowed_list").unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(text: &str) -> NumaNodes {
        text.parse().unwrap()
    }

    #[test]
    fn sets_are_read_and_written_as_the_kernel_does() {
        let table: [(&str, &[u32], &str); 6] = [
            ("", &[], ""),
            ("0", &[0], "0"),
            ("0,2-3", &[0, 2, 3], "0,2-3"),
            ("3,2,0,2", &[0, 2, 3], "0,2-3"),
            ("1-1", &[1], "1"),
            ("1020-1023", &[1020, 1021, 1022, 1023], "1020-1023"),
        ];
        for (text, numbers, written) in table {
            let set = nodes(text);
            assert!(
                set.iter().eq(numbers.iter().copied().map(NumaNode)),
                "{text}"
            );
            assert_eq!(set.to_string(), written);
        }
        let ends = NumaNodes::from_iter([NumaNode(u32::MAX), NumaNode(u32::MAX - 1)]);
        assert_eq!(ends.to_string(), "4294967294-4294967295");
    }

    #[test]
    fn text_that_is_no_set_is_refused_with_the_part_that_is_wrong() {
        let table = [
            ("0,,1", ""),
            ("0,", ""),
            ("a", "a"),
            ("0,3-2", "3-2"),
            ("1-2-3", "1-2-3"),
            ("-1", "-1"),
            ("+1", "+1"),
            (" 1", " 1"),
            ("0,1024", "1024"),
            ("0-4294967295", "0-4294967295"),
            ("99999999999", "99999999999"),
        ];
        for (text, item) in table {
            let error = text.parse::<NumaNodes>().unwrap_err();
            assert_eq!(error.item(), item, "{text}");
        }
    }

    #[test]
    fn nodes_are_refused_for_the_first_thing_that_they_lack() {
        let available = Available {
            online: nodes("0-3"),
            with_memory: nodes("0-2"),
            allowed: nodes("0-1"),
        };
        assert_eq!(available.check(&nodes("0-1")), Ok(()));
        assert_eq!(available.check(&nodes("")), Err(Refusal::NoNode));
        let table = [
            ("0,3-4,7", "nodes 4,7 do not exist; online are 0-3"),
            ("1-3", "nodes 3 have no memory; those with memory are 0-2"),
            ("1-2", "nodes 2 are outside the cpuset; it has 0-1"),
        ];
        for (asked, message) in table {
            let refusal = available.check(&nodes(asked)).unwrap_err();
            assert_eq!(refusal.to_string(), message);
        }
    }

    #[test]
    fn this_machine_has_the_node_of_its_memory() {
        let available = Available::read().unwrap();
        assert!(!available.online.is_empty());
        assert!(available.with_memory.without(&available.online).is_empty());
        assert!(available.allowed.without(&available.with_memory).is_empty());
    }
}
