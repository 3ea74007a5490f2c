// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The suites themselves under test: toys that behave pass, toys with one fault each are caught.

mod faulty;
mod mutants;
mod toys;

use std::panic::{AssertUnwindSafe, catch_unwind};

use guest_memory_conformance::{Config, bitmap, bytes, bytes_ext, memory, region};

use faulty::{BitmapFault, FaultyBitmap, FaultyBytes};
use toys::{ToyBitmap, ToyMemory, ToyRegion};

#[test]
fn toy_bitmap_joins() {
    bitmap::check(ToyBitmap::new);
}

#[test]
fn toy_region_joins() {
    region::check(ToyRegion::new);
}

#[test]
fn toy_region_of_whole_pages_joins() {
    region::check_with(Config::default().granule(toys::PAGE_SIZE), ToyRegion::new);
}

#[test]
fn toy_memory_joins() {
    memory::check(ToyMemory::new);
}

#[test]
fn toy_bytes_join() {
    bytes::check(|len| FaultyBytes::new(None, len), faulty::offset_of);
}

#[test]
fn toy_bytes_join_with_all_that_is_beyond() {
    bytes_ext::check(|len| FaultyBytes::new(None, len), faulty::offset_of);
}

#[test]
fn subject_that_records_nothing_must_say_so() {
    let message = caught(|| bitmap::check(|_| ())).expect("a failure");
    assert!(message.contains("Config::untracked"), "{message}");
    bitmap::check_with(Config::default().untracked(), |_| ());
}

#[test]
fn number_of_cases_is_what_was_asked_for() {
    let made = std::cell::Cell::new(0);
    let config = Config::default().untracked().cases(7);
    bitmap::check_with(config, |_| made.set(made.get() + 1));
    assert_eq!(made.get(), 7);
}

#[test]
fn failure_is_shrunk_to_one_operation() {
    let fault = Some(BitmapFault::LosesLastPage);
    let message = caught(|| bitmap::check(|len| FaultyBitmap::new(fault, len)));
    let message = message.expect("a failure");
    assert_eq!(message.matches("Operation {").count(), 2, "{message}");
}

/// Runs a suite and returns what it says if it fails.
fn caught(suite: impl FnOnce()) -> Option<String> {
    let payload = catch_unwind(AssertUnwindSafe(suite)).err()?;
    Some(match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => (*payload.downcast::<&str>().expect("a message")).to_owned(),
    })
}
