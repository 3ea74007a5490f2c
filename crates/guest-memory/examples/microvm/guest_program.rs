// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The built-in guest: a real-mode program in a read-only image.
//!
//! It runs in place from the last 64 KiB below 4 GiB, where a processor starts, and
//! 1. fills eight pages, one in two, with a sequence of numbers, and sums them up;
//! 2. waits for the device's request, sums up the device's pages and acknowledges;
//!    if asked for, it works until told to stop (`work`);
//! 3. writes to the memory module, has it unplugged, reads it, has it plugged again, reads and writes it;
//! 4. tries to overwrite its own image;
//! 5. says how far it is on the serial port after each step, and halts.

use std::ops::Range;

use crate::layout::{FOUR_GIB, MODULE_START, PAGE_LEN};
use crate::work::{NO_PROGRAM, WORK_LINE, WorkArea};

/// The serial port's data register.
pub(crate) const SERIAL_PORT: u16 = 0x3f8;
/// The monitor's port for the memory module.
pub(crate) const MODULE_PORT: u16 = 0x510;
/// Written to [`MODULE_PORT`]: take the module out.
pub(crate) const UNPLUG: u8 = 1;
/// Written to [`MODULE_PORT`]: put the module in again.
pub(crate) const PLUG: u8 = 2;

/// End of the stack; a return address is all it ever holds.
pub(crate) const STACK_END: u64 = 0x7000;
/// Where the results go.
pub(crate) const RESULTS: u64 = 0x8000;
/// Where the device posts its request.
pub(crate) const REQUEST: u64 = 0x9000;
/// Where the guest acknowledges it.
pub(crate) const ACKNOWLEDGEMENT: u64 = 0xa000;
/// The request, and its acknowledgement.
pub(crate) const REQUEST_NUMBER: u32 = 0x600d_0001;
/// The area of which the guest fills every other page.
pub(crate) const FILL_AREA: Range<u64> = 0x1_0000..0x2_0000;
/// The area of which the device fills every other page.
pub(crate) const DEVICE_AREA: Range<u64> = 0x4_0000..0x4_8000;
/// Where the guest writes to the module before it is unplugged, and reads it back each time.
pub(crate) const MODULE_WORD: u64 = MODULE_START + 0x1000;
/// What it writes there.
pub(crate) const MODULE_VALUE: u32 = 0x5043_4944;
/// Where the guest writes to the module after it was plugged again.
pub(crate) const SECOND_MODULE_WORD: u64 = MODULE_START + 0x5000;
/// What it writes there.
pub(crate) const SECOND_MODULE_VALUE: u32 = 0x4d4d_4944;

/// Where the guest tries to overwrite its image: the first instruction of `MAIN`.
pub(crate) const OVERWRITE_TARGET: u64 = FOUR_GIB - (IMAGE_BYTES - MAIN_AT) as u64;
/// What stays there: `cli`.
pub(crate) const OVERWRITE_VALUE: u32 = 0xfa;

/// What the guest says, a line after each step.
pub(crate) const LINES: [&str; 4] = [
    "hello from real mode, running in read-only memory",
    "filled and summed 8 pages",
    "summed the device's pages",
    "the module is back; good night",
];

/// What the guest finds out, in the order of [`RESULTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Results {
    /// Sum of the words that the guest filled in.
    pub(crate) fill_sum: u32,
    /// Sum of the words that the device filled in.
    pub(crate) device_sum: u32,
    /// The module's word before it was unplugged.
    pub(crate) while_plugged: u32,
    /// The module's word while it was unplugged.
    pub(crate) while_unplugged: u32,
    /// The module's word after it was plugged again.
    pub(crate) plugged_again: u32,
    /// The image's first instruction after the attempt to overwrite it.
    pub(crate) image_byte: u32,
}

impl Results {
    /// Returns the results as they lie in memory.
    pub(crate) fn words(self) -> [u32; 6] {
        [
            self.fill_sum,
            self.device_sum,
            self.while_plugged,
            self.while_unplugged,
            self.plugged_again,
            self.image_byte,
        ]
    }
}

/// Size of the image in bytes.
const IMAGE_BYTES: usize = 64 << 10;
/// Where the processor starts: 16 bytes before the end.
const RESET_AT: usize = 0xfff0;
const MAIN_AT: usize = 0xf000;
const SUM_AT: usize = 0xf200;
pub(crate) const PUTS_AT: usize = 0xf240;
const GDT_AT: usize = 0xf280;
pub(crate) const TEXT_AT: usize = 0xf300;
pub(crate) const TEXT_BYTES_EACH: usize = 0x40;
pub(crate) const WORK_AT: usize = 0xf480;
/// What the sequence of numbers starts from; the same constants are in `MAIN`.
const SEED: u32 = 0x1234_5678;

#[rustfmt::skip]
const RESET: &[u8] = &[
    0xe9, 0x0d, 0xf0,                                     // jmp   MAIN
];

#[rustfmt::skip]
const MAIN: &[u8] = &[
    0xfa,                                                 // cli
    0xfc,                                                 // cld
    0x31, 0xc0,                                           // xor   ax, ax
    0x8e, 0xd8,                                           // mov   ds, ax
    0x8e, 0xd0,                                           // mov   ss, ax
    0xbc, 0x00, 0x70,                                     // mov   sp, STACK_END
    0xbe, 0x00, 0xf3,                                     // mov   si, TEXT[0]
    0xe8, 0x2f, 0x02,                                     // call  PUTS
    // Big real mode: a visit to protected mode leaves gs with base 0 and a limit of 4 GiB.
    0x2e, 0x66, 0x0f, 0x01, 0x16, 0x90, 0xf2,             // lgdt  cs:[GDT + 16]
    0x0f, 0x20, 0xc0,                                     // mov   eax, cr0
    0x0c, 0x01,                                           // or    al, 1
    0x0f, 0x22, 0xc0,                                     // mov   cr0, eax
    0xbb, 0x08, 0x00,                                     // mov   bx, 8
    0x8e, 0xeb,                                           // mov   gs, bx
    0x24, 0xfe,                                           // and   al, 0xfe
    0x0f, 0x22, 0xc0,                                     // mov   cr0, eax
    // Step 1: word = word * 1664525 + 1013904223, every other page.
    0x66, 0xbf, 0x00, 0x00, 0x01, 0x00,                   // mov   edi, FILL_AREA.start
    0x66, 0xb8, 0x78, 0x56, 0x34, 0x12,                   // mov   eax, SEED
    0xb9, 0x00, 0x04,                                     // page: mov cx, 1024
    0x66, 0x69, 0xc0, 0x0d, 0x66, 0x19, 0x00,             // word: imul eax, eax, 1664525
    0x66, 0x05, 0x5f, 0xf3, 0x6e, 0x3c,                   // add   eax, 1013904223
    0x65, 0x67, 0x66, 0x89, 0x07,                         // mov   gs:[edi], eax
    0x66, 0x83, 0xc7, 0x04,                               // add   edi, 4
    0xe2, 0xe8,                                           // loop  word
    0x66, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00,             // add   edi, 4096
    0x66, 0x81, 0xff, 0x00, 0x00, 0x02, 0x00,             // cmp   edi, FILL_AREA.end
    0x72, 0xd5,                                           // jb    page
    0x66, 0xbf, 0x00, 0x00, 0x01, 0x00,                   // mov   edi, FILL_AREA.start
    0x66, 0xbd, 0x00, 0x00, 0x02, 0x00,                   // mov   ebp, FILL_AREA.end
    0xe8, 0x90, 0x01,                                     // call  SUM
    0x66, 0xa3, 0x00, 0x80,                               // mov   [RESULTS], eax
    0xbe, 0x40, 0xf3,                                     // mov   si, TEXT[1]
    0xe8, 0xc6, 0x01,                                     // call  PUTS
    // Step 2.
    0xf3, 0x90,                                           // wait: pause
    0x66, 0x81, 0x3e, 0x00, 0x90, 0x01, 0x00, 0x0d, 0x60, // cmp   dword [REQUEST], REQUEST_NUMBER
    0x75, 0xf3,                                           // jne   wait
    0x66, 0xbf, 0x00, 0x00, 0x04, 0x00,                   // mov   edi, DEVICE_AREA.start
    0x66, 0xbd, 0x00, 0x80, 0x04, 0x00,                   // mov   ebp, DEVICE_AREA.end
    0xe8, 0x6a, 0x01,                                     // call  SUM
    0x66, 0xa3, 0x04, 0x80,                               // mov   [RESULTS + 4], eax
    0x66, 0xc7, 0x06, 0x00, 0xa0, 0x01, 0x00, 0x0d, 0x60, // mov   dword [ACKNOWLEDGEMENT], REQUEST_NUMBER
    0xbe, 0x80, 0xf3,                                     // mov   si, TEXT[2]
    0xe8, 0x97, 0x01,                                     // call  PUTS
    0xe8, 0xd4, 0x03,                                     // call  WORK
    // Step 3.
    0x66, 0xbb, 0x00, 0x10, 0x00, 0xc0,                   // mov   ebx, MODULE_WORD
    0x65, 0x67, 0x66, 0xc7, 0x03, 0x44, 0x49, 0x43, 0x50, // mov   dword gs:[ebx], MODULE_VALUE
    0x65, 0x67, 0x66, 0x8b, 0x03,                         // mov   eax, gs:[ebx]
    0x66, 0xa3, 0x08, 0x80,                               // mov   [RESULTS + 8], eax
    0xba, 0x10, 0x05,                                     // mov   dx, MODULE_PORT
    0xb0, 0x01,                                           // mov   al, UNPLUG
    0xee,                                                 // out   dx, al
    0x65, 0x67, 0x66, 0x8b, 0x03,                         // mov   eax, gs:[ebx]
    0x66, 0xa3, 0x0c, 0x80,                               // mov   [RESULTS + 12], eax
    0xb0, 0x02,                                           // mov   al, PLUG
    0xee,                                                 // out   dx, al
    0x65, 0x67, 0x66, 0x8b, 0x03,                         // mov   eax, gs:[ebx]
    0x66, 0xa3, 0x10, 0x80,                               // mov   [RESULTS + 16], eax
    0x65, 0x67, 0x66, 0xc7, 0x83, 0x00, 0x40, 0x00, 0x00, // mov   dword gs:[ebx + 0x4000],
    0x44, 0x49, 0x4d, 0x4d,                               //       SECOND_MODULE_VALUE
    // Step 4.
    0x2e, 0xc6, 0x06, 0x00, 0xf0, 0x00,                   // mov   byte cs:[MAIN], 0
    0x2e, 0x66, 0x0f, 0xb6, 0x06, 0x00, 0xf0,             // movzx eax, byte cs:[MAIN]
    0x66, 0xa3, 0x14, 0x80,                               // mov   [RESULTS + 20], eax
    0xbe, 0xc0, 0xf3,                                     // mov   si, TEXT[3]
    0xe8, 0x3d, 0x01,                                     // call  PUTS
    0xf4,                                                 // hlt
];

/// Sums up the words of every other page in `[edi, ebp)`.
#[rustfmt::skip]
const SUM: &[u8] = &[
    0x66, 0x31, 0xc0,                                     // xor   eax, eax
    0x65, 0x67, 0x66, 0x03, 0x07,                         // word: add eax, gs:[edi]
    0x66, 0x83, 0xc7, 0x04,                               // add   edi, 4
    0xf7, 0xc7, 0x00, 0x10,                               // test  di, 4096
    0x74, 0x07,                                           // jz    next
    0x66, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00,             // add   edi, 4096
    0x66, 0x39, 0xef,                                     // next: cmp edi, ebp
    0x72, 0xe5,                                           // jb    word
    0xc3,                                                 // ret
];

/// Prints the text at `cs:si` up to a zero byte.
#[rustfmt::skip]
const PUTS: &[u8] = &[
    0xba, 0xf8, 0x03,                                     // mov   dx, SERIAL_PORT
    0x2e, 0xac,                                           // byte: lodsb al, cs:[si]
    0x84, 0xc0,                                           // test  al, al
    0x74, 0x03,                                           // jz    end
    0xee,                                                 // out   dx, al
    0xeb, 0xf7,                                           // jmp   byte
    0xc3,                                                 // end: ret
];

/// Segment descriptors, and 16 bytes on what `lgdt` wants to know about them.
#[rustfmt::skip]
const GDT: &[u8] = &[
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,       // nothing
    // Flat writable data. The accessed bit is set, or the processor would try to set it here.
    0xff, 0xff, 0x00, 0x00, 0x00, 0x93, 0xcf, 0x00,
    0x0f, 0x00, 0x80, 0xf2, 0xff, 0xff,                   // 16 bytes at 0xffff_0000 + GDT_AT
];

/// Returns the image, to be mapped so that it ends at 4 GiB, with work to do in `area` or without.
pub(crate) fn image(area: Option<WorkArea>) -> Vec<u8> {
    let mut image = vec![0xff; IMAGE_BYTES];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(RESET_AT, RESET);
    put(MAIN_AT, MAIN);
    put(SUM_AT, SUM);
    put(PUTS_AT, PUTS);
    put(GDT_AT, GDT);
    put(
        WORK_AT,
        &area.map_or(NO_PROGRAM.to_vec(), WorkArea::program),
    );
    for (index, line) in LINES.iter().chain([&WORK_LINE]).enumerate() {
        put(
            TEXT_AT + index * TEXT_BYTES_EACH,
            format!("{line}\n\0").as_bytes(),
        );
    }
    image
}

/// Returns every other page of an area.
pub(crate) fn every_other_page(area: Range<u64>) -> impl Iterator<Item = u64> {
    area.step_by(2 * PAGE_LEN)
}

/// Returns one address in each page that the guest writes.
pub(crate) fn written_pages() -> impl Iterator<Item = u64> {
    let single = [
        STACK_END - 1,
        RESULTS,
        ACKNOWLEDGEMENT,
        MODULE_WORD,
        SECOND_MODULE_WORD,
    ];
    every_other_page(FILL_AREA).chain(single)
}

/// Returns the sequence of numbers that the guest writes, without end.
pub(crate) fn sequence() -> impl Iterator<Item = u32> {
    let step = |word: &u32| Some(word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    std::iter::successors(Some(SEED), step).skip(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code cannot name the constants, so compare what it holds with them.
    #[test]
    fn the_code_agrees_with_the_constants() {
        let holds = |bytes: &[u8]| MAIN.windows(bytes.len()).any(|window| window == bytes);
        for address in [
            FILL_AREA.start,
            FILL_AREA.end,
            DEVICE_AREA.start,
            DEVICE_AREA.end,
            MODULE_WORD,
        ] {
            assert!(
                holds(&u32::try_from(address).unwrap().to_le_bytes()),
                "{address:#x}"
            );
        }
        for address in [
            STACK_END,
            RESULTS,
            REQUEST,
            ACKNOWLEDGEMENT,
            SECOND_MODULE_WORD - MODULE_WORD,
        ] {
            assert!(
                holds(&u16::try_from(address).unwrap().to_le_bytes()),
                "{address:#x}"
            );
        }
        for value in [REQUEST_NUMBER, MODULE_VALUE, SECOND_MODULE_VALUE, SEED] {
            assert!(holds(&value.to_le_bytes()), "{value:#x}");
        }
        assert!(holds(&MODULE_PORT.to_le_bytes()));
        assert!(holds(&[0xb0, UNPLUG, 0xee]) && holds(&[0xb0, PLUG, 0xee]));
        assert_eq!(u32::from(MAIN[0]), OVERWRITE_VALUE);
        assert!(
            PUTS.windows(2)
                .any(|window| window == SERIAL_PORT.to_le_bytes())
        );
    }

    #[test]
    fn the_parts_of_the_image_do_not_overlap() {
        assert!(MAIN_AT + MAIN.len() <= SUM_AT);
        assert!(SUM_AT + SUM.len() <= PUTS_AT);
        assert!(PUTS_AT + PUTS.len() <= GDT_AT);
        assert!(GDT_AT + GDT.len() <= TEXT_AT);
        assert!(TEXT_AT + (LINES.len() + 1) * TEXT_BYTES_EACH <= WORK_AT);
        assert!(WORK_AT + WorkArea::in_ram(2 << 20).program().len() <= RESET_AT);
        let mut lines = LINES.iter().chain([&WORK_LINE]);
        assert!(lines.all(|line| line.len() + 2 <= TEXT_BYTES_EACH));
    }
}
