// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A thread that does to a ring what KVM does: it writes past the library and notes the page.

#![expect(unsafe_code, reason = "writes guest memory as a processor does")]

use std::sync::atomic::{AtomicU64, Ordering};

use guest_memory::bitmap::{MemorySlot, MemorySlots};
use guest_memory::{GuestAddress, GuestMemory};

use crate::ring::Entry;
use crate::{GUEST_WORD, Memory, PAGE_BYTES};

/// The filling end of a ring.
#[derive(Debug)]
pub(crate) struct Producer<'a> {
    memory: &'a Memory,
    slots: &'a MemorySlots,
    entries: &'a [Entry],
    next: usize,
}

impl<'a> Producer<'a> {
    /// Starts at the first entry.
    pub(crate) fn new(memory: &'a Memory, slots: &'a MemorySlots, entries: &'a [Entry]) -> Self {
        Producer {
            memory,
            slots,
            entries,
            next: 0,
        }
    }

    /// Writes a value to each of the pages; calls `full` while the ring is.
    pub(crate) fn write(&mut self, pages: &[u64], value: u64, full: impl Fn()) {
        for &page in pages {
            let address = GuestAddress(page + GUEST_WORD);
            let word = self.memory.get_host_address(address).unwrap().cast::<u64>();
            assert!(word.is_aligned());
            // SAFETY:
            // - valid: the library gave the address, `GUEST_WORD` and 8 bytes are in the same page, and the
            //   mapping is kept by `self.memory`.
            // - aligned: asserted above.
            // - races: no reference covers guest memory but those to atomics, and whoever else touches it does so by
            //   atomic accesses or outside the language, as with a guest that writes.
            unsafe { AtomicU64::from_ptr(word) }.store(value, Ordering::Relaxed);
            let holds =
                |slot: &MemorySlot| (slot.start.0..slot.start.0 + slot.len_bytes).contains(&page);
            let (number, slot) = self.slots.iter().find(|(_, slot)| holds(slot)).unwrap();
            let offset = (page - slot.start.0) / PAGE_BYTES;
            while !self.entries[self.next].fill(number, offset) {
                full();
            }
            self.next = (self.next + 1) % self.entries.len();
        }
    }
}

/// Frees the entries that have been collected.
pub(crate) fn reset(entries: &[Entry]) {
    entries.iter().for_each(Entry::reset);
}
