// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Boots a firmware image until it finds nothing to boot.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use guest_memory::bitmap::MemoryLog;
use guest_memory::{Bytes, GuestAddress, GuestAddressSpace};
use kvm_ioctls::Kvm;

use crate::checks::Checks;
use crate::console::{Console, say};
use crate::description::Which;
use crate::dirty::Logs;
use crate::failure::{Failure, with_causes};
use crate::kick::{Stop, with_time_limit};
use crate::layout::{
    LARGEST_IMAGE_BYTES, LOW_RAM_END, Layout, PAGE_BYTES, SharedMemory, size_text,
};
use crate::options::Options;
use crate::report;
use crate::vm::{Bus, End, Flow, Machine};

/// The debug console: bytes written are text, reads tell a firmware that it is there.
const DEBUG_PORT: u16 = 0x402;
const DEBUG_PORT_ANSWER: u8 = 0xe9;
/// The CMOS memory: a register is chosen with the first port and read with the second.
const CMOS_INDEX_PORT: u16 = 0x70;
const CMOS_DATA_PORT: u16 = 0x71;
/// How much of the image's end is copied below 1 MiB at most, where the processor reaches it in real mode.
///
/// On a PC those are 128 KiB and the firmware copies the rest of itself with the chipset's help, which is
/// missing here.
const SHADOW_BYTES: usize = 256 << 10;
const ONE_MIB: u64 = 1 << 20;
const SIXTEEN_MIB: u64 = 16 << 20;
/// What SeaBIOS prints when it gives up.
const LAST_WORDS: &str = "No bootable device";

/// The devices a firmware finds.
#[derive(Debug)]
struct Board {
    console: Console,
    line_count: usize,
    is_over: bool,
    cmos: [u8; 128],
    cmos_index: usize,
}

impl Bus for Board {
    fn write_port(&mut self, port: u16, byte: u8) -> Result<Flow, Failure> {
        match port {
            DEBUG_PORT => {
                self.console.push(byte);
                self.read_lines();
            }
            CMOS_INDEX_PORT => self.cmos_index = usize::from(byte & 0x7f),
            _ => {}
        }
        Ok(if self.is_over {
            Flow::Stop
        } else {
            Flow::Continue
        })
    }

    fn read_port(&mut self, port: u16) -> u8 {
        match port {
            DEBUG_PORT => DEBUG_PORT_ANSWER,
            CMOS_DATA_PORT => self.cmos[self.cmos_index],
            _ => 0xff,
        }
    }
}

impl Board {
    fn new(ram_bytes: u64) -> Self {
        Board {
            console: Console::default(),
            line_count: 0,
            is_over: false,
            cmos: cmos(ram_bytes),
            cmos_index: 0,
        }
    }

    fn read_lines(&mut self) {
        for line in self.console.take_lines() {
            self.line_count += 1;
            self.is_over |= line.contains(LAST_WORDS);
        }
    }
}

/// Boots the image at `path`; returns whether all checks passed.
pub(crate) fn run(options: &Options, path: &Path, kvm: &Kvm) -> Result<bool, Failure> {
    let image = read_image(path)?;
    let layout = Layout::new(options, &image, Which::First)?;
    let memory = SharedMemory::new(layout.memory().clone());
    let shadow = &image[image.len().saturating_sub(SHADOW_BYTES)..];
    memory
        .memory()
        .write_slice(shadow, GuestAddress(ONE_MIB - shadow.len() as u64))
        .map_err(|error| {
            Failure::setup(format!(
                "cannot copy the image below 1 MiB: {}",
                with_causes(&error)
            ))
        })?;
    let mut machine = Machine::new(kvm, &layout, true)?;
    let log = MemoryLog::new(memory.clone());
    let mut logs = Logs::new(&log, Some(Arc::clone(machine.slots())), &layout);
    logs.start_logging()?;
    report::print_map(layout.memory(), Some(machine.slots()));

    say!("run:");
    let mut board = Board::new(options.memory);
    let end = with_time_limit(options.timeout(), &Stop::default(), |is_stopped| {
        machine.run(&mut board, is_stopped)
    })
    .map_err(|error| Failure::run(format!("cannot set a time limit: {error}")))??;
    board.console.flush();
    board.read_lines();
    match end {
        End::Stopped => say!("  the firmware found nothing to boot"),
        End::Kicked => say!("  stopped after {} s", options.timeout().as_secs()),
        End::Halted => say!("  the firmware halted"),
        End::Crashed => say!("  the firmware crashed"),
    }

    let marked = log.harvest();
    logs.merge()?;
    report::print_dirty(Some(&logs.logged), &marked);

    say!("checks:");
    let mut checks = Checks::default();
    let line_count = board.line_count;
    checks.that(
        "the firmware used the debug console",
        line_count > 0,
        || "no line".to_owned(),
    );
    checks.that("the firmware did not crash", end != End::Crashed, || {
        "a triple fault".to_owned()
    });
    checks.that(
        "the firmware wrote to memory",
        !logs.logged.is_empty(),
        || "no page in KVM's log".to_owned(),
    );
    checks.image(&memory, &image)?;
    Ok(checks.print_verdict())
}

/// Reads an image that fits below 4 GiB in whole pages.
pub(crate) fn read_image(path: &Path) -> Result<Vec<u8>, Failure> {
    let name = path.display();
    let failed = |error| Failure::setup(format!("cannot read the image {name}: {error}"));
    // A pipe or a terminal would let the monitor wait for ever.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Failure::setup(format!(
            "the image {name} is no regular file"
        )));
    }
    let mut image = Vec::new();
    // One byte more than fits is enough to see that the image does not.
    let file = File::open(path).map_err(failed)?;
    file.take(LARGEST_IMAGE_BYTES + 1)
        .read_to_end(&mut image)
        .map_err(failed)?;
    let len_bytes = image.len() as u64;
    if len_bytes > LARGEST_IMAGE_BYTES {
        let room = size_text(LARGEST_IMAGE_BYTES);
        return Err(Failure::setup(format!(
            "the image {name} does not fit into the {room} below 4 GiB"
        )));
    }
    if len_bytes == 0 || !len_bytes.is_multiple_of(PAGE_BYTES) {
        return Err(Failure::setup(format!(
            "the image {name} does not fit: {len_bytes} bytes are no multiple of a page of {PAGE_BYTES} bytes"
        )));
    }
    Ok(image)
}

/// Returns the CMOS registers that tell a firmware how much memory there is.
fn cmos(ram_bytes: u64) -> [u8; 128] {
    let low = ram_bytes.min(LOW_RAM_END);
    let kib_above_1_mib = ((low - ONE_MIB) >> 10).min(0xffff);
    let blocks_above_16_mib = low.saturating_sub(SIXTEEN_MIB) >> 16;
    let blocks_above_4_gib = (ram_bytes - low) >> 16;
    let mut cmos = [0; 128];
    let mut set = |first: usize, len_bytes: usize, value: u64| {
        cmos[first..first + len_bytes].copy_from_slice(&value.to_le_bytes()[..len_bytes]);
    };
    set(0x30, 2, kib_above_1_mib);
    set(0x34, 2, blocks_above_16_mib);
    set(0x5b, 3, blocks_above_4_gib);
    cmos
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::FOUR_GIB;

    #[test]
    fn cmos_counts_memory_in_64_kib_blocks() {
        let registers = cmos(64 << 20);
        assert_eq!(
            u16::from_le_bytes([registers[0x34], registers[0x35]]),
            48 * 16
        );
        assert_eq!(registers[0x5b..0x5e], [0, 0, 0]);
        let registers = cmos(FOUR_GIB + (1 << 30));
        assert_eq!(
            u16::from_le_bytes([registers[0x34], registers[0x35]]),
            0xbf00
        );
        assert_eq!(
            u32::from_le_bytes([registers[0x5b], registers[0x5c], registers[0x5d], 0]),
            (2 << 30) >> 16
        );
        let registers = cmos(2 << 20);
        assert_eq!(u16::from_le_bytes([registers[0x30], registers[0x31]]), 1024);
    }
}
