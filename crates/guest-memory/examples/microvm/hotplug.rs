// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Takes the memory module out of the running machine and puts it in again: for devices and for KVM, or for neither.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use guest_memory::atomic::{ChangeKind, HotplugChange};
use guest_memory::{
    GuestAddress, GuestAddressSpace, GuestMemory, GuestUsize, HotplugListener, HotplugMemory,
};

use crate::console::say;
use crate::device_thread::Progress;
use crate::failure::{Failure, with_causes};
use crate::layout::{MODULE_BYTES, MODULE_START, Region};
use crate::vm::Slots;

/// KVM's memory slots, which take part in each change of the map.
#[derive(Debug)]
pub(crate) struct SlotListener(pub(crate) Arc<Slots>);

impl HotplugListener<Region> for SlotListener {
    /// Does what KVM may refuse: a slot more, or one less. The guest, which is at the port of the bay, notices nothing of
    /// it before the change is done.
    fn prepare(
        &mut self,
        change: &HotplugChange<'_, Region>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let done = match change.kind() {
            // The machine was made with it.
            ChangeKind::Plug if self.0.number(change.region()).is_some() => Ok(()),
            ChangeKind::Plug => self.0.insert(Arc::clone(change.region())).map(drop),
            ChangeKind::Unplug => self.0.remove(change.start_addr()).map(drop),
        };
        done.map_err(|failure| failure.message.into())
    }

    fn commit(&mut self, _change: &HotplugChange<'_, Region>) {}

    fn rollback(&mut self, change: &HotplugChange<'_, Region>) {
        let undone = match change.kind() {
            ChangeKind::Plug => self.0.remove(change.start_addr()).map(drop),
            ChangeKind::Unplug => self.0.insert(Arc::clone(change.region())).map(drop),
        };
        if let Err(failure) = undone {
            say!(
                "  the guest's memory differs from the devices': {}",
                failure.message
            );
        }
    }

    fn name(&self) -> String {
        "KVM".to_owned()
    }
}

/// The place for the memory module, seen from the monitor.
#[derive(Debug)]
pub(crate) struct ModuleBay<'a> {
    hotplug: &'a HotplugMemory<Region>,
    progress: &'a Progress,
    is_stopped: &'a AtomicBool,
    /// The module while it is out: with it, what it holds and its dirty bitmap.
    unplugged: Option<Arc<Region>>,
}

impl<'a> ModuleBay<'a> {
    /// Makes a bay with the module plugged.
    pub(crate) fn new(
        hotplug: &'a HotplugMemory<Region>,
        progress: &'a Progress,
        is_stopped: &'a AtomicBool,
    ) -> Self {
        ModuleBay {
            hotplug,
            progress,
            is_stopped,
            unplugged: None,
        }
    }

    /// Takes the module from guest and devices; waits until the device has noticed.
    pub(crate) fn unplug(&mut self) -> Result<(), Failure> {
        self.wait_for_more(&self.progress.module_writes)?;
        let region = self
            .hotplug
            .unplug(GuestAddress(MODULE_START), MODULE_BYTES as GuestUsize)
            .map_err(|error| Failure::run(with_causes(&error)))?;
        self.unplugged = Some(region);
        self.wait_for_more(&self.progress.refused_writes)?;
        let region_count = self.region_count();
        say!(
            "  module unplugged, {region_count} regions left: the device's writes to it are refused"
        );
        Ok(())
    }

    /// Gives the module to guest and devices; waits until the device has used it.
    pub(crate) fn plug(&mut self) -> Result<(), Failure> {
        let region = self
            .unplugged
            .take()
            .ok_or_else(|| Failure::run("the module is plugged already"))?;
        self.hotplug
            .plug(region)
            .map_err(|error| Failure::run(with_causes(&error)))?;
        self.wait_for_more(&self.progress.module_writes)?;
        let region_count = self.region_count();
        say!("  module plugged again, {region_count} regions: the device's writes reach it");
        Ok(())
    }

    fn region_count(&self) -> usize {
        self.hotplug.memory().memory().num_regions()
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
