// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A live migration in small: a device writes while rounds of dirty pages are copied to a second memory.
//!
//! `cargo run --example dirty_tracking`

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use guest_memory::bitmap::{AtomicBitmap, GuestDirtyPages, MemoryLog, Readers};
use guest_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap};

type Memory = GuestMemoryMmap<AtomicBitmap>;

const LEN: usize = 16 << 20;
/// Rounds end when so few pages are left that the guest may stand still for them.
const FEW_PAGES: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let ranges = [(GuestAddress(0), LEN), (GuestAddress(4 << 30), LEN)];
    let source = Memory::from_ranges(&ranges)?;
    let target = Memory::from_ranges(&ranges)?;

    // Two readers of one log: the migration, and a display that wants to know what changed on screen. Each sees all.
    let readers = Readers::new(MemoryLog::new(&source));
    let (mut migration, mut display) = (readers.join(), readers.join());

    let stop = AtomicBool::new(false);
    let rounds = thread::scope(|scope| -> Result<usize, Box<dyn Error>> {
        let device = scope.spawn(|| write_around(&source, &stop));
        // Everything once, then what was written meanwhile.
        for &(start, len) in &ranges {
            copy(&source, &target, start, len)?;
        }
        let mut rounds = 0;
        loop {
            let dirty = migration.harvest();
            copy_pages(&source, &target, &dirty)?;
            rounds += 1;
            println!("round {rounds}: {} dirty pages copied", dirty.count());
            if dirty.count() <= FEW_PAGES || rounds == 30 {
                break;
            }
        }
        // The guest stands still; what is left is copied.
        stop.store(true, Ordering::Relaxed);
        let writes = device.join().map_err(|_| "the device panicked")?;
        let last = migration.harvest();
        copy_pages(&source, &target, &last)?;
        println!("standing still: {} dirty pages copied", last.count());
        println!("the device wrote {writes} times meanwhile");
        Ok(rounds)
    })?;
    assert!(rounds > 0);
    for &(start, len) in &ranges {
        assert!(equal(&source, &target, start, len)?, "a write was lost");
    }
    println!("both memories are equal");

    let drawn = display.harvest();
    println!("the display has {} pages to draw:", drawn.count());
    for (start, len) in drawn.ranges().take(4) {
        println!("  {len} bytes at {:#x}", start.0);
    }
    Ok(())
}

/// Writes to a few hundred pages until told to stop; returns how often.
fn write_around(memory: &Memory, stop: &AtomicBool) -> u64 {
    let mut count = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let page = count / 2 * 7 % 200;
        let base = if count.is_multiple_of(2) { 0 } else { 4 << 30 };
        // The addresses are in memory, so that this cannot fail.
        if memory
            .write_obj(count, GuestAddress(base + page * 4096))
            .is_err()
        {
            break;
        }
        count += 1;
        // Slower than the copy, or the rounds would never come to an end by themselves.
        if count.is_multiple_of(8) {
            thread::sleep(Duration::from_micros(200));
        }
    }
    count
}

fn copy_pages(from: &Memory, to: &Memory, pages: &GuestDirtyPages) -> Result<(), Box<dyn Error>> {
    for (start, len) in pages.ranges() {
        copy(from, to, start, usize::try_from(len)?)?;
    }
    Ok(())
}

/// Copies without a buffer: from window to window. The range must be in one region, as all are here: no two are neighbours.
fn copy(from: &Memory, to: &Memory, start: GuestAddress, len: usize) -> Result<(), Box<dyn Error>> {
    from.get_slice(start, len)?
        .copy_to_volatile_slice(to.get_slice(start, len)?);
    Ok(())
}

fn equal(
    one: &Memory,
    other: &Memory,
    start: GuestAddress,
    len: usize,
) -> Result<bool, Box<dyn Error>> {
    let (mut left, mut right) = (vec![0; len], vec![0; len]);
    one.read_slice(&mut left, start)?;
    other.read_slice(&mut right, start)?;
    Ok(left == right)
}
