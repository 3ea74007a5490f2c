// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Populates guest memory before the guest starts, and shows how far it is.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use guest_memory::GuestMemory;
use guest_memory::mmap::{NumaNode, Prefault, PrefaultProgress, prefault_all};

use crate::console::{ProgressBar, say};
use crate::failure::{Failure, with_causes};
use crate::layout::{Memory, rate, size_text};

/// Populates all regions by so many threads, on the processors of a node if one is given.
pub(crate) fn populate(
    memory: &Memory,
    threads: NonZeroUsize,
    node: Option<NumaNode>,
) -> Result<(), Failure> {
    let failed = |cause: String| Failure::setup(format!("cannot populate the memory: {cause}"));
    let total = u64::try_from(memory.total_size()).unwrap_or(u64::MAX);
    let bar = Mutex::new(ProgressBar::new("prefault", total));
    let progress = |progress: PrefaultProgress| {
        let mut bar = bar.lock().unwrap_or_else(PoisonError::into_inner);
        bar.show(progress.done as u64);
    };
    let mut prefault = Prefault::new()
        .with_threads(threads)
        .with_progress(&progress);
    if let Some(node) = node {
        prefault = prefault
            .on_node(node)
            .map_err(|error| failed(with_causes(&error)))?;
    }
    let start = Instant::now();
    let regions = memory.iter().map(|region| &**region);
    let report = prefault_all(regions, &prefault).map_err(|error| failed(with_causes(&error)))?;
    let time = start.elapsed();
    let populated = report.populated as u64;
    say!(
        "prefault: {} by {threads} threads in {:.3} ms, {:.0} MiB/s",
        size_text(populated),
        1e3 * time.as_secs_f64(),
        rate(populated, time)
    );
    Ok(())
}
