// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which NUMA nodes memory comes from.

use std::fmt;
use std::io;

use super::nodes::{Available, NumaNode, NumaNodes};
use super::page_source::PageSource;
use super::{Policy, PolicyKind, Refusal};
use crate::Sharing;
use crate::extent::Extent;
use crate::number_list;
use crate::sys::{self, NodeMode, Placement};

/// Which NUMA nodes memory comes from, whichever thread touches it first.
///
/// It is set before any page is there, since a page stays where it is first put. Memory of a shared file
/// keeps the policy for all who map it; an ordinary file's cache has none, so that it is refused there.
///
/// Huge pages are reserved when they are mapped, but in the pools of all nodes together. Bound to a node whose
/// own pool is too small, memory of them must be populated at build to find that out.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum NumaPolicy {
    /// From these nodes only.
    Bind(NumaNodes),
    /// From this node while it has memory to spare, then from the nearest one that has.
    Preferred(NumaNode),
    /// From these nodes in turn.
    Interleave(NumaNodes),
    /// From the node of the processor that touches the page first, whatever the thread's own policy is.
    Local,
}

impl Policy for NumaPolicy {
    const KIND: PolicyKind = PolicyKind::Numa;

    fn apply(&self, extent: Extent<'_>) -> Result<(), Refusal> {
        // The kernel would note the policy and ignore it.
        if PageSource::of(extent)? == PageSource::File
            && extent.details().sharing == Sharing::Shared
        {
            return Err(Refusal::SharedFile);
        }
        // No flag that moves pages: fresh memory has none, yet the kernel would make all processors flush their
        // lists of pages first. Where pages must not be elsewhere, they are looked for at least.
        let (mode, nodes, placement) = match self {
            Self::Bind(nodes) => (NodeMode::Bind, nodes.clone(), Placement::Strict),
            Self::Preferred(node) => (NodeMode::Preferred, (*node).into(), Placement::Lenient),
            Self::Interleave(nodes) => (NodeMode::Interleave, nodes.clone(), Placement::Strict),
            Self::Local => (NodeMode::Local, NumaNodes::default(), Placement::Lenient),
        };
        self.check_nodes()?;
        // Nodes that exist, so that the mask is short.
        let numbers = nodes
            .iter()
            .map(|node| usize::try_from(node.0).unwrap_or(0));
        let mask = number_list::mask(numbers);
        sys::place(extent, mode, &mask, placement).map_err(|error| explain(&error))
    }
}

impl NumaPolicy {
    /// Checks that there is memory on the nodes, and that this thread may use it.
    pub(super) fn check_nodes(&self) -> Result<(), Refusal> {
        let nodes = match self {
            Self::Bind(nodes) | Self::Interleave(nodes) => nodes,
            Self::Preferred(node) => &(*node).into(),
            Self::Local => return Ok(()),
        };
        let available = Available::read()
            .map_err(|error| Refusal::kernel(&error, "a kernel with NUMA lists its nodes"))?;
        available.check(nodes)
    }
}

impl fmt::Display for NumaPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(nodes) => write!(f, "bind:{nodes}"),
            Self::Preferred(node) => write!(f, "preferred:{node}"),
            Self::Interleave(nodes) => write!(f, "interleave:{nodes}"),
            Self::Local => f.write_str("local"),
        }
    }
}

fn explain(error: &io::Error) -> Refusal {
    let hint = match error.raw_os_error() {
        Some(libc::EIO) => "pages that are there already lie on other nodes",
        Some(libc::ENOSYS) => "mbind needs a kernel with NUMA",
        Some(libc::EPERM) => "a filter of system calls forbids mbind, as those of containers do",
        _ => "mbind failed",
    };
    Refusal::kernel(error, hint)
}
