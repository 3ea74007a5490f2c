// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Runs the built-in guest beside a device thread and checks what both left behind.

use std::sync::atomic::{AtomicBool, Ordering};

use kvm_ioctls::Kvm;

use crate::checks::Checks;
use crate::console::{Console, say};
use crate::device_thread::{self, Progress};
use crate::dirty::DirtyPages;
use crate::failure::{Failure, with_causes};
use crate::guest_program::{
    self, MODULE_PORT, MODULE_WORD, OVERWRITE_TARGET, PLUG, SERIAL_PORT, UNPLUG,
};
use crate::host_guest;
use crate::hotplug::ModuleBay;
use crate::kick::with_time_limit;
use crate::layout::{Layout, SharedMemory};
use crate::options::Options;
use crate::report;
use crate::vm::{Bus, End, Flow, Machine, Slots};

/// The devices of the built-in guest.
#[derive(Debug)]
pub(crate) struct Board<'a> {
    bay: ModuleBay<'a>,
    console: Console,
    sightings: Sightings,
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

impl Bus for Board<'_> {
    fn write_port(&mut self, slots: Option<&Slots>, port: u16, byte: u8) -> Result<Flow, Failure> {
        match (port, byte) {
            (SERIAL_PORT, byte) => self.console.push(byte),
            (MODULE_PORT, UNPLUG) => self.bay.unplug(slots)?,
            (MODULE_PORT, PLUG) => self.bay.plug(slots)?,
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
    let image = guest_program::image();
    let layout = Layout::new(options.memory, options.backing, &image, true)?;
    let memory = layout.memory()?;
    let mut machine = kvm
        .map(|kvm| Machine::new(kvm, layout.rooms(), false))
        .transpose()?;
    report::print_map(&layout, machine.as_ref().map(Machine::slots));

    say!("run:");
    let progress = Progress::default();
    let (end, sightings) = with_time_limit(options.timeout(), |is_expired| {
        let bay = ModuleBay::new(&memory, &progress, is_expired);
        let mut board = Board {
            bay,
            console: Console::default(),
            sightings: Sightings::default(),
        };
        let end = run_beside_device(&memory, &progress, || match &mut machine {
            Some(machine) => machine.run(&mut board, is_expired),
            None => host_guest::run(&memory, &mut board, is_expired),
        })?;
        board.console.flush();
        board.sightings.lines = board.console.take_lines();
        Ok((end, board.sightings))
    })
    .map_err(|error| Failure::run(format!("cannot set a time limit: {error}")))??;
    let limit = options.timeout().as_secs();
    match end {
        End::Halted => say!("  the guest halted"),
        End::TimedOut => {
            return Err(Failure::run(format!(
                "the guest did not halt within {limit} s"
            )));
        }
        End::Crashed | End::Stopped => return Err(Failure::run("the guest crashed")),
    }

    let logged = machine
        .as_ref()
        .map(|machine| machine.slots().take_dirty())
        .transpose()?;
    let mut marked = DirtyPages::default();
    layout
        .rooms()
        .iter()
        .for_each(|room| marked.insert_bitmap(&room.region));
    report::print_dirty(logged.as_ref(), &marked);

    say!("checks:");
    let mut checks = Checks::default();
    checks.built_in_guest(&memory, &sightings, &progress)?;
    checks.image(&memory, &image)?;
    checks.dirty_pages(logged.as_ref(), &marked);
    Ok(checks.print_verdict())
}

/// Runs the guest on this thread and the device on another one, which is joined at the end.
fn run_beside_device(
    memory: &SharedMemory,
    progress: &Progress,
    guest: impl FnOnce() -> Result<End, Failure>,
) -> Result<End, Failure> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let device = std::thread::Builder::new()
            .name("device".to_owned())
            .spawn_scoped(scope, || device_thread::run(memory, progress, &stop))
            .map_err(|error| Failure::run(format!("cannot start the device thread: {error}")))?;
        let end = guest();
        stop.store(true, Ordering::Relaxed);
        let outcome = device
            .join()
            .map_err(|_| Failure::run("the device thread panicked"))?;
        // A device that failed is why a guest waited in vain.
        outcome
            .map_err(|error| Failure::run(format!("the device failed: {}", with_causes(&error))))?;
        end
    })
}
