// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Takes the memory module out of the running machine and puts it in again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use guest_memory::{GuestAddress, GuestAddressSpace, GuestMemory, GuestUsize};

use crate::console::say;
use crate::device_thread::Progress;
use crate::failure::{Failure, with_causes};
use crate::layout::{MODULE_BYTES, MODULE_START, Region, SharedMemory};
use crate::vm::Slots;

/// The place for the memory module, seen from the monitor.
#[derive(Debug)]
pub(crate) struct ModuleBay<'a> {
    memory: &'a SharedMemory,
    progress: &'a Progress,
    is_stopped: &'a AtomicBool,
    /// The module while it is out: with it, what it holds and its dirty bitmap.
    unplugged: Option<Arc<Region>>,
}

impl<'a> ModuleBay<'a> {
    /// Makes a bay with the module plugged.
    pub(crate) fn new(
        memory: &'a SharedMemory,
        progress: &'a Progress,
        is_stopped: &'a AtomicBool,
    ) -> Self {
        ModuleBay {
            memory,
            progress,
            is_stopped,
            unplugged: None,
        }
    }

    /// Takes the module from the devices, then from the guest; waits until the device has noticed.
    pub(crate) fn unplug(&mut self, slots: Option<&Slots>) -> Result<(), Failure> {
        self.wait_for_more(&self.progress.module_writes)?;
        let lock = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let (rest, region) = self
            .memory
            .memory()
            .remove_region(GuestAddress(MODULE_START), MODULE_BYTES as GuestUsize)
            .map_err(|error| {
                Failure::run(format!("cannot unplug the module: {}", with_causes(&error)))
            })?;
        let region_count = rest.num_regions();
        lock.replace(rest);
        if let Some(slots) = slots {
            slots.remove(GuestAddress(MODULE_START))?;
        }
        self.unplugged = Some(region);
        self.wait_for_more(&self.progress.refused_writes)?;
        say!(
            "  module unplugged, {region_count} regions left: the device's writes to it are refused"
        );
        Ok(())
    }

    /// Gives the module to the guest, then to the devices; waits until the device has used it.
    pub(crate) fn plug(&mut self, slots: Option<&Slots>) -> Result<(), Failure> {
        let region = self
            .unplugged
            .take()
            .ok_or_else(|| Failure::run("the module is plugged already"))?;
        if let Some(slots) = slots {
            slots.insert(Arc::clone(&region))?;
        }
        let lock = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = self
            .memory
            .memory()
            .insert_region(region)
            .map_err(|error| {
                Failure::run(format!("cannot plug the module: {}", with_causes(&error)))
            })?;
        let region_count = whole.num_regions();
        lock.replace(whole);
        self.wait_for_more(&self.progress.module_writes)?;
        say!("  module plugged again, {region_count} regions: the device's writes reach it");
        Ok(())
    }

    /// Waits until the device thread has counted on.
    fn wait_for_more(&self, counter: &AtomicU64) -> Result<(), Failure> {
        let before = counter.load(Ordering::Relaxed);
        while counter.load(Ordering::Relaxed) == before {
            if self.is_stopped.load(Ordering::Relaxed) {
                return Err(Failure::run(
                    "the device did not react to a change of the memory map in time",
                ));
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        Ok(())
    }
}
