// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A map's share in one of its regions.

use std::sync::Arc;

use guest_memory_core::{GuestMemoryRegion, GuestRegionCollection};

/// Returns the `Arc` of a region of `map`, at the cost of one removal.
pub(crate) fn shared_region<R: GuestMemoryRegion>(
    map: &GuestRegionCollection<R>,
    region: &R,
) -> Option<Arc<R>> {
    let removed = map.remove_region(region.start_addr(), region.len());
    removed.ok().map(|(_, region)| region)
}
