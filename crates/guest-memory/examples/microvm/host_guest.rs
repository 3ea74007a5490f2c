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

/// Plays the guest on a thread of its own until it would halt.
pub(crate) fn run(
    memory: &SharedMemory,
    board: &mut Board<'_>,
    is_expired: &AtomicBool,
) -> Result<End, Failure> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("guest".to_owned())
            .spawn_scoped(scope, || Player { memory, board }.play(is_expired))
            .map_err(|error| Failure::run(format!("cannot start the guest's thread: {error}")))?
            .join()
            .map_err(|_| Failure::run("the guest's thread panicked"))?
    })
}

struct Player<'a, 'b> {
    memory: &'a SharedMemory,
    board: &'a mut Board<'b>,
}

impl Player<'_, '_> {
    fn play(&mut self, is_expired: &AtomicBool) -> Result<End, Failure> {
        // The return address that a call leaves on the stack.
        self.write(STACK_END - 2, &[0x11, 0xf0])?;
        self.print(LINES[0])?;

        let mut words = sequence();
        let mut fill_sum = 0_u32;
        for page in every_other_page(FILL_AREA) {
            for address in (page..page + PAGE_BYTES).step_by(4) {
                let word = words.next().unwrap_or_default();
                self.write(address, &word.to_le_bytes())?;
                fill_sum = fill_sum.wrapping_add(word);
            }
        }
        self.print(LINES[1])?;

        while self
            .memory
            .memory()
            .load::<u32>(GuestAddress(REQUEST), Ordering::Acquire)
            .map_err(failed)?
            != REQUEST_NUMBER
        {
            if is_expired.load(Ordering::Relaxed) {
                return Ok(End::TimedOut);
            }
            std::thread::yield_now();
        }
        let mut device_sum = 0_u32;
        for page in every_other_page(DEVICE_AREA) {
            for address in (page..page + PAGE_BYTES).step_by(4) {
                device_sum = device_sum.wrapping_add(self.read(address)?);
            }
        }
        self.memory
            .memory()
            .store(
                REQUEST_NUMBER,
                GuestAddress(ACKNOWLEDGEMENT),
                Ordering::Release,
            )
            .map_err(failed)?;
        self.print(LINES[2])?;

        self.write(MODULE_WORD, &MODULE_VALUE.to_le_bytes())?;
        let while_plugged = self.read(MODULE_WORD)?;
        self.board.write_port(None, MODULE_PORT, UNPLUG)?;
        let while_unplugged = self.read(MODULE_WORD)?;
        self.board.write_port(None, MODULE_PORT, PLUG)?;
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
        self.print(LINES[3])?;
        Ok(End::Halted)
    }

    fn print(&mut self, line: &str) -> Result<(), Failure> {
        for byte in line.bytes().chain([b'\n']) {
            self.board.write_port(None, SERIAL_PORT, byte)?;
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
