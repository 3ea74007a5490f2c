// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A device in another mapping, as a vhost-user backend is: it gets a file descriptor, maps the guest's memory by it, and
//! works on a ring of descriptors while the driver fills it.
//!
//! `cargo run --example vhost_style_device`

use std::error::Error;
use std::sync::atomic::Ordering;
use std::thread;

use guest_memory::mmap::Seals;
use guest_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemory, GuestMemoryMmap, GuestMemoryRegion,
    GuestRegionMmap, MmapRegion, MmapRegionBuilder, VolatileMemory,
};

const LEN: usize = 1 << 20;
/// The ring: an index that the driver advances, one that the device advances, and the entries.
const AVAILABLE: GuestAddress = GuestAddress(0x1000);
const USED: GuestAddress = GuestAddress(AVAILABLE.0 + USED_AT as u64);
const ENTRIES: GuestAddress = GuestAddress(AVAILABLE.0 + ENTRIES_AT as u64);
/// Where they are in the ring.
const USED_AT: usize = 0x40;
const ENTRIES_AT: usize = 0x100;
const ENTRY_COUNT: u64 = 16;
const REQUESTS: u64 = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    // The monitor's side.
    let ram = MmapRegionBuilder::new(LEN)
        .with_memfd("guest-ram")
        .build()?;
    let file = ram.file_offset().ok_or("no file")?.clone();
    let guest = memory_of(ram, "the monitor")?;

    // The device's side. It takes nothing on trust: a file that its peer could shrink would be a SIGBUS later.
    let file = FileOffset::new(file.file().try_clone()?, file.start());
    let mapping = MmapRegionBuilder::new(LEN)
        .with_file_offset(file)
        .with_required_seals(Seals {
            shrink: true,
            ..Seals::NONE
        })
        .build()?;
    let device = memory_of(mapping, "the device")?;

    let sum = thread::scope(|scope| -> Result<u64, Box<dyn Error>> {
        let device = scope.spawn(move || serve(&device).map_err(|error| error.to_string()));
        for request in 0..REQUESTS {
            submit(&guest, request)?;
        }
        Ok(device.join().map_err(|_| "the device panicked")??)
    })?;
    // Each request was a buffer of its own number; the device added them up.
    assert_eq!(sum, (0..REQUESTS).sum::<u64>());
    println!("the device served {REQUESTS} requests, their sum is {sum}");
    Ok(())
}

fn memory_of(mapping: MmapRegion, who: &str) -> Result<GuestMemoryMmap, Box<dyn Error>> {
    let region = GuestRegionMmap::new(mapping, GuestAddress(0)).ok_or("past the last address")?;
    println!("{who} has {} bytes at {:p}", region.len(), region.as_ptr());
    Ok(GuestMemoryMmap::from_regions(vec![region])?)
}

/// The driver: waits for room, writes a buffer and its address, and then advances the index.
fn submit(guest: &GuestMemoryMmap, request: u64) -> Result<(), Box<dyn Error>> {
    while request - guest.load::<u64>(USED, Ordering::Acquire)? >= ENTRY_COUNT {
        thread::yield_now();
    }
    let slot = request % ENTRY_COUNT;
    let buffer = GuestAddress(0x8000 + slot * 64);
    guest.write_obj(request, buffer)?;
    guest.write_obj(buffer.0, GuestAddress(ENTRIES.0 + slot * 8))?;
    guest.store(request + 1, AVAILABLE, Ordering::Release)?;
    Ok(())
}

/// The device: the ring is looked up once, the buffers where the guest says. What it says is checked by each access.
fn serve(memory: &GuestMemoryMmap) -> Result<u64, Box<dyn Error>> {
    let ring = memory.get_slice(AVAILABLE, 0x200)?;
    let entries = ring.get_array_ref::<u64>(ENTRIES_AT, usize::try_from(ENTRY_COUNT)?)?;
    let (mut used, mut sum) = (0u64, 0u64);
    while used < REQUESTS {
        let available = ring.load::<u64>(0, Ordering::Acquire)?;
        while used < available {
            let buffer = GuestAddress(entries.load(usize::try_from(used % ENTRY_COUNT)?));
            sum += memory.read_obj::<u64>(buffer)?;
            used += 1;
        }
        ring.store(used, USED_AT, Ordering::Release)?;
        thread::yield_now();
    }
    Ok(sum)
}
