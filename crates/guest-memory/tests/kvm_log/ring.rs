// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A dirty ring: entries that KVM fills in and takes back, in an order that both sides know.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Size in bytes of the smallest ring that KVM may accept.
pub(crate) const LEAST_BYTES: u64 = 4096;

/// The entry holds a page.
const DIRTY: u32 = 1;
/// The page has been collected.
const COLLECTED: u32 = 2;

/// A `struct kvm_dirty_gfn`.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Entry {
    flags: AtomicU32,
    slot: AtomicU32,
    page: AtomicU64,
}

impl Entry {
    /// Fills the entry, if it is free; returns whether it was.
    pub(crate) fn fill(&self, slot: u32, page: u64) -> bool {
        // Acquire: partner of the store in `reset`.
        if self.flags.load(Ordering::Acquire) != 0 {
            return false;
        }
        self.slot.store(slot, Ordering::Relaxed);
        self.page.store(page, Ordering::Relaxed);
        // Release: partner of the load in `collect`.
        self.flags.store(DIRTY, Ordering::Release);
        true
    }

    /// Frees the entry if it has been collected.
    pub(crate) fn reset(&self) {
        if self.flags.load(Ordering::Acquire) == COLLECTED {
            self.flags.store(0, Ordering::Release);
        }
    }
}

/// Returns free entries.
pub(crate) fn empty_entries(count: usize) -> Vec<Entry> {
    (0..count).map(|_| Entry::default()).collect()
}

/// The collecting end of a ring.
#[derive(Debug)]
pub(crate) struct Ring<'a> {
    entries: &'a [Entry],
    next: usize,
}

impl<'a> Ring<'a> {
    /// Starts at the first entry.
    pub(crate) fn new(entries: &'a [Entry]) -> Self {
        Ring { entries, next: 0 }
    }

    /// Collects the dirty pages, each with its slot; returns how many entries.
    pub(crate) fn collect(&mut self, mut take: impl FnMut(u32, u64)) -> usize {
        let mut count = 0;
        // Not more than there are: an entry that KVM takes back and fills meanwhile is for the next time.
        while count < self.entries.len() {
            let entry = &self.entries[self.next];
            // Acquire: partner of the store that fills the entry.
            if entry.flags.load(Ordering::Acquire) & DIRTY == 0 {
                break;
            }
            // The upper half is an address space; there is one.
            let slot = entry.slot.load(Ordering::Relaxed) & 0xffff;
            take(slot, entry.page.load(Ordering::Relaxed));
            entry.flags.store(COLLECTED, Ordering::Release);
            self.next = (self.next + 1) % self.entries.len();
            count += 1;
        }
        count
    }
}
