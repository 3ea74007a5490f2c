// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Sources and sinks that do what a script says: give little, are interrupted, fail, lie; and note what they were asked.

use std::io;

use arbitrary::Arbitrary;
use guest_memory_bitmap::BitmapSlice;
use guest_memory_volatile::{
    ReadVolatile, VolatileMemoryError, VolatileMemoryResult, VolatileSlice, WriteVolatile,
};

/// What a stream does when it is called once; later calls take all that they can.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Step {
    All,
    AtMost(u8),
    Interrupt,
    /// Moves nothing and reports more than it was given.
    Lie,
}

/// How a stream fails, and goes on failing.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    BrokenPipe,
    WouldBlock,
    /// As the exact forms name an end, but by the stream itself.
    BareEof,
    BareZero,
    /// With something to tell, which makes it a failure.
    EofWithText,
    OfSystem,
}

impl Failure {
    pub(super) fn kind(self) -> io::ErrorKind {
        self.error().kind()
    }

    /// Tells whether access by address takes it for a mere end.
    pub(super) fn is_end(self) -> bool {
        matches!(self, Failure::BareEof | Failure::BareZero)
    }

    fn error(self) -> io::Error {
        match self {
            Failure::BrokenPipe => io::ErrorKind::BrokenPipe.into(),
            Failure::WouldBlock => io::ErrorKind::WouldBlock.into(),
            Failure::BareEof => io::ErrorKind::UnexpectedEof.into(),
            Failure::BareZero => io::ErrorKind::WriteZero.into(),
            Failure::EofWithText => io::Error::new(io::ErrorKind::UnexpectedEof, "torn"),
            Failure::OfSystem => io::Error::from_raw_os_error(5),
        }
    }
}

/// A call and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// Bytes that there was room for, or that were offered.
    pub(super) given: usize,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Moved(usize),
    Interrupted,
    Lied,
    Failed,
}

/// The common part of a source and a sink.
#[derive(Debug)]
pub(super) struct Toy {
    /// What a source has, or what a sink took.
    pub(super) bytes: Vec<u8>,
    /// Bytes that went through.
    pub(super) done: usize,
    /// Bytes that can go through before it ends or fails.
    limit: usize,
    failure: Option<Failure>,
    steps: std::vec::IntoIter<Step>,
    pub(super) calls: Vec<Call>,
}

impl Toy {
    pub(super) fn new(
        bytes: Vec<u8>,
        limit: usize,
        failure: Option<Failure>,
        steps: Vec<Step>,
    ) -> Self {
        Self {
            bytes,
            done: 0,
            limit,
            failure,
            steps: steps.into_iter(),
            calls: Vec::new(),
        }
    }

    /// Does what a call does and notes it: `move_bytes` moves so many.
    fn call(
        &mut self,
        given: usize,
        move_bytes: impl FnOnce(&mut Self, usize) -> VolatileMemoryResult<()>,
    ) -> VolatileMemoryResult<usize> {
        let (what, answer) = match self.steps.next() {
            Some(Step::Interrupt) => {
                let error = io::Error::from(io::ErrorKind::Interrupted);
                (What::Interrupted, Err(VolatileMemoryError::IOError(error)))
            }
            Some(Step::Lie) => (What::Lied, Ok(given + 1)),
            step => {
                let most = match step {
                    Some(Step::AtMost(most)) => usize::from(most).max(1),
                    _ => usize::MAX,
                };
                let portion = given.min(most).min(self.limit - self.done);
                match self.failure {
                    Some(failure) if portion == 0 && given > 0 => {
                        let error = VolatileMemoryError::IOError(failure.error());
                        (What::Failed, Err(error))
                    }
                    _ => {
                        move_bytes(self, portion)?;
                        self.done += portion;
                        (What::Moved(portion), Ok(portion))
                    }
                }
            }
        };
        self.calls.push(Call { given, what });
        answer
    }
}

/// A toy that takes one slice at a time.
#[derive(Debug)]
pub(super) struct Single(pub(super) Toy);

/// A toy that takes all slices that it is given as one stretch.
#[derive(Debug)]
pub(super) struct Vectored(pub(super) Toy);

impl ReadVolatile for Single {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        buf: &mut VolatileSlice<'_, B>,
    ) -> VolatileMemoryResult<usize> {
        self.0.call(buf.len(), |toy, portion| {
            buf.write_slice(&toy.bytes[toy.done..][..portion], 0)
        })
    }
}

impl WriteVolatile for Single {
    fn write_volatile<B: BitmapSlice>(
        &mut self,
        buf: &VolatileSlice<'_, B>,
    ) -> VolatileMemoryResult<usize> {
        self.0.call(buf.len(), |toy, portion| {
            let start = toy.bytes.len();
            toy.bytes.resize(start + portion, 0);
            buf.read_slice(&mut toy.bytes[start..], 0)
        })
    }
}

impl ReadVolatile for Vectored {
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
        let given = bufs.iter().map(VolatileSlice::len).sum();
        self.0.call(given, |toy, portion| {
            let mut rest = &toy.bytes[toy.done..][..portion];
            for buf in bufs {
                let (here, after) = rest.split_at(rest.len().min(buf.len()));
                buf.write_slice(here, 0)?;
                rest = after;
            }
            Ok(())
        })
    }
}

impl WriteVolatile for Vectored {
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
        let given = bufs.iter().map(VolatileSlice::len).sum();
        self.0.call(given, |toy, portion| {
            let mut left = portion;
            for buf in bufs {
                let here = left.min(buf.len());
                let start = toy.bytes.len();
                toy.bytes.resize(start + here, 0);
                buf.read_slice(&mut toy.bytes[start..], 0)?;
                left -= here;
            }
            Ok(())
        })
    }
}
