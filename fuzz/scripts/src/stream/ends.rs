// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The other end of a stream: toys, and the library's own implementations for buffers and pipes.

use std::io::{Cursor, PipeReader, PipeWriter, Read, Write};

use arbitrary::Arbitrary;
use guest_memory_bitmap::BitmapSlice;
use guest_memory_volatile::io::At;
use guest_memory_volatile::{ReadVolatile, VolatileMemoryResult, VolatileSlice, WriteVolatile};

use super::toy::{Call, Failure, Single, Step, Toy, Vectored};
use crate::pattern::pattern;

/// A source or a sink as the fuzzer makes it.
#[derive(Arbitrary, Clone, Debug)]
pub(super) struct Spec {
    kind: Kind,
    /// Bytes that it has, or has room for.
    len: u16,
    /// The first byte of a source.
    first: u8,
}

#[derive(Arbitrary, Clone, Debug)]
enum Kind {
    Toy {
        is_vectored: bool,
        steps: Vec<Step>,
        failure: Option<Failure>,
    },
    /// A slice of bytes.
    Slice,
    /// A cursor at a position in a slice of bytes.
    Cursor(u8),
    /// The bytes of a slice from an offset on; the offset in a cursor over a vector, for a sink.
    At(u8),
    Pipe,
    /// A vector that grows, for a sink; a pipe for a source.
    Vector,
}

/// More steps are left out.
const MAX_STEPS: usize = 24;

/// Longer streams are cut.
const MAX_LEN: usize = 600;

/// What a stream has in it, and what it did.
#[derive(Debug)]
pub(super) struct Flow {
    /// The bytes that went through.
    pub(super) moved: Vec<u8>,
    /// How many can go through before it ends or fails.
    pub(super) limit: usize,
    /// What it does then; it ends if `None`.
    pub(super) failure: Option<Failure>,
    /// Its calls, if it is a toy.
    pub(super) calls: Option<Vec<Call>>,
    /// Whether it takes several slices as one stretch.
    pub(super) is_vectored: bool,
}

/// A source under test.
#[derive(Debug)]
pub(super) enum Source<'a> {
    Single(Single),
    Vectored(Vectored),
    Slice(&'a [u8]),
    Cursor(Cursor<&'a [u8]>),
    At(At<'a, [u8]>),
    Pipe(PipeReader),
}

/// A sink under test.
#[derive(Debug)]
pub(super) enum Sink<'a> {
    Single(Single),
    Vectored(Vectored),
    Slice(&'a mut [u8]),
    Cursor(Cursor<&'a mut [u8]>),
    CursorOverVector(Cursor<Vec<u8>>),
    Vector(Vec<u8>),
    Pipe(PipeWriter),
}

impl Spec {
    /// The same, but that takes one slice at a time if it is a toy.
    pub(super) fn one_at_a_time(mut self) -> Self {
        if let Kind::Toy { is_vectored, .. } = &mut self.kind {
            *is_vectored = false;
        }
        self
    }

    /// Runs `call` on the source; returns its answer and what went through.
    pub(super) fn run_source<R>(self, call: impl FnOnce(&mut Source<'_>) -> R) -> (R, Flow) {
        let data = pattern(self.first, usize::from(self.len) % MAX_LEN);
        let (mut source, skipped, failure) = match self.kind {
            Kind::Toy {
                is_vectored,
                mut steps,
                failure,
            } => {
                steps.truncate(MAX_STEPS);
                let toy = Toy::new(data.clone(), data.len(), failure, steps);
                let source = if is_vectored {
                    Source::Vectored(Vectored(toy))
                } else {
                    Source::Single(Single(toy))
                };
                (source, 0, failure)
            }
            Kind::Slice => (Source::Slice(&data), 0, None),
            Kind::Cursor(at) => {
                let mut cursor = Cursor::new(data.as_slice());
                cursor.set_position(at.into());
                (Source::Cursor(cursor), at.into(), None)
            }
            Kind::At(at) => {
                let source = Source::At(At::new(data.as_slice(), at.into()));
                (source, at.into(), None)
            }
            Kind::Pipe | Kind::Vector => {
                let (reader, mut writer) = std::io::pipe().expect("there are pipes");
                writer.write_all(&data).expect("the pipe holds it");
                (Source::Pipe(reader), 0, None)
            }
        };
        let answer = call(&mut source);
        let available = data.get(skipped..).unwrap_or_default();
        let is_vectored = matches!(source, Source::Vectored(_) | Source::Pipe(_));
        let (done, calls) = match source {
            Source::Single(Single(toy)) | Source::Vectored(Vectored(toy)) => {
                (toy.done, Some(toy.calls))
            }
            Source::Slice(rest) => (data.len() - rest.len(), None),
            Source::Cursor(cursor) => (since(cursor.position(), skipped), None),
            Source::At(at) => (since(at.offset(), skipped), None),
            Source::Pipe(mut reader) => {
                let mut rest = Vec::new();
                reader.read_to_end(&mut rest).expect("it has an end");
                (data.len() - rest.len(), None)
            }
        };
        let flow = Flow {
            moved: available[..done].to_vec(),
            limit: available.len(),
            failure,
            calls,
            is_vectored,
        };
        (answer, flow)
    }

    /// Runs `call` on the sink; returns its answer and what went through.
    pub(super) fn run_sink<R>(self, call: impl FnOnce(&mut Sink<'_>) -> R) -> (R, Flow) {
        const UNTOUCHED: u8 = 0x5a;
        let room = usize::from(self.len) % MAX_LEN;
        let start = match self.kind {
            Kind::Cursor(at) | Kind::At(at) => usize::from(at),
            _ => 0,
        };
        let mut buffer = vec![UNTOUCHED; room];
        let mut far_end = None;
        let (mut sink, limit, failure) = match self.kind {
            Kind::Toy {
                is_vectored,
                mut steps,
                failure,
            } => {
                steps.truncate(MAX_STEPS);
                let toy = Toy::new(Vec::new(), room, failure, steps);
                let sink = if is_vectored {
                    Sink::Vectored(Vectored(toy))
                } else {
                    Sink::Single(Single(toy))
                };
                (sink, room, failure)
            }
            Kind::Slice => (Sink::Slice(&mut buffer), room, None),
            Kind::Cursor(at) => {
                let mut cursor = Cursor::new(buffer.as_mut_slice());
                cursor.set_position(at.into());
                let limit = room.saturating_sub(at.into());
                (Sink::Cursor(cursor), limit, None)
            }
            Kind::At(at) => {
                let mut cursor = Cursor::new(vec![UNTOUCHED; room]);
                cursor.set_position(at.into());
                (Sink::CursorOverVector(cursor), usize::MAX, None)
            }
            Kind::Vector => (Sink::Vector(Vec::new()), usize::MAX, None),
            Kind::Pipe => {
                let (reader, writer) = std::io::pipe().expect("there are pipes");
                far_end = Some(reader);
                (Sink::Pipe(writer), usize::MAX, None)
            }
        };
        let answer = call(&mut sink);
        let is_vectored = matches!(sink, Sink::Vectored(_) | Sink::Pipe(_));
        let (moved, calls) = match sink {
            Sink::Single(Single(toy)) | Sink::Vectored(Vectored(toy)) => {
                assert_eq!(toy.done, toy.bytes.len(), "the toy itself");
                (toy.bytes, Some(toy.calls))
            }
            Sink::Slice(rest) => {
                let done = room - rest.len();
                (buffer[..done].to_vec(), None)
            }
            Sink::Cursor(cursor) => {
                let done = since(cursor.position(), start);
                let filled = buffer.get(start..).unwrap_or_default();
                (filled[..done].to_vec(), None)
            }
            Sink::CursorOverVector(cursor) => {
                let done = since(cursor.position(), start);
                let vector = cursor.into_inner();
                let filled = vector.get(start..).unwrap_or_default();
                (filled[..done].to_vec(), None)
            }
            Sink::Vector(vector) => (vector, None),
            Sink::Pipe(writer) => {
                drop(writer);
                let mut took = Vec::new();
                let reader = far_end.as_mut().expect("a pipe has two ends");
                reader.read_to_end(&mut took).expect("it has an end");
                (took, None)
            }
        };
        let flow = Flow {
            moved,
            limit,
            failure,
            calls,
            is_vectored,
        };
        (answer, flow)
    }
}

/// How far a position came since `start`.
fn since(position: u64, start: usize) -> usize {
    usize::try_from(position).expect("a position in a buffer") - start
}

/// Calls a method of whatever source or sink it is.
macro_rules! whichever {
    ($end:ident: $($variant:ident)*; $self:ident, $one:ident => $call:expr) => {
        match $self {
            $($end::$variant($one) => $call,)*
        }
    };
}

macro_rules! source {
    ($self:ident, $one:ident => $call:expr) => {
        whichever!(Source: Single Vectored Slice Cursor At Pipe; $self, $one => $call)
    };
}

macro_rules! sink {
    ($self:ident, $one:ident => $call:expr) => {
        whichever!(
            Sink: Single Vectored Slice Cursor CursorOverVector Vector Pipe; $self, $one => $call
        )
    };
}

impl ReadVolatile for Source<'_> {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        buf: &mut VolatileSlice<'_, B>,
    ) -> VolatileMemoryResult<usize> {
        source!(self, one => one.read_volatile(buf))
    }

    fn read_exact_volatile<B: BitmapSlice>(
        &mut self,
        buf: &mut VolatileSlice<'_, B>,
    ) -> VolatileMemoryResult<()> {
        source!(self, one => one.read_exact_volatile(buf))
    }

    fn read_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &mut [VolatileSlice<'_, B>],
    ) -> VolatileMemoryResult<usize> {
        source!(self, one => one.read_vectored_volatile(bufs))
    }

    fn read_exact_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &mut [VolatileSlice<'_, B>],
    ) -> VolatileMemoryResult<()> {
        source!(self, one => one.read_exact_vectored_volatile(bufs))
    }
}

impl WriteVolatile for Sink<'_> {
    fn write_volatile<B: BitmapSlice>(
        &mut self,
        buf: &VolatileSlice<'_, B>,
    ) -> VolatileMemoryResult<usize> {
        sink!(self, one => one.write_volatile(buf))
    }

    fn write_all_volatile<B: BitmapSlice>(
        &mut self,
        buf: &VolatileSlice<'_, B>,
    ) -> VolatileMemoryResult<()> {
        sink!(self, one => one.write_all_volatile(buf))
    }

    fn write_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &[VolatileSlice<'_, B>],
    ) -> VolatileMemoryResult<usize> {
        sink!(self, one => one.write_vectored_volatile(bufs))
    }

    fn write_all_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &[VolatileSlice<'_, B>],
    ) -> VolatileMemoryResult<()> {
        sink!(self, one => one.write_all_vectored_volatile(bufs))
    }
}
