// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Copies the memory of a running guest in rounds, each time what was written since the round before.

use std::time::{Duration, Instant};

use guest_memory::bitmap::{GuestDirtyPages, MemoryLog, Reader};
use guest_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryRegion};

use crate::console::{ProgressBar, say};
use crate::dirty::Logs;
use crate::failure::{Failure, with_causes};
use crate::heatmap::Heatmap;
use crate::kick::Stop;
use crate::layout::{
    Layout, Memory, PAGE_BYTES, PAGE_LEN, SharedMemory, is_read_only, rate, size_text,
};

/// So few pages are left for the time when the guest stands still.
const FEW_PAGES: u64 = 24;
/// Rounds after which the guest is stopped whatever is left.
const MOST_ROUNDS: usize = 12;
/// Bytes copied at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// How late the sender may be and still make up for it.
const LONGEST_QUEUE: Duration = Duration::from_millis(20);
/// Shorter waits are put off, because a sleep takes longer than asked for.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);

/// One reader of the log of a memory.
pub(crate) type LogReader<'a> = Reader<&'a MemoryLog<SharedMemory>>;

/// What the rounds have in common.
#[derive(Debug)]
pub(crate) struct Precopy<'a> {
    pub(crate) logs: Logs<'a>,
    /// What is to be copied.
    pub(crate) reader: LogReader<'a>,
    /// A second look at the same log.
    pub(crate) watcher: Option<Watcher<'a>>,
    pub(crate) copied_pages: GuestDirtyPages,
    pub(crate) round_count: usize,
    pages: GuestDirtyPages,
    last_page_count: u64,
    copier: Copier<'a>,
}

/// Somebody who looks at what was written as well, and takes nothing from the migration.
#[derive(Debug)]
pub(crate) struct Watcher<'a> {
    reader: LogReader<'a>,
    pub(crate) heatmap: Heatmap,
    pub(crate) seen: GuestDirtyPages,
}

/// Copies from one memory to another.
#[derive(Debug)]
pub(crate) struct Copier<'a> {
    source: &'a SharedMemory,
    target: &'a SharedMemory,
    buffer: Vec<u8>,
    /// Bytes per second, if limited.
    bandwidth: Option<u64>,
    /// When what has been copied so far would have arrived.
    due: Instant,
}

impl<'a> Watcher<'a> {
    /// Makes a heat map from a reader.
    pub(crate) fn new(reader: LogReader<'a>, layout: &Layout) -> Self {
        Watcher {
            reader,
            heatmap: Heatmap::of(layout),
            seen: layout.no_pages(),
        }
    }

    /// Looks at what was written since the last look.
    pub(crate) fn look(&mut self) {
        let pages = self.reader.harvest();
        self.heatmap.add(&pages);
        self.seen.union_with(&pages);
    }
}

impl<'a> Precopy<'a> {
    /// Makes ready to copy; the reader has joined already, and KVM logs.
    pub(crate) fn new(
        logs: Logs<'a>,
        reader: LogReader<'a>,
        watcher: Option<Watcher<'a>>,
        copier: Copier<'a>,
        layout: &Layout,
    ) -> Self {
        Precopy {
            logs,
            reader,
            watcher,
            copied_pages: layout.no_pages(),
            round_count: 0,
            pages: GuestDirtyPages::default(),
            last_page_count: u64::MAX,
            copier,
        }
    }

    /// Copies all memory that is not zero, as it is in a new memory anyway.
    ///
    /// # Errors
    /// Also if `run` is over before.
    pub(crate) fn copy_all(&mut self, layout: &Layout, run: &Stop) -> Result<(), Failure> {
        let start = Instant::now();
        let writable = layout.regions().filter(|region| !is_read_only(region));
        let ranges: Vec<(u64, u64)> = writable
            .map(|region| (region.start_addr().0, region.start_addr().0 + region.len()))
            .collect();
        let total = ranges.iter().map(|(start, end)| end - start).sum();
        let mut bar = ProgressBar::new("round 0", total);
        let mut copied = 0;
        let mut seen = 0;
        for (start, end) in ranges {
            copied += self.copier.copy(start, end, What::NotZero, |bytes| {
                bar.show(seen + bytes);
                expect_running(run)
            })?;
            seen += end - start;
        }
        drop(bar);
        say_round("0 (all)", copied, start.elapsed());
        say!(
            "           {} of {} were zero and not copied",
            (total - copied) / PAGE_BYTES,
            total / PAGE_BYTES
        );
        self.round_count += 1;
        Ok(())
    }

    /// Copies what was written since the last round.
    ///
    /// # Errors
    /// Also if `run` is over before.
    pub(crate) fn copy_round(&mut self, run: &Stop) -> Result<(), Failure> {
        let label = self.round_count.to_string();
        self.copy_dirty(&label, || expect_running(run))
    }

    /// Copies the rest, when nobody writes any more.
    pub(crate) fn copy_last_round(&mut self) -> Result<(), Failure> {
        let label = format!("{} (last)", self.round_count);
        self.copy_dirty(&label, || Ok(()))
    }

    fn copy_dirty(
        &mut self,
        label: &str,
        may_go_on: impl Fn() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let start = Instant::now();
        self.logs.merge()?;
        self.reader.harvest_into(&mut self.pages);
        let total = self.pages.len_bytes();
        let mut bar = ProgressBar::new(format!("round {label}"), total);
        let mut copied = 0;
        for (start, len_bytes) in self.pages.ranges() {
            let end = start.0 + len_bytes;
            copied += self.copier.copy(start.0, end, What::Everything, |bytes| {
                bar.show(copied + bytes);
                may_go_on()
            })?;
        }
        drop(bar);
        say_round(label, copied, start.elapsed());
        self.copied_pages.union_with(&self.pages);
        if let Some(watcher) = &mut self.watcher {
            watcher.look();
        }
        self.last_page_count = total / PAGE_BYTES;
        self.round_count += 1;
        Ok(())
    }

    /// Returns whether the guest may be stopped.
    pub(crate) fn is_enough(&self) -> bool {
        self.last_page_count <= FEW_PAGES || self.round_count >= MOST_ROUNDS
    }
}

/// What is copied of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Everything,
    /// Pages that are not zero.
    NotZero,
}

impl<'a> Copier<'a> {
    /// Makes a copier; `bandwidth` is in bytes per second.
    pub(crate) fn new(
        source: &'a SharedMemory,
        target: &'a SharedMemory,
        bandwidth: Option<u64>,
    ) -> Self {
        Copier {
            source,
            target,
            buffer: vec![0; CHUNK_BYTES],
            bandwidth,
            due: Instant::now(),
        }
    }

    /// Copies from `[start, end)`; returns how many bytes. `progress` learns how far it is and may end it.
    fn copy(
        &mut self,
        start: u64,
        end: u64,
        what: What,
        mut progress: impl FnMut(u64) -> Result<(), Failure>,
    ) -> Result<u64, Failure> {
        let (source, target) = (self.source.memory(), self.target.memory());
        let mut copied = 0;
        let mut at = start;
        while at < end {
            let len = usize::try_from(end - at).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
            let bytes = &mut self.buffer[..len];
            source
                .read_slice(bytes, GuestAddress(at))
                .map_err(|error| failed(&error))?;
            let sent = match what {
                What::Everything => write(&target, at, bytes)?,
                What::NotZero => write_pages_not_zero(&target, at, bytes)?,
            };
            copied += sent;
            self.wait_for_network(sent);
            at += len as u64;
            progress(at - start)?;
        }
        Ok(copied)
    }

    /// Waits as long as a network of the given bandwidth is busy with what it has got.
    fn wait_for_network(&mut self, sent_bytes: u64) {
        let Some(bandwidth) = self.bandwidth else {
            return;
        };
        let now = Instant::now();
        // A sleep that took too long is made up for, an idle network is not.
        let earliest = now.checked_sub(LONGEST_QUEUE).unwrap_or(now);
        self.due =
            self.due.max(earliest) + Duration::from_secs_f64(sent_bytes as f64 / bandwidth as f64);
        let ahead = self.due.saturating_duration_since(now);
        if ahead > SHORTEST_SLEEP {
            std::thread::sleep(ahead);
        }
    }
}

fn expect_running(run: &Stop) -> Result<(), Failure> {
    if run.is_over() {
        let message = "the guest ended, or its time was up, before it was migrated";
        return Err(Failure::run(message));
    }
    Ok(())
}

fn write(target: &Memory, at: u64, bytes: &[u8]) -> Result<u64, Failure> {
    target
        .write_slice(bytes, GuestAddress(at))
        .map_err(|error| failed(&error))?;
    Ok(bytes.len() as u64)
}

/// Writes the pages that are not zero, neighbours at once.
fn write_pages_not_zero(target: &Memory, at: u64, bytes: &[u8]) -> Result<u64, Failure> {
    const ZEROES: [u8; PAGE_LEN] = [0; PAGE_LEN];
    let is_zero = |page: &[u8]| page == &ZEROES[..page.len()];
    let pages: Vec<&[u8]> = bytes.chunks(PAGE_LEN).collect();
    let mut first = 0;
    let mut copied = 0;
    for run in pages.chunk_by(|one, next| is_zero(one) == is_zero(next)) {
        let len: usize = run.iter().map(|page| page.len()).sum();
        if run.first().is_some_and(|page| !is_zero(page)) {
            copied += write(target, at + first as u64, &bytes[first..first + len])?;
        }
        first += len;
    }
    Ok(copied)
}

fn failed(error: &guest_memory::GuestMemoryError) -> Failure {
    Failure::run(format!("the copy failed: {}", with_causes(error)))
}

fn say_round(label: &str, bytes: u64, time: Duration) {
    let rate = rate(bytes, time);
    say!(
        "  {label:<9}{:>10}{:>13}{:>12.3} ms{rate:>10.0} MiB/s",
        bytes / PAGE_BYTES,
        size_text(bytes),
        1e3 * time.as_secs_f64(),
    );
}

/// Prints what the columns of the rounds are.
pub(crate) fn say_head() {
    say!(
        "  {:<9}{:>10}{:>13}{:>15}{:>16}",
        "round",
        "pages",
        "bytes",
        "time",
        "rate"
    );
}
