// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! KVM's dirty logs, brought into the library's.

use std::sync::Arc;

use guest_memory::bitmap::{GuestDirtyPages, MemoryLog};

use crate::failure::{Failure, with_causes};
use crate::layout::{Layout, SharedMemory};
use crate::vm::Slots;

/// The library's log of a memory, and those of KVM that belong to it.
#[derive(Debug)]
pub(crate) struct Logs<'a> {
    log: &'a MemoryLog<SharedMemory>,
    slots: Option<Arc<Slots>>,
    /// All that was ever in KVM's logs.
    pub(crate) logged: GuestDirtyPages,
}

impl<'a> Logs<'a> {
    /// Brings together the library's log of a memory and the logs of its slots, if KVM runs the guest.
    pub(crate) fn new(
        log: &'a MemoryLog<SharedMemory>,
        slots: Option<Arc<Slots>>,
        layout: &Layout,
    ) -> Self {
        Logs {
            log,
            slots,
            logged: layout.no_pages(),
        }
    }

    /// Makes KVM log what the guest writes.
    pub(crate) fn start_logging(&self) -> Result<(), Failure> {
        self.slots
            .as_ref()
            .map_or(Ok(()), |slots| slots.start_logging())
    }

    /// Moves what KVM has logged into the library's log.
    pub(crate) fn merge(&mut self) -> Result<(), Failure> {
        let Some(slots) = &self.slots else {
            return Ok(());
        };
        for log in slots.take_logs()? {
            self.logged.union_with(&log.pages());
            self.log
                .merge_words(&log.slot, log.words)
                .map_err(|error| {
                    Failure::run(format!("KVM's log does not fit: {}", with_causes(&error)))
                })?;
        }
        Ok(())
    }

    /// Returns what was in KVM's logs, if KVM runs the guest.
    pub(crate) fn logged_by_kvm(&self) -> Option<&GuestDirtyPages> {
        self.slots.as_ref().map(|_| &self.logged)
    }
}

/// Returns the pages that are in either of two sets.
pub(crate) fn union(one: &GuestDirtyPages, other: &GuestDirtyPages) -> GuestDirtyPages {
    let mut both = one.clone();
    both.union_with(other);
    both
}

/// Returns the pages of a set that another one lacks.
pub(crate) fn difference(one: &GuestDirtyPages, other: &GuestDirtyPages) -> GuestDirtyPages {
    let mut rest = one.clone();
    rest.subtract(other);
    rest
}
