// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Enlarges the host's pools of huge pages for the time of a run, where that is allowed.

use std::fs;
use std::io;

use guest_memory::HugePageSize;
use guest_memory::mmap::GuestMemoryPlan;

use crate::console::say;

/// Pages added to a pool, taken out again on drop.
#[derive(Debug)]
pub(crate) struct PoolLoan {
    page_size: HugePageSize,
    added_pages: u64,
}

impl PoolLoan {
    /// Makes sure that the pools have room for what each of the machines needs, as far as this process may change them.
    ///
    /// Where it may not, or where more than half of the host's available memory would be gone, a pool
    /// stays as it is and mapping the memory tells what is missing.
    pub(crate) fn for_machines(machine_count: usize, plan: &GuestMemoryPlan) -> Vec<Self> {
        let sizes = [HugePageSize::TwoMiB, HugePageSize::OneGiB];
        let loan = |page_size: HugePageSize| {
            let needed_pages = plan.huge_pages(page_size.size_bytes()) * machine_count;
            Self::of_pages(page_size, needed_pages as u64)
        };
        sizes.into_iter().filter_map(loan).collect()
    }

    fn of_pages(page_size: HugePageSize, needed_pages: u64) -> Option<Self> {
        if needed_pages == 0 {
            return None;
        }
        let free_pages = read(page_size, "free_hugepages")
            .ok()?
            .saturating_sub(read(page_size, "resv_hugepages").ok()?);
        let missing_pages = needed_pages
            .checked_sub(free_pages)
            .filter(|&missing| missing > 0)?;
        if missing_pages > available_bytes()? / page_size.size_bytes() as u64 / 2 {
            return None;
        }
        let before = read(page_size, "nr_hugepages").ok()?;
        // The kernel adds as many as it can.
        let enough = before.checked_add(missing_pages)?;
        write(page_size, "nr_hugepages", enough).ok()?;
        let now = read(page_size, "nr_hugepages").ok()?;
        let added_pages = now.saturating_sub(before);
        say!(
            "huge pages: {needed_pages} of {page_size} needed, {free_pages} free in the pool; \
             {added_pages} reserved for this run"
        );
        Some(PoolLoan {
            page_size,
            added_pages,
        })
    }
}

impl Drop for PoolLoan {
    fn drop(&mut self) {
        let page_size = self.page_size;
        let restored = read(page_size, "nr_hugepages").and_then(|pages| {
            let pages = pages.saturating_sub(self.added_pages);
            write(page_size, "nr_hugepages", pages)?;
            Ok(pages)
        });
        match restored {
            Ok(pages) => say!("huge pages: the pool of {page_size} is back at {pages}"),
            Err(error) => say!(
                "huge pages: the pool of {page_size} keeps {} pages more: {error}",
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

/// Returns where the kernel shows and sets a number of a pool.
fn pool_file(page_size: HugePageSize, name: &str) -> String {
    let kib = page_size.size_bytes() >> 10;
    format!("/sys/kernel/mm/hugepages/hugepages-{kib}kB/{name}")
}

fn read(page_size: HugePageSize, name: &str) -> io::Result<u64> {
    fs::read_to_string(pool_file(page_size, name))?
        .trim()
        .parse()
        .map_err(io::Error::other)
}

fn write(page_size: HugePageSize, name: &str, pages: u64) -> io::Result<()> {
    fs::write(pool_file(page_size, name), pages.to_string())
}
