// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How memory is to be treated, as data: one file per policy, here the set of them and the order of applying.
//!
//! A policy that is required and does not hold is an error; one that is wished is noted in the report. What the
//! kernel would take and ignore counts as not holding.

mod core_dump;
mod huge_pages;
mod inspect;
mod locking;
mod merging;
mod name;
mod nodes;
mod numa;
mod on_fork;
mod page_source;
mod population;
mod refusal;
mod report;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;

pub use core_dump::CoreDump;
pub use huge_pages::TransparentHugePages;
pub use locking::Locking;
pub use merging::PageMerging;
pub use name::{MemoryName, MemoryNameError};
pub use nodes::{NumaNode, NumaNodes, NumaNodesError};
pub use numa::NumaPolicy;
pub use on_fork::OnFork;
pub(crate) use page_source::PageSource;
pub use population::Population;
pub use refusal::{PolicyError, Refusal};
pub use report::{Outcome, PolicyEntry, PolicyKind, PolicyReport};

use crate::extent::Extent;

/// How much a policy is needed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Need {
    /// Memory without it will do; the report says so.
    Wished,
    /// Memory without it is an error.
    Required,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Wished => "wished",
            Self::Required => "required",
        })
    }
}

/// A policy and how much it is needed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Asked<P> {
    /// What is asked for.
    pub policy: P,
    /// How much.
    pub need: Need,
}

/// What is asked for of memory: at most one policy of each kind, none to begin with.
///
/// They are applied when a region is [built](crate::MmapRegionBuilder::with_policies), in the order of [`PolicyKind::ALL`].
///
/// # Examples
///
/// ```
/// use guest_memory_mmap::{CoreDump, Need, NumaNode, NumaPolicy, Policies, PolicyKind, TransparentHugePages};
///
/// let policies = Policies::new()
///     .with_numa(NumaPolicy::Preferred(NumaNode(0)), Need::Required)
///     .with_transparent_huge_pages(TransparentHugePages::Advise, Need::Wished)
///     .with_core_dump(CoreDump::Exclude, Need::Wished);
/// assert_eq!(policies.need(PolicyKind::Numa), Some(Need::Required));
/// assert_eq!(policies.need(PolicyKind::Locking), None);
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(
    feature = "serde",
    serde(default, deny_unknown_fields, rename_all = "kebab-case")
)]
pub struct Policies {
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    numa: Option<Asked<NumaPolicy>>,
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    transparent_huge_pages: Option<Asked<TransparentHugePages>>,
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    page_merging: Option<Asked<PageMerging>>,
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    core_dump: Option<Asked<CoreDump>>,
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    on_fork: Option<Asked<OnFork>>,
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    name: Option<Asked<MemoryName>>,
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    population: Option<Asked<Population>>,
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    locking: Option<Asked<Locking>>,
}

/// Writes the two methods of [`Policies`] that each policy has.
macro_rules! policy_methods {
    ($($with:ident, $field:ident: $policy:ty, $what:literal;)*) => {
        $(
            #[doc = concat!("Asks for a policy on ", $what, ", in place of an earlier one.")]
            #[must_use]
            pub fn $with(mut self, policy: $policy, need: Need) -> Self {
                self.$field = Some(Asked { policy, need });
                self
            }

            #[doc = concat!("Returns the policy on ", $what, ", if one is asked for.")]
            #[must_use]
            pub fn $field(&self) -> Option<&Asked<$policy>> {
                self.$field.as_ref()
            }
        )*
    };
}

impl Policies {
    /// Asks for nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    policy_methods! {
        with_numa, numa: NumaPolicy, "the NUMA nodes that memory comes from";
        with_transparent_huge_pages, transparent_huge_pages: TransparentHugePages, "transparent huge pages";
        with_page_merging, page_merging: PageMerging, "merging of equal pages";
        with_core_dump, core_dump: CoreDump, "core dumps";
        with_on_fork, on_fork: OnFork, "what a forked child has";
        with_name, name: MemoryName, "the name of memory without a file";
        with_population, population: Population, "having pages there from the start";
        with_locking, locking: Locking, "keeping pages in memory";
    }

    /// Returns how much a policy is needed, or nothing if none of the kind is asked for.
    #[must_use]
    pub fn need(&self, kind: PolicyKind) -> Option<Need> {
        match kind {
            PolicyKind::Numa => need(&self.numa),
            PolicyKind::TransparentHugePages => need(&self.transparent_huge_pages),
            PolicyKind::PageMerging => need(&self.page_merging),
            PolicyKind::CoreDump => need(&self.core_dump),
            PolicyKind::OnFork => need(&self.on_fork),
            PolicyKind::Name => need(&self.name),
            PolicyKind::Population => need(&self.population),
            PolicyKind::Locking => need(&self.locking),
        }
    }

    /// Says whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        PolicyKind::ALL
            .into_iter()
            .all(|kind| self.need(kind).is_none())
    }
}

fn need<P>(asked: &Option<Asked<P>>) -> Option<Need> {
    asked.as_ref().map(|asked| asked.need)
}

/// What one file of this folder defines.
trait Policy: fmt::Display {
    const KIND: PolicyKind;

    /// Makes the kernel treat the memory so.
    ///
    /// # Errors
    ///
    /// Why it does not, or would not although it says so.
    fn apply(&self, extent: Extent<'_>) -> Result<(), Refusal>;
}

/// Applies all policies that are asked for, in their order.
///
/// # Errors
///
/// The first required policy that does not hold. Those before it stay applied.
pub(crate) fn apply_all(
    policies: &Policies,
    extent: Extent<'_>,
    report: &mut PolicyReport,
) -> Result<(), PolicyError> {
    apply_before_population(policies, extent, report)?;
    let population = policies.population.map(|asked| Asked {
        policy: population::OnNode {
            population: asked.policy,
            node: policies.node(),
        },
        need: asked.need,
    });
    apply(population.as_ref(), extent, report)?;
    apply_after_population(policies, extent, report)
}

/// Applies what decides where pages come from and how large they are, and so must stand before the first one is there,
/// and what does not care.
///
/// # Errors
///
/// The first required policy that does not hold. Those before it stay applied.
fn apply_before_population(
    policies: &Policies,
    extent: Extent<'_>,
    report: &mut PolicyReport,
) -> Result<(), PolicyError> {
    apply(policies.numa.as_ref(), extent, report)?;
    apply(huge_pages(policies, false), extent, report)?;
    apply(policies.page_merging.as_ref(), extent, report)?;
    apply(policies.core_dump.as_ref(), extent, report)?;
    apply(policies.on_fork.as_ref(), extent, report)?;
    apply(policies.name.as_ref(), extent, report)
}

/// Applies what is about pages that are there. Locking is last: it populates what nobody else did, and pins pages.
///
/// # Errors
///
/// The first required policy that does not hold. Those before it stay applied.
fn apply_after_population(
    policies: &Policies,
    extent: Extent<'_>,
    report: &mut PolicyReport,
) -> Result<(), PolicyError> {
    apply(huge_pages(policies, true), extent, report)?;
    apply(policies.locking.as_ref(), extent, report)
}

/// Returns the policy on huge pages if it is one for this side of population.
fn huge_pages(policies: &Policies, is_populated: bool) -> Option<&Asked<TransparentHugePages>> {
    let asked = policies.transparent_huge_pages.as_ref()?;
    (asked.policy.follows_population() == is_populated).then_some(asked)
}

fn apply<P: Policy>(
    asked: Option<&Asked<P>>,
    extent: Extent<'_>,
    report: &mut PolicyReport,
) -> Result<(), PolicyError> {
    let Some(Asked { policy, need }) = asked else {
        return Ok(());
    };
    let result = policy.apply(extent);
    let outcome = match &result {
        Ok(()) => Outcome::Applied,
        Err(refusal) => Outcome::Refused(refusal.clone()),
    };
    report.record(P::KIND, policy.to_string(), *need, outcome);
    match result {
        Err(refusal) if *need == Need::Required => Err(PolicyError {
            kind: P::KIND,
            value: policy.to_string(),
            address: extent.start().as_ptr().addr(),
            len_bytes: extent.len_bytes(),
            source: refusal.cause(),
            refusal,
        }),
        _ => Ok(()),
    }
}

/// Returns a field of a `/proc/PID/status`.
fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key == name).then(|| value.trim())
    })
}
