// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where the built-in guest lives: a memory, and a processor that runs it there beside a device thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use guest_memory::HotplugMemory;
use kvm_ioctls::Kvm;

use crate::builtin::{Board, Company};
use crate::description::Which;
use crate::device_thread;
use crate::failure::{Failure, with_causes};
use crate::host_guest::HostGuest;
use crate::hotplug::{ModuleBay, SlotListener};
use crate::kick::{Stop, with_time_limit};
use crate::layout::{Layout, Region, SharedMemory};
use crate::options::Options;
use crate::vm::{End, Machine, Slots};
use crate::work::WorkArea;

/// A machine for the built-in guest.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) layout: Layout,
    pub(crate) memory: SharedMemory,
    /// The same memory, for changes that the processor takes part in.
    hotplug: HotplugMemory<Region>,
    pub(crate) processor: Processor,
}

/// What runs the guest.
#[derive(Debug)]
pub(crate) enum Processor {
    /// A vCPU.
    Kvm(Machine),
    /// A thread of the host that plays it.
    Host(HostGuest),
}

impl Home {
    /// Maps a memory and makes a machine on it, by KVM if it is given.
    pub(crate) fn new(
        options: &Options,
        kvm: Option<&Kvm>,
        image: &[u8],
        area: Option<WorkArea>,
        which: Which,
    ) -> Result<Self, Failure> {
        let layout = Layout::new(options, image, which)?;
        let memory = SharedMemory::new(layout.memory().clone());
        let processor = match kvm {
            Some(kvm) => Processor::Kvm(Machine::new(kvm, &layout, false)?),
            None => Processor::Host(HostGuest::new(area)),
        };
        let hotplug = HotplugMemory::new(memory.clone());
        if let Processor::Kvm(machine) = &processor {
            hotplug
                .add_listener(SlotListener(Arc::clone(machine.slots())))
                .map_err(|error| Failure::setup(with_causes(&error)))?;
        }
        Ok(Home {
            layout,
            memory,
            hotplug,
            processor,
        })
    }

    /// Returns KVM's memory slots, if KVM runs the guest.
    pub(crate) fn slots(&self) -> Option<Arc<Slots>> {
        match &self.processor {
            Processor::Kvm(machine) => Some(Arc::clone(machine.slots())),
            Processor::Host(_) => None,
        }
    }

    /// Runs the guest on one thread, the device on another and `control` on this one, until the guest has ended.
    ///
    /// All three are over when this returns. A `control` that fails ends the guest.
    pub(crate) fn run<T>(
        &mut self,
        company: &mut Company,
        limit: Duration,
        control: impl FnOnce(&Stop) -> Result<T, Failure>,
    ) -> Result<(End, T), Failure> {
        let stop = Stop::default();
        let stop_device = AtomicBool::new(false);
        let (memory, hotplug) = (&self.memory, &self.hotplug);
        let processor = &mut self.processor;
        let Company {
            progress,
            console,
            sightings,
        } = company;
        let progress = &*progress;
        std::thread::scope(|scope| {
            let device = std::thread::Builder::new()
                .name("device".to_owned())
                .spawn_scoped(scope, || device_thread::run(memory, progress, &stop_device))
                .map_err(|error| {
                    Failure::run(format!("cannot start the device thread: {error}"))
                })?;
            // Also when the guest's thread cannot be started.
            let end_of_device = SetOnDrop(&stop_device);
            let guest = std::thread::Builder::new()
                .name("guest".to_owned())
                .spawn_scoped(scope, || {
                    with_time_limit(limit, &stop, |is_stopped| {
                        let bay = ModuleBay::new(hotplug, progress, is_stopped);
                        let mut board = Board::new(bay, progress, console, sightings);
                        match processor {
                            Processor::Kvm(machine) => machine.run(&mut board, is_stopped),
                            Processor::Host(guest) => guest.run(memory, &mut board, is_stopped),
                        }
                    })
                })
                .map_err(|error| {
                    Failure::run(format!("cannot start the guest's thread: {error}"))
                })?;
            let outcome = control(&stop);
            if outcome.is_err() {
                stop.ask();
            }
            let end = guest.join();
            drop(end_of_device);
            // A device that failed is why a guest waited in vain.
            device
                .join()
                .map_err(|_| Failure::run("the device thread panicked"))?
                .map_err(|error| {
                    Failure::run(format!("the device failed: {}", with_causes(&error)))
                })?;
            let end = end
                .map_err(|_| Failure::run("the guest's thread panicked"))?
                .map_err(|error| Failure::run(format!("cannot set a time limit: {error}")))??;
            Ok((end, outcome?))
        })
    }
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
