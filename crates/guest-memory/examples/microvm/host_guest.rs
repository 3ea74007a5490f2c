// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The built-in guest, played by a thread of the host where KVM is missing.
//!
//! It does through the library what the program of [`guest_program`](crate::guest_program) does on
//! a processor, so every write ends up in the library's bitmap instead of KVM's log.

use std::sync::atomic::{AtomicBool, Ordering};

use guest_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryError, VolatileMemoryError};

use crate::builtin::Board;
use crate::failure::{Failure, with_causes};
use crate::guest_program::*;
use crate::layout::{PAGE_BYTES, SharedMemory};
use crate::vm::{Bus, End};
use crate::work::{BURST, ENOUGH, ENOUGH_NUMBER, TICKS, WORK_LINE, WORK_RESULTS, Work, WorkArea};

/// What the guest has in its registers between two runs.
#[derive(Clone, Debug)]
pub(crate) struct HostGuest {
    area: Option<WorkArea>,
    stage: Stage,
    fill_sum: u32,
    device_sum: u32,
    work: Work,
    tick: u32,
}

/// What the guest does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Fill,
    WaitForRequest,
    Work,
    UseModule,
}

impl HostGuest {
    /// Makes a guest that has not run, with work to do in `area` or without.
    pub(crate) fn new(area: Option<WorkArea>) -> Self {
        HostGuest {
            area,
            stage: Stage::Fill,
            fill_sum: 0,
            device_sum: 0,
            work: Work::default(),
            tick: 0,
        }
    }

    /// Returns how many steps of its work the guest has done.
    pub(crate) fn steps(&self) -> u32 {
        self.work.steps
    }

    /// Plays the guest until it would halt, or until it is told to stop while it waits or works.
    pub(crate) fn run(
        &mut self,
        memory: &SharedMemory,
        board: &mut Board<'_>,
        is_stopped: &AtomicBool,
    ) -> Result<End, Failure> {
        let mut player = Player { memory, board };
        loop {
            self.stage = match self.stage {
                Stage::Fill => {
                    self.fill_sum = player.fill()?;
                    Stage::WaitForRequest
                }
                Stage::WaitForRequest => {
                    while player.load(REQUEST)? != REQUEST_NUMBER {
                        if is_stopped.load(Ordering::Relaxed) {
                            return Ok(End::Kicked);
                        }
                        std::thread::yield_now();
                    }
                    self.device_sum = player.acknowledge()?;
                    if self.area.is_some() {
                        player.print(WORK_LINE)?;
                    }
                    Stage::Work
                }
                Stage::Work => {
                    if let Some(area) = self.area
                        && !self.work(&player, area, is_stopped)?
                    {
                        return Ok(End::Kicked);
                    }
                    Stage::UseModule
                }
                Stage::UseModule => {
                    player.use_module(self.fill_sum, self.device_sum)?;
                    return Ok(End::Halted);
                }
            };
        }
    }

    /// Works until it is enough; returns false if told to stop before.
    fn work(
        &mut self,
        player: &Player<'_, '_>,
        area: WorkArea,
        is_stopped: &AtomicBool,
    ) -> Result<bool, Failure> {
        while player.load(ENOUGH)? != ENOUGH_NUMBER {
            if is_stopped.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let tick = player.load(TICKS)?;
            if tick == self.tick {
                std::thread::yield_now();
                continue;
            }
            self.tick = tick;
            for _ in 0..BURST {
                let (address, number) = self.work.step(area);
                player.store(address, number)?;
            }
        }
        player.store(WORK_RESULTS, self.work.steps)?;
        player.store(WORK_RESULTS + 4, self.work.number)?;
        Ok(true)
    }
}

struct Player<'a, 'b> {
    memory: &'a SharedMemory,
    board: &'a mut Board<'b>,
}

impl Player<'_, '_> {
    /// Fills the guest's pages; returns the sum of what it wrote.
    fn fill(&mut self) -> Result<u32, Failure> {
        self.print(LINES[0])?;
        let mut words = sequence();
        let mut sum = 0_u32;
        for page in every_other_page(FILL_AREA) {
            for address in (page..page + PAGE_BYTES).step_by(4) {
                let word = words.next().unwrap_or_default();
                self.write(address, &word.to_le_bytes())?;
                sum = sum.wrapping_add(word);
            }
        }
        self.print(LINES[1])?;
        Ok(sum)
    }

    /// Sums up the device's pages and tells the device.
    fn acknowledge(&mut self) -> Result<u32, Failure> {
        let mut sum = 0_u32;
        for page in every_other_page(DEVICE_AREA) {
            for address in (page..page + PAGE_BYTES).step_by(4) {
                sum = sum.wrapping_add(self.read(address)?);
            }
        }
        self.store(ACKNOWLEDGEMENT, REQUEST_NUMBER)?;
        self.print(LINES[2])?;
        Ok(sum)
    }

    /// Uses the memory module and the image, and writes the results.
    fn use_module(&mut self, fill_sum: u32, device_sum: u32) -> Result<(), Failure> {
        self.write(MODULE_WORD, &MODULE_VALUE.to_le_bytes())?;
        let while_plugged = self.read(MODULE_WORD)?;
        self.board.write_port(MODULE_PORT, UNPLUG)?;
        let while_unplugged = self.read(MODULE_WORD)?;
        self.board.write_port(MODULE_PORT, PLUG)?;
        let plugged_again = self.read(MODULE_WORD)?;
        self.write(SECOND_MODULE_WORD, &SECOND_MODULE_VALUE.to_le_bytes())?;

        self.write(OVERWRITE_TARGET, &[0])?;
        let image_byte = self.read(OVERWRITE_TARGET)? & 0xff;
        let results = Results {
            fill_sum,
            device_sum,
            while_plugged,
            while_unplugged,
            plugged_again,
            image_byte,
        };
        self.write(RESULTS, &results.words().map(u32::to_le_bytes).concat())?;
        self.print(LINES[3])
    }

    fn load(&self, address: u64) -> Result<u32, Failure> {
        self.memory
            .memory()
            .load::<u32>(GuestAddress(address), Ordering::Acquire)
            .map_err(failed)
    }

    fn store(&self, address: u64, word: u32) -> Result<(), Failure> {
        self.memory
            .memory()
            .store(word, GuestAddress(address), Ordering::Release)
            .map_err(failed)
    }

    fn print(&mut self, line: &str) -> Result<(), Failure> {
        // The return address that the call leaves on the stack.
        self.write(STACK_END - 2, &[0x11, 0xf0])?;
        for byte in line.bytes().chain([b'\n']) {
            self.board.write_port(SERIAL_PORT, byte)?;
        }
        Ok(())
    }

    /// Reads a word; without memory it is ones, as on a bus that nobody drives.
    fn read(&mut self, address: u64) -> Result<u32, Failure> {
        match self.memory.memory().read_obj::<u32>(GuestAddress(address)) {
            Ok(word) => Ok(word),
            Err(GuestMemoryError::InvalidGuestAddress(_)) => {
                self.board.note_unmapped_read(address);
                Ok(u32::MAX)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Writes bytes; a write to read-only memory changes nothing.
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Failure> {
        match self
            .memory
            .memory()
            .write_slice(bytes, GuestAddress(address))
        {
            Err(GuestMemoryError::Access {
                source: VolatileMemoryError::ReadOnly { .. },
                ..
            }) => {
                self.board.note_unmapped_write(address);
                Ok(())
            }
            outcome => outcome.map_err(failed),
        }
    }
}

fn failed(error: GuestMemoryError) -> Failure {
    Failure::run(format!(
        "the guest's access failed: {}",
        with_causes(&error)
    ))
}
