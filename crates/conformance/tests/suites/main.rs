// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The suites themselves under test: toys that behave pass, toys with one fault each are caught.

mod faulty;
mod toys;

use std::panic::{AssertUnwindSafe, catch_unwind};

use guest_memory_conformance::{Config, bitmap, bytes, bytes_ext, memory, region};

use faulty::{BitmapFault, BytesFault, FaultyBitmap, FaultyBytes, FaultyMemory, FaultyRegion};
use faulty::{MemoryFault, RegionFault};
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
    let message = caught(|| bitmap::check(|_| ()));
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
    assert_eq!(message.matches("Operation {").count(), 2, "{message}");
}

#[test]
fn each_faulty_bitmap_is_caught() {
    for (fault, word) in BitmapFault::ALL {
        let message =
            caught(|| bitmap::check_with(thorough(), |len| FaultyBitmap::new(Some(fault), len)));
        assert!(message.contains(word), "{fault:?}: {message}");
    }
}

#[test]
fn each_faulty_region_is_caught() {
    for (fault, word) in RegionFault::ALL {
        let message = caught(|| {
            region::check_with(thorough(), |start, len| {
                FaultyRegion::new(fault, start, len)
            });
        });
        assert!(message.contains(word), "{fault:?}: {message}");
    }
}

#[test]
fn each_faulty_bytes_are_caught() {
    for (fault, word) in BytesFault::ALL {
        let check = || {
            bytes::check_with(
                thorough(),
                |len| FaultyBytes::new(Some(fault), len),
                faulty::offset_of,
                FaultyBytes::mark,
                FaultyBytes::dirty_at,
            );
        };
        let message = caught(check);
        assert!(message.contains(word), "{fault:?}: {message}");
    }
}

#[test]
fn each_fault_beyond_bytes_is_caught() {
    for (fault, word) in BytesFault::EXTENDED {
        let check = || {
            bytes_ext::check_with(
                thorough(),
                |len| FaultyBytes::new(Some(fault), len),
                faulty::offset_of,
                FaultyBytes::mark,
                FaultyBytes::dirty_at,
            );
        };
        let message = caught(check);
        assert!(message.contains(word), "{fault:?}: {message}");
    }
}

#[test]
fn each_faulty_memory_is_caught() {
    for (fault, word) in MemoryFault::ALL {
        let message =
            caught(|| memory::check_with(thorough(), |ranges| FaultyMemory::new(fault, ranges)));
        assert!(message.contains(word), "{fault:?}: {message}");
    }
}

/// So many cases that chance lets no fault pass; a suite ends at the first one that shows it.
fn thorough() -> Config {
    Config::default().cases(20_000)
}

/// Runs a suite that has to fail and returns what it says.
fn caught(suite: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(suite)).expect_err("the suite let it pass");
    match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => (*payload.downcast::<&str>().expect("a message")).to_owned(),
    }
}
