// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Streams that take many slices at once: what they are given, and what happens where a slice cannot take part.

use std::io::ErrorKind;

use guest_memory_bitmap::{AtomicBitmap, BS, BitmapSlice};
use guest_memory_core::{
    Bytes, FaultKind, GuestAddress, GuestMemoryError as Error, GuestMemoryResult,
    GuestMemorySliceIterator, GuestRegionCollection, IoMemory, Operation, Permissions,
    VolatileMemoryError,
};
use guest_memory_volatile::{ReadVolatile, VolatileMemoryResult, VolatileSlice, WriteVolatile};

use crate::toy::{Kind, Toy, dirty, memory};

/// What a stream answers to one call.
#[derive(Clone, Copy)]
enum Step {
    /// So many bytes, or as many as there is room for.
    Bytes(usize),
    Fails(ErrorKind),
    Faults,
    /// Claims a byte more than it was given.
    Lies,
}

use Step::{Bytes as Moves, Fails, Faults, Lies};

/// Moves counted bytes across the slices of a call, as told, and remembers what it was given.
struct Across {
    steps: Vec<Step>,
    next: u8,
    taken: Vec<u8>,
    /// Slices of each call.
    given: Vec<Vec<usize>>,
}

impl Across {
    fn new(steps: &[Step]) -> Self {
        Self {
            steps: steps.iter().rev().copied().collect(),
            next: 1,
            taken: Vec::new(),
            given: Vec::new(),
        }
    }

    /// Returns how many bytes each slice gets, and what the answer is.
    fn step(&mut self, lens: Vec<usize>) -> VolatileMemoryResult<(Vec<usize>, usize)> {
        let room = lens.iter().sum();
        self.given.push(lens.clone());
        let (count, answer) = match self.steps.pop() {
            Some(Moves(count)) => (count.min(room), count.min(room)),
            Some(Fails(kind)) => return Err(VolatileMemoryError::IOError(kind.into())),
            Some(Faults) => {
                return Err(VolatileMemoryError::Fault {
                    addr: 0,
                    completed: 0,
                    kind: FaultKind::System,
                });
            }
            Some(Lies) => (room, room + 1),
            None => (0, 0),
        };
        let mut left = count;
        let portions = lens.into_iter().map(|len| {
            let here = left.min(len);
            left -= here;
            here
        });
        Ok((portions.collect(), answer))
    }
}

impl ReadVolatile for Across {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        buf: &mut VolatileSlice<'_, B>,
    ) -> VolatileMemoryResult<usize> {
        self.read_vectored_volatile(std::slice::from_mut(buf))
    }

    fn read_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &mut [VolatileSlice<'_, B>],
    ) -> VolatileMemoryResult<usize> {
        let (portions, answer) = self.step(bufs.iter().map(VolatileSlice::len).collect())?;
        for (buf, portion) in bufs.iter().zip(portions) {
            for at in 0..portion {
                buf.write_obj(self.next, at)?;
                self.next = self.next.wrapping_add(1);
            }
        }
        Ok(answer)
    }
}

impl WriteVolatile for Across {
    fn write_volatile<B: BitmapSlice>(
        &mut self,
        buf: &VolatileSlice<'_, B>,
    ) -> VolatileMemoryResult<usize> {
        self.write_vectored_volatile(std::slice::from_ref(buf))
    }

    fn write_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &[VolatileSlice<'_, B>],
    ) -> VolatileMemoryResult<usize> {
        let (portions, answer) = self.step(bufs.iter().map(VolatileSlice::len).collect())?;
        for (buf, portion) in bufs.iter().zip(portions) {
            for at in 0..portion {
                self.taken.push(buf.read_obj(at)?);
            }
        }
        Ok(answer)
    }
}

/// Regions of eight bytes, one behind the other from 0x100 on.
fn regions(kinds: &[Kind]) -> GuestRegionCollection<Toy> {
    let toys = kinds
        .iter()
        .enumerate()
        .map(|(at, &kind)| (0x100 + 8 * at as u64, 8, kind));
    memory(&toys.collect::<Vec<_>>())
}

fn content(memory: &GuestRegionCollection<Toy>, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    memory.read_slice(&mut bytes, GuestAddress(0x100)).unwrap();
    bytes
}

/// The bytes 1, 2, 3 and so on from `offset` on, in memory of `len` bytes.
fn counted(offset: usize, count: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for (byte, value) in bytes[offset..][..count].iter_mut().zip(1..) {
        *byte = value;
    }
    bytes
}

#[test]
fn a_stream_is_given_all_slices_at_once() {
    let memory = regions(&[Kind::Ram; 3]);
    let mut stream = Across::new(&[Moves(99)]);
    let addr = GuestAddress(0x103);
    let came = memory.read_volatile_from(addr, &mut stream, 20).unwrap();
    assert_eq!((came, &stream.given), (20, &vec![vec![5, 8, 7]]));
    assert_eq!(content(&memory, 24), counted(3, 20, 24));
    assert_eq!(dirty(&memory), [0x100, 0x108, 0x110]);
    let mut stream = Across::new(&[Moves(99)]);
    let went = memory.write_volatile_to(addr, &mut stream, 20).unwrap();
    assert_eq!((went, &stream.given), (20, &vec![vec![5, 8, 7]]));
    assert_eq!(stream.taken, counted(0, 20, 20));
}

#[test]
fn more_slices_than_go_at_once_go_one_batch_after_the_other() {
    let memory = regions(&[Kind::Ram; 20]);
    let addr = GuestAddress(0x100);
    let mut stream = Across::new(&[Moves(99); 2]);
    stream.steps[1] = Moves(128);
    assert_eq!(
        memory.read_volatile_from(addr, &mut stream, 160).unwrap(),
        160
    );
    assert_eq!(stream.given, [vec![8; 16], vec![8; 4]]);
    // A short count ends it, a failure behind the first batch does as well.
    for (steps, moved) in [
        (&[Moves(127), Moves(9)][..], 127),
        (&[Moves(7), Moves(9)], 7),
        (&[Moves(128), Moves(9)], 137),
        (&[Moves(128), Fails(ErrorKind::WouldBlock)], 128),
        (&[Moves(128), Fails(ErrorKind::Interrupted), Moves(3)], 131),
    ] {
        let memory = regions(&[Kind::Ram; 20]);
        let mut stream = Across::new(steps);
        let came = memory.read_volatile_from(addr, &mut stream, 160).unwrap();
        assert_eq!(came, moved);
        assert_eq!(content(&memory, 160), counted(0, moved, 160));
    }
    // The exact forms go on.
    let steps = [
        Moves(3),
        Fails(ErrorKind::Interrupted),
        Moves(60),
        Moves(99),
        Moves(1),
        Moves(99),
    ];
    let memory = regions(&[Kind::Ram; 20]);
    memory
        .read_exact_volatile_from(addr, &mut Across::new(&steps), 160)
        .unwrap();
    assert_eq!(content(&memory, 160), counted(0, 160, 160));
    let mut stream = Across::new(&steps);
    memory
        .write_all_volatile_to(addr, &mut stream, 160)
        .unwrap();
    assert_eq!(stream.taken, counted(0, 160, 160));
}

#[test]
fn failures_of_exact_forms_count_over_batches() {
    let addr = GuestAddress(0x104);
    for (steps, moved) in [
        (vec![Fails(ErrorKind::WouldBlock)], 0),
        (vec![Moves(13), Fails(ErrorKind::WouldBlock)], 13),
        (
            vec![Moves(124), Moves(7), Moves(2), Fails(ErrorKind::WouldBlock)],
            133,
        ),
    ] {
        let memory = regions(&[Kind::Ram; 20]);
        let error = memory
            .read_exact_volatile_from(addr, &mut Across::new(&steps), 150)
            .unwrap_err();
        match error {
            Error::IOError(cause) => assert_eq!((moved, cause.kind()), (0, ErrorKind::WouldBlock)),
            Error::Access {
                operation: Operation::ReadFromStream,
                address: GuestAddress(0x104),
                length: 150,
                completed,
                source: VolatileMemoryError::IOError(cause),
            } => assert_eq!((completed, cause.kind()), (moved, ErrorKind::WouldBlock)),
            other => panic!("{other}"),
        }
        assert_eq!(content(&memory, 160), counted(4, moved, 160));
        // The same, but the stream ends.
        let mut ended = Across::new(&steps[..steps.len() - 1]);
        let error = memory.write_all_volatile_to(addr, &mut ended, 150);
        assert!(
            matches!(error, Err(Error::PartialBuffer { expected: 150, completed }) if completed == moved)
        );
        assert_eq!(ended.taken.len(), moved);
    }
}

/// A memory of somebody else's that gives out read-only slices for a write.
struct Unchecked(GuestRegionCollection<Toy>);

impl IoMemory for Unchecked {
    type PhysicalMemory = GuestRegionCollection<Toy>;
    type Bitmap = AtomicBitmap;

    fn check_range(&self, addr: GuestAddress, count: usize, _access: Permissions) -> bool {
        IoMemory::check_range(&self.0, addr, count, Permissions::No)
    }

    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        _access: Permissions,
    ) -> GuestMemoryResult<impl GuestMemorySliceIterator<'a, BS<'a, AtomicBitmap>>> {
        IoMemory::get_slices(&self.0, addr, count, Permissions::No)
    }
}

/// Reads up to 30 bytes, or exactly.
fn read_thirty<M: Bytes<GuestAddress, E = Error>>(
    memory: &M,
    is_exact: bool,
    stream: &mut Across,
) -> Error {
    let addr = GuestAddress(0x102);
    let result = if is_exact {
        memory.read_exact_volatile_from(addr, stream, 30)
    } else {
        memory.read_volatile_from(addr, stream, 30).map(|_| ())
    };
    result.unwrap_err()
}

#[test]
fn a_read_only_slice_fails_after_those_before_it() {
    let kinds = [Kind::Ram, Kind::Ram, Kind::Rom, Kind::Ram];
    for is_exact in [false, true] {
        let memory = regions(&kinds);
        let mut stream = Across::new(&[Moves(99); 3]);
        let error = read_thirty(&memory, is_exact, &mut stream);
        assert!(matches!(
            error,
            Error::Interrupted { completed: 14, source, .. } if matches!(
                *source,
                Error::Access { source: VolatileMemoryError::ReadOnly { .. }, .. }
            )
        ));
        assert_eq!(stream.given, [[6, 8]]);
        assert_eq!(content(&memory, 32), counted(2, 14, 32));

        let memory = Unchecked(regions(&kinds));
        let mut stream = Across::new(&[Moves(99); 3]);
        let error = read_thirty(&memory, is_exact, &mut stream);
        assert!(matches!(
            error,
            Error::Access {
                completed: 14,
                source: VolatileMemoryError::ReadOnly { .. },
                ..
            }
        ));
        assert_eq!(stream.given, [[6, 8]]);
        assert_eq!(content(&memory.0, 32), counted(2, 14, 32));
    }
    let memory = Unchecked(regions(&kinds));
    let mut stream = Across::new(&[Moves(99)]);
    memory
        .write_all_volatile_to(GuestAddress(0x102), &mut stream, 30)
        .unwrap();
    assert_eq!(stream.given, [[6, 8, 8, 8]]);
    // At the front it is the first thing.
    let mut stream = Across::new(&[]);
    let error = memory.read_volatile_from(GuestAddress(0x110), &mut stream, 16);
    assert!(matches!(
        error,
        Err(Error::Access {
            completed: 0,
            source: VolatileMemoryError::ReadOnly { .. },
            ..
        })
    ));
    assert!(stream.given.is_empty());
}

#[test]
fn slices_before_one_that_cannot_be_had_are_moved() {
    let memory = regions(&[Kind::Ram, Kind::Ram, Kind::Long]);
    let addr = GuestAddress(0x100);
    let mut stream = Across::new(&[Moves(99)]);
    let error = memory.read_volatile_from(addr, &mut stream, 24);
    assert!(matches!(
        error,
        Err(Error::Interrupted { completed: 16, source, .. }) if matches!(
            *source,
            Error::SliceLength { address: GuestAddress(0x110), expected: 8, actual: 9 }
        )
    ));
    assert_eq!(content(&memory, 16), counted(0, 16, 16));
    // A stream that stops before it does not get that far.
    let mut stream = Across::new(&[Moves(11)]);
    assert_eq!(
        memory.read_volatile_from(addr, &mut stream, 24).unwrap(),
        11
    );
    // Memory that ends is a short count.
    let memory = regions(&[Kind::Ram; 2]);
    let mut stream = Across::new(&[Moves(99)]);
    assert_eq!(
        memory.read_volatile_from(addr, &mut stream, 24).unwrap(),
        16
    );
    assert_eq!(stream.given, [[8, 8]]);
    let error = memory.write_all_volatile_to(addr, &mut Across::new(&[Moves(99)]), 24);
    assert!(matches!(
        error,
        Err(Error::PartialBuffer {
            expected: 24,
            completed: 16
        })
    ));
}

#[test]
fn a_stream_that_claims_too_much_is_an_error() {
    let memory = regions(&[Kind::Ram; 3]);
    let addr = GuestAddress(0x100);
    let mut stream = Across::new(&[Lies; 4]);
    let results = [
        memory.read_volatile_from(addr, &mut stream, 24).map(|_| ()),
        memory.read_exact_volatile_from(addr, &mut stream, 24),
        memory.write_volatile_to(addr, &mut stream, 24).map(|_| ()),
        memory.write_all_volatile_to(addr, &mut stream, 24),
    ];
    for result in results {
        assert!(
            matches!(result, Err(Error::IOError(cause)) if cause.kind() == ErrorKind::InvalidData)
        );
    }
}

#[test]
fn a_fault_of_a_stream_names_the_guest_address() {
    let addr = GuestAddress(0x104);
    for (steps, moved) in [
        (vec![Faults], 0),
        (vec![Moves(13), Faults], 13),
        (vec![Moves(124), Moves(7), Faults], 131),
    ] {
        let memory = regions(&[Kind::Ram; 20]);
        let error = memory
            .read_exact_volatile_from(addr, &mut Across::new(&steps), 150)
            .unwrap_err();
        assert!(matches!(
            error,
            Error::Fault { address, completed, kind: FaultKind::System }
                if completed == moved && address.0 == addr.0 + moved as u64
        ));
    }
    // It is the memory that failed: what gives a count tells as well.
    let memory = regions(&[Kind::Ram; 20]);
    let mut stream = Across::new(&[Moves(124), Faults]);
    let error = memory.read_volatile_from(addr, &mut stream, 150);
    assert!(matches!(
        error,
        Err(Error::Fault {
            address: GuestAddress(0x180),
            completed: 124,
            ..
        })
    ));
}

/// Would rather not be given many slices.
struct Single;

impl ReadVolatile for Single {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        buf: &mut VolatileSlice<'_, B>,
    ) -> VolatileMemoryResult<usize> {
        Ok(buf.len())
    }

    fn read_vectored_volatile<B: BitmapSlice>(
        &mut self,
        _bufs: &mut [VolatileSlice<'_, B>],
    ) -> VolatileMemoryResult<usize> {
        panic!("one slice is no reason for the vectored call")
    }
}

#[test]
fn one_slice_is_read_by_the_plain_call() {
    let memory = regions(&[Kind::Ram; 2]);
    let addr = GuestAddress(0x102);
    assert_eq!(memory.read_volatile_from(addr, &mut Single, 6).unwrap(), 6);
    memory
        .read_exact_volatile_from(addr, &mut Single, 6)
        .unwrap();
    // The end of memory leaves one slice as well.
    let addr = GuestAddress(0x10a);
    assert_eq!(memory.read_volatile_from(addr, &mut Single, 9).unwrap(), 6);
}
