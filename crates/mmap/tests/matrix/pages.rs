// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Bytes and pages of memory, looked at without the library.
#![expect(unsafe_code, reason = "accesses memory by its address, and asks of it")]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Size of the pages that the page table is asked about, in bytes.
pub(crate) const PAGE: usize = 4096;

/// Pages with memory behind them here, or swapped out.
const PRESENT_OR_SWAPPED: u64 = 0b11 << 62;
/// Pages of a file or of shared memory.
const FILE_OR_SHARED: u64 = 1 << 61;

/// Reads a value of the memory at an address.
///
/// # Safety
///
/// Eight bytes there must be mapped and readable.
pub(crate) unsafe fn read(address: *const u8) -> u64 {
    // SAFETY: as the caller vouches; the place need not be aligned.
    u64::from_ne_bytes(unsafe { address.cast::<[u8; 8]>().read_volatile() })
}

/// Writes a value to the memory at an address.
///
/// # Safety
///
/// Eight bytes there must be mapped and writable, and nobody may hold a reference to them.
pub(crate) unsafe fn write(address: *mut u8, value: u64) {
    // SAFETY: as the caller vouches; the place need not be aligned.
    unsafe {
        address
            .cast::<[u8; 8]>()
            .write_volatile(value.to_ne_bytes())
    };
}

/// What the page table of this process says of a range.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct PageTable {
    /// Bytes with memory behind them.
    pub(crate) used: usize,
    /// Bytes of those that are private copies or memory without a file.
    pub(crate) own: usize,
}

/// Asks the page table about `[address, address + len_bytes)`, whole pages.
pub(crate) fn page_table(address: *const u8, len_bytes: usize) -> PageTable {
    let mut entries = vec![0; len_bytes / PAGE * 8];
    let place = address.addr() / PAGE * 8;
    let pagemap = File::open("/proc/self/pagemap").expect("the page table");
    pagemap
        .read_exact_at(&mut entries, place as u64)
        .expect("entries of the page table");
    let entries = entries.as_chunks::<8>().0.iter();
    let used: Vec<u64> = entries
        .map(|entry| u64::from_ne_bytes(*entry))
        .filter(|entry| entry & PRESENT_OR_SWAPPED != 0)
        .collect();
    let own = used.iter().filter(|entry| *entry & FILE_OR_SHARED == 0);
    PageTable {
        used: used.len() * PAGE,
        own: own.count() * PAGE,
    }
}

/// Counts the bytes of `[address, address + len_bytes)`, whole pages, that are in memory, mapped or in a file's cache.
pub(crate) fn in_memory(address: *mut u8, len_bytes: usize) -> usize {
    let mut pages = vec![0u8; len_bytes / PAGE];
    // SAFETY: the kernel writes a byte for each page of the range, and there is room for them.
    let status = unsafe { libc::mincore(address.cast(), len_bytes, pages.as_mut_ptr()) };
    assert_eq!(status, 0, "mincore: {}", io::Error::last_os_error());
    pages.iter().filter(|page| *page & 1 != 0).count() * PAGE
}
