// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is compared, by theme.
//!
//! Each function makes its fixtures, measures, and drops them, so that touched memory stays below 256 MiB.

mod access;
mod dirty;
mod iommu;
mod lookup;
mod map;
mod scatter;

use crate::measure::Runner;

/// Runs every case that the runner wants.
pub fn run(runner: &mut Runner) {
    access::objects(runner);
    access::atomics(runner);
    access::buffers(runner);
    access::crossing(runner);
    lookup::regions(runner);
    iommu::hits(runner);
    iommu::changes(runner);
    dirty::writes(runner);
    dirty::marks(runner);
    dirty::harvests(runner);
    dirty::lists(runner);
    scatter::files(runner);
    map::swappable(runner);
    map::guests(runner);
    map::plugging(runner);
}

/// Bytes of the memories that are not about size.
const MEMORY_LEN: usize = 16 << 20;
