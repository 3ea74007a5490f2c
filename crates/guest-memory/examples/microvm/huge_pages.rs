// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Enlarges the host's pool of huge pages for the time of a run, where that is allowed.

use std::fs;
use std::io;

use crate::console::say;

/// Size of a huge page in bytes.
const HUGE_PAGE_BYTES: u64 = 2 << 20;
/// Where the kernel shows and sets the pool.
const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

/// Pages added to the pool, taken out again on drop.
#[derive(Debug)]
pub(crate) struct PoolLoan {
    added_pages: u64,
}

impl PoolLoan {
    /// Makes sure that the pool has room for `bytes`, as far as this process may change it.
    ///
    /// Where it may not, or where more than half of the host's available memory would be gone, the pool
    /// stays as it is and mapping the memory tells what is missing.
    pub(crate) fn for_bytes(bytes: u64) -> Option<Self> {
        let needed_pages = bytes.div_ceil(HUGE_PAGE_BYTES);
        let free_pages = read("free_hugepages")
            .ok()?
            .saturating_sub(read("resv_hugepages").ok()?);
        let missing_pages = needed_pages
            .checked_sub(free_pages)
            .filter(|&missing| missing > 0)?;
        if missing_pages > available_bytes()? / HUGE_PAGE_BYTES / 2 {
            return None;
        }
        let before = read("nr_hugepages").ok()?;
        // The kernel adds as many as it can.
        write("nr_hugepages", before.checked_add(missing_pages)?).ok()?;
        let added_pages = read("nr_hugepages").ok()?.saturating_sub(before);
        say!(
            "huge pages: {needed_pages} of 2 MiB needed, {free_pages} free in the pool; \
             {added_pages} reserved for this run"
        );
        Some(PoolLoan { added_pages })
    }
}

impl Drop for PoolLoan {
    fn drop(&mut self) {
        let restored = read("nr_hugepages").and_then(|pages| {
            let pages = pages.saturating_sub(self.added_pages);
            write("nr_hugepages", pages)?;
            Ok(pages)
        });
        match restored {
            Ok(pages) => say!("huge pages: the pool is back at {pages}"),
            Err(error) => say!(
                "huge pages: the pool keeps {} pages more: {error}",
                self.added_pages
            ),
        }
    }
}

/// Returns how much memory the kernel thinks it can give away.
fn available_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim()
        .strip_suffix(" kB")?
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

fn read(name: &str) -> io::Result<u64> {
    fs::read_to_string(format!("{POOL}/{name}"))?
        .trim()
        .parse()
        .map_err(io::Error::other)
}

fn write(name: &str, pages: u64) -> io::Result<()> {
    fs::write(format!("{POOL}/{name}"), pages.to_string())
}
