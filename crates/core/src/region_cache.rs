// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The region of the last access, kept for the next one.

use core::cell::Cell;
use core::fmt;

use crate::address::Address;
use crate::guest_address::{GuestAddress, MemoryRegionAddress};
use crate::memory::GuestMemory;
use crate::region::GuestMemoryRegion;

/// A view of a memory that looks at the region of the last access first.
///
/// A device that stays within one region for long, such as one that works through a ring, spares the lookup. The view is
/// the memory in every other respect. It belongs to one thread; threads make one each.
///
/// ```
/// use guest_memory_core::{Bytes, GuestAddress, GuestMemory, GuestMemoryResult, RegionCache};
///
#[doc = include_str!("examples/two_regions.md")]
/// fn fill(memory: &impl GuestMemory, ring: GuestAddress) -> GuestMemoryResult<()> {
///     let memory = RegionCache::new(memory);
///     for entry in 0..256 {
///         memory.write_obj(entry, GuestAddress(ring.0 + 8 * entry))?; // finds the region once
///     }
///     Ok(())
/// }
///
/// let memory = two_regions::<()>();
/// fill(&memory, GuestAddress(0x2000))?;
/// assert_eq!(memory.read_obj::<u64>(GuestAddress(0x2000 + 8 * 200))?, 200);
/// # GuestMemoryResult::Ok(())
/// ```
pub struct RegionCache<'m, M: GuestMemory + ?Sized> {
    memory: &'m M,
    last: Cell<Option<Last<'m, M::R>>>,
}

/// A region and its bounds.
struct Last<'m, R> {
    region: &'m R,
    start: u64,
    len_less_one: u64,
}

impl<R> Clone for Last<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Last<'_, R> {}

impl<'m, M: GuestMemory + ?Sized> RegionCache<'m, M> {
    /// Makes a view that has looked at no region yet.
    pub fn new(memory: &'m M) -> Self {
        Self {
            memory,
            last: Cell::new(None),
        }
    }

    /// Returns the memory.
    pub fn memory(&self) -> &'m M {
        self.memory
    }

    #[inline(never)]
    fn find_and_keep(&self, addr: GuestAddress) -> Option<(&'m M::R, MemoryRegionAddress)> {
        let (region, offset) = self.memory.to_region_addr(addr)?;
        let start = region.start_addr().raw_value();
        // A region that says something else than it was found by is not kept.
        let is_sane = addr.raw_value().checked_sub(start) == Some(offset.raw_value());
        self.last.set(
            region
                .len()
                .checked_sub(1)
                .filter(|_| is_sane)
                .map(|len_less_one| Last {
                    region,
                    start,
                    len_less_one,
                }),
        );
        Some((region, offset))
    }
}

impl<M: GuestMemory + ?Sized> GuestMemory for RegionCache<'_, M> {
    type R = M::R;

    fn num_regions(&self) -> usize {
        self.memory.num_regions()
    }

    #[inline]
    fn find_region(&self, addr: GuestAddress) -> Option<&M::R> {
        self.to_region_addr(addr).map(|(region, _)| region)
    }

    fn iter(&self) -> impl Iterator<Item = &M::R> {
        self.memory.iter()
    }

    #[inline(always)]
    fn to_region_addr(&self, addr: GuestAddress) -> Option<(&M::R, MemoryRegionAddress)> {
        if let Some(last) = self.last.get() {
            let offset = addr.raw_value().wrapping_sub(last.start);
            // Below the start the difference wraps to something larger than any region that starts there.
            if offset <= last.len_less_one {
                return Some((last.region, MemoryRegionAddress(offset)));
            }
        }
        self.find_and_keep(addr)
    }
}

impl<M: GuestMemory + ?Sized> fmt::Debug for RegionCache<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionCache")
            .field(
                "last_start",
                &self.last.get().map(|last| GuestAddress(last.start)),
            )
            .finish_non_exhaustive()
    }
}
