// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the fuzz targets run: bytes become a script of operations, and each operation is checked
//! against a naive model.
//!
//! Nothing here needs the fuzzer: `tests/replay.rs` runs the committed corpora on any compiler, and
//! a crash file replays the same way. A script that shows a fault panics with the operation's name.

#![forbid(unsafe_code)]

pub mod bitmap;
pub mod bytes;
pub mod collection;
pub mod differential;
pub mod guest_builder;
pub mod iotlb;
mod pages;
mod pattern;
pub mod stream;
pub mod volatile_slice;

/// Operations taken from one input; what follows is not looked at.
const MAX_OPERATIONS: usize = 32;

/// Takes operations off `data` until it is used up and runs `apply` on each.
fn for_each_operation<'a, O>(data: &'a [u8], mut apply: impl FnMut(O))
where
    O: arbitrary::Arbitrary<'a>,
{
    let mut input = arbitrary::Unstructured::new(data);
    for _ in 0..MAX_OPERATIONS {
        if input.is_empty() {
            break;
        }
        let Ok(operation) = O::arbitrary(&mut input) else {
            break;
        };
        apply(operation);
    }
}

/// Takes what a script begins with off `data`; returns it and the rest. `None` if there are too few bytes for it.
fn split_setup<'a, S: arbitrary::Arbitrary<'a>>(data: &'a [u8]) -> Option<(S, &'a [u8])> {
    let mut input = arbitrary::Unstructured::new(data);
    let setup = S::arbitrary(&mut input).ok()?;
    Some((setup, input.take_rest()))
}

/// Names the operation under way when something panics.
struct Named<'a, O: std::fmt::Debug>(&'a O);

impl<O: std::fmt::Debug> Drop for Named<'_, O> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("that was in {:x?}", self.0);
        }
    }
}
