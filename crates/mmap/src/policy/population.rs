// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Having pages there before the guest asks for them.

use std::error::Error;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;

use super::{Policy, PolicyKind, Refusal};
use crate::bytes_text::count_text;
use crate::extent::Extent;
use crate::prefault::prefault_extent;
use crate::{NumaNode, Prefault};

/// All pages are brought in when the region is built, by several threads; on the processors of the one node that the memory comes
/// from, if its [`NumaPolicy`](crate::NumaPolicy) names one.
///
/// [`MmapRegion::prefault`](crate::MmapRegion::prefault) does the same later, with a progress and a way to call it off.
///
/// # Examples
///
/// ```
/// use std::num::NonZeroUsize;
///
/// use guest_memory_mmap::{MmapRegion, MmapRegionBuilder, Need, Policies, Population};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let population = Population { threads: NonZeroUsize::MIN };
/// let policies = Policies::new().with_population(population, Need::Required);
/// let region: MmapRegion = MmapRegionBuilder::new(1 << 20).with_policies(policies).build()?;
/// assert!(region.is_resident(0, 1 << 20)?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Population {
    /// How many threads do it; if it is one, and the memory comes from no certain node, that is the caller's.
    pub threads: NonZeroUsize,
}

/// Population, and the node that the memory comes from, if it comes from one.
pub(super) struct OnNode {
    pub(super) population: Population,
    pub(super) node: Option<NumaNode>,
}

impl Policy for OnNode {
    const KIND: PolicyKind = PolicyKind::Population;

    fn apply(&self, extent: Extent<'_>) -> Result<(), Refusal> {
        let mut how = Prefault::new().with_threads(self.population.threads);
        if let Some(node) = self.node {
            how = how
                .on_node(node)
                .map_err(|error| Refusal::kernel(&error, "a node lists its processors"))?;
        }
        prefault_extent(extent, &how).map(drop).map_err(|error| {
            let cause = error
                .source()
                .and_then(<dyn Error>::downcast_ref::<io::Error>);
            Refusal::Population {
                errno: cause.and_then(io::Error::raw_os_error),
                reason: error.to_string(),
            }
        })
    }
}

impl fmt::Display for OnNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.population.fmt(f)
    }
}

impl fmt::Display for Population {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by {}", count_text(self.threads.get(), "thread"))
    }
}
