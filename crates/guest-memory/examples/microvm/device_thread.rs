// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A device that writes guest memory from a thread of its own, while the map changes under it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use guest_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryError};

use crate::guest_program::{
    ACKNOWLEDGEMENT, DEVICE_AREA, REQUEST, REQUEST_NUMBER, every_other_page,
};
use crate::layout::{MODULE_START, PAGE_BYTES, SharedMemory};

/// Where the device counts its rounds.
const ROUNDS: u64 = 0x6_0000;
/// Where in the memory module it writes.
const MODULE_PAGE: u64 = MODULE_START + 0x3000;
/// How long the device rests after a round.
const REST: Duration = Duration::from_micros(100);

/// How far the device is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Writes to RAM.
    pub(crate) ram_writes: AtomicU64,
    /// Writes to the memory module.
    pub(crate) module_writes: AtomicU64,
    /// Writes to the memory module that found no memory there.
    pub(crate) refused_writes: AtomicU64,
    /// Whether the guest has acknowledged the request.
    pub(crate) is_acknowledged: AtomicBool,
}

/// Posts a request to the guest, then writes to RAM and to the memory module until told to stop.
///
/// # Errors
/// Whatever the library says, except that the module is not there: that is counted.
pub(crate) fn run(
    memory: &SharedMemory,
    progress: &Progress,
    stop: &AtomicBool,
) -> Result<(), GuestMemoryError> {
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

    let mut round = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        // A snapshot per round: the map it shows stays as it is, the next round may see another one.
        let snapshot = memory.memory();
        snapshot.write_obj(round, GuestAddress(ROUNDS))?;
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
        round += 1;
        std::thread::sleep(REST);
    }
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
    every_other_page(DEVICE_AREA).chain([REQUEST, ROUNDS, MODULE_PAGE])
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
