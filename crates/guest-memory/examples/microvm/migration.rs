// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Moves the running guest to a second machine with a memory of its own.
//!
//! The guest runs on while its memory is copied in rounds (`precopy`): all of it first, then what KVM's dirty logs and the
//! library's bitmaps say was written since. When little is left, vCPU and device stop, the rest is copied, the
//! vCPU's state goes to a new one, and the guest goes on over there.

use std::time::{Duration, Instant};

use guest_memory::bitmap::{MemoryLog, Readers};
use guest_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryRegion};
use kvm_ioctls::Kvm;

use crate::builtin::{Company, expect_halt, tell_enough, wait_for_work};
use crate::checks::Checks;
use crate::console::say;
use crate::cpu_state::CpuState;
use crate::description::Which;
use crate::dirty::Logs;
use crate::failure::{Failure, with_causes};
use crate::home::{Home, Processor};
use crate::layout::PAGE_LEN;
use crate::options::Options;
use crate::precopy::{Copier, Precopy, Watcher, say_head};
use crate::vm::End;
use crate::work::WorkArea;

/// How long the guest works before its migration begins, and after it.
const WORK_TIME: Duration = Duration::from_millis(100);
/// Bytes compared at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// What a migration needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) options: &'a Options,
    pub(crate) kvm: Option<&'a Kvm>,
    pub(crate) image: &'a [u8],
    pub(crate) area: WorkArea,
}

/// What went over from one processor to the other.
#[derive(Debug)]
struct Moved {
    /// Steps of the guest's work so far.
    steps: u32,
    /// The vCPU's state; a guest that a thread plays has none.
    state: Option<CpuState>,
}

impl Plan<'_> {
    /// Runs the guest, migrates it and lets it run to its end; returns where it is then.
    pub(crate) fn run(
        self,
        mut source: Home,
        company: &mut Company,
        checks: &mut Checks,
    ) -> Result<Home, Failure> {
        let mut target = Home::new(
            self.options,
            self.kvm,
            self.image,
            Some(self.area),
            Which::Second,
        )?;
        // Nobody has asked yet what is written here, and nobody needs to know what the copies write there.
        let source_log = MemoryLog::new(source.memory.clone());
        source_log.stop_tracking();
        let target_log = MemoryLog::new(target.memory.clone());
        target_log.stop_tracking();

        let readers = Readers::new(&source_log);
        let logs = Logs::new(&source_log, source.slots(), &source.layout);
        let (source_memory, target_memory) = (source.memory.clone(), target.memory.clone());
        let copier = Copier::new(&source_memory, &target_memory, self.options.bandwidth);
        let layout = source.layout.clone();
        let progress = company.progress.clone();
        say!("run:");
        let (end, (mut precopy, start, stop_time)) =
            source.run(company, self.options.timeout(), |stop| {
                wait_for_work(&progress, stop)?;
                std::thread::sleep(WORK_TIME);
                let start = Instant::now();
                say!("migration:");
                // From here on every write is in a log; so all that the first round misses is in the next ones.
                logs.start_logging()?;
                let reader = readers.join();
                let watcher = self
                    .options
                    .heatmap
                    .then(|| Watcher::new(readers.join(), &layout));
                let mut precopy = Precopy::new(logs, reader, watcher, copier, &layout);
                say_head();
                precopy.copy_all(&layout, stop)?;
                while !precopy.is_enough() {
                    precopy.copy_round(stop)?;
                }
                let stop_time = Instant::now();
                stop.ask();
                Ok((precopy, start, stop_time))
            })?;
        if end != End::Kicked {
            return Err(Failure::run(format!(
                "the guest did not work until it was migrated: {end:?}"
            )));
        }

        let standstill = stop_time.elapsed();
        precopy.copy_last_round()?;
        let moved = self.move_processor(&source, &mut target)?;
        let downtime = stop_time.elapsed();
        say!(
            "  the guest stood still for {:.3} ms, of which it took {:.3} ms to stop it; {:.3} ms in total",
            1e3 * downtime.as_secs_f64(),
            1e3 * standstill.as_secs_f64(),
            1e3 * start.elapsed().as_secs_f64(),
        );
        let comparison = Comparison::of(&source, &target)?;

        target_log.start_tracking();
        let mut target_logs = Logs::new(&target_log, target.slots(), &target.layout);
        target_logs.start_logging()?;
        let difference = self.state_difference(&target, &moved)?;
        say!("run on the second machine:");
        let (end, ()) = target.run(company, self.options.timeout(), |_| {
            std::thread::sleep(WORK_TIME);
            tell_enough(&target_memory)
        })?;
        expect_halt(self.options, end)?;
        if let Some(watcher) = &precopy.watcher {
            watcher.heatmap.print();
        }

        say!("checks:");
        comparison.check(checks);
        if let Some(difference) = difference {
            checks.that(
                "the new vCPU has the state of the old one",
                difference.is_empty(),
                || difference.join(", "),
            );
        }
        if let Some(watcher) = &precopy.watcher {
            checks.same_pages(
                "the heat map shows what the migration copied",
                &watcher.seen,
                &precopy.copied_pages,
            );
        }
        checks.pages_of_rounds(&target, &precopy.copied_pages, self.area)?;
        precopy.logs.merge()?;
        let late = precopy.reader.harvest();
        checks.none(
            "nothing was written to the first memory any more",
            &late,
            "dirty",
        );
        target_logs.merge()?;
        let written = target_log.harvest();
        checks.pages_after_move(&target, &written, self.area, moved.steps)?;
        Ok(target)
    }

    /// Gives the target's processor the state of the source's.
    fn move_processor(&self, source: &Home, target: &mut Home) -> Result<Moved, Failure> {
        match (&source.processor, &mut target.processor, self.kvm) {
            (Processor::Kvm(from), Processor::Kvm(to), Some(kvm)) => {
                let state = from.state(kvm)?;
                to.set_state(&state)?;
                Ok(Moved {
                    steps: state.work_steps(),
                    state: Some(state),
                })
            }
            (Processor::Host(from), Processor::Host(to), _) => {
                *to = from.clone();
                Ok(Moved {
                    steps: from.steps(),
                    state: None,
                })
            }
            _ => Err(Failure::run("the two machines are not of one kind")),
        }
    }

    /// Returns what of the vCPU's state did not arrive, if it is a vCPU.
    fn state_difference(
        &self,
        target: &Home,
        moved: &Moved,
    ) -> Result<Option<Vec<String>>, Failure> {
        match (&target.processor, &moved.state, self.kvm) {
            (Processor::Kvm(to), Some(state), Some(kvm)) => {
                Ok(Some(to.state(kvm)?.differences(state)))
            }
            _ => Ok(None),
        }
    }
}

/// Two memories of one layout, byte by byte.
#[derive(Debug)]
struct Comparison {
    byte_count: u64,
    /// The first pages that differ.
    wrong_pages: Vec<u64>,
    checksums: [u64; 2],
}

impl Comparison {
    fn of(source: &Home, target: &Home) -> Result<Self, Failure> {
        let memories = [source.memory.memory(), target.memory.memory()];
        let mut comparison = Comparison {
            byte_count: 0,
            wrong_pages: Vec::new(),
            checksums: [0xcbf2_9ce4_8422_2325; 2],
        };
        let mut buffers = [vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]];
        for region in source.layout.regions() {
            let start = region.start_addr().0;
            for at in (start..start + region.len()).step_by(CHUNK_BYTES) {
                let left = start + region.len() - at;
                let len = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
                for ((memory, buffer), checksum) in memories
                    .iter()
                    .zip(&mut buffers)
                    .zip(&mut comparison.checksums)
                {
                    memory
                        .read_slice(&mut buffer[..len], GuestAddress(at))
                        .map_err(|error| {
                            Failure::run(format!("cannot compare: {}", with_causes(&error)))
                        })?;
                    *checksum = fnv(*checksum, &buffer[..len]);
                }
                comparison.byte_count += len as u64;
                if buffers[0][..len] != buffers[1][..len] {
                    comparison.note_wrong_pages(at, &buffers[0][..len], &buffers[1][..len]);
                }
            }
        }
        Ok(comparison)
    }

    fn note_wrong_pages(&mut self, at: u64, one: &[u8], other: &[u8]) {
        let pages = one.chunks(PAGE_LEN).zip(other.chunks(PAGE_LEN));
        self.wrong_pages.extend(
            (at..)
                .step_by(PAGE_LEN)
                .zip(pages)
                .filter(|(_, (one, other))| one != other)
                .map(|(page, _)| page),
        );
    }

    fn check(&self, checks: &mut Checks) {
        let [one, other] = self.checksums;
        checks.that(
            &format!(
                "both memories were equal at the switch-over: {} bytes, checksum {one:#018x}",
                self.byte_count
            ),
            self.wrong_pages.is_empty() && one == other,
            || {
                let few = self.wrong_pages.len().min(8);
                format!(
                    "checksum {other:#018x}, {} pages differ, the first: {:x?}",
                    self.wrong_pages.len(),
                    &self.wrong_pages[..few]
                )
            },
        );
    }
}

/// Goes on with a checksum (FNV-1a by words of 64 bits); whole words.
fn fnv(checksum: u64, bytes: &[u8]) -> u64 {
    bytes.as_chunks::<8>().0.iter().fold(checksum, |sum, word| {
        (sum ^ u64::from_le_bytes(*word)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
