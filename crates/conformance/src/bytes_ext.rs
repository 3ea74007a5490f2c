// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The suite for [`BytesExt`] over one contiguous range, and its single operations.
//!
//! What it holds an implementation to, beside all that [`bytes`] asks:
//!
//! * read-modify-writes need all their bytes in one range and an aligned offset, else they fail and do nothing; they
//!   return the value before, additions wrap around, and the bytes are dirty afterwards;
//! * a compare-exchange stores if the expected value is there; if not, it changes and marks nothing;
//! * a fill writes as much as is mapped, and fails if that is not all of it;
//! * a search for zeroes ends at a byte that is not zero, whatever lies behind; else it fails if not all is mapped;
//! * a fill and a search of length 0 succeed everywhere;
//! * little-endian values have their lowest byte first.
//!
//! [`check_concurrent`] holds memory that threads share to this: no read-modify-write is lost where two threads change one value.
//!
//! The range has to start zeroed and clean, its first byte aligned to eight bytes in the host.

use std::fmt::Debug;
use std::sync::atomic::Ordering;

use guest_memory_core::BytesExt;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::access::{Refusal, array, atomically, exactly, settle, with_type};
use crate::bytes::{self, Width, raw_operation};
use crate::config::{Config, guarded};
use crate::model::Model;
use crate::place::{Map, Spot, count, range_len, spot};

mod concurrent;

pub use concurrent::check_concurrent;

const SEQ: Ordering = Ordering::SeqCst;

/// A read-modify-write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each variant is the method that ends on that name"
)]
pub enum Change {
    Swap,
    Add,
    And,
    Or,
    Xor,
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Swap, Self::Add, Self::And, Self::Or, Self::Xor];
}

/// A method of [`BytesExt`] with its arguments but for the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each variant is the method of that name, with its arguments"
)]
pub enum Call {
    /// Expects the first bytes of `current` in memory order, or, if that is `None`, what is there.
    CompareExchange {
        current: Option<u64>,
        new: u64,
        width: Width,
    },
    /// `swap` or a `fetch` method, with the first bytes of `value` in memory order.
    Modify {
        change: Change,
        value: u64,
        width: Width,
    },
    Fill {
        value: u8,
        count: usize,
    },
    Zero {
        count: usize,
    },
    IsZero {
        count: usize,
    },
    /// Of two bytes where the width is one.
    LoadLe(Width),
    /// Stores the lowest bytes of `value`; two where the width is one.
    StoreLe {
        value: u64,
        width: Width,
    },
}

/// One call of a [`BytesExt`] method at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The address.
    pub at: u64,
    /// The rest.
    pub call: Call,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Access(bytes::Operation),
    Extended(Operation),
}

/// Checks the memory that `make` returns for a length in bytes; `address` makes an address of an
/// offset. Dirty pages are not looked at.
///
/// # Panics
///
/// When one does not behave; the message names the operation and the shortest script.
///
/// # Examples
///
/// ```
/// use guest_memory_conformance::bytes_ext;
/// use guest_memory_core::{GuestAddress, MemoryRegionAddress};
/// use guest_memory_mmap::GuestRegionMmap;
///
/// bytes_ext::check(
///     |len| GuestRegionMmap::<()>::from_range(GuestAddress(0), len, None).expect("mapped memory"),
///     MemoryRegionAddress,
/// );
/// ```
pub fn check<A, T>(make: impl Fn(usize) -> T, address: impl Fn(u64) -> A)
where
    T: BytesExt<A>,
    T::E: Debug,
{
    let config = Config::default().untracked();
    check_with(config, make, address, |_, _| {}, |_, _| false);
}

/// Checks memory as [`check`] does, with other settings and with dirty pages: `mark` marks the byte
/// at an offset as a write would, `dirty_at` answers for an offset.
///
/// # Panics
///
/// As [`check`].
pub fn check_with<A, T>(
    config: Config,
    make: impl Fn(usize) -> T,
    address: impl Fn(u64) -> A,
    mark: impl Fn(&T, usize),
    dirty_at: impl Fn(&T, usize) -> bool,
) where
    T: BytesExt<A>,
    T::E: Debug,
{
    let dirty_at = &dirty_at;
    let tracking = config.settle("bytes_ext", |len| {
        let subject = make(len);
        mark(&subject, 0);
        move |offset| dirty_at(&subject, offset)
    });
    config.run("bytes_ext", &scripts(config, tracking.step()), |script| {
        let (len, steps) = script;
        let subject = guarded(&("make", len), || Ok(make(*len)))?;
        let mut model = Model::new(&[(0, *len)], tracking.page_size);
        for step in steps {
            guarded(step, || {
                take(step, &subject, &address, &mut model)?;
                let mut bytes = vec![0; *len];
                subject
                    .read_slice(&mut bytes, address(0))
                    .map_err(|error| format!("reading it all back: {error:?}"))?;
                model.spans()[0].compare(&bytes, |offset| dirty_at(&subject, offset))
            })?;
        }
        Ok(())
    });
}

fn scripts(config: Config, page_size: usize) -> impl Strategy<Value = (usize, Vec<Step>)> {
    let access = raw_operation(page_size).prop_map(|(spot, call)| (spot, Ok(call)));
    let extended = raw_extended(page_size).prop_map(|(spot, call)| (spot, Err(call)));
    let raw = vec(prop_oneof![1 => access, 3 => extended], 1..24);
    (range_len(page_size), raw).prop_map(move |(len, raw)| {
        let len = config.round_up(len);
        let map = Map::new(&[(0, len)], page_size);
        let resolve = |(spot, call): (Spot, Result<bytes::Call, Call>)| {
            let at = spot.find(&map);
            match call {
                Ok(call) => Step::Access(bytes::Operation { at, call }),
                Err(call) => Step::Extended(Operation { at, call }),
            }
        };
        (len, raw.into_iter().map(resolve).collect())
    })
}

/// Makes calls and where to make them.
pub(crate) fn raw_extended(page_size: usize) -> impl Strategy<Value = (Spot, Call)> {
    let width = || proptest::sample::select(&Width::ALL[..]);
    // Small ones too, which change nothing, or a byte.
    let value = || prop_oneof![1 => 0u64..=1, 3 => any::<u64>()];
    let change = proptest::sample::select(&Change::ALL[..]);
    let count = || count(page_size);
    let call = prop_oneof![
        2 => (proptest::option::of(value()), value(), width())
            .prop_map(|(current, new, width)| Call::CompareExchange { current, new, width }),
        3 => (change, value(), width())
            .prop_map(|(change, value, width)| Call::Modify { change, value, width }),
        2 => (any::<u8>(), count()).prop_map(|(value, count)| Call::Fill { value, count }),
        2 => count().prop_map(|count| Call::Zero { count }),
        2 => count().prop_map(|count| Call::IsZero { count }),
        1 => width().prop_map(Call::LoadLe),
        1 => (any::<u64>(), width()).prop_map(|(value, width)| Call::StoreLe { value, width }),
    ];
    (spot(), call)
}

fn take<A, T>(
    step: &Step,
    subject: &T,
    address: &impl Fn(u64) -> A,
    model: &mut Model,
) -> Result<bool, String>
where
    T: BytesExt<A>,
    T::E: Debug,
{
    match step {
        Step::Access(operation) => bytes::apply(operation, subject, address, model, &|_, _| Ok(())),
        Step::Extended(operation) => apply(operation, subject, address, model, &|_, _| Ok(())),
    }
}

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
    T: BytesExt<A> + ?Sized,
    T::E: Debug,
{
    let Operation { at, call } = *operation;
    match call {
        Call::CompareExchange {
            current,
            new,
            width,
        } => with_type!(width, W => {
            let before = value_at(model, at, width).map(|bytes| W::from_ne_bytes(array(&bytes)));
            let first = |value: u64| W::from_ne_bytes(array(&value.to_ne_bytes()));
            let current = current.map_or(before.unwrap_or_default(), first);
            let new = first(new);
            let expected = before.map(|before| if before == current { Ok(before) } else { Err(before) });
            if let Ok(Ok(_)) = expected {
                model.write(at, &new.to_ne_bytes());
            }
            let result = subject.compare_exchange(current, new, address(at), SEQ, SEQ);
            settle(result, expected, examine)
        }),
        Call::Modify {
            change,
            value,
            width,
        } => with_type!(width, W => {
            let before = value_at(model, at, width).map(|bytes| W::from_ne_bytes(array(&bytes)));
            let value = W::from_ne_bytes(array(&value.to_ne_bytes()));
            if let Ok(before) = before {
                let after = match change {
                    Change::Swap => value,
                    Change::Add => before.wrapping_add(value),
                    Change::And => before & value,
                    Change::Or => before | value,
                    Change::Xor => before ^ value,
                };
                model.write(at, &after.to_ne_bytes());
            }
            let addr = address(at);
            let result = match change {
                Change::Swap => subject.swap(value, addr, SEQ),
                Change::Add => subject.fetch_add(value, addr, SEQ),
                Change::And => subject.fetch_and(value, addr, SEQ),
                Change::Or => subject.fetch_or(value, addr, SEQ),
                Change::Xor => subject.fetch_xor(value, addr, SEQ),
            };
            settle(result, before, examine)
        }),
        Call::Fill { value, count } => {
            let expected = filled(model, at, value, count);
            settle(subject.fill(value, address(at), count), expected, examine)
        }
        Call::Zero { count } => {
            let expected = filled(model, at, 0, count);
            settle(subject.zero(address(at), count), expected, examine)
        }
        Call::IsZero { count } => {
            let mapped = model.read(at, model.mapped(at, count));
            let expected = if mapped.iter().all(|&byte| byte == 0) {
                exactly(model, at, count).map(|()| true)
            } else {
                Ok(false)
            };
            settle(subject.is_zero(address(at), count), expected, examine)
        }
        Call::LoadLe(width) => {
            let width = at_least_two(width);
            let expected = value_at(model, at, width).map(|bytes| lowest_first(&bytes));
            let addr = address(at);
            let result = match width {
                Width::One | Width::Two => subject.load_le::<u16>(addr, SEQ).map(u64::from),
                Width::Four => subject.load_le::<u32>(addr, SEQ).map(u64::from),
                Width::Eight => subject.load_le::<u64>(addr, SEQ),
            };
            settle(result, expected, examine)
        }
        Call::StoreLe { value, width } => {
            let width = at_least_two(width);
            let bytes = value.to_le_bytes();
            let expected = atomically(model, at, width);
            if expected.is_ok() {
                model.write(at, &bytes[..width.size()]);
            }
            let addr = address(at);
            let result = match width {
                Width::One | Width::Two => {
                    subject.store_le(u16::from_le_bytes(array(&bytes)), addr, SEQ)
                }
                Width::Four => subject.store_le(u32::from_le_bytes(array(&bytes)), addr, SEQ),
                Width::Eight => subject.store_le(value, addr, SEQ),
            };
            settle(result, expected, examine)
        }
    }
}

/// What the model has where an atomic access may take place.
fn value_at(model: &Model, at: u64, width: Width) -> Result<Vec<u8>, Refusal> {
    atomically(model, at, width).map(|()| model.read(at, width.size()))
}

/// Fills the model up to the first hole; returns what it expects of the subject.
fn filled(model: &mut Model, at: u64, value: u8, count: usize) -> Result<(), Refusal> {
    let expected = exactly(model, at, count);
    let data = vec![value; model.mapped(at, count)];
    model.write(at, &data);
    expected
}

fn at_least_two(width: Width) -> Width {
    match width {
        Width::One => Width::Two,
        wide => wide,
    }
}

fn lowest_first(bytes: &[u8]) -> u64 {
    let add_above = |value: u64, &byte: &u8| value << 8 | u64::from(byte);
    bytes.iter().rev().fold(0, add_above)
}
