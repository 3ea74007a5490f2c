// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Runs one [`Operation`] on the subject and on the model and compares what they answer.

use std::fmt::Debug;
use std::io::Cursor;
use std::sync::atomic::Ordering;

use guest_memory_core::Bytes;
use guest_memory_volatile::{ReadVolatile, WriteVolatile};

use crate::bytes::{Amount, Call, Operation, Width};
use crate::config::expect_eq;
use crate::model::Model;
use crate::stream::{Across, Flow, Pipe};

/// What unread parts of buffers hold.
const FILL: u8 = 0xa5;

/// Why the model says that an operation has to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The byte at this address is not mapped.
    Unmapped(u64),
    /// Only the first bytes are mapped, and those were moved.
    Partial {
        /// Bytes asked for.
        expected: usize,
        /// Bytes moved.
        completed: usize,
    },
    /// The atomic value at this address is not aligned, or not all in one range.
    NotAtomic(u64),
    /// The stream ended or broke, or a stream was to move more than is mapped.
    Stream {
        /// Bytes moved.
        completed: usize,
    },
}

/// Runs `$body` with `$T` standing for the unsigned integer of a width.
macro_rules! with_type {
    ($width:expr, $T:ident => $body:expr) => {
        match $width {
            Width::One => {
                type $T = u8;
                $body
            }
            Width::Two => {
                type $T = u16;
                $body
            }
            Width::Four => {
                type $T = u32;
                $body
            }
            Width::Eight => {
                type $T = u64;
                $body
            }
        }
    };
}

pub(crate) use with_type;

/// Applies one operation to the subject and to the model and compares what they answer. What the
/// memory holds afterwards is for the caller to compare ([`Span::compare`](crate::model::Span)).
///
/// `address` makes the subject's address; `examine` sees each error together with the reason that
/// the model has for it. Returns whether the operation succeeded.
///
/// # Errors
///
/// Says what the subject answered and what the model expected.
pub fn apply<A, T>(
    operation: &Operation,
    subject: &T,
    address: &impl Fn(u64) -> A,
    model: &mut Model,
    examine: &impl Fn(&T::E, Refusal) -> Result<(), String>,
) -> Result<bool, String>
where
    T: Bytes<A> + ?Sized,
    T::E: Debug,
{
    let Operation { at, call } = *operation;
    match call {
        Call::Write(data) => {
            let data = data.bytes();
            let expected = up_to(model, at, data.len());
            model.write(at, &data);
            settle(subject.write(&data, address(at)), expected, examine)
        }
        Call::WriteSlice(data) => {
            let data = data.bytes();
            let expected = exactly(model, at, data.len());
            model.write(at, &data);
            settle(subject.write_slice(&data, address(at)), expected, examine)
        }
        Call::Read { len } => {
            let mut buf = vec![FILL; len];
            let result = subject.read(&mut buf, address(at));
            filled(&buf, model, at)?;
            settle(result, up_to(model, at, len), examine)
        }
        Call::ReadSlice { len } => {
            let mut buf = vec![FILL; len];
            let result = subject.read_slice(&mut buf, address(at));
            filled(&buf, model, at)?;
            settle(result, exactly(model, at, len), examine)
        }
        Call::WriteObj { value, width } => {
            let bytes = &value.to_ne_bytes()[..width.size()];
            let expected = exactly(model, at, bytes.len());
            model.write(at, bytes);
            let result = with_type!(width, T => {
                subject.write_obj(T::from_ne_bytes(array(bytes)), address(at))
            });
            settle(result, expected, examine)
        }
        Call::ReadObj(width) => {
            let expected = exactly(model, at, width.size()).map(|()| model.read(at, width.size()));
            let result = with_type!(width, T => {
                subject.read_obj::<T>(address(at)).map(|value| value.to_ne_bytes().to_vec())
            });
            settle(result, expected, examine)
        }
        Call::Store { value, width } => {
            let bytes = &value.to_ne_bytes()[..width.size()];
            let expected = atomically(model, at, width);
            if expected.is_ok() {
                model.write(at, bytes);
            }
            let result = with_type!(width, T => {
                let value = T::from_ne_bytes(array(bytes));
                subject.store(value, address(at), Ordering::SeqCst)
            });
            settle(result, expected, examine)
        }
        Call::Load(width) => {
            let expected = atomically(model, at, width).map(|()| model.read(at, width.size()));
            let result = with_type!(width, T => {
                let value = subject.load::<T>(address(at), Ordering::SeqCst);
                value.map(|value| value.to_ne_bytes().to_vec())
            });
            settle(result, expected, examine)
        }
        Call::ReadVolatileFrom { amount, data, flow } => {
            let data = data.bytes();
            let stream = Stream::new(model, at, amount, data.len(), flow);
            let (result, moved) = read_from(subject, address(at), amount, &data, flow);
            if moved <= stream.possible {
                model.write(at, &data[..moved]);
            }
            stream.settle(result, moved, examine)
        }
        Call::WriteVolatileTo { amount, room, flow } => {
            let room = if flow == Flow::Plain {
                usize::MAX
            } else {
                room
            };
            let stream = Stream::new(model, at, amount, room, flow);
            let (result, moved) = write_to(subject, address(at), amount, room, flow);
            let held = model.read(at, moved.len());
            expect_eq("what the sink took", &*moved, &*held)?;
            stream.settle(result, moved.len(), examine)
        }
    }
}

/// What the model expects of an access that may be cut short.
fn up_to(model: &Model, at: u64, len: usize) -> Result<usize, Refusal> {
    match model.mapped(at, len) {
        0 if len > 0 => Err(Refusal::Unmapped(at)),
        mapped => Ok(mapped),
    }
}

/// What the model expects of an access that is all or fails.
pub(crate) fn exactly(model: &Model, at: u64, len: usize) -> Result<(), Refusal> {
    let completed = up_to(model, at, len)?;
    if completed == len {
        Ok(())
    } else {
        Err(Refusal::Partial {
            expected: len,
            completed,
        })
    }
}

pub(crate) fn atomically(model: &Model, at: u64, width: Width) -> Result<(), Refusal> {
    if model.find(at).is_none() {
        Err(Refusal::Unmapped(at))
    } else if model.holds_atomic(at, width.size()) {
        Ok(())
    } else {
        Err(Refusal::NotAtomic(at))
    }
}

/// Compares a result with the model's; an error goes to `examine`.
pub(crate) fn settle<V: PartialEq + Debug, E: Debug>(
    result: Result<V, E>,
    expected: Result<V, Refusal>,
    examine: &impl Fn(&E, Refusal) -> Result<(), String>,
) -> Result<bool, String> {
    match (&result, &expected) {
        (Ok(found), Ok(wanted)) if found == wanted => Ok(true),
        (Err(error), Err(refusal)) => examine(error, *refusal).map(|()| false),
        _ => Err(format!("returned {result:?}, expected {expected:?}")),
    }
}

/// Checks that a buffer holds what is mapped, and beyond that what it held before.
fn filled(buf: &[u8], model: &Model, at: u64) -> Result<(), String> {
    let mut expected = model.read(at, buf.len());
    expected.resize(buf.len(), FILL);
    if buf == expected {
        Ok(())
    } else {
        Err(format!(
            "the buffer holds {buf:02x?}, expected {expected:02x?}"
        ))
    }
}

pub(crate) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    std::array::from_fn(|index| bytes[index])
}

/// What the model knows of a stream operation.
struct Stream {
    at: u64,
    amount: Amount,
    flow: Flow,
    /// Bytes of the wanted ones that are mapped.
    mapped: usize,
    /// Bytes that memory and stream together allow.
    possible: usize,
    /// Whether the stream breaks before memory or stream end.
    breaks: bool,
}

impl Stream {
    fn new(model: &Model, at: u64, amount: Amount, available: usize, flow: Flow) -> Self {
        let mapped = model.mapped(at, amount.count());
        let limit = match flow {
            Flow::FailAfter(limit) => limit,
            _ => usize::MAX,
        };
        Self {
            at,
            amount,
            flow,
            mapped,
            possible: mapped.min(available).min(limit),
            breaks: limit < mapped && limit <= available,
        }
    }

    fn settle<E: Debug>(
        &self,
        result: Result<usize, E>,
        moved: usize,
        examine: &impl Fn(&E, Refusal) -> Result<(), String>,
    ) -> Result<bool, String> {
        let count = self.amount.count();
        let may_fail = match self.amount {
            _ if count == 0 => false,
            Amount::Exactly(_) => self.possible < count,
            // After the first byte a failure is a short count; the next call meets it.
            Amount::UpTo(_) => self.mapped == 0 || (self.breaks && moved == 0),
        };
        let must_fail = count > 0 && self.mapped == 0;
        let fits = moved <= self.possible;
        match &result {
            Err(error) if may_fail && fits => examine(error, self.refusal(moved)).map(|()| false),
            Ok(reported) if *reported == moved && fits && self.is_enough(moved) && !must_fail => {
                Ok(true)
            }
            _ => Err(format!(
                "returned {result:?} with {moved} bytes moved, expected what memory and stream allow: {} bytes",
                self.possible
            )),
        }
    }

    /// Tells whether success is right after so many bytes.
    fn is_enough(&self, moved: usize) -> bool {
        match (self.amount, self.flow) {
            (Amount::Exactly(count), _) => moved == count,
            (Amount::UpTo(_), Flow::Plain | Flow::Cursor) => moved == self.possible,
            (Amount::UpTo(_), Flow::Dribble(_) | Flow::Across(_)) => {
                moved > 0 || self.possible == 0
            }
            (Amount::UpTo(_), Flow::FailAfter(_)) => {
                moved > 0 || (self.possible == 0 && !self.breaks)
            }
        }
    }

    fn refusal(&self, moved: usize) -> Refusal {
        match self.mapped {
            0 if self.amount.count() > 0 => Refusal::Unmapped(self.at),
            _ => Refusal::Stream { completed: moved },
        }
    }
}

/// Runs a read from a source of `data`; returns the answer and how many bytes the source gave.
fn read_from<A, T: Bytes<A> + ?Sized>(
    subject: &T,
    address: A,
    amount: Amount,
    data: &[u8],
    flow: Flow,
) -> (Result<usize, T::E>, usize) {
    match flow {
        Flow::Plain => {
            let mut rest = data;
            let result = pull(subject, address, amount, &mut rest);
            (result, data.len() - rest.len())
        }
        Flow::Cursor => {
            let mut cursor = Cursor::new(data);
            let result = pull(subject, address, amount, &mut cursor);
            (
                result,
                usize::try_from(cursor.position()).unwrap_or(usize::MAX),
            )
        }
        Flow::Dribble(_) | Flow::FailAfter(_) => {
            let mut pipe = Pipe::new(data.to_vec(), flow);
            let result = pull(subject, address, amount, &mut pipe);
            (result, pipe.done)
        }
        Flow::Across(_) => {
            let mut across = Across::new(Pipe::new(data.to_vec(), flow));
            let result = pull(subject, address, amount, &mut across);
            (result, across.pipe.done)
        }
    }
}

fn pull<A, T: Bytes<A> + ?Sized>(
    subject: &T,
    address: A,
    amount: Amount,
    source: &mut impl ReadVolatile,
) -> Result<usize, T::E> {
    match amount {
        Amount::UpTo(count) => subject.read_volatile_from(address, source, count),
        Amount::Exactly(count) => {
            let result = subject.read_exact_volatile_from(address, source, count);
            result.map(|()| count)
        }
    }
}

/// Runs a write to a sink with room for `room` bytes; returns the answer and what the sink took.
fn write_to<A, T: Bytes<A> + ?Sized>(
    subject: &T,
    address: A,
    amount: Amount,
    room: usize,
    flow: Flow,
) -> (Result<usize, T::E>, Vec<u8>) {
    match flow {
        Flow::Plain => {
            let mut sink = Vec::new();
            let result = push(subject, address, amount, &mut sink);
            (result, sink)
        }
        Flow::Cursor => {
            let mut buf = vec![FILL; room];
            let mut cursor = Cursor::new(&mut buf[..]);
            let result = push(subject, address, amount, &mut cursor);
            let taken = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
            buf.truncate(taken);
            (result, buf)
        }
        Flow::Dribble(_) | Flow::FailAfter(_) => {
            let mut pipe = Pipe::new(vec![FILL; room], flow);
            let result = push(subject, address, amount, &mut pipe);
            pipe.data.truncate(pipe.done);
            (result, pipe.data)
        }
        Flow::Across(_) => {
            let mut across = Across::new(Pipe::new(vec![FILL; room], flow));
            let result = push(subject, address, amount, &mut across);
            let mut pipe = across.pipe;
            pipe.data.truncate(pipe.done);
            (result, pipe.data)
        }
    }
}

fn push<A, T: Bytes<A> + ?Sized>(
    subject: &T,
    address: A,
    amount: Amount,
    sink: &mut impl WriteVolatile,
) -> Result<usize, T::E> {
    match amount {
        Amount::UpTo(count) => subject.write_volatile_to(address, sink, count),
        Amount::Exactly(count) => {
            let result = subject.write_all_volatile_to(address, sink, count);
            result.map(|()| count)
        }
    }
}
