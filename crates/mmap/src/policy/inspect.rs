// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What can be said of policies before there is memory.

use super::{Need, NumaNode, NumaPolicy, Policies, PolicyKind, Refusal};

impl Policies {
    /// Returns what is asked for, as it prints, in the order in which it will be applied.
    pub(crate) fn list(&self) -> Vec<(PolicyKind, String, Need)> {
        let mut list = Vec::new();
        for kind in PolicyKind::ALL {
            if let (Some(need), Some(value)) = (self.need(kind), self.text(kind)) {
                list.push((kind, value, need));
            }
        }
        list
    }

    /// Returns required policies that cannot hold, whatever the memory.
    pub(crate) fn problems(&self) -> Vec<(PolicyKind, String, Refusal)> {
        let mut problems = Vec::new();
        if let Some(numa) = self.numa()
            && numa.need == Need::Required
            && let Err(refusal) = numa.policy.check_nodes()
        {
            problems.push((PolicyKind::Numa, numa.policy.to_string(), refusal));
        }
        problems
    }

    /// Returns the one node that memory is asked to come from.
    pub(super) fn node(&self) -> Option<NumaNode> {
        match &self.numa.as_ref()?.policy {
            NumaPolicy::Preferred(node) => Some(*node),
            NumaPolicy::Bind(nodes) => {
                let mut nodes = nodes.iter();
                nodes.next().filter(|_| nodes.next().is_none())
            }
            NumaPolicy::Interleave(_) | NumaPolicy::Local => None,
        }
    }

    fn text(&self, kind: PolicyKind) -> Option<String> {
        match kind {
            PolicyKind::Numa => self.numa.as_ref().map(|asked| asked.policy.to_string()),
            PolicyKind::TransparentHugePages => self
                .transparent_huge_pages
                .as_ref()
                .map(|asked| asked.policy.to_string()),
            PolicyKind::PageMerging => {
                let asked = self.page_merging.as_ref();
                asked.map(|asked| asked.policy.to_string())
            }
            PolicyKind::CoreDump => self
                .core_dump
                .as_ref()
                .map(|asked| asked.policy.to_string()),
            PolicyKind::OnFork => self.on_fork.as_ref().map(|asked| asked.policy.to_string()),
            PolicyKind::Name => self.name.as_ref().map(|asked| asked.policy.to_string()),
            PolicyKind::Population => self
                .population
                .as_ref()
                .map(|asked| asked.policy.to_string()),
            PolicyKind::Locking => self.locking.as_ref().map(|asked| asked.policy.to_string()),
        }
    }
}
