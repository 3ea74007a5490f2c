// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One script on this library and on `vm-memory` 0.18, which must come to the same: answers, buffers, bytes, dirty pages.
//! What they may differ in is listed in `rules.rs`.

mod ours;
mod rules;
mod script;
mod theirs;
mod transcript;

use std::num::NonZeroUsize;

use self::rules::{Case, Outcome, RULES};
use self::script::RawOp;
use self::transcript::{Access, Answer, Op};

/// Names of the operations, as [`run_with`] reports them.
pub const OPERATIONS: [&str; 20] = [
    "write",
    "read",
    "write_slice",
    "read_slice",
    "write_obj",
    "read_obj",
    "store",
    "load",
    "read_volatile_from",
    "read_exact_volatile_from",
    "write_volatile_to",
    "write_all_volatile_to",
    "slice",
    "copy_to_volatile_slice",
    "memory",
    "region",
    "bitmap",
    "insert_region",
    "remove_region",
    "from_regions",
];

/// Starts and lengths in bytes of the first regions: neighbours, one byte, no region at an end of the addresses.
const RANGES: [(u64, usize); 5] = [
    (0x1000, 0x60),
    (0x1060, 0x25),
    (0x1085, 13),
    (0x4000, 1),
    (0x5000, 64),
];

/// Page size of the dirty bitmaps in bytes: small, so that small regions have many pages.
const PAGE_SIZE: NonZeroUsize = NonZeroUsize::new(8).expect("8 is not zero");

/// Returns the names of the differences that are known, and the reason for each.
pub fn differences() -> impl Iterator<Item = (&'static str, &'static str)> {
    RULES.iter().map(|rule| (rule.name, rule.reason))
}

/// Runs the script in `data`.
///
/// # Panics
///
/// When the libraries differ in something that is not listed.
pub fn run(data: &[u8]) {
    run_with(data, |_, _| {});
}

/// Runs the script in `data` and reports each operation by its name and whether the libraries agree that it succeeded, and
/// each difference by the name of its rule.
///
/// # Panics
///
/// As [`run`].
pub fn run_with(data: &[u8], mut report: impl FnMut(&'static str, bool)) {
    let mut ours = ours::Subject::new(&RANGES, PAGE_SIZE).expect("sorted and apart");
    let mut theirs = theirs::Subject::new(&RANGES, PAGE_SIZE).expect("sorted and apart");
    super::for_each_operation(data, |raw: RawOp| {
        let before = ours.state();
        let Some(operation) = raw.resolve(&before) else {
            return;
        };
        let _named = super::Named(&operation);
        let seen = ours.apply(&operation);
        let after = ours.state();
        let ours_now = Outcome { seen, after };
        let seen = theirs.apply(&operation);
        let after = theirs.state();
        let theirs_now = Outcome { seen, after };
        if ours_now == theirs_now {
            let succeeded = !matches!(ours_now.seen.answer, Answer::Failed(_));
            report(name(&operation), succeeded);
            return;
        }
        let case = Case {
            operation: &operation,
            before: &before,
            ours: ours_now,
            theirs: theirs_now,
        };
        let Some(rule) = RULES.iter().find(|rule| (rule.allows)(&case)) else {
            panic!("{case:?}");
        };
        report(rule.name, true);
        // From here on they go on alike: as this library did, or as the other if that cannot have the regions.
        match theirs::Subject::from_state(&ours.state(), PAGE_SIZE) {
            Ok(alike) => theirs = alike,
            Err(_) => {
                let state = theirs.state();
                ours = ours::Subject::from_state(&state, PAGE_SIZE).expect("it has them");
            }
        }
    });
}

/// Returns the name of an operation.
fn name(operation: &Op) -> &'static str {
    match operation {
        Op::Memory(_, access) | Op::Region(_, _, access) | Op::Slice(_, _, _, access) => {
            match access {
                Access::Write(_) => "write",
                Access::Read(_) => "read",
                Access::WriteSlice(_) => "write_slice",
                Access::ReadSlice(_) => "read_slice",
                Access::WriteObj(..) => "write_obj",
                Access::ReadObj(_) => "read_obj",
                Access::Store(..) => "store",
                Access::Load(..) => "load",
                Access::ReadVolatileFrom(..) => "read_volatile_from",
                Access::ReadExactVolatileFrom(..) => "read_exact_volatile_from",
                Access::WriteVolatileTo(..) => "write_volatile_to",
                Access::WriteAllVolatileTo(..) => "write_all_volatile_to",
            }
        }
        Op::Cut(..) => "slice",
        Op::Copy(_) => "copy_to_volatile_slice",
        Op::Look(..) => "memory",
        Op::LookInRegion(..) => "region",
        Op::Bitmap(..) => "bitmap",
        Op::Insert(..) => "insert_region",
        Op::Remove(..) => "remove_region",
        Op::FromRanges(_) => "from_regions",
    }
}
