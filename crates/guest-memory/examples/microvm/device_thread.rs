// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A device that writes guest memory from a thread of its own, while the map changes under it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use guest_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryError};

use crate::guest_program::{
    ACKNOWLEDGEMENT, DEVICE_AREA, REQUEST, REQUEST_NUMBER, every_other_page,
};
use crate::layout::{MODULE_START, PAGE_BYTES, SharedMemory};
use crate::work::TICKS;

/// Where in the memory module it writes.
pub(crate) const MODULE_PAGE: u64 = MODULE_START + 0x3000;
/// How long the device rests after a round.
const REST: Duration = Duration::from_micros(100);

/// How far the device is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Whether the request has been posted.
    is_posted: AtomicBool,
    /// Rounds since then.
    rounds: AtomicU64,
    /// Writes to RAM.
    pub(crate) ram_writes: AtomicU64,
    /// Writes to the memory module.
    pub(crate) module_writes: AtomicU64,
    /// Writes to the memory module that found no memory there.
    pub(crate) refused_writes: AtomicU64,
    /// Whether the guest has begun to work.
    pub(crate) is_working: AtomicBool,
    /// Whether the guest has acknowledged the request.
    pub(crate) is_acknowledged: AtomicBool,
}

/// Posts a request to the guest, then writes to RAM and to the memory module until told to stop.
///
/// A device that was stopped goes on where it was if it gets the same `progress`, on other memory as well.
///
/// # Errors
/// Whatever the library says, except that the module is not there: that is counted.
pub(crate) fn run(
    memory: &SharedMemory,
    progress: &Progress,
    stop: &AtomicBool,
) -> Result<(), GuestMemoryError> {
    if !progress.is_posted.swap(true, Ordering::Relaxed) {
        post_request(memory, progress)?;
    }
    let mut reader = memory.reader();
    while !stop.load(Ordering::Relaxed) {
        // The map of this round stays as it is, the next round may see another one.
        let snapshot = reader.memory();
        let round = progress.rounds.fetch_add(1, Ordering::Relaxed);
        snapshot.write_obj(round, GuestAddress(TICKS))?;
        progress.ram_writes.fetch_add(1, Ordering::Relaxed);
        match snapshot.write_obj(round, GuestAddress(MODULE_PAGE)) {
            Ok(()) => progress.module_writes.fetch_add(1, Ordering::Relaxed),
            Err(GuestMemoryError::InvalidGuestAddress(_)) => {
                progress.refused_writes.fetch_add(1, Ordering::Relaxed)
            }
            Err(error) => return Err(error),
        };
        // Acquire: partner of the guest's store, which comes after everything it did for the request.
        if snapshot.load::<u32>(GuestAddress(ACKNOWLEDGEMENT), Ordering::Acquire)? == REQUEST_NUMBER
        {
            progress.is_acknowledged.store(true, Ordering::Relaxed);
        }
        // Memory that is unplugged meanwhile need not wait for this thread.
        reader.release();
        std::thread::sleep(REST);
    }
    Ok(())
}

fn post_request(memory: &SharedMemory, progress: &Progress) -> Result<(), GuestMemoryError> {
    for (index, page) in every_other_page(DEVICE_AREA).enumerate() {
        memory
            .memory()
            .write_slice(&page_content(index), GuestAddress(page))?;
        progress.ram_writes.fetch_add(1, Ordering::Relaxed);
    }
    // Release: a guest that sees the request sees the pages as well.
    memory
        .memory()
        .store(REQUEST_NUMBER, GuestAddress(REQUEST), Ordering::Release)?;
    progress.ram_writes.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Returns the sum of all words that the device puts into [`DEVICE_AREA`].
pub(crate) fn words_sum() -> u32 {
    (0..every_other_page(DEVICE_AREA).count())
        .flat_map(page_content)
        .collect::<Vec<u8>>()
        .as_chunks::<4>()
        .0
        .iter()
        .fold(0, |sum: u32, word| {
            sum.wrapping_add(u32::from_le_bytes(*word))
        })
}

/// Returns one address in each page that the device writes.
pub(crate) fn written_pages() -> impl Iterator<Item = u64> {
    every_other_page(DEVICE_AREA).chain([REQUEST, TICKS, MODULE_PAGE])
}

/// Returns what the device puts into a page of [`DEVICE_AREA`].
fn page_content(index: usize) -> Vec<u8> {
    let first = 0x9e37_79b9_u32.wrapping_mul(1 + u32::try_from(index).unwrap_or(u32::MAX));
    let words = (0..PAGE_BYTES / 4).scan(first, |word, _| {
        *word = word.rotate_left(5) ^ 0x5bd1_e995;
        Some(*word)
    });
    words.flat_map(u32::to_le_bytes).collect()
}
