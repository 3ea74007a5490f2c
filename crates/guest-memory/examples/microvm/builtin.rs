// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Runs the built-in guest beside a device thread and checks what both left behind.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use guest_memory::bitmap::{MemoryLog, Readers};
use guest_memory::{Bytes, GuestAddress, GuestAddressSpace};
use kvm_ioctls::Kvm;

use crate::checks::Checks;
use crate::console::{Console, say};
use crate::description::Which;
use crate::device_thread::Progress;
use crate::dirty::{Logs, union};
use crate::failure::{Failure, with_causes};
use crate::guest_program::{
    self, MODULE_PORT, MODULE_WORD, OVERWRITE_TARGET, PLUG, SERIAL_PORT, UNPLUG,
};
use crate::heatmap::Heatmap;
use crate::home::Home;
use crate::hotplug::ModuleBay;
use crate::kick::Stop;
use crate::layout::{LOW_RAM_END, SharedMemory};
use crate::migration;
use crate::options::Options;
use crate::report;
use crate::vm::{Bus, End, Flow};
use crate::work::{ENOUGH, ENOUGH_NUMBER, WORK_LINE, WorkArea};

/// Rounds in which a guest that is not migrated is watched for a heat map.
const WATCH_ROUNDS: usize = 16;
/// Time between two of them.
const WATCH_PAUSE: Duration = Duration::from_millis(15);

/// What goes with the guest wherever it runs.
#[derive(Debug, Default)]
pub(crate) struct Company {
    pub(crate) progress: Arc<Progress>,
    pub(crate) console: Console,
    pub(crate) sightings: Sightings,
}

/// The devices of the built-in guest.
#[derive(Debug)]
pub(crate) struct Board<'a> {
    bay: ModuleBay<'a>,
    progress: &'a Progress,
    console: &'a mut Console,
    sightings: &'a mut Sightings,
}

/// What the board saw of the guest.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    /// The lines on the serial port.
    pub(crate) lines: Vec<String>,
    /// Reads of the module while it was out.
    pub(crate) unmapped_reads: u64,
    /// Writes to the read-only image.
    pub(crate) image_writes: u64,
}

impl<'a> Board<'a> {
    /// Makes a board that goes on with what was printed and seen before.
    pub(crate) fn new(
        bay: ModuleBay<'a>,
        progress: &'a Progress,
        console: &'a mut Console,
        sightings: &'a mut Sightings,
    ) -> Self {
        Board {
            bay,
            progress,
            console,
            sightings,
        }
    }

    fn read_lines(&mut self) {
        for line in self.console.take_lines() {
            if line == WORK_LINE {
                self.progress.is_working.store(true, Ordering::Relaxed);
            }
            self.sightings.lines.push(line);
        }
    }
}

impl Bus for Board<'_> {
    fn write_port(&mut self, port: u16, byte: u8) -> Result<Flow, Failure> {
        match (port, byte) {
            (SERIAL_PORT, byte) => {
                self.console.push(byte);
                self.read_lines();
            }
            (MODULE_PORT, UNPLUG) => self.bay.unplug()?,
            (MODULE_PORT, PLUG) => self.bay.plug()?,
            _ => {}
        }
        Ok(Flow::Continue)
    }

    fn note_unmapped_read(&mut self, address: u64) {
        self.sightings.unmapped_reads += u64::from(address == MODULE_WORD);
    }

    fn note_unmapped_write(&mut self, address: u64) {
        self.sightings.image_writes += u64::from(address == OVERWRITE_TARGET);
    }
}

/// Runs the built-in guest; returns whether all checks passed.
pub(crate) fn run(options: &Options, kvm: Option<&Kvm>) -> Result<bool, Failure> {
    let is_working = options.migrate || options.heatmap;
    let area = is_working.then(|| WorkArea::in_ram(options.memory.min(LOW_RAM_END)));
    let image = guest_program::image(area);
    let mut home = Home::new(options, kvm, &image, area, Which::First)?;
    report::print_map(home.layout.memory(), home.slots().as_deref());

    let mut company = Company::default();
    let mut checks = Checks::default();
    match area {
        Some(area) if options.migrate => {
            let plan = migration::Plan {
                options,
                kvm,
                image: &image,
                area,
            };
            home = plan.run(home, &mut company, &mut checks)?;
        }
        Some(area) => watch(options, &mut home, &mut company, area, &mut checks)?,
        None => run_once(options, &mut home, &mut company, &mut checks)?,
    }
    checks.built_in_guest(&home, &company, area)?;
    checks.image(&home.memory, &image)?;
    Ok(checks.print_verdict())
}

/// Runs the guest to its end.
fn run_once(
    options: &Options,
    home: &mut Home,
    company: &mut Company,
    checks: &mut Checks,
) -> Result<(), Failure> {
    let log = MemoryLog::new(home.memory.clone());
    let mut logs = Logs::new(&log, home.slots(), &home.layout);
    logs.start_logging()?;
    say!("run:");
    let (end, ()) = home.run(company, options.timeout(), |_| Ok(()))?;
    expect_halt(options, end)?;

    let marked = log.harvest();
    logs.merge()?;
    report::print_dirty(logs.logged_by_kvm(), &marked);
    say!("checks:");
    let either = union(&marked, &log.harvest());
    checks.dirty_pages(home, logs.logged_by_kvm(), Some(&marked), &either, None)
}

/// Runs the guest to its end and draws while it works what it writes.
fn watch(
    options: &Options,
    home: &mut Home,
    company: &mut Company,
    area: WorkArea,
    checks: &mut Checks,
) -> Result<(), Failure> {
    let log = MemoryLog::new(home.memory.clone());
    let readers = Readers::new(&log);
    let mut reader = readers.join();
    let mut logs = Logs::new(&log, home.slots(), &home.layout);
    logs.start_logging()?;
    let mut heatmap = Heatmap::of(&home.layout);
    let mut seen = home.layout.no_pages();
    let memory = home.memory.clone();
    let mut round = || {
        logs.merge()?;
        let pages = reader.harvest();
        heatmap.add(&pages);
        seen.union_with(&pages);
        Ok::<_, Failure>(())
    };
    say!("run:");
    let progress = Arc::clone(&company.progress);
    let (end, ()) = home.run(company, options.timeout(), |stop| {
        wait_for_work(&progress, stop)?;
        for _ in 0..WATCH_ROUNDS {
            std::thread::sleep(WATCH_PAUSE);
            round()?;
        }
        tell_enough(&memory)
    })?;
    expect_halt(options, end)?;
    round()?;
    heatmap.print();
    say!("checks:");
    checks.dirty_pages(home, logs.logged_by_kvm(), None, &seen, Some(area))
}

/// Waits until the guest works.
pub(crate) fn wait_for_work(progress: &Progress, stop: &Stop) -> Result<(), Failure> {
    while !progress.is_working.load(Ordering::Relaxed) {
        if stop.is_over() {
            return Err(Failure::run("the guest ended before it worked"));
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    Ok(())
}

/// Tells the guest that it has worked enough.
pub(crate) fn tell_enough(memory: &SharedMemory) -> Result<(), Failure> {
    memory
        .memory()
        .store(ENOUGH_NUMBER, GuestAddress(ENOUGH), Ordering::Release)
        .map_err(|error| Failure::run(format!("cannot stop the work: {}", with_causes(&error))))
}

/// Says how the guest ended, which must be of its own will.
pub(crate) fn expect_halt(options: &Options, end: End) -> Result<(), Failure> {
    let limit = options.timeout().as_secs();
    match end {
        End::Halted => {
            say!("  the guest halted");
            Ok(())
        }
        End::Kicked => Err(Failure::run(format!(
            "the guest did not halt within {limit} s"
        ))),
        End::Crashed | End::Stopped => Err(Failure::run("the guest crashed")),
    }
}
