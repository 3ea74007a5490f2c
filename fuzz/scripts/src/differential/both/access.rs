// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Accesses by whatever address. Compiled twice, once for each library.

use std::fmt::Debug;
use std::io::{self, Cursor, ErrorKind};
use std::sync::atomic::Ordering;

use super::names::{
    BitmapSlice, ByteValued, Bytes, ReadVolatile, VolatileMemory, VolatileMemoryError,
    VolatileSlice, WriteVolatile, volatile_failure,
};
use crate::differential::transcript::{
    Access, Answer, Cut, Failure, Manner, Order, Seen, Sink, Source, Width, answer, done, result,
};

/// What buffers hold before they are read into.
const FILL: u8 = 0xa5;

/// Runs `$body` with `$T` standing for the type of a width.
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
            Width::Sixteen => {
                type $T = u128;
                $body
            }
            Width::Three => {
                type $T = [u8; 3];
                $body
            }
        }
    };
}

/// As [`with_type`], for atomics.
macro_rules! with_atomic {
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
            _ => {
                type $T = u64;
                $body
            }
        }
    };
}

/// Calls a method of `Bytes`; `failure` makes its error comparable.
pub(super) fn access<A, T: Bytes<A>>(
    target: &T,
    addr: A,
    call: &Access,
    failure: impl Fn(&T::E) -> Failure,
) -> Seen
where
    T::E: Debug,
{
    let failed = |error: T::E| Answer::Failed(failure(&error));
    let is_done = |result: Result<(), T::E>| result.map_or_else(failed, |()| Answer::Done);
    let counted = |result: Result<usize, T::E>| result.map_or_else(failed, Answer::Count);
    match call {
        Access::Write(data) => answer(counted(target.write(data, addr))),
        Access::WriteSlice(data) => answer(is_done(target.write_slice(data, addr))),
        Access::Read(len) => {
            let mut data = vec![FILL; *len];
            let answer = counted(target.read(&mut data, addr));
            Seen { answer, data }
        }
        Access::ReadSlice(len) => {
            let mut data = vec![FILL; *len];
            let answer = is_done(target.read_slice(&mut data, addr));
            Seen { answer, data }
        }
        Access::WriteObj(width, bytes) => with_type!(width, T => {
            answer(is_done(target.write_obj(value::<T>(bytes), addr)))
        }),
        Access::ReadObj(width) => with_type!(width, T => {
            match target.read_obj::<T>(addr) {
                Ok(value) => Seen { answer: Answer::Done, data: value.as_slice().to_vec() },
                Err(error) => answer(failed(error)),
            }
        }),
        Access::Store(width, bytes, order) => with_atomic!(width, T => {
            answer(is_done(target.store(value::<T>(bytes), addr, of_store(*order))))
        }),
        Access::Load(width, order) => with_atomic!(width, T => {
            match target.load::<T>(addr, of_load(*order)) {
                Ok(value) => Seen { answer: Answer::Done, data: value.as_slice().to_vec() },
                Err(error) => answer(failed(error)),
            }
        }),
        Access::ReadVolatileFrom(source, count) => from_source(source, |source| {
            counted(target.read_volatile_from(addr, source, *count))
        }),
        Access::ReadExactVolatileFrom(source, count) => from_source(source, |source| {
            is_done(target.read_exact_volatile_from(addr, source, *count))
        }),
        Access::WriteVolatileTo(sink, count) => to_sink(sink, |sink| {
            counted(target.write_volatile_to(addr, sink, *count))
        }),
        Access::WriteAllVolatileTo(sink, count) => to_sink(sink, |sink| {
            is_done(target.write_all_volatile_to(addr, sink, *count))
        }),
    }
}

/// Answers a question about a slice.
pub(super) fn cut<B: BitmapSlice>(slice: &VolatileSlice<'_, B>, question: &Cut) -> Seen {
    let failed = |error: &VolatileMemoryError| Answer::Failed(volatile_failure(error));
    match question {
        Cut::Subslice(offset, count) => answer(match slice.subslice(*offset, *count) {
            Ok(part) => Answer::Count(part.len()),
            Err(error) => failed(&error),
        }),
        Cut::Offset(offset) => answer(match slice.offset(*offset) {
            Ok(part) => Answer::Count(part.len()),
            Err(error) => failed(&error),
        }),
        Cut::SplitAt(mid) => answer(match slice.split_at(*mid) {
            Ok((start, end)) => Answer::Pair(Some((start.len() as u64, end.len() as u64))),
            Err(error) => failed(&error),
        }),
        Cut::CopyTo(width, count) => with_type!(width, T => {
            let mut elements = vec![value::<T>(&[FILL; 16]); *count];
            let answer = Answer::Count(slice.copy_to(&mut elements));
            let data = elements.iter().flat_map(|element| element.as_slice().to_vec());
            Seen { answer, data: data.collect() }
        }),
        Cut::CopyFrom(width, bytes) => with_type!(width, T => {
            let elements = bytes.chunks_exact(size_of::<T>());
            let elements: Vec<T> = elements.map(value::<T>).collect();
            slice.copy_from(&elements);
            done()
        }),
        Cut::GetRef(width, offset) => with_type!(width, T => match slice.get_ref::<T>(*offset) {
            Ok(reference) => {
                let data = reference.load().as_slice().to_vec();
                reference.store(value::<T>(&[0x77; 16]));
                Seen { answer: Answer::Count(reference.len()), data }
            }
            Err(error) => answer(failed(&error)),
        }),
        Cut::GetArrayRef(width, offset, count) => {
            with_type!(width, T => match slice.get_array_ref::<T>(*offset, *count) {
                Ok(array) => {
                    if let Some(last) = array.len().checked_sub(1) {
                        array.store(last, value::<T>(&[0x66; 16]));
                    }
                    answer(Answer::Count(array.len() * array.element_size()))
                }
                Err(error) => answer(failed(&error)),
            })
        }
        Cut::EndOffset(base, offset) => {
            let end = slice.compute_end_offset(*base, *offset);
            let end = end.map_err(|error| volatile_failure(&error));
            answer(result(end, Answer::Count))
        }
    }
}

/// Copies from one slice to another.
pub(super) fn copy<B: BitmapSlice>(from: &VolatileSlice<'_, B>, to: VolatileSlice<'_, B>) -> Seen {
    from.copy_to_volatile_slice(to);
    done()
}

/// Makes a value of the first of some bytes.
fn value<T: ByteValued>(bytes: &[u8]) -> T {
    let mut value = T::zeroed();
    let len = size_of::<T>();
    value.as_mut_slice().copy_from_slice(&bytes[..len]);
    value
}

fn of_load(order: Order) -> Ordering {
    match order {
        Order::Relaxed => Ordering::Relaxed,
        Order::Half => Ordering::Acquire,
        Order::SeqCst => Ordering::SeqCst,
    }
}

fn of_store(order: Order) -> Ordering {
    match order {
        Order::Relaxed => Ordering::Relaxed,
        Order::Half => Ordering::Release,
        Order::SeqCst => Ordering::SeqCst,
    }
}

/// A source or sink of our own.
struct Toy {
    bytes: Vec<u8>,
    done: usize,
    manner: Manner,
    was_called: bool,
}

impl Toy {
    fn new(bytes: Vec<u8>, manner: Manner) -> Self {
        Self {
            bytes,
            done: 0,
            manner,
            was_called: false,
        }
    }

    /// Says how many of so many bytes go through now.
    fn portion(&mut self, wanted: usize) -> Result<usize, VolatileMemoryError> {
        let is_first = !std::mem::replace(&mut self.was_called, true);
        let portion = wanted.min(usize::from(self.manner.portion).max(1));
        let error = match self.manner.fails_after.map(usize::from) {
            _ if is_first && self.manner.is_interrupted => ErrorKind::Interrupted,
            Some(limit) if self.done >= limit && wanted > 0 => ErrorKind::BrokenPipe,
            Some(limit) => return Ok(portion.min(limit - self.done.min(limit))),
            None => return Ok(portion),
        };
        Err(VolatileMemoryError::IOError(io::Error::from(error)))
    }
}

impl ReadVolatile for Toy {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        buf: &mut VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        let portion = self.portion(buf.len())?;
        let rest = &self.bytes[self.done..];
        let portion = portion.min(rest.len());
        buf.copy_from(&rest[..portion]);
        self.done += portion;
        Ok(portion)
    }
}

impl WriteVolatile for Toy {
    fn write_volatile<B: BitmapSlice>(
        &mut self,
        buf: &VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        let portion = self.portion(buf.len())?;
        let mut taken = vec![0; portion];
        buf.copy_to(&mut taken);
        self.bytes.extend(taken);
        self.done += portion;
        Ok(portion)
    }
}

/// A source, whichever it is.
enum AnySource<'a> {
    Slice(&'a [u8]),
    Cursor(Cursor<&'a [u8]>),
    Toy(Toy),
}

/// A sink, whichever it is.
enum AnySink<'a> {
    Vec(Vec<u8>),
    Slice(&'a mut [u8]),
    Cursor(Cursor<&'a mut [u8]>),
    Toy(Toy),
}

impl ReadVolatile for AnySource<'_> {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        buf: &mut VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        match self {
            AnySource::Slice(source) => source.read_volatile(buf),
            AnySource::Cursor(source) => source.read_volatile(buf),
            AnySource::Toy(source) => source.read_volatile(buf),
        }
    }

    fn read_exact_volatile<B: BitmapSlice>(
        &mut self,
        buf: &mut VolatileSlice<'_, B>,
    ) -> Result<(), VolatileMemoryError> {
        match self {
            AnySource::Slice(source) => source.read_exact_volatile(buf),
            AnySource::Cursor(source) => source.read_exact_volatile(buf),
            AnySource::Toy(source) => source.read_exact_volatile(buf),
        }
    }
}

impl WriteVolatile for AnySink<'_> {
    fn write_volatile<B: BitmapSlice>(
        &mut self,
        buf: &VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        match self {
            AnySink::Vec(sink) => sink.write_volatile(buf),
            AnySink::Slice(sink) => sink.write_volatile(buf),
            AnySink::Cursor(sink) => sink.write_volatile(buf),
            AnySink::Toy(sink) => sink.write_volatile(buf),
        }
    }

    fn write_all_volatile<B: BitmapSlice>(
        &mut self,
        buf: &VolatileSlice<'_, B>,
    ) -> Result<(), VolatileMemoryError> {
        match self {
            AnySink::Vec(sink) => sink.write_all_volatile(buf),
            AnySink::Slice(sink) => sink.write_all_volatile(buf),
            AnySink::Cursor(sink) => sink.write_all_volatile(buf),
            AnySink::Toy(sink) => sink.write_all_volatile(buf),
        }
    }
}

/// Runs a call on a source; the data is the bytes that are left in it.
fn from_source(source: &Source, call: impl FnOnce(&mut AnySource<'_>) -> Answer) -> Seen {
    let mut any = match source {
        Source::Slice(bytes) => AnySource::Slice(bytes),
        Source::Cursor(bytes, at) => {
            let mut cursor = Cursor::new(bytes.as_slice());
            cursor.set_position(*at);
            AnySource::Cursor(cursor)
        }
        Source::Toy(bytes, manner) => AnySource::Toy(Toy::new(bytes.clone(), *manner)),
    };
    let answer = call(&mut any);
    let data = match any {
        AnySource::Slice(rest) => rest.to_vec(),
        AnySource::Cursor(cursor) => cursor.position().to_le_bytes().to_vec(),
        AnySource::Toy(toy) => toy.bytes[toy.done..].to_vec(),
    };
    Seen { answer, data }
}

/// Runs a call on a sink; the data is what is in it then.
fn to_sink(sink: &Sink, call: impl FnOnce(&mut AnySink<'_>) -> Answer) -> Seen {
    let room = match sink {
        Sink::Slice(room) | Sink::Cursor(room, _) => *room,
        Sink::Vec | Sink::Toy(_) => 0,
    };
    let mut buffer = vec![FILL; room];
    let mut any = match sink {
        Sink::Vec => AnySink::Vec(vec![FILL]),
        Sink::Slice(_) => AnySink::Slice(&mut buffer),
        Sink::Cursor(_, at) => {
            let mut cursor = Cursor::new(buffer.as_mut_slice());
            cursor.set_position(*at);
            AnySink::Cursor(cursor)
        }
        Sink::Toy(manner) => AnySink::Toy(Toy::new(Vec::new(), *manner)),
    };
    let answer = call(&mut any);
    let (mut data, end) = match any {
        AnySink::Vec(bytes) => (bytes, None),
        AnySink::Slice(rest) => (Vec::new(), Some(rest.len() as u64)),
        AnySink::Cursor(cursor) => (Vec::new(), Some(cursor.position())),
        AnySink::Toy(toy) => (toy.bytes, None),
    };
    if let Some(end) = end {
        data.extend(end.to_le_bytes());
        data.extend(buffer);
    }
    Seen { answer, data }
}
