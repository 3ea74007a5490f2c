// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The data of a request moves in one call, however the driver has cut it.
#![expect(clippy::unwrap_used, reason = "tests may unwrap, in helpers too")]

#[expect(dead_code, reason = "other tests need more of it")]
#[path = "requests/guest.rs"]
mod guest;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;

use blk::{Disk, FileDisk, ID_LEN_BYTES};
use guest::*;
use virtio_queue::desc::split::Descriptor;
use vm_memory::bitmap::BitmapSlice;
use vm_memory::{
    Bytes, GuestAddress, ReadVolatile, VolatileMemoryResult, VolatileSlice, WriteVolatile,
};

const PIECE_LEN_BYTES: u32 = 128;

#[test]
fn a_request_of_one_descriptor_is_one_plain_call() {
    let guest = guest();
    guest.run_with_data(READ, 3, 1024, WRITE);
    guest.run_with_data(OVERWRITE, 3, 1024, 0);
    assert_eq!(guest.disk.calls(), [Call::Plain, Call::Plain]);
}

#[test]
fn all_descriptors_of_a_request_move_in_one_call() {
    for kind in [READ, OVERWRITE] {
        let guest = guest();
        run_in_pieces(&guest, kind, 8);
        assert_eq!(guest.disk.calls(), [Call::Vectored(8)]);
        run_in_pieces(&guest, kind, 64);
        assert_eq!(guest.disk.calls(), [Call::Vectored(64)]);
    }
}

#[test]
fn more_than_64_descriptors_move_in_rounds() {
    for kind in [READ, OVERWRITE] {
        let guest = guest();
        run_in_pieces(&guest, kind, 160);
        let rounds = [64, 64, 32].map(Call::Vectored);
        assert_eq!(guest.disk.calls(), rounds);
    }
}

#[test]
fn a_buffer_outside_memory_keeps_all_others_untouched() {
    let guest = guest();
    let answer = guest.header(READ, 3).run(&[
        Descriptor::new(HEADER, 16, NEXT, 1),
        Descriptor::new(DATA, 512, NEXT | WRITE, 2),
        Descriptor::new(MEMORY_LEN_BYTES as u64, 512, NEXT | WRITE, 3),
        Descriptor::new(STATUS, 1, WRITE, 0),
    ]);
    assert_eq!(answer, (IO_ERROR, 0));
    assert_eq!(guest.disk.calls(), []);
    assert_eq!(guest.bytes(DATA, 512), [0; 512]);
}

/// Reads or overwrites the disk from sector 3 on with a chain of so many descriptors of data, and compares.
fn run_in_pieces(guest: &Guest<Counting>, kind: u32, count: u16) {
    let flags = if kind == READ { WRITE } else { 0 };
    // Pieces that do not touch, so that each is a slice of its own.
    let addresses = (0..u64::from(count)).map(|piece| DATA + 0x800 + 0x100 * piece);
    for (address, byte) in addresses.clone().zip(1..) {
        let bytes = [byte; PIECE_LEN_BYTES as usize];
        let bytes = if kind == READ { [0; _] } else { bytes };
        guest
            .memory
            .write_slice(&bytes, GuestAddress(address))
            .unwrap();
    }
    let mut chain = vec![Descriptor::new(HEADER, 16, NEXT, 1)];
    for (address, next) in addresses.clone().zip(2..) {
        chain.push(Descriptor::new(
            address,
            PIECE_LEN_BYTES,
            NEXT | flags,
            next,
        ));
    }
    chain.push(Descriptor::new(STATUS, 1, WRITE, 0));
    let written = if kind == READ {
        u32::from(count) * PIECE_LEN_BYTES
    } else {
        0
    };
    let answer = guest.header(kind, 3).run_indirect(&chain);
    assert_eq!(answer, (OK, written + 1));

    let mut on_disk = vec![0; usize::from(count) * PIECE_LEN_BYTES as usize];
    guest
        .disk
        .file
        .read_exact_at(&mut on_disk, 3 * 512)
        .unwrap();
    let in_memory: Vec<u8> = addresses
        .flat_map(|address| guest.bytes(address, PIECE_LEN_BYTES as usize))
        .collect();
    assert_eq!(in_memory, on_disk);
    assert!(
        in_memory
            .chunks(128)
            .zip(1..)
            .all(|(piece, byte)| piece == [byte; 128])
    );
}

/// A guest whose disk has 1 in each of the 128 bytes from sector 3 on, then 2, and so on.
fn guest() -> Guest<Counting> {
    let file = tempfile::tempfile().unwrap();
    file.set_len(DISK_LEN_BYTES as u64).unwrap();
    let pieces: Vec<u8> = (1..=160).flat_map(|byte| [byte; 128]).collect();
    file.write_all_at(&pieces, 3 * 512).unwrap();
    Guest::with_disk(Counting {
        disk: FileDisk::new(file.try_clone().unwrap(), "counted").unwrap(),
        file,
        calls: Mutex::default(),
    })
}

/// One call of a stream, and how many slices it was given.
#[derive(Debug, PartialEq)]
enum Call {
    Plain,
    Vectored(usize),
}

/// A disk in a file that notes the calls its streams get; each of them is one system call.
struct Counting {
    disk: FileDisk,
    file: File,
    calls: Mutex<Vec<Call>>,
}

impl Counting {
    /// Returns the calls since it was last asked.
    fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

impl Disk for Counting {
    fn len_bytes(&self) -> u64 {
        self.disk.len_bytes()
    }

    fn id(&self) -> [u8; ID_LEN_BYTES] {
        self.disk.id()
    }

    fn reader_at(&self, offset: u64) -> impl ReadVolatile + '_ {
        Counted {
            inner: self.disk.reader_at(offset),
            calls: &self.calls,
        }
    }

    fn writer_at(&self, offset: u64) -> impl WriteVolatile + '_ {
        Counted {
            inner: self.disk.writer_at(offset),
            calls: &self.calls,
        }
    }

    fn flush(&self) -> io::Result<()> {
        self.disk.flush()
    }
}

struct Counted<'a, S> {
    inner: S,
    calls: &'a Mutex<Vec<Call>>,
}

impl<S> Counted<'_, S> {
    fn note(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }
}

impl<S: ReadVolatile> ReadVolatile for Counted<'_, S> {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        buf: &mut VolatileSlice<'_, B>,
    ) -> VolatileMemoryResult<usize> {
        self.note(Call::Plain);
        self.inner.read_volatile(buf)
    }

    fn read_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &mut [VolatileSlice<'_, B>],
    ) -> VolatileMemoryResult<usize> {
        self.note(Call::Vectored(bufs.len()));
        self.inner.read_vectored_volatile(bufs)
    }
}

impl<S: WriteVolatile> WriteVolatile for Counted<'_, S> {
    fn write_volatile<B: BitmapSlice>(
        &mut self,
        buf: &VolatileSlice<'_, B>,
    ) -> VolatileMemoryResult<usize> {
        self.note(Call::Plain);
        self.inner.write_volatile(buf)
    }

    fn write_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &[VolatileSlice<'_, B>],
    ) -> VolatileMemoryResult<usize> {
        self.note(Call::Vectored(bufs.len()));
        self.inner.write_vectored_volatile(bufs)
    }
}
