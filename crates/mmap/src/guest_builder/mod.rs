// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A whole guest's memory from one description, which can stand in a monitor's configuration.

mod error;
mod plan;
mod region_spec;

use guest_memory_bitmap::NewBitmap;

use crate::{GuestMemoryMmap, GuestRegionMmap};
pub use error::{GuestMemoryBuildError, RegionProblem};
pub use plan::{GuestMemoryPlan, PlanStep};
pub use region_spec::RegionSpec;

/// Describes a guest's memory, says what building it would do, and builds it.
///
/// It is plain data. With the feature `serde` it can be read from and written to a configuration.
///
/// # Examples
///
/// ```
/// use guest_memory_core::{Bytes, GuestAddress};
/// use guest_memory_mmap::{
///     Backing, CoreDump, GuestMemoryBuilder, GuestMemoryMmap, Need, Policies, RegionSpec, Seals,
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ram = Backing::Memfd { name: "ram".to_owned(), seals: Seals::ALL, huge_pages: None };
/// let policies = Policies::new().with_core_dump(CoreDump::Exclude, Need::Wished);
/// let guest = GuestMemoryBuilder::new()
///     .with_region(
///         RegionSpec::new("low", GuestAddress(0), 64 << 20)
///             .with_backing(ram)
///             .with_policies(policies),
///     )
///     .with_region(RegionSpec::new("high", GuestAddress(4 << 30), 64 << 20));
///
/// // What will be done, and what stands in its way.
/// let plan = guest.plan();
/// assert!(plan.problems().is_empty());
/// println!("{plan}");
///
/// let memory: GuestMemoryMmap = guest.build()?;
/// memory.write_obj(1u8, GuestAddress(4 << 30))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct GuestMemoryBuilder {
    regions: Vec<RegionSpec>,
}

impl GuestMemoryBuilder {
    /// Describes a guest without memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a region; the order does not matter.
    #[must_use]
    pub fn with_region(mut self, region: RegionSpec) -> Self {
        self.regions.push(region);
        self
    }

    /// Returns the descriptions of the regions.
    #[must_use]
    pub fn regions(&self) -> &[RegionSpec] {
        &self.regions
    }

    /// Says what [`build`](Self::build) would do, in order, and finds what is wrong with the description or missing on this
    /// system. It changes nothing.
    ///
    /// What is free now may be gone when it is needed, so building can fail without a problem in the plan.
    #[must_use]
    pub fn plan(&self) -> GuestMemoryPlan {
        GuestMemoryPlan::of(&self.regions)
    }

    /// Maps all regions and applies their policies, in ascending order of guest addresses.
    ///
    /// Each region knows what became of its [policies](crate::MmapRegion::policies).
    ///
    /// # Errors
    ///
    /// - [`Problems`](GuestMemoryBuildError::Problems): all that the plan found; nothing was done then;
    /// - [`Region`](GuestMemoryBuildError::Region): a region could not be mapped, or a required policy does not hold;
    /// - [`Collection`](GuestMemoryBuildError::Collection): there is no region.
    ///
    /// After an error everything is undone, but for files and shared memory objects that were made under a name.
    pub fn build<B: NewBitmap>(&self) -> Result<GuestMemoryMmap<B>, GuestMemoryBuildError> {
        let plan = self.plan();
        if !plan.problems().is_empty() {
            return Err(GuestMemoryBuildError::Problems(plan.into_problems()));
        }
        let mut specs: Vec<&RegionSpec> = self.regions.iter().collect();
        specs.sort_by_key(|spec| spec.start());
        let regions = specs
            .into_iter()
            .map(RegionSpec::build)
            .collect::<Result<Vec<GuestRegionMmap<B>>, _>>()?;
        GuestMemoryMmap::from_regions(regions).map_err(GuestMemoryBuildError::Collection)
    }
}
