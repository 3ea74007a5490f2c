// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory is plugged and unplugged while a device works; a listener keeps a hypervisor's slots.
//!
//! `cargo run --example hotplug`

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use guest_memory::atomic::{HotplugChange, HotplugListener};
use guest_memory::{
    Bytes, GuestAddress, GuestMemoryAtomic, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
    HotplugMemory, MmapRegionBuilder,
};

const MODULE: GuestAddress = GuestAddress(1 << 30);
const MODULE_LEN: usize = 2 << 20;

type Change<'a> = HotplugChange<'a, GuestRegionMmap>;

/// Where a monitor would call its hypervisor. A change can be refused, and is taken back if a later listener refuses.
struct Slots;

impl HotplugListener<GuestRegionMmap> for Slots {
    fn prepare(&mut self, change: &Change<'_>) -> Result<(), Box<dyn Error + Send + Sync>> {
        if change.is_plug() {
            // Before the devices find it: the guest must be able to see what a device writes.
            println!(
                "hypervisor: a slot of {} bytes at {:#x}",
                change.len(),
                change.start_addr().0
            );
        }
        Ok(())
    }

    fn commit(&mut self, change: &Change<'_>) {
        if change.is_unplug() {
            println!(
                "hypervisor: no slot at {:#x} any more",
                change.start_addr().0
            );
        }
    }

    fn rollback(&mut self, change: &Change<'_>) {
        println!("hypervisor: {:#x} stays as it was", change.start_addr().0);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let ram = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 16 << 20)])?;
    let memory = GuestMemoryAtomic::new(ram);
    let hotplug = HotplugMemory::new(memory.clone());
    hotplug.add_listener(Slots)?;

    let (stop, accesses, misses) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        // A device thread has a reader of its own: an access costs no more than one to a memory that never changes.
        scope.spawn(|| {
            let mut reader = memory.reader();
            while !stop.load(Ordering::Relaxed) {
                // Some of these addresses are there at some times only.
                match reader.memory().write_obj(7u32, MODULE) {
                    Ok(()) => accesses.fetch_add(1, Ordering::Relaxed),
                    Err(_) => misses.fetch_add(1, Ordering::Relaxed),
                };
            }
        });
        let result = change(&hotplug);
        stop.store(true, Ordering::Relaxed);
        result
    })?;
    println!(
        "the device: {} writes to the module, {} while it was not there",
        accesses.into_inner(),
        misses.into_inner()
    );
    Ok(())
}

fn change(hotplug: &HotplugMemory<GuestRegionMmap>) -> Result<(), Box<dyn Error>> {
    for _ in 0..3 {
        let module = MmapRegionBuilder::new(MODULE_LEN)
            .with_memfd("module")
            .build()?;
        let module = GuestRegionMmap::new(module, MODULE).ok_or("past the last address")?;
        hotplug.plug(Arc::new(module))?;
        thread::sleep(Duration::from_millis(2));

        // Out of the map at once; the memory itself can go when nobody uses it any more.
        let module = hotplug.unplug(MODULE, MODULE_LEN as u64)?;
        let module = hotplug.reclaim(module, Duration::from_secs(1))?;
        println!(
            "monitor: {} bytes are unplugged, and nobody uses them",
            module.len()
        );
        // Dropped here: unmapped.
    }
    Ok(())
}
