// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The host's pool of 2 MiB pages.

use std::fs;

const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

/// Pages added to the pool for as long as this lives.
pub(crate) struct Reserved {
    before: usize,
}

impl Reserved {
    /// Makes `count` pages free; the error says why that is impossible.
    pub(crate) fn new(count: usize) -> Result<Self, String> {
        let before = read("nr_hugepages")?;
        let reserved = Self { before };
        fs::write(format!("{POOL}/nr_hugepages"), (before + count).to_string())
            .map_err(|error| format!("cannot reserve huge pages: {error}"))?;
        let free = read("free_hugepages")?;
        if free < count {
            return Err(format!("only {free} of {count} huge pages can be had"));
        }
        Ok(reserved)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        drop(fs::write(
            format!("{POOL}/nr_hugepages"),
            self.before.to_string(),
        ));
    }
}

fn read(name: &str) -> Result<usize, String> {
    let text = fs::read_to_string(format!("{POOL}/{name}")).map_err(|error| error.to_string())?;
    text.trim()
        .parse()
        .map_err(|_| format!("{POOL}/{name} is no number"))
}
