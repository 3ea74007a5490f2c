// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Slots: how a hypervisor divides guest memory, and in which terms it logs writes.

use alloc::collections::BTreeMap;
use core::num::NonZeroUsize;
use core::ops::Range;

use crate::address::Address;
use crate::guest_address::{GuestAddress, GuestUsize};

/// A range of guest-physical addresses as a hypervisor knows it, with a log of its own.
///
/// Slots need not be regions: a slot may be a part of a region, or hold several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySlot {
    /// The first address.
    pub start: GuestAddress,
    /// The size in bytes.
    pub len_bytes: GuestUsize,
    /// Bytes that one bit of the log, or one entry of the ring, stands for.
    pub page_size: NonZeroUsize,
}

/// The slots of a hypervisor by their numbers, for logs that name the slot in each entry, as KVM's dirty ring does.
///
/// ```
/// use guest_memory_core::{GuestAddress, MemorySlot, MemorySlots, SlotError};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut slots = MemorySlots::default();
/// slots.insert(7, MemorySlot { start: GuestAddress(0x10_0000), len_bytes: 1 << 20, page_size: 4096.try_into()? });
/// assert_eq!(slots.get(7)?.start, GuestAddress(0x10_0000));
/// assert_eq!(slots.get(8), Err(SlotError::UnknownSlot { slot: 8 }));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemorySlots {
    by_number: BTreeMap<u32, MemorySlot>,
}

/// What is wrong with an entry of a hypervisor's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// No slot has the number.
    #[error("no memory slot {slot}")]
    UnknownSlot {
        /// The number.
        slot: u32,
    },
    /// The slot has no such page.
    #[error("page {page} is outside the memory slot of {len_bytes} bytes at gpa {start}")]
    OutsideSlot {
        /// The page, counted from the slot's start.
        page: u64,
        /// The slot's first address.
        start: GuestAddress,
        /// The slot's size in bytes.
        len_bytes: GuestUsize,
    },
    /// A page of the slot is in no region, so that its mark would be lost.
    #[error("no memory mapped at gpa {address}, where a memory slot is dirty")]
    NoMemory {
        /// The first address that is in no region.
        address: GuestAddress,
    },
}

impl MemorySlots {
    /// Adds a slot; returns the one that had the number before.
    pub fn insert(&mut self, number: u32, slot: MemorySlot) -> Option<MemorySlot> {
        self.by_number.insert(number, slot)
    }

    /// Removes a slot and returns it.
    pub fn remove(&mut self, number: u32) -> Option<MemorySlot> {
        self.by_number.remove(&number)
    }

    /// Returns the slot with a number.
    ///
    /// # Errors
    ///
    /// [`SlotError::UnknownSlot`] if there is none.
    pub fn get(&self, number: u32) -> Result<&MemorySlot, SlotError> {
        self.by_number
            .get(&number)
            .ok_or(SlotError::UnknownSlot { slot: number })
    }

    /// Walks over the slots by ascending number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &MemorySlot)> {
        self.by_number.iter().map(|(&number, slot)| (number, slot))
    }
}

impl MemorySlot {
    /// Returns the bytes of one page as start and length.
    pub(super) fn page(&self, page: u64) -> Result<(GuestAddress, GuestUsize), SlotError> {
        if page < self.page_count() {
            self.bytes(&(page..page + 1))
        } else {
            Err(self.outside(page))
        }
    }

    /// Calls `visit` for each run of pages that are set in `words`, with its start and length or with what is wrong with it.
    pub(super) fn for_each_range(
        &self,
        words: impl IntoIterator<Item = u64>,
        mut visit: impl FnMut(Result<(GuestAddress, GuestUsize), SlotError>),
    ) {
        // The run that is being gathered, as a half-open range of pages.
        let mut run = 0..0u64;
        let mut first = 0u64;
        for word in words {
            let mut rest = word;
            while rest != 0 {
                let start_bit = rest.trailing_zeros();
                let end_bit = (rest | (rest - 1)).trailing_ones();
                rest &= u64::MAX.checked_shl(end_bit).unwrap_or(0);
                let start = first.saturating_add(start_bit.into());
                if start != run.end {
                    self.visit_run(&run, &mut visit);
                    run.start = start;
                }
                run.end = first.saturating_add(end_bit.into());
            }
            first = first.saturating_add(64);
        }
        self.visit_run(&run, &mut visit);
    }

    /// Visits the part of a run that is in the slot, and then says what is not.
    fn visit_run(
        &self,
        run: &Range<u64>,
        visit: &mut impl FnMut(Result<(GuestAddress, GuestUsize), SlotError>),
    ) {
        let inside = run.start..run.end.min(self.page_count());
        if !inside.is_empty() {
            visit(self.bytes(&inside));
        }
        if inside.end < run.end {
            visit(Err(self.outside(inside.end.max(run.start))));
        }
    }

    /// The bytes of pages that are in the slot; the slot's last page may be covered in part.
    fn bytes(&self, pages: &Range<u64>) -> Result<(GuestAddress, GuestUsize), SlotError> {
        let offset_of = |page: u64| page.saturating_mul(self.page_size.get() as u64);
        let start = offset_of(pages.start);
        let end = offset_of(pages.end).min(self.len_bytes);
        // A slot that reaches past the top has no memory there.
        let last = self.start.checked_add(end.saturating_sub(1));
        match self.start.checked_add(start) {
            Some(address) if last.is_some() => Ok((address, end.saturating_sub(start))),
            _ => Err(self.outside(pages.start)),
        }
    }

    fn page_count(&self) -> u64 {
        self.len_bytes.div_ceil(self.page_size.get() as u64)
    }

    fn outside(&self, page: u64) -> SlotError {
        SlotError::OutsideSlot {
            page,
            start: self.start,
            len_bytes: self.len_bytes,
        }
    }
}
