// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The suite for a [`DirtyLog`]: a bitmap that can be harvested and switched.
//!
//! What it holds a log made for `len` bytes to, beside the suite for a [`Bitmap`]:
//!
//! * a harvest has exactly the pages that were marked since the one before, whatever was in the set it goes to and
//!   whatever that tracked, and leaves
//!   the log clean;
//! * what is marked while tracking is off is not recorded; what was marked before is still there;
//! * `is_tracking` says which; `empty_pages` is the empty set of what the log tracks.

use std::num::NonZeroUsize;

use guest_memory_bitmap::{Bitmap, DirtyLog, DirtyPages};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::config::{Config, expect_eq, guarded};

const FOUR: NonZeroUsize = NonZeroUsize::MIN.saturating_add(3);

#[derive(Clone, Copy, Debug)]
enum Operation {
    Mark(usize, usize),
    Harvest,
    Start,
    Stop,
}

/// Checks the logs that `make` returns for a length in bytes.
///
/// # Panics
///
/// When one does not behave; the message names the operation and the shortest script.
///
/// # Examples
///
/// ```
/// use guest_memory_bitmap::{AtomicBitmap, NewBitmap};
///
/// guest_memory_conformance::dirty_log::check(AtomicBitmap::with_len);
/// ```
pub fn check<L: Bitmap + DirtyLog<Pages = DirtyPages>>(make: impl Fn(usize) -> L) {
    check_with(Config::default(), make);
}

/// Checks logs as [`check`] does, with other settings.
///
/// # Panics
///
/// As [`check`].
pub fn check_with<L: Bitmap + DirtyLog<Pages = DirtyPages>>(
    config: Config,
    make: impl Fn(usize) -> L,
) {
    let place = || prop_oneof![3 => 0..0x8000_usize, 1 => 0..0x200_0000_usize];
    let operation = prop_oneof![
        4 => (place(), prop_oneof![3 => 0..0x3000_usize, 1 => place()])
            .prop_map(|(offset, len)| Operation::Mark(offset, len)),
        2 => Just(Operation::Harvest),
        1 => Just(Operation::Start),
        1 => Just(Operation::Stop),
    ];
    let scripts = (place(), vec(operation, 1..24));
    config.run("dirty log", &scripts, |(len, script)| {
        let len = config.round_up(*len);
        let log = guarded(&("make", len), || Ok(make(len)))?;
        log.start_tracking();
        // The page size is what a harvest says it is.
        let mut pages = DirtyPages::default();
        log.harvest_into(&mut pages);
        expect_eq("the harvest of a new log", pages.is_empty(), true)?;
        expect_eq("empty_pages", &log.empty_pages(), &pages)?;
        let mut expected = pages.clone();
        for operation in script {
            guarded(operation, || {
                apply(*operation, &log, &mut pages, &mut expected)
            })?;
        }
        // Into a set of something else, which has to become one of this log.
        let other_page_size = expected.page_size().saturating_mul(FOUR);
        let mut other = DirtyPages::new(len + 0x1_0000, other_page_size)
            .map_err(|error| format!("four times the page size: {error}"))?;
        other.insert_range(0..usize::MAX);
        log.harvest_into(&mut other);
        expect_eq("the harvest into another log's set", &other, &expected)
    });
}

fn apply<L: Bitmap + DirtyLog<Pages = DirtyPages>>(
    operation: Operation,
    log: &L,
    pages: &mut DirtyPages,
    expected: &mut DirtyPages,
) -> Result<(), String> {
    match operation {
        Operation::Mark(offset, len) => {
            log.mark_dirty(offset, len);
            if log.is_tracking() {
                expected.insert_range(offset..offset + len);
            }
            for page in expected.pages() {
                let first = page * expected.page_size().get();
                expect_eq(
                    &format!("dirty_at of {first:#x}"),
                    log.dirty_at(first),
                    true,
                )?;
            }
            Ok(())
        }
        Operation::Harvest => {
            log.harvest_into(pages);
            expect_eq("the harvest", &*pages, &*expected)?;
            expected.clear();
            for range in pages.ranges() {
                expect_eq(
                    "dirty_at of what was harvested",
                    log.dirty_at(range.start),
                    false,
                )?;
            }
            log.harvest_into(pages);
            expect_eq("the harvest after it", &*pages, &*expected)
        }
        Operation::Start => {
            log.start_tracking();
            expect_eq("is_tracking", log.is_tracking(), true)
        }
        Operation::Stop => {
            log.stop_tracking();
            expect_eq("is_tracking", log.is_tracking(), false)
        }
    }
}
