// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Why a guest's memory cannot be built.

use std::fmt;

use guest_memory_core::GuestRegionCollectionError;

use crate::MmapRegionError;

/// What is wrong with the description of a region, or missing on this system.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct RegionProblem {
    /// Label of the region.
    pub region: String,
    /// Which part of the description.
    pub field: &'static str,
    /// What it says.
    pub value: String,
    /// What would be valid.
    pub valid: String,
}

impl fmt::Display for RegionProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            region,
            field,
            value,
            valid,
        } = self;
        write!(f, "region {region:?}: {field} {value}: {valid}")
    }
}

/// Error of building a guest's memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuestMemoryBuildError {
    /// The plan has problems; nothing was done.
    #[error("{}", list(.0))]
    Problems(Vec<RegionProblem>),
    /// A region could not be mapped, or a required policy does not hold.
    #[error("cannot build the region {region:?}")]
    Region {
        /// Label of the region.
        region: String,
        /// Why.
        source: Box<MmapRegionError>,
    },
    /// The regions do not form a memory map.
    #[error(transparent)]
    Collection(GuestRegionCollectionError),
}

fn list(problems: &[RegionProblem]) -> String {
    let lines: Vec<String> = problems.iter().map(RegionProblem::to_string).collect();
    lines.join("; ")
}
