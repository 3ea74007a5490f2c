// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the guest runs: a boot sector that the firmware loads from the disk under test.
//!
//! The disk has 64 slots of 4 KiB behind the boot sector's own, and the guest a page of memory for each. The guest counts
//! rounds; each round deals with one slot:
//! 1. compare the slot's page, which the device filled a whole turn ago, with what a table says;
//! 2. write numbers made from the round to the slot, and note the round in the table;
//! 3. read the slot into its page.
//!
//! A turn ends with `.` on the serial port, a difference is `!`, a request that fails `?`. Asked by any byte from the
//! port, the guest compares all pages, reads and compares all slots, and says `S`, a sum over them, `N` and the count of
//! rounds. Requests go through the firmware's driver, as calls of the BIOS.

/// Slots on the disk.
pub(crate) const SLOTS: u32 = 64;
/// The disk's size: firmware wants a cylinder at least.
pub(crate) const DISK_LEN_BYTES: usize = 4 << 20;
const SLOT_LEN_BYTES: usize = 4096;
/// The numbers of a round begin with its count times this, and each is this much larger than the one before.
const FACTOR: u32 = 0x9e37_79b1;
const STEP: u32 = 0x0100_0193;

/// Returns the disk to boot from.
pub(crate) fn disk() -> Vec<u8> {
    let mut disk = vec![0; DISK_LEN_BYTES];
    disk[..PROGRAM.len()].copy_from_slice(PROGRAM);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

/// Returns the slots of `disk` as the numbers in them.
pub(crate) fn slots(disk: &[u8]) -> impl Iterator<Item = Vec<u32>> + '_ {
    let slots = disk[SLOT_LEN_BYTES..].chunks_exact(SLOT_LEN_BYTES);
    slots.take(SLOTS as usize).map(|slot| {
        let numbers = slot.chunks_exact(4);
        numbers
            .map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()))
            .collect()
    })
}

/// Returns the numbers that a slot has after its last round.
pub(crate) fn numbers(round: u32) -> Vec<u32> {
    let first = round.wrapping_mul(FACTOR);
    let count = u32::try_from(SLOT_LEN_BYTES / 4).unwrap();
    (0..count)
        .map(|index| first.wrapping_add(index.wrapping_mul(STEP)))
        .collect()
}

/// Returns the last round, not after `last`, that dealt with `slot`.
pub(crate) fn round_of(slot: u32, last: u32) -> u32 {
    last - last.wrapping_sub(slot) % SLOTS
}

/// Returns the guest's sum over all slots.
pub(crate) fn sum(disk: &[u8]) -> u32 {
    slots(disk).flatten().fold(0, |sum: u32, number| {
        sum.rotate_left(1).wrapping_add(number)
    })
}

// TABLE = 0x8000, COUNT = 0x8100, DRIVE = 0x8104; PACKET = 0x8200: what the BIOS is asked for; OUT = 0x9000: a slot to write.
// The slots' pages begin at 0x10000. LINE_STATUS = 0x3fd.
#[rustfmt::skip]
const PROGRAM: &[u8] = &[
    0xfa,                                                   // cli
    0xfc,                                                   // cld
    0x31, 0xc0,                                             // xor ax, ax
    0x8e, 0xd8,                                             // mov ds, ax
    0x8e, 0xc0,                                             // mov es, ax
    0x8e, 0xd0,                                             // mov ss, ax
    0xbc, 0x00, 0x7c,                                       // mov sp, 0x7c00
    0xfb,                                                   // sti
    0xbf, 0x00, 0x80,                                       // mov di, TABLE
    0xb9, 0x00, 0x03,                                       // mov cx, 0x300
    0xf3, 0xaa,                                             // rep stosb
    0x88, 0x16, 0x04, 0x81,                                 // mov [DRIVE], dl
    0x66, 0xc7, 0x06, 0x00, 0x82, 0x10, 0x00, 0x08, 0x00,   // mov [PACKET], 0x80010
    // MAIN: until the host asks: the next slot.
    0xba, 0xfd, 0x03,                                       // mov dx, LINE_STATUS
    0xec,                                                   // in al, dx
    0xa8, 0x01,                                             // test al, 1
    0x0f, 0x85, 0xc6, 0x00,                                 // jne FINISH
    0x66, 0xff, 0x06, 0x00, 0x81,                           // inc [COUNT]
    0x8b, 0x1e, 0x00, 0x81,                                 // mov bx, [COUNT]
    0x83, 0xe3, 0x3f,                                       // and bx, 63
    0xe8, 0x75, 0x00,                                       // call VERIFY
    0x66, 0xa1, 0x00, 0x81,                                 // mov eax, [COUNT]
    0x89, 0xde,                                             // mov si, bx
    0xc1, 0xe6, 0x02,                                       // shl si, 2
    0x66, 0x89, 0x84, 0x00, 0x80,                           // mov [si + TABLE], eax
    0x66, 0x69, 0xc0, 0xb1, 0x79, 0x37, 0x9e,               // imul eax, eax, FACTOR
    0x1e,                                                   // push ds
    0x07,                                                   // pop es
    0xbf, 0x00, 0x90,                                       // mov di, OUT
    0xb9, 0x00, 0x04,                                       // mov cx, 1024
    0x66, 0xab,                                             // fill: stosd
    0x66, 0x05, 0x93, 0x01, 0x00, 0x01,                     // add eax, STEP
    0xe2, 0xf6,                                             // loop fill
    0x66, 0xc7, 0x06, 0x04, 0x82, 0x00, 0x90, 0x00, 0x00,   // mov [PACKET + 4], OUT
    0xb8, 0x00, 0x43,                                       // mov ax, 0x4300
    0xe8, 0x22, 0x00,                                       // call TRANSFER
    0xe8, 0x0b, 0x00,                                       // call READ
    0x85, 0xdb,                                             // test bx, bx
    0x75, 0xaa,                                             // jne MAIN
    0xb0, 0x2e,                                             // mov al, '.'
    0xe8, 0x67, 0x00,                                       // call PUT
    0xeb, 0xa3,                                             // jmp MAIN
    // READ: the slot bx into its buffer.
    0x89, 0xd8,                                             // mov ax, bx
    0xc1, 0xe0, 0x08,                                       // shl ax, 8
    0x05, 0x00, 0x10,                                       // add ax, 0x1000
    0xc7, 0x06, 0x04, 0x82, 0x00, 0x00,                     // mov [PACKET + 4], 0
    0xa3, 0x06, 0x82,                                       // mov [PACKET + 6], ax
    0xb8, 0x00, 0x42,                                       // mov ax, 0x4200
    // TRANSFER: command ah for the slot bx.
    0x89, 0xd9,                                             // mov cx, bx
    0x41,                                                   // inc cx
    0xc1, 0xe1, 0x03,                                       // shl cx, 3
    0x89, 0x0e, 0x08, 0x82,                                 // mov [PACKET + 8], cx
    0xbe, 0x00, 0x82,                                       // mov si, PACKET
    0x8a, 0x16, 0x04, 0x81,                                 // mov dl, [DRIVE]
    0x53,                                                   // push bx
    0xcd, 0x13,                                             // int 0x13
    0x5b,                                                   // pop bx
    0x73, 0x05,                                             // jnc ok
    0xb0, 0x3f,                                             // mov al, '?'
    0xe8, 0x35, 0x00,                                       // call PUT
    0xc3,                                                   // ok: ret
    // VERIFY: compares the buffer of slot bx with what the table says.
    0x89, 0xd8,                                             // mov ax, bx
    0xc1, 0xe0, 0x08,                                       // shl ax, 8
    0x05, 0x00, 0x10,                                       // add ax, 0x1000
    0x8e, 0xc0,                                             // mov es, ax
    0x31, 0xff,                                             // xor di, di
    0x89, 0xde,                                             // mov si, bx
    0xc1, 0xe6, 0x02,                                       // shl si, 2
    0x66, 0x8b, 0x84, 0x00, 0x80,                           // mov eax, [si + TABLE]
    0x66, 0x85, 0xc0,                                       // test eax, eax
    0x74, 0x16,                                             // je done
    0x66, 0x69, 0xc0, 0xb1, 0x79, 0x37, 0x9e,               // imul eax, eax, FACTOR
    0xb9, 0x00, 0x04,                                       // mov cx, 1024
    0x66, 0xaf,                                             // compare: scasd
    0x75, 0x09,                                             // jne differs
    0x66, 0x05, 0x93, 0x01, 0x00, 0x01,                     // add eax, STEP
    0xe2, 0xf4,                                             // loop compare
    0xc3,                                                   // done: ret
    0xb0, 0x21,                                             // differs: mov al, '!'
    // PUT: says al.
    0x50,                                                   // push ax
    0xba, 0xfd, 0x03,                                       // mov dx, LINE_STATUS
    0xec,                                                   // busy: in al, dx
    0xa8, 0x20,                                             // test al, 0x20
    0x74, 0xfb,                                             // je busy
    0x58,                                                   // pop ax
    0xb2, 0xf8,                                             // mov dl, 0xf8
    0xee,                                                   // out dx, al
    0xc3,                                                   // ret
    // FINISH: the host has asked.
    0x66, 0x31, 0xed,                                       // xor ebp, ebp
    0x31, 0xdb,                                             // xor bx, bx
    0xe8, 0xb6, 0xff,                                       // slot: call VERIFY
    0xe8, 0x82, 0xff,                                       // call READ
    0xe8, 0xb0, 0xff,                                       // call VERIFY
    0x31, 0xff,                                             // xor di, di
    0xb9, 0x00, 0x04,                                       // mov cx, 1024
    0x66, 0xd1, 0xc5,                                       // sum: rol ebp, 1
    0x26, 0x66, 0x03, 0x2d,                                 // add ebp, es:[di]
    0x83, 0xc7, 0x04,                                       // add di, 4
    0xe2, 0xf4,                                             // loop sum
    0x43,                                                   // inc bx
    0x83, 0xfb, 0x40,                                       // cmp bx, 64
    0x72, 0xe0,                                             // jb slot
    0xb0, 0x53,                                             // mov al, 'S'
    0xe8, 0xc8, 0xff,                                       // call PUT
    0xe8, 0x15, 0x00,                                       // call HEX
    0x66, 0x8b, 0x2e, 0x00, 0x81,                           // mov ebp, [COUNT]
    0xb0, 0x4e,                                             // mov al, 'N'
    0xe8, 0xbb, 0xff,                                       // call PUT
    0xe8, 0x08, 0x00,                                       // call HEX
    0xb0, 0x0a,                                             // mov al, '\n'
    0xe8, 0xb3, 0xff,                                       // call PUT
    0xf4,                                                   // halt: hlt
    0xeb, 0xfd,                                             // jmp halt
    // HEX: says the digits of ebp.
    0xb9, 0x08, 0x00,                                       // mov cx, 8
    0x66, 0xc1, 0xc5, 0x04,                                 // digit: rol ebp, 4
    0x89, 0xe8,                                             // mov ax, bp
    0x24, 0x0f,                                             // and al, 0xf
    0x3c, 0x0a,                                             // cmp al, 0xa
    0x1c, 0x69,                                             // sbb al, 0x69
    0x2f,                                                   // das
    0xe8, 0x9d, 0xff,                                       // call PUT
    0xe2, 0xee,                                             // loop digit
    0xc3,                                                   // ret
];
