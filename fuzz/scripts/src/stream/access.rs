// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One stream access: what it meets, and the call.

use std::io::ErrorKind;

use arbitrary::Arbitrary;
use guest_memory_bitmap::{AtomicBitmap, RefSlice};
use guest_memory_core::{Bytes, GuestAddress, MemoryRegionAddress, Operation, VolatileSlice};
use guest_memory_volatile::{ReadVolatile, WriteVolatile};

use super::ends::{Sink, Source, Spec};
use super::guest::{Guest, Stretch, Twin};
use super::outcome::{Amount, Meeting, Obstacle, Request, Told, shorten};

/// Most slices that access by address gives to a stream at once.
const BATCH_LEN: usize = 16;

/// More slices than this are not given to a stream.
const MAX_SLICES: usize = 40;

/// By what the memory is accessed, as the fuzzer makes it.
#[derive(Arbitrary, Clone, Debug)]
pub(super) enum Way {
    Memory(Place, Number),
    Region(u8, Number, Number),
    /// A part of a region as a slice, and the access in that.
    Slice {
        part: Part,
        offset: Number,
        count: Number,
    },
    /// Parts of regions, as one stretch.
    Slices(Vec<Part>),
}

/// A part of a region; all numbers are taken modulo what there is.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct Part {
    region: u8,
    start: u8,
    len: u8,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Place {
    Inside { region: u8, offset: u8 },
    Any(u64),
}

/// An offset or a count in bytes.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Number {
    Short(u8),
    Long(u16),
    BelowMax(u8),
}

impl Number {
    fn bytes(self) -> usize {
        match self {
            Number::Short(number) => usize::from(number) % 64,
            Number::Long(number) => number.into(),
            Number::BelowMax(less) => usize::MAX - usize::from(less),
        }
    }
}

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    FromStream,
    ToStream,
}

type Slice<'a> = VolatileSlice<'a, RefSlice<'a, AtomicBitmap>>;

/// Where an access goes.
enum Target<'a> {
    Memory(u64),
    /// By number and offset.
    Region(usize, usize),
    Slice(Slice<'a>, usize),
    Slices(Vec<Slice<'a>>),
}

/// An access with all that is known of it before.
struct Access<'a> {
    target: Target<'a>,
    count: usize,
    request: Request,
    stretch: Stretch,
}

/// Runs an access on the memory and on its twin; returns whether it succeeded.
///
/// # Panics
///
/// When it does something else than the stream and the twin make it.
pub(super) fn run(
    way: &Way,
    direction: Direction,
    amount: Amount,
    stream: Spec,
    guest: &Guest,
    twin: &mut Twin,
) -> bool {
    let access = Access::of(way, direction, amount, guest, twin);
    let is_one_call = amount == Amount::UpTo && matches!(way, Way::Slices(_));
    let stream = if is_one_call {
        // Else it would be the toy's own code that is called, and nothing else.
        stream.one_at_a_time()
    } else {
        stream
    };
    let meeting = access.meeting(direction);
    let (found, flow) = match direction {
        Direction::FromStream => {
            let (found, flow) = stream.run_source(|source| access.pull(guest, amount, source));
            twin.put(&access.stretch.pieces, &flow.moved);
            (found, flow)
        }
        Direction::ToStream => {
            let (found, flow) = stream.run_sink(|sink| access.push(guest, amount, sink));
            let held = twin.take(&access.stretch.pieces, flow.moved.len());
            assert_eq!(flow.moved, held, "what the sink took");
            (found, flow)
        }
    };
    match amount {
        Amount::Exactly => meeting.settle_exact(found.map(drop), &flow),
        Amount::UpTo if is_one_call => meeting.settle_one_call(found, &flow),
        Amount::UpTo => meeting.settle_up_to(found, &flow, |done| access.batch(done)),
    }
}

impl<'a> Access<'a> {
    fn of(way: &Way, direction: Direction, amount: Amount, guest: &'a Guest, twin: &Twin) -> Self {
        let is_written = direction == Direction::FromStream;
        let operation = match direction {
            Direction::FromStream => Operation::ReadFromStream,
            Direction::ToStream => Operation::WriteToStream,
        };
        let number = |region: u8| usize::from(region) % twin.spans.len();
        let (target, addr, count, stretch) = match way {
            Way::Memory(place, count) => {
                let count = count.bytes();
                let addr = match *place {
                    Place::Inside { region, offset } => {
                        let span = &twin.spans[number(region)];
                        span.start + (usize::from(offset) % span.len()) as u64
                    }
                    Place::Any(addr) => addr,
                };
                let stretch = twin.stretch(addr, count, is_written);
                (Target::Memory(addr), addr, count, stretch)
            }
            Way::Region(region, offset, count) => {
                let (region, offset, count) = (number(*region), offset.bytes(), count.bytes());
                let addr = twin.spans[region].start.wrapping_add(offset as u64);
                let stretch = twin.stretch_in(region, offset, count, is_written);
                (Target::Region(region, offset), addr, count, stretch)
            }
            Way::Slice {
                part,
                offset,
                count,
            } => {
                let (region, start, len) = part.of(twin, 0);
                let (offset, count) = (offset.bytes(), count.bytes());
                let mut stretch = Stretch::default();
                let is_outside = offset > len || (offset == len && count > 0);
                let is_short = is_outside || count > len - offset;
                if is_outside || (is_short && amount == Amount::Exactly) {
                    // Whether it must be written or not.
                    stretch.obstacle = Some(Obstacle::Hole(0));
                } else if is_written && twin.spans[region].is_read_only {
                    stretch.obstacle = Some(Obstacle::ReadOnly);
                } else {
                    stretch.push((region, start + offset, count.min(len - offset)));
                    stretch.obstacle = is_short.then_some(Obstacle::Hole(0));
                }
                let slice = guest.slice(region, start, len);
                (Target::Slice(slice, offset), 0, count, stretch)
            }
            Way::Slices(parts) => {
                let parts = parts.iter().take(MAX_SLICES).map(|part| {
                    // Of a read-only region at least a byte: an empty part would be refused as well.
                    let is_read_only = twin.spans[number(part.region)].is_read_only;
                    part.of(twin, usize::from(is_read_only))
                });
                let mut stretch = Stretch::default();
                let mut slices = Vec::new();
                let mut is_refused = false;
                for (region, start, len) in parts {
                    stretch.push((region, start, len));
                    slices.push(guest.slice(region, start, len));
                    is_refused |= is_written && twin.spans[region].is_read_only;
                }
                let count = stretch.reach;
                if is_refused {
                    stretch = Stretch::default();
                    stretch.obstacle = Some(Obstacle::ReadOnly);
                }
                (Target::Slices(slices), 0, count, stretch)
            }
        };
        let request = Request {
            operation,
            addr,
            count,
        };
        Self {
            target,
            count,
            request,
            stretch,
        }
    }

    fn meeting(&self, direction: Direction) -> Meeting {
        Meeting {
            count: self.count,
            reach: self.stretch.reach,
            obstacle: self.stretch.obstacle,
            is_by_address: matches!(self.target, Target::Memory(_) | Target::Region(..)),
            end: match direction {
                Direction::FromStream => ErrorKind::UnexpectedEof,
                Direction::ToStream => ErrorKind::WriteZero,
            },
        }
    }

    /// Returns how many bytes a stream is given at once after `done` bytes, which end a piece.
    fn batch(&self, done: usize) -> usize {
        let mut before = 0;
        let rest = self.stretch.pieces.iter().skip_while(|piece| {
            before += piece.2;
            before <= done
        });
        rest.take(BATCH_LEN).map(|piece| piece.2).sum()
    }

    fn pull(&self, guest: &Guest, amount: Amount, source: &mut Source<'_>) -> Result<usize, Told> {
        let count = self.count;
        match &self.target {
            Target::Memory(addr) => pull(&guest.memory, GuestAddress(*addr), amount, source, count)
                .map_err(|error| self.request.shorten(&error)),
            Target::Region(region, offset) => {
                let offset = MemoryRegionAddress(*offset as u64);
                pull(guest.region(*region), offset, amount, source, count)
                    .map_err(|error| self.request.shorten(&error))
            }
            Target::Slice(slice, offset) => {
                pull(slice, *offset, amount, source, count).map_err(|error| shorten(&error, count))
            }
            Target::Slices(slices) => {
                let mut slices = slices.clone();
                let found = match amount {
                    Amount::UpTo => source.read_vectored_volatile(&mut slices),
                    Amount::Exactly => source
                        .read_exact_vectored_volatile(&mut slices)
                        .map(|()| count),
                };
                found.map_err(|error| shorten(&error, count))
            }
        }
    }

    fn push(&self, guest: &Guest, amount: Amount, sink: &mut Sink<'_>) -> Result<usize, Told> {
        let count = self.count;
        match &self.target {
            Target::Memory(addr) => push(&guest.memory, GuestAddress(*addr), amount, sink, count)
                .map_err(|error| self.request.shorten(&error)),
            Target::Region(region, offset) => {
                let offset = MemoryRegionAddress(*offset as u64);
                push(guest.region(*region), offset, amount, sink, count)
                    .map_err(|error| self.request.shorten(&error))
            }
            Target::Slice(slice, offset) => {
                push(slice, *offset, amount, sink, count).map_err(|error| shorten(&error, count))
            }
            Target::Slices(slices) => {
                let found = match amount {
                    Amount::UpTo => sink.write_vectored_volatile(slices),
                    Amount::Exactly => sink.write_all_vectored_volatile(slices).map(|()| count),
                };
                found.map_err(|error| shorten(&error, count))
            }
        }
    }
}

impl Part {
    /// Returns the region, the offset in it and the length, which is `least` or more.
    fn of(self, twin: &Twin, least: usize) -> (usize, usize, usize) {
        let region = usize::from(self.region) % twin.spans.len();
        let len = twin.spans[region].len();
        let start = usize::from(self.start) % len;
        let len = (usize::from(self.len) % (len - start + 1)).max(least);
        (region, start, len)
    }
}

fn pull<A, T: Bytes<A>>(
    target: &T,
    addr: A,
    amount: Amount,
    source: &mut Source<'_>,
    count: usize,
) -> Result<usize, T::E> {
    match amount {
        Amount::UpTo => target.read_volatile_from(addr, source, count),
        Amount::Exactly => target
            .read_exact_volatile_from(addr, source, count)
            .map(|()| count),
    }
}

fn push<A, T: Bytes<A>>(
    target: &T,
    addr: A,
    amount: Amount,
    sink: &mut Sink<'_>,
    count: usize,
) -> Result<usize, T::E> {
    match amount {
        Amount::UpTo => target.write_volatile_to(addr, sink, count),
        Amount::Exactly => target
            .write_all_volatile_to(addr, sink, count)
            .map(|()| count),
    }
}
