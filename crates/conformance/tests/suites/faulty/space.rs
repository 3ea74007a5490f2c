// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Handles on memory that is replaced.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use guest_memory_conformance::kept;
use guest_memory_core::{GuestAddress, GuestAddressSpace, GuestMemory, GuestMemoryRegion};

use super::offset_of;
use crate::toys::ToyMemory;

/// What is wrong with a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpaceFault {
    GuardFollowsSwap,
    GuardCloneIsOfNewest,
    CloneKeepsMapsOfItsOwn,
    HandleIsStale,
    ReplaceKeepsOldRegions,
    ReplaceLosesLastRegion,
    MemoryIsACopy,
    ReplaceIsUndone,
    MapIsSwappedInHalves,
    HandleLooksEveryOtherTime,
}

impl SpaceFault {
    /// Each fault and a word that the report has to hold.
    pub(crate) const ALL: [(Self, &str); 8] = [
        (Self::GuardFollowsSwap, "guard"),
        (Self::GuardCloneIsOfNewest, "guard"),
        (Self::CloneKeepsMapsOfItsOwn, "what handle"),
        (Self::HandleIsStale, "what handle"),
        (Self::ReplaceKeepsOldRegions, "iter"),
        (Self::ReplaceLosesLastRegion, "iter"),
        (Self::MemoryIsACopy, "what handle"),
        (Self::ReplaceIsUndone, "what handle"),
    ];

    /// Those that show themselves to several threads.
    pub(crate) const RACES: [(Self, &str); 2] = [
        (Self::MapIsSwappedInHalves, "a map that was seen"),
        (Self::HandleLooksEveryOtherTime, "or newer"),
    ];
}

/// A list of ranges.
type Ranges = Vec<(GuestAddress, usize)>;

/// Memory that is replaced; maps are leaked.
#[derive(Debug)]
struct Slot(Mutex<&'static ToyMemory>);

impl Slot {
    fn new(ranges: &[(GuestAddress, usize)]) -> Arc<Self> {
        Arc::new(Self(Mutex::new(leaked(ranges))))
    }

    fn load(&self) -> &'static ToyMemory {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self, map: &'static ToyMemory) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = map;
    }
}

fn leaked(ranges: &[(GuestAddress, usize)]) -> &'static ToyMemory {
    kept(ToyMemory::new(ranges))
}

fn ranges_of(memory: &ToyMemory) -> Ranges {
    let range = |region: &crate::toys::ToyRegion| (region.start_addr(), offset_of(region.len()));
    memory.iter().map(range).collect()
}

/// A handle with a fault.
#[derive(Debug)]
pub(crate) struct FaultySpace {
    slot: Arc<Slot>,
    first: &'static ToyMemory,
    /// What was found at the last look that was one.
    kept: Mutex<&'static ToyMemory>,
    looks: AtomicUsize,
    fault: Option<SpaceFault>,
}

impl FaultySpace {
    pub(crate) fn new(fault: Option<SpaceFault>, ranges: &[(GuestAddress, usize)]) -> Self {
        Self::over(fault, Slot::new(ranges))
    }

    fn over(fault: Option<SpaceFault>, slot: Arc<Slot>) -> Self {
        let first = slot.load();
        Self {
            slot,
            first,
            kept: Mutex::new(first),
            looks: AtomicUsize::new(0),
            fault,
        }
    }

    pub(crate) fn replace(&self, ranges: &[(GuestAddress, usize)]) {
        let mut ranges = ranges.to_vec();
        match self.fault {
            Some(SpaceFault::ReplaceKeepsOldRegions) => {
                let end = ranges
                    .last()
                    .map_or(0, |&(start, len)| start.0 + len as u64);
                let old = ranges_of(self.slot.load());
                ranges.extend(old.into_iter().filter(|(start, _)| start.0 >= end));
            }
            Some(SpaceFault::ReplaceLosesLastRegion) if ranges.len() > 1 => {
                ranges.pop();
            }
            Some(SpaceFault::MapIsSwappedInHalves) => {
                let mut halves = ranges_of(self.slot.load());
                halves[0] = ranges[0];
                self.slot.store(leaked(&halves));
                thread::yield_now();
            }
            // Who replaces a map by one of as many regions changes nothing.
            Some(SpaceFault::ReplaceIsUndone) if ranges.len() == self.slot.load().num_regions() => {
                return;
            }
            _ => {}
        }
        self.slot.store(leaked(&ranges));
    }
}

impl Clone for FaultySpace {
    fn clone(&self) -> Self {
        let slot = match self.fault {
            Some(SpaceFault::CloneKeepsMapsOfItsOwn) => {
                Arc::new(Slot(Mutex::new(self.slot.load())))
            }
            _ => Arc::clone(&self.slot),
        };
        Self::over(self.fault, slot)
    }
}

impl GuestAddressSpace for FaultySpace {
    type M = ToyMemory;
    type T = FaultyGuard;

    fn memory(&self) -> FaultyGuard {
        let map = match self.fault {
            Some(SpaceFault::HandleIsStale) => self.first,
            Some(SpaceFault::MemoryIsACopy) => leaked(&ranges_of(self.slot.load())),
            Some(SpaceFault::HandleLooksEveryOtherTime) => {
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                if self.looks.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                    *kept = self.slot.load();
                }
                *kept
            }
            _ => self.slot.load(),
        };
        FaultyGuard {
            map,
            slot: Arc::clone(&self.slot),
            fault: self.fault,
        }
    }
}

/// What keeps a map.
#[derive(Debug)]
pub(crate) struct FaultyGuard {
    map: &'static ToyMemory,
    slot: Arc<Slot>,
    fault: Option<SpaceFault>,
}

impl Clone for FaultyGuard {
    fn clone(&self) -> Self {
        let map = match self.fault {
            Some(SpaceFault::GuardCloneIsOfNewest) => self.slot.load(),
            _ => self.map,
        };
        Self {
            map,
            slot: Arc::clone(&self.slot),
            fault: self.fault,
        }
    }
}

impl Deref for FaultyGuard {
    type Target = ToyMemory;

    fn deref(&self) -> &ToyMemory {
        match self.fault {
            Some(SpaceFault::GuardFollowsSwap) => self.slot.load(),
            _ => self.map,
        }
    }
}
