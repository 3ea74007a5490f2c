// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

use std::collections::VecDeque;
use std::io;

use super::*;
use crate::fault_kind::FaultKind;

/// What a stream answers to one call.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many bytes, or as many as there is room for.
    Bytes(usize),
    Fails(ErrorKind),
    Faults,
}

use Step::{Bytes, Fails, Faults};

/// A stream that moves counted bytes as told: one slice per call, or across the slices of a call.
struct Scripted {
    steps: VecDeque<Step>,
    across: bool,
    next: u8,
    taken: Vec<u8>,
    /// Bytes that each call was given.
    given: Vec<usize>,
}

impl Scripted {
    /// Takes its slices by the provided methods.
    fn plain(steps: &[Step]) -> Self {
        Self {
            steps: steps.iter().copied().collect(),
            across: false,
            next: 1,
            taken: Vec::new(),
            given: Vec::new(),
        }
    }

    fn across(steps: &[Step]) -> Self {
        Self {
            across: true,
            ..Self::plain(steps)
        }
    }

    fn step(&mut self, room: usize) -> Result<usize> {
        self.given.push(room);
        match self.steps.pop_front() {
            Some(Bytes(count)) => Ok(usize::min(count, room)),
            Some(Fails(kind)) => Err(Error::IOError(kind.into())),
            Some(Faults) => Err(Error::Fault {
                addr: 1,
                completed: 1,
                kind: FaultKind::System,
            }),
            None => Ok(0),
        }
    }

    fn put<B: BitmapSlice>(&mut self, buf: &VolatileSlice<'_, B>, count: usize) {
        for at in 0..count {
            buf.write_obj(self.next, at).expect("in bounds");
            self.next += 1;
        }
    }

    fn take<B: BitmapSlice>(&mut self, buf: &VolatileSlice<'_, B>, count: usize) {
        let bytes = (0..count).map(|at| buf.read_obj::<u8>(at).expect("in bounds"));
        self.taken.extend(bytes);
    }
}

impl ReadVolatile for Scripted {
    fn read_volatile<B: BitmapSlice>(&mut self, buf: &mut VolatileSlice<'_, B>) -> Result<usize> {
        let count = self.step(buf.len())?;
        self.put(buf, count);
        Ok(count)
    }

    fn read_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &mut [VolatileSlice<'_, B>],
    ) -> Result<usize> {
        if !self.across {
            return OneByOne(self).read_vectored_volatile(bufs);
        }
        let count = self.step(total(bufs)?)?;
        let mut left = count;
        for buf in bufs {
            let here = left.min(buf.len());
            self.put(buf, here);
            left -= here;
        }
        Ok(count)
    }
}

impl WriteVolatile for Scripted {
    fn write_volatile<B: BitmapSlice>(&mut self, buf: &VolatileSlice<'_, B>) -> Result<usize> {
        let count = self.step(buf.len())?;
        self.take(buf, count);
        Ok(count)
    }

    fn write_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &[VolatileSlice<'_, B>],
    ) -> Result<usize> {
        if !self.across {
            return OneByOne(self).write_vectored_volatile(bufs);
        }
        let count = self.step(total(bufs)?)?;
        let mut left = count;
        for buf in bufs {
            let here = left.min(buf.len());
            self.take(buf, here);
            left -= here;
        }
        Ok(count)
    }
}

/// Has only the required method, so that the provided ones are called.
struct OneByOne<'s>(&'s mut Scripted);

impl ReadVolatile for OneByOne<'_> {
    fn read_volatile<B: BitmapSlice>(&mut self, buf: &mut VolatileSlice<'_, B>) -> Result<usize> {
        self.0.read_volatile(buf)
    }
}

impl WriteVolatile for OneByOne<'_> {
    fn write_volatile<B: BitmapSlice>(&mut self, buf: &VolatileSlice<'_, B>) -> Result<usize> {
        self.0.write_volatile(buf)
    }
}

/// Cuts memory into slices of these lengths.
fn cut<'a>(mut memory: &'a mut [u8], lens: &[usize]) -> Vec<VolatileSlice<'a>> {
    let mut slices = Vec::new();
    for &len in lens {
        let (slice, rest) = memory.split_at_mut(len);
        slices.push(VolatileSlice::from(slice));
        memory = rest;
    }
    slices
}

/// The first `count` of the bytes 1, 2, 3 and so on, in memory of `len` bytes.
fn counted(count: usize, len: usize) -> Vec<u8> {
    (1..=len)
        .map(|byte| {
            if byte <= count {
                u8::try_from(byte).expect("small")
            } else {
                0
            }
        })
        .collect()
}

#[test]
fn slices_are_taken_in_order_until_one_is_short() {
    let lens = [3, 0, 2, 4];
    let cases = [
        (vec![Bytes(9), Bytes(9), Bytes(9)], 9, vec![3, 2, 4]),
        (vec![Bytes(9), Bytes(1), Bytes(9)], 4, vec![3, 2]),
        (vec![Bytes(2), Bytes(9)], 2, vec![3]),
        (vec![Bytes(9), Fails(ErrorKind::Interrupted)], 3, vec![3, 2]),
        (vec![Bytes(9), Bytes(9), Faults], 5, vec![3, 2, 4]),
        (vec![], 0, vec![3]),
    ];
    for (script, moved, given) in cases {
        let mut backing = [0u8; 9];
        let mut stream = Scripted::plain(&script);
        let count = stream.read_vectored_volatile(&mut cut(&mut backing, &lens));
        assert_eq!(count.expect("a count"), moved, "{script:?}");
        assert_eq!((&backing[..], &stream.given), (&*counted(moved, 9), &given));

        let mut backing = counted(9, 9);
        let mut stream = Scripted::plain(&script);
        let count = stream.write_vectored_volatile(&cut(&mut backing, &lens));
        assert_eq!(count.expect("a count"), moved, "{script:?}");
        assert_eq!((stream.taken, stream.given), (counted(moved, moved), given));
    }
}

#[test]
fn a_failure_before_the_first_byte_is_reported() {
    let mut backing = [0u8; 5];
    for kind in [ErrorKind::Interrupted, ErrorKind::WouldBlock] {
        let mut stream = Scripted::plain(&[Fails(kind), Fails(kind)]);
        let read = stream.read_vectored_volatile(&mut cut(&mut backing, &[0, 2, 3]));
        assert!(matches!(read, Err(Error::IOError(error)) if error.kind() == kind));
        let written = stream.write_vectored_volatile(&cut(&mut backing, &[0, 2, 3]));
        assert!(matches!(written, Err(Error::IOError(error)) if error.kind() == kind));
    }
}

#[test]
fn exact_forms_go_on_at_the_byte_after_the_last_one() {
    // Of every length from one byte to all, over slices of which some are empty.
    let lens = [5, 0, 1, 7, 0, 3, 4];
    for portion in 1..=20 {
        let script: Vec<_> = (0..20)
            .flat_map(|_| [Fails(ErrorKind::Interrupted), Bytes(portion)])
            .collect();
        for make in [Scripted::plain, Scripted::across] {
            let mut backing = [0u8; 20];
            make(&script)
                .read_exact_vectored_volatile(&mut cut(&mut backing, &lens))
                .expect("all bytes");
            assert_eq!(backing[..], counted(20, 20));
            let mut stream = make(&script);
            stream
                .write_all_vectored_volatile(&cut(&mut backing, &lens))
                .expect("all bytes");
            assert_eq!(stream.taken, counted(20, 20));
        }
    }
}

#[test]
fn exact_forms_offer_all_that_is_left() {
    let lens = [4; 8];
    let mut backing = [0u8; 32];
    let script = [Bytes(6), Bytes(10), Bytes(32)];
    let mut stream = Scripted::across(&script);
    stream
        .read_exact_vectored_volatile(&mut cut(&mut backing, &lens))
        .expect("all bytes");
    assert_eq!(stream.given, [32, 26, 16]);
    // In the midst of a slice it is no more than a batch.
    let lens = [2; 40];
    let mut backing = [0u8; 80];
    let mut stream = Scripted::across(&[Bytes(1), Bytes(99), Bytes(99)]);
    stream
        .write_all_vectored_volatile(&cut(&mut backing, &lens))
        .expect("all bytes");
    assert_eq!(stream.given, [80, 2 * BATCH_LEN - 1, 48]);
}

#[test]
fn errors_count_the_bytes_of_all_slices() {
    let cases = [
        (vec![Bytes(4), Bytes(1)], 5, None),
        (
            vec![Bytes(3), Bytes(4), Fails(ErrorKind::WouldBlock)],
            7,
            Some(ErrorKind::WouldBlock),
        ),
    ];
    for (script, moved, kind) in cases {
        let mut backing = [0u8; 9];
        let read = Scripted::across(&script)
            .read_exact_vectored_volatile(&mut cut(&mut backing, &[3, 2, 4]));
        assert!(
            matches!(read, Err(Error::PartialStream { expected: 9, completed, source })
                if completed == moved && source.kind() == kind.unwrap_or(ErrorKind::UnexpectedEof))
        );
        assert_eq!(backing[..], counted(moved, 9));
        let mut stream = Scripted::across(&script);
        let written = stream.write_all_vectored_volatile(&cut(&mut backing, &[3, 2, 4]));
        assert!(
            matches!(written, Err(Error::PartialStream { expected: 9, completed, source })
                if completed == moved && source.kind() == kind.unwrap_or(ErrorKind::WriteZero))
        );
        assert_eq!(stream.taken.len(), moved);
    }
    let mut backing = [0u8; 9];
    let at_once = Scripted::across(&[])
        .read_exact_vectored_volatile(&mut cut(&mut backing, &[3, 2, 4]))
        .expect_err("ends");
    assert!(matches!(at_once, Error::IOError(source) if source.kind() == ErrorKind::UnexpectedEof));
}

#[test]
fn faults_count_from_the_start() {
    let mut backing = [0u8; 9];
    let fault = |result| match result {
        Err(Error::Fault {
            addr, completed, ..
        }) => (addr, completed),
        other => panic!("no fault: {other:?}"),
    };
    let script = [Bytes(4), Bytes(2), Faults];
    let mut slices = cut(&mut backing, &[3, 2, 4]);
    let mut stream = Scripted::across(&script);
    assert_eq!(
        fault(stream.read_exact_vectored_volatile(&mut slices)),
        (7, 7)
    );
    let mut stream = Scripted::across(&script);
    assert_eq!(fault(stream.write_all_vectored_volatile(&slices)), (7, 7));
    // One slice does as well, and so does access by offset.
    let mut memory = VolatileSlice::from(backing.as_mut_slice());
    let mut stream = Scripted::plain(&script);
    assert_eq!(fault(stream.read_exact_volatile(&mut memory)), (7, 7));
    let mut stream = Scripted::plain(&script);
    assert_eq!(
        fault(memory.read_exact_volatile_from(1, &mut stream, 8)),
        (8, 7)
    );
    let mut stream = Scripted::plain(&[Faults]);
    assert_eq!(
        fault(memory.write_volatile_to(2, &mut stream, 4).map(|_| ())),
        (3, 1)
    );
}

#[test]
fn a_read_only_slice_anywhere_refuses_the_whole_read() {
    let mut backing = [0u8; 9];
    let mut slices = cut(&mut backing, &[3, 2, 4]);
    slices[2] = slices[2].into_read_only();
    let mut stream = Scripted::plain(&[Bytes(9); 3]);
    let once = stream.read_vectored_volatile(&mut slices);
    assert!(matches!(once, Err(Error::ReadOnly { addr: 5 })));
    assert!(stream.given.is_empty());
    let mut source: &[u8] = &[1; 9];
    let once = source.read_vectored_volatile(&mut slices);
    assert!(matches!(once, Err(Error::ReadOnly { addr: 5 })));
    let exactly = source.read_exact_vectored_volatile(&mut slices);
    assert!(matches!(exactly, Err(Error::ReadOnly { addr: 5 })));
    assert_eq!(source.len(), 9);
    let mut out = Vec::new();
    out.write_all_vectored_volatile(&slices)
        .expect("is only read");
    assert_eq!(out, [0; 9]);
}

#[test]
fn a_stream_that_claims_too_much_is_an_error() {
    struct Liar;
    impl ReadVolatile for Liar {
        fn read_volatile<B: BitmapSlice>(
            &mut self,
            buf: &mut VolatileSlice<'_, B>,
        ) -> Result<usize> {
            Ok(buf.len() + 1)
        }
        fn read_vectored_volatile<B: BitmapSlice>(
            &mut self,
            bufs: &mut [VolatileSlice<'_, B>],
        ) -> Result<usize> {
            Ok(total(bufs)? + 1)
        }
    }
    let mut backing = [0u8; 5];
    let mut slices = cut(&mut backing, &[2, 3]);
    let lie = Liar.read_exact_vectored_volatile(&mut slices);
    assert!(matches!(lie, Err(Error::IOError(error)) if error.kind() == ErrorKind::InvalidData));
    let lie = in_turn(with_lengths_mut(&mut slices), |buf| Liar.read_volatile(buf));
    assert!(matches!(lie, Err(Error::IOError(error)) if error.kind() == ErrorKind::InvalidData));
}

#[test]
fn nothing_to_move_succeeds_without_a_call() {
    let mut stream = Scripted::across(&[Fails(ErrorKind::Other)]);
    let mut none: [VolatileSlice<'_>; 0] = [];
    stream
        .read_exact_vectored_volatile(&mut none)
        .expect("nothing to do");
    stream
        .write_all_vectored_volatile(&none)
        .expect("nothing to do");
    let mut slices = cut(&mut [], &[0, 0]);
    stream
        .read_exact_vectored_volatile(&mut slices)
        .expect("nothing to do");
    stream
        .write_all_vectored_volatile(&slices)
        .expect("nothing to do");
    assert!(stream.given.is_empty());
    let mut empty = io::empty();
    assert_eq!(empty.read_vectored_volatile(&mut slices).expect("none"), 0);
    let mut stdin = io::stdin();
    assert_eq!(stdin.read_vectored_volatile(&mut slices).expect("none"), 0);
}

#[test]
fn buffers_fill_and_take_many_slices() {
    let mut backing = [0u8; 9];
    let mut slices = cut(&mut backing, &[3, 0, 2, 4]);
    let bytes = counted(9, 9);
    let mut source = bytes.as_slice();
    assert_eq!(source.read_vectored_volatile(&mut slices).expect("all"), 9);
    let mut cursor = io::Cursor::new([0u8; 7]);
    let mut cursor = io::Cursor::new(cursor.get_mut().as_mut_slice());
    assert_eq!(cursor.write_vectored_volatile(&slices).expect("a part"), 7);
    assert_eq!(cursor.get_ref()[..], bytes[..7]);
    let mut out = Vec::new();
    out.write_all_vectored_volatile(&slices).expect("grows");
    assert_eq!(out, bytes);
}
