// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Streams over several regions: every byte lands where it belongs, every error says how far it came.

use std::io::ErrorKind;

use guest_memory_bitmap::BitmapSlice;
use guest_memory_core::{
    Bytes, GuestAddress, GuestMemoryError as Error, Operation, VolatileMemoryError,
};
use guest_memory_volatile::{ReadVolatile, VolatileMemoryResult, VolatileSlice, WriteVolatile};

use crate::toy::{Kind, Toy, dirty, memory};

/// Gives or takes as many bytes as told, call by call, then an error or nothing more.
struct Drip {
    steps: Vec<usize>,
    end: Option<ErrorKind>,
    next: u8,
    taken: Vec<u8>,
}

impl Drip {
    fn new(steps: &[usize], end: Option<ErrorKind>) -> Self {
        Self {
            steps: steps.iter().rev().copied().collect(),
            end,
            next: 1,
            taken: Vec::new(),
        }
    }

    fn step(&mut self, room: usize) -> VolatileMemoryResult<usize> {
        match (self.steps.pop(), self.end) {
            (Some(step), _) => Ok(usize::min(step, room)),
            (None, Some(kind)) => Err(VolatileMemoryError::IOError(kind.into())),
            (None, None) => Ok(0),
        }
    }
}

impl ReadVolatile for Drip {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        buf: &mut VolatileSlice<'_, B>,
    ) -> VolatileMemoryResult<usize> {
        let count = self.step(buf.len())?;
        for at in 0..count {
            buf.write_obj(self.next, at)?;
            self.next += 1;
        }
        Ok(count)
    }
}

impl WriteVolatile for Drip {
    fn write_volatile<B: BitmapSlice>(
        &mut self,
        buf: &VolatileSlice<'_, B>,
    ) -> VolatileMemoryResult<usize> {
        let count = self.step(buf.len())?;
        for at in 0..count {
            self.taken.push(buf.read_obj(at)?);
        }
        Ok(count)
    }
}

fn ram() -> guest_memory_core::GuestRegionCollection<Toy> {
    memory(&[(0x100, 16, Kind::Ram), (0x110, 16, Kind::Ram)])
}

/// The bytes around the border of the regions.
fn border(memory: &guest_memory_core::GuestRegionCollection<Toy>) -> [u8; 16] {
    memory.read_obj(GuestAddress(0x108)).unwrap()
}

#[test]
fn a_short_read_ends_the_access_where_its_last_byte_landed() {
    let memory = ram();
    let mut drip = Drip::new(&[3, 5], None);
    assert_eq!(
        memory
            .read_volatile_from(GuestAddress(0x108), &mut drip, 16)
            .unwrap(),
        3
    );
    assert_eq!(
        memory
            .read_volatile_from(GuestAddress(0x10b), &mut drip, 13)
            .unwrap(),
        5
    );
    assert_eq!(
        border(&memory),
        [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]
    );
}

#[test]
fn an_exact_read_goes_on_after_short_ones_and_over_the_border() {
    let memory = ram();
    let mut drip = Drip::new(&[3, 1, 8, 2, 2, 9], None);
    memory
        .read_exact_volatile_from(GuestAddress(0x108), &mut drip, 16)
        .unwrap();
    assert_eq!(
        border(&memory),
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
    );
    assert_eq!(dirty(&memory), [0x108, 0x110]);

    let mut drip = Drip::new(&[5, 7, 1, 9], None);
    memory
        .write_all_volatile_to(GuestAddress(0x108), &mut drip, 16)
        .unwrap();
    assert_eq!(drip.taken, (1..=16).collect::<Vec<u8>>());
}

#[test]
fn the_end_of_a_stream_is_a_short_count() {
    let memory = ram();
    let addr = GuestAddress(0x108);
    let mut drip = Drip::new(&[8, 2], None);
    assert!(matches!(
        memory.read_exact_volatile_from(addr, &mut drip, 16),
        Err(Error::PartialBuffer {
            expected: 16,
            completed: 10
        })
    ));
    let mut drip = Drip::new(&[6], None);
    assert!(matches!(
        memory.write_all_volatile_to(addr, &mut drip, 16),
        Err(Error::PartialBuffer {
            expected: 16,
            completed: 6
        })
    ));
    let mut drip = Drip::new(&[], None);
    assert_eq!(memory.read_volatile_from(addr, &mut drip, 16).unwrap(), 0);
    assert!(matches!(
        memory.read_exact_volatile_from(addr, &mut drip, 16),
        Err(Error::PartialBuffer {
            expected: 16,
            completed: 0
        })
    ));
}

#[test]
fn a_failing_stream_is_told_from_one_that_ended_and_its_count_is_kept() {
    let memory = ram();
    let addr = GuestAddress(0x108);
    let would_block = Some(ErrorKind::WouldBlock);
    for steps in [&[8, 2][..], &[3, 5, 1, 1]] {
        let error = memory
            .read_exact_volatile_from(addr, &mut Drip::new(steps, would_block), 16)
            .unwrap_err();
        assert!(matches!(error, Error::Access {
            operation: Operation::ReadFromStream,
            address: GuestAddress(0x108),
            length: 16,
            completed: 10,
            source: VolatileMemoryError::IOError(cause),
        } if cause.kind() == ErrorKind::WouldBlock));
    }
    // What gives a count keeps to it: the next call meets the failure.
    let mut drip = Drip::new(&[8], would_block);
    let count = memory.read_volatile_from(addr, &mut drip, 16).unwrap();
    assert_eq!(count, 8);
    let error = memory.read_volatile_from(addr, &mut drip, 16).unwrap_err();
    assert!(matches!(error, Error::IOError(cause) if cause.kind() == ErrorKind::WouldBlock));
    let error = memory
        .write_volatile_to(addr, &mut Drip::new(&[], would_block), 16)
        .unwrap_err();
    assert!(matches!(error, Error::IOError(cause) if cause.kind() == ErrorKind::WouldBlock));
}

/// Fails with an end of its own, which has more to tell.
struct Corrupt;

impl ReadVolatile for Corrupt {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        _buf: &mut VolatileSlice<'_, B>,
    ) -> VolatileMemoryResult<usize> {
        let cause = std::io::Error::new(ErrorKind::UnexpectedEof, "header ends early");
        Err(VolatileMemoryError::IOError(cause))
    }
}

#[test]
fn a_failure_of_the_kind_of_an_end_is_still_a_failure() {
    let memory = ram();
    let error = memory
        .read_exact_volatile_from(GuestAddress(0x108), &mut Corrupt, 8)
        .unwrap_err();
    assert!(matches!(error, Error::IOError(cause) if cause.to_string() == "header ends early"));
}

#[test]
fn memory_that_ends_is_a_short_count_and_the_stream_keeps_the_rest() {
    let memory = ram();
    let mut source: &[u8] = &[7; 12];
    assert_eq!(
        memory
            .read_volatile_from(GuestAddress(0x118), &mut source, 12)
            .unwrap(),
        8
    );
    assert_eq!(source.len(), 4);
    assert!(matches!(
        memory.read_exact_volatile_from(GuestAddress(0x11e), &mut source, 4),
        Err(Error::PartialBuffer {
            expected: 4,
            completed: 2
        })
    ));
    let mut untouched: &[u8] = &[7; 4];
    assert!(matches!(
        memory.read_volatile_from(GuestAddress(0x120), &mut untouched, 4),
        Err(Error::InvalidGuestAddress(GuestAddress(0x120)))
    ));
    assert_eq!(untouched.len(), 4);
    assert_eq!(
        memory
            .read_volatile_from(GuestAddress(0x120), &mut untouched, 0)
            .unwrap(),
        0
    );
}

#[test]
fn a_stream_into_read_only_memory_is_not_read() {
    let memory = memory(&[(0x100, 16, Kind::Rom)]);
    let mut source: &[u8] = &[7; 4];
    assert!(matches!(
        memory.read_volatile_from(GuestAddress(0x100), &mut source, 4),
        Err(Error::Access {
            source: VolatileMemoryError::ReadOnly { .. },
            ..
        })
    ));
    assert_eq!(source.len(), 4);
    let mut out = Vec::new();
    assert_eq!(
        memory
            .write_volatile_to(GuestAddress(0x100), &mut out, 4)
            .unwrap(),
        4
    );
}
