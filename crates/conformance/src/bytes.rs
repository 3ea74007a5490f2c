// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The suite for [`Bytes`] over one contiguous range, and its single operations.
//!
//! What it holds an implementation to:
//!
//! * an access that starts in the range does as much as is mapped; `read` and `write` return that
//!   count, the exact forms fail if it is not all, having done that much; one that starts outside
//!   fails and does nothing;
//! * a read or write of length 0 succeeds everywhere;
//! * objects are exact accesses of their bytes; atomic accesses need all their bytes in one range
//!   and an aligned offset, else they fail and do nothing;
//! * a stream operation stores exactly the bytes that the source gave, or hands over exactly those
//!   that the sink took, in order and without gaps, whatever portions the stream works in; an error
//!   hides no byte that went through, and of an access that may be short it comes before the first byte alone; what a signal
//!   interrupts is tried again; a plain stream goes as far as memory and stream allow;
//! * dirty pages are those written to and no others.
//!
//! Left open: how much a failing exact stream operation moves before it fails.
//!
//! The range has to start zeroed and clean, its first byte aligned to eight bytes in the host.

use std::fmt::Debug;

use guest_memory_core::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

pub use crate::access::{Refusal, apply};
use crate::config::{Config, guarded};
use crate::model::Model;
use crate::place::{Map, Spot, buffer_len, count, range_len, spot};
pub use crate::stream::Flow;

/// Bytes to write, told by their length and first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data {
    /// The first byte.
    pub first: u8,
    /// How many bytes.
    pub len: usize,
}

impl Data {
    /// Returns the bytes: each is three more than the one before it.
    pub fn bytes(self) -> Vec<u8> {
        let mut byte = self.first;
        let mut bytes = vec![0; self.len];
        for place in &mut bytes {
            *place = byte;
            byte = byte.wrapping_add(3);
        }
        bytes
    }
}

/// The type of an object or of an atomic value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// `u8`
    One,
    /// `u16`
    Two,
    /// `u32`
    Four,
    /// `u64`
    Eight,
}

impl Width {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::One, Self::Two, Self::Four, Self::Eight];

    /// Returns the size in bytes.
    pub fn size(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }
}

/// How many bytes a stream operation moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many or fewer: as many as come in one go.
    UpTo(usize),
    /// So many, or it fails.
    Exactly(usize),
}

impl Amount {
    /// Returns the number of bytes asked for.
    pub fn count(self) -> usize {
        match self {
            Self::UpTo(count) | Self::Exactly(count) => count,
        }
    }
}

/// A method of [`Bytes`] with its arguments but for the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each variant is the method of that name, with its arguments"
)]
pub enum Call {
    Write(Data),
    Read {
        len: usize,
    },
    WriteSlice(Data),
    ReadSlice {
        len: usize,
    },
    /// Writes the first bytes of `value` in memory order.
    WriteObj {
        value: u64,
        width: Width,
    },
    ReadObj(Width),
    /// Stores the first bytes of `value` in memory order.
    Store {
        value: u64,
        width: Width,
    },
    Load(Width),
    /// `read_volatile_from` or `read_exact_volatile_from` a source that holds `data`.
    ReadVolatileFrom {
        amount: Amount,
        data: Data,
        flow: Flow,
    },
    /// `write_volatile_to` or `write_all_volatile_to` a sink with room for so many bytes (a plain
    /// one has no limit).
    WriteVolatileTo {
        amount: Amount,
        room: usize,
        flow: Flow,
    },
}

/// One call of a [`Bytes`] method at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The address.
    pub at: u64,
    /// The rest.
    pub call: Call,
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
/// use guest_memory_conformance::bytes;
/// use guest_memory_core::{GuestAddress, MemoryRegionAddress};
/// use guest_memory_mmap::GuestRegionMmap;
///
/// bytes::check(
///     |len| GuestRegionMmap::<()>::from_range(GuestAddress(0), len, None).expect("mapped memory"),
///     MemoryRegionAddress,
/// );
/// ```
pub fn check<A, T>(make: impl Fn(usize) -> T, address: impl Fn(u64) -> A)
where
    T: Bytes<A>,
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
    T: Bytes<A>,
    T::E: Debug,
{
    let dirty_at = &dirty_at;
    let tracking = config.settle("bytes", |len| {
        let subject = make(len);
        mark(&subject, 0);
        move |offset| dirty_at(&subject, offset)
    });
    let page_size = tracking.step();
    let raw = vec(raw_operation(page_size), 1..24);
    let scripts = (range_len(page_size), raw).prop_map(|(len, raw)| {
        let len = config.round_up(len);
        let map = Map::new(&[(0, len)], page_size);
        (len, resolve(&raw, &map))
    });
    config.run("bytes", &scripts, |(len, operations)| {
        let subject = guarded(&("make", len), || Ok(make(*len)))?;
        let mut model = Model::new(&[(0, *len)], tracking.page_size);
        for operation in operations {
            guarded(operation, || {
                apply(operation, &subject, &address, &mut model, &|_, _| Ok(()))?;
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

fn resolve(raw: &[(Spot, Call)], map: &Map) -> Vec<Operation> {
    raw.iter()
        .map(|&(spot, call)| Operation {
            at: spot.find(map),
            call,
        })
        .collect()
}

/// Makes calls and where to make them.
pub(crate) fn raw_operation(page_size: usize) -> impl Strategy<Value = (Spot, Call)> {
    let data = || (any::<u8>(), buffer_len(page_size)).prop_map(|(first, len)| Data { first, len });
    let len = || buffer_len(page_size);
    let width = || proptest::sample::select(&Width::ALL[..]);
    let value = || (any::<u64>(), width());
    let amount = || {
        let up_to = count(page_size).prop_map(Amount::UpTo);
        prop_oneof![up_to, count(page_size).prop_map(Amount::Exactly)]
    };
    let flow = || {
        prop_oneof![
            Just(Flow::Plain),
            Just(Flow::Cursor),
            (1usize..20).prop_map(Flow::Dribble),
            (1usize..40).prop_map(Flow::Across),
            (0usize..40).prop_map(Flow::FailAfter),
        ]
    };
    let call = prop_oneof![
        2 => data().prop_map(Call::Write),
        1 => len().prop_map(|len| Call::Read { len }),
        2 => data().prop_map(Call::WriteSlice),
        1 => len().prop_map(|len| Call::ReadSlice { len }),
        2 => value().prop_map(|(value, width)| Call::WriteObj { value, width }),
        1 => width().prop_map(Call::ReadObj),
        2 => value().prop_map(|(value, width)| Call::Store { value, width }),
        1 => width().prop_map(Call::Load),
        3 => (amount(), data(), flow())
            .prop_map(|(amount, data, flow)| Call::ReadVolatileFrom { amount, data, flow }),
        2 => (amount(), len(), flow())
            .prop_map(|(amount, room, flow)| Call::WriteVolatileTo { amount, room, flow }),
    ];
    (spot(), call)
}
