// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Starting, harvesting and stopping the logs of all regions, and adding what a hypervisor logged.

use guest_memory_bitmap::{Bitmap, DirtyLog, DirtyPages};

use crate::address::Address;
use crate::address_space::GuestAddressSpace;
use crate::dirty::pages::{GuestDirtyPages, Part};
use crate::dirty::slot::{MemorySlot, SlotError};
use crate::guest_address::{GuestAddress, GuestUsize};
use crate::memory::{GuestMemory, room};
use crate::region::GuestMemoryRegion;

/// The dirty log of a whole memory: that of all regions it has at the moment.
///
/// `S` is where the memory comes from: a reference, an [`Arc`](alloc::sync::Arc), or a memory map that can be swapped. The regions'
/// bitmaps log what threads of this process write; what a hypervisor logged of its guest's writes is
/// merged into them, and then one harvest has both.
///
/// # Dirty tracking
///
/// The promise is that of [`DirtyLog::harvest_into`]. Regions are taken one after the other: a write to two of them may fall to two
/// harvests. A region that leaves the memory takes its marks with it.
///
/// # Examples
///
/// A round of a migration, with a hypervisor's log of the slot that the guest writes:
///
/// ```
/// use guest_memory_bitmap::AtomicBitmap;
/// use guest_memory_core::{Bytes, GuestAddress, MemoryLog, MemorySlot};
///
#[doc = include_str!("../examples/two_regions.md")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Two regions of 4 KiB side by side, from 0x1000 on, which are one slot of the hypervisor's.
/// let memory = two_regions::<AtomicBitmap>();
/// let slot = MemorySlot {
///     start: GuestAddress(0x1000),
///     len_bytes: 0x2000,
///     page_size: 4096.try_into()?,
/// };
/// let log = MemoryLog::new(&memory);
/// log.start_tracking();
///
/// memory.write_obj(7u32, GuestAddress(0x1000))?; // a device
/// log.merge_words(&slot, [0b10])?; // the guest wrote the slot's second page
/// for (start, len_bytes) in log.harvest().ranges() {
///     assert_eq!((start, len_bytes), (GuestAddress(0x1000), 0x2000)); // copy it
/// }
/// assert!(log.harvest().is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MemoryLog<S> {
    space: S,
}

impl<S: GuestAddressSpace<M: GuestMemory>> MemoryLog<S> {
    /// Makes the log of the memory that `space` has at the time of each call.
    pub fn new(space: S) -> Self {
        Self { space }
    }

    /// Returns where the memory comes from.
    pub fn space(&self) -> &S {
        &self.space
    }

    /// Adds a hypervisor's log of a slot: bit `b` of word `w` is page `64 * w + b` of the slot. In KVM it is what
    /// `KVM_GET_DIRTY_LOG` returns; [`le_words`](guest_memory_bitmap::le_words) makes words of its bytes.
    ///
    /// The slot may hold several regions or a part of one, and have other pages than the bitmaps. While tracking is off nothing is
    /// recorded.
    ///
    /// # Errors
    ///
    /// [`SlotError::OutsideSlot`] if a page past the slot's end is marked, [`SlotError::NoMemory`] if one is in no region, which
    /// tells the first such address. Everything else is merged nevertheless.
    pub fn merge_words(
        &self,
        slot: &MemorySlot,
        words: impl IntoIterator<Item = u64>,
    ) -> Result<(), SlotError> {
        let memory = self.space.memory();
        let mut result = Ok(());
        slot.for_each_range(words, |range| {
            let merged = range.and_then(|(start, len)| mark(&*memory, start, len));
            if result.is_ok() {
                result = merged;
            }
        });
        result
    }

    /// Adds one page of a slot: an entry of KVM's dirty ring, whose offset is in pages.
    ///
    /// # Errors
    ///
    /// Those of [`merge_words`](Self::merge_words).
    pub fn merge_page(&self, slot: &MemorySlot, page: u64) -> Result<(), SlotError> {
        let (start, len) = slot.page(page)?;
        mark(&*self.space.memory(), start, len)
    }
}

impl<S> MemoryLog<S>
where
    S: GuestAddressSpace<M: GuestMemory>,
    <<S::M as GuestMemory>::R as GuestMemoryRegion>::B: DirtyLog<Pages = DirtyPages>,
{
    /// Records marks in all regions from now on.
    ///
    /// When this returns, a write that is not marked is visible to the caller: what is copied now and what is
    /// harvested later miss nothing.
    pub fn start_tracking(&self) {
        self.space
            .memory()
            .iter()
            .for_each(|region| region.bitmap().start_tracking());
    }

    /// Records no marks from now on; what is marked stays until it is taken.
    pub fn stop_tracking(&self) {
        self.space
            .memory()
            .iter()
            .for_each(|region| region.bitmap().stop_tracking());
    }

    /// Tells whether marks are recorded in any region.
    pub fn is_tracking(&self) -> bool {
        self.space
            .memory()
            .iter()
            .any(|region| region.bitmap().is_tracking())
    }

    /// Returns the empty set of the regions that the memory has now: where to add the pages of several harvests, or
    /// all pages for a first copy ([`GuestDirtyPages::insert_all`]).
    pub fn empty_pages(&self) -> GuestDirtyPages {
        let memory = self.space.memory();
        let regions = memory.iter();
        GuestDirtyPages::from_regions(
            regions.map(|region| (region.start_addr(), region.bitmap().empty_pages())),
        )
    }

    /// Takes the marks of all regions.
    pub fn harvest(&self) -> GuestDirtyPages {
        let mut pages = GuestDirtyPages::default();
        self.harvest_into(&mut pages);
        pages
    }

    /// Takes the marks of all regions into `pages`, in place of what was in it.
    ///
    /// Nothing is allocated if the memory has the regions it had when `pages` was last filled.
    pub fn harvest_into(&self, pages: &mut GuestDirtyPages) {
        let memory = self.space.memory();
        let mut count = 0usize;
        for region in memory.iter() {
            if count == pages.parts.len() {
                pages.parts.push(Part::default());
            }
            if let Some(part) = pages.parts.get_mut(count) {
                part.start = region.start_addr();
                region.bitmap().harvest_into(&mut part.pages);
            }
            count = count.saturating_add(1);
        }
        pages.parts.truncate(count);
    }
}

impl<S> DirtyLog for MemoryLog<S>
where
    S: GuestAddressSpace<M: GuestMemory>,
    <<S::M as GuestMemory>::R as GuestMemoryRegion>::B: DirtyLog<Pages = DirtyPages>,
{
    type Pages = GuestDirtyPages;

    fn start_tracking(&self) {
        self.start_tracking();
    }

    fn stop_tracking(&self) {
        self.stop_tracking();
    }

    fn is_tracking(&self) -> bool {
        self.is_tracking()
    }

    fn empty_pages(&self) -> GuestDirtyPages {
        self.empty_pages()
    }

    fn harvest_into(&self, pages: &mut GuestDirtyPages) {
        self.harvest_into(pages);
    }
}

/// Marks `len` bytes from `start` on in all regions that hold some of them; tells the first one that no region holds.
fn mark<M: GuestMemory>(memory: &M, start: GuestAddress, len: GuestUsize) -> Result<(), SlotError> {
    let mut first_hole = None;
    let mut done: GuestUsize = 0;
    while done < len {
        // The end of a slot has an address, and so has everything before it.
        let here = start.unchecked_add(done);
        let wanted = usize::try_from(len.saturating_sub(done)).unwrap_or(usize::MAX);
        let found = memory.to_region_addr(here).and_then(|(region, offset)| {
            let count = room(region, offset, wanted);
            let offset = usize::try_from(offset.raw_value()).ok()?;
            (count > 0).then(|| region.bitmap().mark_dirty(offset, count))?;
            Some(count as GuestUsize)
        });
        let step = found.unwrap_or_else(|| {
            first_hole.get_or_insert(here);
            // On to the next region, wherever it is.
            memory
                .iter()
                .filter_map(|region| region.start_addr().checked_offset_from(here))
                .filter(|&distance| distance > 0)
                .min()
                .unwrap_or(GuestUsize::MAX)
        });
        done = done.saturating_add(step);
    }
    match first_hole {
        None => Ok(()),
        Some(address) => Err(SlotError::NoMemory { address }),
    }
}
