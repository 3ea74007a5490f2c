// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The suite for a [`VolatileMemory`]: a container that hands out windows on itself.
//!
//! What it holds a container of `len` bytes to:
//!
//! * `len`, `is_empty` and `compute_end_offset` say so, and a sum that does not fit is an error;
//! * `get_slice`, `get_ref`, `get_array_ref` and `get_atomic_ref` give out exactly the bytes asked for, at the same host address
//!   each time, or an error if one of them is past the end or the size does not fit; `as_volatile_slice` gives all;
//! * what is written through one window is read through every other and changes no byte beside; it is marked in the container's
//!   bitmap at its place, seen through whichever window, and nothing else is;
//! * a reference to an atomic needs an aligned place, and its bytes are dirty from then on; one that is refused marks nothing.
//!
//! What needs unsafe code to call is not looked at. A container has to start zeroed and clean, its first byte aligned to eight bytes
//! in the host.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use guest_memory_bitmap::{Bitmap, BitmapSlice};
use guest_memory_volatile::{VolatileMemory, VolatileMemoryError, VolatileSlice};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::access::{array, with_type};
use crate::bytes::{Data, Width};
use crate::config::{Config, expect_eq, guarded};
use crate::model::Span;
use crate::place::{Map, Spot, buffer_len, count, range_len, spot};

/// A method of the container with its arguments but for the offset.
#[derive(Clone, Copy, Debug)]
enum Call {
    GetSlice {
        count: usize,
    },
    /// A write at an offset inside of what `get_slice` returned, itself cut once more.
    WriteSlice {
        count: usize,
        cut: usize,
        data: Data,
    },
    /// Writes through `as_volatile_slice`.
    WriteWhole(Data),
    /// Stores through `get_ref` and loads through another one.
    Reference {
        value: u64,
        width: Width,
    },
    /// Stores an element through `get_array_ref` of so many.
    Element {
        count: usize,
        index: usize,
        value: u64,
        width: Width,
    },
    /// Adds through `get_atomic_ref`.
    Atomic {
        value: u64,
        width: Width,
    },
    EndOffset {
        count: usize,
    },
    /// Copies from a window to another one so many bytes further on, or back.
    Copy {
        count: usize,
        distance: isize,
    },
}

#[derive(Clone, Copy, Debug)]
struct Operation {
    at: usize,
    call: Call,
}

#[derive(Debug)]
struct Script {
    len: usize,
    operations: Vec<Operation>,
}

/// Checks the containers that `make` returns for a length in bytes.
///
/// # Panics
///
/// When one does not behave; the message names the operation and the shortest script.
///
/// # Examples
///
/// ```
/// use guest_memory_bitmap::AtomicBitmap;
/// use guest_memory_conformance::volatile_memory;
/// use guest_memory_mmap::MmapRegion;
///
/// volatile_memory::check(|len| MmapRegion::<AtomicBitmap>::new(len).expect("mapped memory"));
/// ```
pub fn check<M: VolatileMemory>(make: impl Fn(usize) -> M) {
    check_with(Config::default(), make);
}

/// Checks containers as [`check`] does, with other settings.
///
/// # Panics
///
/// As [`check`].
pub fn check_with<M: VolatileMemory>(config: Config, make: impl Fn(usize) -> M) {
    let tracking = config.settle("volatile memory", |len| {
        let memory = make(len);
        memory.as_volatile_slice().bitmap().mark_dirty(0, 1);
        move |offset| memory.as_volatile_slice().bitmap().dirty_at(offset)
    });
    config.run(
        "volatile memory",
        &scripts(config, tracking.step()),
        |script| {
            let memory = guarded(&("make", script.len), || Ok(make(script.len)))?;
            let mut span = Span::new(0, script.len, tracking.page_size);
            guarded(&"a new container", || compare(&memory, &span))?;
            for operation in at_borders(script.len) {
                guarded(&operation, || apply(operation, &memory, &mut span))?;
            }
            for operation in &script.operations {
                guarded(operation, || {
                    apply(*operation, &memory, &mut span)?;
                    compare(&memory, &span)
                })?;
            }
            Ok(())
        },
    );
}

fn scripts(config: Config, page_size: usize) -> impl Strategy<Value = Script> {
    let data = || (any::<u8>(), buffer_len(page_size)).prop_map(|(first, len)| Data { first, len });
    let width = || proptest::sample::select(&Width::ALL[..]);
    let counts = || count(page_size);
    let call = prop_oneof![
        2 => counts().prop_map(|count| Call::GetSlice { count }),
        3 => (buffer_len(page_size), 0usize..24, data())
            .prop_map(|(count, cut, data)| Call::WriteSlice { count, cut, data }),
        1 => data().prop_map(Call::WriteWhole),
        2 => (any::<u64>(), width()).prop_map(|(value, width)| Call::Reference { value, width }),
        2 => (counts(), 0usize..8, any::<u64>(), width())
            .prop_map(|(count, index, value, width)| Call::Element { count, index, value, width }),
        2 => (any::<u64>(), width()).prop_map(|(value, width)| Call::Atomic { value, width }),
        1 => counts().prop_map(|count| Call::EndOffset { count }),
        1 => (buffer_len(page_size), -40isize..=40)
            .prop_map(|(count, distance)| Call::Copy { count, distance }),
    ];
    let raw = vec((spot(), call), 1..24);
    (range_len(page_size), raw).prop_map(move |(len, raw)| {
        let len = config.round_up(len);
        let map = Map::new(&[(0, len)], page_size);
        let resolve = |(spot, call): (Spot, Call)| Operation {
            at: spot.find_offset(&map),
            call,
        };
        let operations = raw.into_iter().map(resolve).collect();
        Script { len, operations }
    })
}

/// Lists what every container is asked, whatever its script: the arithmetic at its very borders.
fn at_borders(len: usize) -> impl Iterator<Item = Operation> {
    let places = [0, 1, len - 1, len, len + 1, usize::MAX - len, usize::MAX];
    places.into_iter().flat_map(move |at| {
        [0, 1, 2, len - 1, len, usize::MAX]
            .into_iter()
            .flat_map(move |count| {
                [Call::GetSlice { count }, Call::EndOffset { count }]
                    .map(|call| Operation { at, call })
            })
    })
}

fn apply<M: VolatileMemory>(
    operation: Operation,
    memory: &M,
    span: &mut Span,
) -> Result<(), String> {
    let Operation { at, call } = operation;
    match call {
        Call::GetSlice { count } => window(memory, span, at, count).map(drop),
        Call::WriteSlice { count, cut, data } => {
            let Some(slice) = window(memory, span, at, count)? else {
                return Ok(());
            };
            let cut = cut.min(count);
            let part = slice.offset(cut);
            let part = part.map_err(|error| format!("cutting the window: {error:?}"))?;
            let written = part.try_copy_from(&data.bytes());
            let written = written.map_err(|error| format!("the write returned {error:?}"))?;
            let fitting = data.len.min(count - cut);
            expect_eq("the count of the write", written, fitting)?;
            span.write(at + cut, &data.bytes()[..fitting]);
            Ok(())
        }
        Call::WriteWhole(data) => {
            let written = memory.as_volatile_slice().try_copy_from(&data.bytes());
            let written = written.map_err(|error| format!("the write returned {error:?}"))?;
            let fitting = data.len.min(span.len());
            expect_eq("the count of the write", written, fitting)?;
            span.write(0, &data.bytes()[..fitting]);
            Ok(())
        }
        Call::Reference { value, width } => with_type!(width, T => {
            let value = T::from_ne_bytes(array(&value.to_ne_bytes()));
            let found = memory.get_ref::<T>(at).map(|reference| {
                reference.store(value);
                reference.to_slice().ptr_guard().as_ptr().addr()
            });
            if settle(found, memory, span, at, Some(width.size()))? {
                span.write(at, &value.to_ne_bytes());
                let loaded = memory.get_ref::<T>(at).map(|reference| reference.load()).ok();
                expect_eq("what another reference loads", loaded, Some(value))?;
            }
            Ok(())
        }),
        Call::Element {
            count,
            index,
            value,
            width,
        } => with_type!(width, T => {
            let value = T::from_ne_bytes(array(&value.to_ne_bytes()));
            let found = memory.get_array_ref::<T>(at, count).map(|elements| {
                if index < count {
                    elements.store(index, value);
                }
                (elements.len(), elements.to_slice())
            });
            if let Ok((len, slice)) = &found {
                expect_eq("the number of elements", *len, count)?;
                expect_eq("the bytes of the elements", Some(slice.len()), count.checked_mul(width.size()))?;
            }
            let found = found.map(|(_, slice)| slice.ptr_guard().as_ptr().addr());
            if settle(found, memory, span, at, count.checked_mul(width.size()))? && index < count {
                span.write(at + index * width.size(), &value.to_ne_bytes());
            }
            Ok(())
        }),
        Call::Atomic { value, width } => atomic(memory, span, at, value, width),
        Call::EndOffset { count } => {
            let found = memory.compute_end_offset(at, count).ok();
            let expected = at.checked_add(count).filter(|&end| end <= span.len());
            expect_eq("compute_end_offset", found, expected)
        }
        Call::Copy { count, distance } => {
            let target = at.wrapping_add_signed(distance);
            let windows = (
                window(memory, span, at, count)?,
                window(memory, span, target, count)?,
            );
            let (Some(from), Some(to)) = windows else {
                return Ok(());
            };
            let copied = from.try_copy_to_volatile_slice(to);
            let copied = copied.map_err(|error| format!("the copy returned {error:?}"))?;
            expect_eq("the bytes copied", copied, count)?;
            let data = span.bytes()[at..][..count].to_vec();
            span.write(target, &data);
            Ok(())
        }
    }
}

type Slice<'a, M> = VolatileSlice<'a, guest_memory_bitmap::BS<'a, <M as VolatileMemory>::B>>;

/// Asks for a window and checks that it is what was asked for, or refused when it has to be.
fn window<'a, M: VolatileMemory>(
    memory: &'a M,
    span: &Span,
    at: usize,
    count: usize,
) -> Result<Option<Slice<'a, M>>, String> {
    let found = memory.get_slice(at, count);
    if let Ok(slice) = &found
        && has(span, at, count)
    {
        expect_eq("the length of the window", slice.len(), count)?;
    }
    let address = match &found {
        Ok(slice) => Ok(slice.ptr_guard().as_ptr().addr()),
        Err(error) => Err(format!("{error:?}")),
    };
    settle(address, memory, span, at, Some(count))?;
    Ok(found.ok())
}

/// Checks that a window was given out if it could be, at the right host address.
fn settle<M: VolatileMemory, E: std::fmt::Debug>(
    found: Result<usize, E>,
    memory: &M,
    span: &Span,
    at: usize,
    len: Option<usize>,
) -> Result<bool, String> {
    let fits = len.is_some_and(|len| has(span, at, len));
    match found {
        Ok(address) if fits => {
            let base = memory.as_volatile_slice().ptr_guard().as_ptr().addr();
            expect_eq(
                "the host address, less that of all,",
                address.wrapping_sub(base),
                at,
            )?;
            Ok(true)
        }
        Err(_) if !fits => Ok(false),
        other => {
            let (word, bytes) = (if fits { "a window" } else { "an error" }, span.len());
            Err(format!(
                "returned {other:?}, expected {word}: the container has {bytes} bytes"
            ))
        }
    }
}

fn has(span: &Span, at: usize, len: usize) -> bool {
    at.checked_add(len).is_some_and(|end| end <= span.len())
}

fn atomic<M: VolatileMemory>(
    memory: &M,
    span: &mut Span,
    at: usize,
    value: u64,
    width: Width,
) -> Result<(), String> {
    let size = width.size();
    let order = Ordering::SeqCst;
    let bytes = value.to_ne_bytes();
    // What was there, in memory order.
    let result: Result<Vec<u8>, VolatileMemoryError> = match width {
        Width::One => memory.get_atomic_ref::<AtomicU8>(at).map(|atomic| {
            let added = u8::from_ne_bytes(array(&bytes));
            atomic.fetch_add(added, order).to_ne_bytes().to_vec()
        }),
        Width::Two => memory.get_atomic_ref::<AtomicU16>(at).map(|atomic| {
            let added = u16::from_ne_bytes(array(&bytes));
            atomic.fetch_add(added, order).to_ne_bytes().to_vec()
        }),
        Width::Four => memory.get_atomic_ref::<AtomicU32>(at).map(|atomic| {
            let added = u32::from_ne_bytes(array(&bytes));
            atomic.fetch_add(added, order).to_ne_bytes().to_vec()
        }),
        Width::Eight => memory
            .get_atomic_ref::<AtomicU64>(at)
            .map(|atomic| atomic.fetch_add(value, order).to_ne_bytes().to_vec()),
    };
    let fits = has(span, at, size) && at.is_multiple_of(size);
    match result {
        Ok(before) if fits => {
            let held = span.bytes()[at..][..size].to_vec();
            let sum = with_type!(width, T => {
                let added = T::from_ne_bytes(array(&bytes));
                T::from_ne_bytes(array(&held)).wrapping_add(added).to_ne_bytes().to_vec()
            });
            expect_eq("what the atomic held", before, held)?;
            span.write(at, &sum);
            Ok(())
        }
        Err(_) if !fits => Ok(()),
        other => Err(format!(
            "returned {other:?}, expected {}",
            if fits { "a reference" } else { "an error" }
        )),
    }
}

/// Compares all bytes and pages, the latter as a window on all and as windows from other places see them.
fn compare<M: VolatileMemory>(memory: &M, span: &Span) -> Result<(), String> {
    expect_eq("len", memory.len(), span.len())?;
    expect_eq("is_empty", memory.is_empty(), span.is_empty())?;
    let whole = memory.as_volatile_slice();
    expect_eq("the length of as_volatile_slice", whole.len(), span.len())?;
    let mut bytes = vec![0; span.len()];
    whole.copy_to(&mut bytes);
    span.compare(&bytes, |offset| dirty_in(&whole, offset))?;
    for start in [1, span.len() / 2] {
        let rest = memory.get_slice(start, span.len() - start);
        let rest = rest.map_err(|error| format!("a window at {start}: {error:?}"))?;
        // Pages that begin before the window are compared as far as they are in it.
        let seen = |offset: usize| match offset.checked_sub(start) {
            Some(offset) => dirty_in(&rest, offset),
            None => span.dirty_at(offset),
        };
        let told = span.compare_dirty(seen);
        told.map_err(|reason| format!("as seen from {start}: {reason}"))?;
    }
    Ok(())
}

fn dirty_in<B: BitmapSlice>(slice: &VolatileSlice<'_, B>, offset: usize) -> bool {
    slice.bitmap().dirty_at(offset)
}
