// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the built-in guest does while it is migrated or watched: it writes all over an area, some parts more than others.
//!
//! A step draws two numbers and writes the second one to the word whose place is the bitwise *and* of both. So a
//! place is the likelier the fewer ones it has in its address: half of all writes go to a few pages, others are written
//! once in a while. After each tick of the device the guest does [`BURST`] steps, until it is told that it is enough.
//! Then the number of its steps says what each word of the area must be.

use std::collections::BTreeMap;
use std::ops::Range;

/// What the guest says when it begins.
pub(crate) const WORK_LINE: &str = "working until told to stop";
/// Where the monitor says that it is enough.
pub(crate) const ENOUGH: u64 = 0xb000;
/// What it writes there.
pub(crate) const ENOUGH_NUMBER: u32 = 0x600d_0002;
/// Where the guest finds the device's ticks.
pub(crate) const TICKS: u64 = 0x6_0000;
/// Where the guest puts the number of its steps, and the last number after it.
pub(crate) const WORK_RESULTS: u64 = 0x8018;
/// Steps after each tick.
pub(crate) const BURST: u16 = 16;

/// What the numbers start from.
const SEED: u32 = 0x00c0_ffee;
const WORD_BYTES: u32 = 4;
/// The largest area: it has to end below the memory module.
const LARGEST_AREA_BYTES: u64 = 1 << 30;

/// Where the guest works: as many bytes as its first address, a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkArea {
    start: u32,
}

impl WorkArea {
    /// Returns the largest area in RAM that starts at 0, at least 2 MiB of it.
    pub(crate) fn in_ram(ram_bytes: u64) -> Self {
        let start = (1_u64 << ram_bytes.ilog2() >> 1).min(LARGEST_AREA_BYTES);
        WorkArea {
            start: u32::try_from(start).unwrap_or(1 << 30),
        }
    }

    /// Returns the area's addresses.
    pub(crate) fn range(self) -> Range<u64> {
        let start = u64::from(self.start);
        start..2 * start
    }

    /// Returns the bits of an address that say where in the area it is.
    fn place_mask(self) -> u32 {
        self.start - WORD_BYTES
    }

    /// Returns the program, which is called with big real mode in force and `gs` flat.
    pub(crate) fn program(self) -> Vec<u8> {
        let mut program = PROGRAM.to_vec();
        program[PLACE_MASK_AT..][..4].copy_from_slice(&self.place_mask().to_le_bytes());
        program[AREA_START_AT..][..4].copy_from_slice(&self.start.to_le_bytes());
        program
    }
}

/// How far the guest's work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    /// Steps done.
    pub(crate) steps: u32,
    /// The last number drawn.
    pub(crate) number: u32,
}

impl Default for Work {
    fn default() -> Self {
        Work {
            steps: 0,
            number: SEED,
        }
    }
}

impl Work {
    /// Does a step; returns which word becomes what.
    pub(crate) fn step(&mut self, area: WorkArea) -> (u64, u32) {
        let first = self.draw();
        let second = self.draw();
        self.steps += 1;
        let address = area.start | first & second & area.place_mask();
        (u64::from(address), second)
    }

    /// Does `steps` steps from the start; returns the end, and the words that were written.
    pub(crate) fn replay(area: WorkArea, steps: u32) -> (Work, BTreeMap<u64, u32>) {
        let mut work = Work::default();
        let words = (0..steps).map(|_| work.step(area)).collect();
        (work, words)
    }

    fn draw(&mut self) -> u32 {
        self.number = self
            .number
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        self.number
    }
}

/// Where the program has the constants that depend on the area.
const PLACE_MASK_AT: usize = 0x54;
const AREA_START_AT: usize = 0x5b;

#[rustfmt::skip]
const PROGRAM: &[u8] = &[
    0xbe, 0x00, 0xf4,                                     // mov   si, TEXT[4]
    0xe8, 0xba, 0xfd,                                     // call  PUTS
    0x66, 0xb8, 0xee, 0xff, 0xc0, 0x00,                   // mov   eax, SEED
    0x66, 0x31, 0xf6,                                     // xor   esi, esi
    0x66, 0x31, 0xed,                                     // xor   ebp, ebp
    0x66, 0x81, 0x3e, 0x00, 0xb0, 0x02, 0x00, 0x0d, 0x60, // wait: cmp dword [ENOUGH], ENOUGH_NUMBER
    0x74, 0x4d,                                           // je    end
    0x65, 0x67, 0x66, 0x8b, 0x15, 0x00, 0x00, 0x06, 0x00, // mov   edx, gs:[TICKS]
    0x66, 0x39, 0xea,                                     // cmp   edx, ebp
    0x74, 0xe7,                                           // je    wait
    0x66, 0x89, 0xd5,                                     // mov   ebp, edx
    0xb9, 0x10, 0x00,                                     // mov   cx, BURST
    0x66, 0x69, 0xc0, 0x0d, 0x66, 0x19, 0x00,             // step: imul eax, eax, 1664525
    0x66, 0x05, 0x5f, 0xf3, 0x6e, 0x3c,                   // add   eax, 1013904223
    0x66, 0x89, 0xc7,                                     // mov   edi, eax
    0x66, 0x69, 0xc0, 0x0d, 0x66, 0x19, 0x00,             // imul  eax, eax, 1664525
    0x66, 0x05, 0x5f, 0xf3, 0x6e, 0x3c,                   // add   eax, 1013904223
    0x66, 0x21, 0xc7,                                     // and   edi, eax
    0x66, 0x81, 0xe7, 0x00, 0x00, 0x00, 0x00,             // and   edi, place mask
    0x66, 0x81, 0xcf, 0x00, 0x00, 0x00, 0x00,             // or    edi, area start
    0x65, 0x67, 0x66, 0x89, 0x07,                         // mov   gs:[edi], eax
    0x66, 0x46,                                           // inc   esi
    0xe2, 0xc9,                                           // loop  step
    0xeb, 0xa8,                                           // jmp   wait
    0x66, 0x89, 0x36, 0x18, 0x80,                         // end: mov [WORK_RESULTS], esi
    0x66, 0xa3, 0x1c, 0x80,                               // mov   [WORK_RESULTS + 4], eax
    0xc3,                                                 // ret
];

/// What stands there in an image of a guest that does not work.
pub(crate) const NO_PROGRAM: &[u8] = &[0xc3];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest_program::{PUTS_AT, TEXT_AT, TEXT_BYTES_EACH, WORK_AT};

    #[test]
    fn the_area_is_a_power_of_two_in_ram_and_below_the_module() {
        for (ram, start) in [
            (2 << 20, 1 << 20),
            (64 << 20, 32 << 20),
            ((96 << 20) + 4096, 32 << 20),
            (3 << 30, 1 << 30),
            (1 << 40, 1 << 30),
        ] {
            let area = WorkArea::in_ram(ram);
            assert_eq!(area.range(), start..2 * start, "{ram:#x}");
            assert!(area.range().end <= ram);
        }
    }

    #[test]
    fn steps_stay_in_the_area_and_are_repeated_by_a_replay() {
        let area = WorkArea::in_ram(4 << 20);
        let mut work = Work::default();
        let mut words = BTreeMap::new();
        for _ in 0..10_000 {
            let (address, number) = work.step(area);
            assert!(area.range().contains(&address) && address % 4 == 0);
            words.insert(address, number);
        }
        assert_eq!(Work::replay(area, 10_000), (work, words));
    }

    /// The code cannot name the constants, so compare what it holds with them.
    #[test]
    fn the_code_agrees_with_the_constants() {
        let area = WorkArea::in_ram(64 << 20);
        let program = area.program();
        let holds = |bytes: &[u8]| program.windows(bytes.len()).any(|window| window == bytes);
        for word in [ENOUGH_NUMBER, SEED, u32::try_from(TICKS).unwrap()] {
            assert!(holds(&word.to_le_bytes()), "{word:#x}");
        }
        for address in [ENOUGH, WORK_RESULTS, WORK_RESULTS + 4] {
            assert!(
                holds(&u16::try_from(address).unwrap().to_le_bytes()),
                "{address:#x}"
            );
        }
        assert!(holds(&BURST.to_le_bytes()));
        assert!(holds(&[0x66, 0x81, 0xe7, 0xfc, 0xff, 0xff, 0x01]));
        assert!(holds(&[0x66, 0x81, 0xcf, 0x00, 0x00, 0x00, 0x02]));
        let text = u16::try_from(TEXT_AT + 4 * TEXT_BYTES_EACH).unwrap();
        assert_eq!(program[1..3], text.to_le_bytes());
        let puts = u16::try_from(PUTS_AT)
            .unwrap()
            .wrapping_sub(u16::try_from(WORK_AT + 6).unwrap());
        assert_eq!(program[4..6], puts.to_le_bytes());
    }
}
