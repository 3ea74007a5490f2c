// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Scripts of streams into and out of a guest memory: many small regions side by side, holes, read-only regions, one that
//! ends at 2^64. The streams give little, are interrupted, fail after some bytes and report too much; what they did says
//! where each byte has to lie, which pages are dirty and how far an error has to say that the access came.

mod access;
mod ends;
mod guest;
mod outcome;
mod toy;

use arbitrary::Arbitrary;

use self::access::{Direction, Way};
use self::ends::Spec;
use self::guest::Guest;
use self::outcome::Amount;

/// Names of the operations, as [`run_with`] reports them.
pub const OPERATIONS: [&str; 16] = [
    "memory: read_volatile_from",
    "memory: read_exact_volatile_from",
    "memory: write_volatile_to",
    "memory: write_all_volatile_to",
    "region: read_volatile_from",
    "region: read_exact_volatile_from",
    "region: write_volatile_to",
    "region: write_all_volatile_to",
    "slice: read_volatile_from",
    "slice: read_exact_volatile_from",
    "slice: write_volatile_to",
    "slice: write_all_volatile_to",
    "slices: read_vectored_volatile",
    "slices: read_exact_vectored_volatile",
    "slices: write_vectored_volatile",
    "slices: write_all_vectored_volatile",
];

/// An operation as the fuzzer makes it.
#[derive(Arbitrary, Debug)]
struct Op {
    way: Way,
    is_exact: bool,
    is_read: bool,
    stream: Spec,
}

/// Runs the script in `data`.
///
/// # Panics
///
/// When an operation does something else than the model.
pub fn run(data: &[u8]) {
    run_with(data, |_, _| {});
}

/// Runs the script in `data` and reports each operation by its name and whether it succeeded.
///
/// # Panics
///
/// As [`run`].
pub fn run_with(data: &[u8], mut report: impl FnMut(&'static str, bool)) {
    Guest::with(|guest, twin| {
        super::for_each_operation(data, |operation: Op| {
            let _named = super::Named(&operation);
            let amount = if operation.is_exact {
                Amount::Exactly
            } else {
                Amount::UpTo
            };
            let direction = if operation.is_read {
                Direction::FromStream
            } else {
                Direction::ToStream
            };
            let stream = operation.stream.clone();
            let way = &operation.way;
            let succeeded = access::run(way, direction, amount, stream, guest, twin);
            report(name(way, direction, amount), succeeded);
            guest.compare(twin);
        });
    });
}

fn name(way: &Way, direction: Direction, amount: Amount) -> &'static str {
    let way = match way {
        Way::Memory(..) => 0,
        Way::Region(..) => 1,
        Way::Slice { .. } => 2,
        Way::Slices(_) => 3,
    };
    let form = match (direction, amount) {
        (Direction::FromStream, Amount::UpTo) => 0,
        (Direction::FromStream, Amount::Exactly) => 1,
        (Direction::ToStream, Amount::UpTo) => 2,
        (Direction::ToStream, Amount::Exactly) => 3,
    };
    OPERATIONS[way * 4 + form]
}
