// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Marking and harvesting as programs, in the right form and in wrong ones.

use crate::machine::{Condition, Location, Op, Program, Register};

/// How a writer marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Sets bits only where a load shows none. No fence: the harvester's barrier makes up for it.
    Shortcut,
    /// The same after a full fence.
    Fenced,
    /// Sets the bits by locked operations in any case.
    AlwaysOr,
    /// Wrong: the shortcut, but the summary's bit before the leaf's.
    SummaryFirst,
    /// Wrong: the shortcut, and where the leaf's bit is set, the summary is not looked at.
    LeafTrusted,
}

/// In which order a harvester clears and how it makes the data visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harvest {
    /// The summary, then the leaves it names, then the process-wide barrier.
    ProcessBarrier,
    /// The same with a fence of the harvester's own.
    Fence,
    /// The same without either.
    NoBarrier,
    /// Clears leaves that the summary names and leaves the summary as it is, then the process-wide barrier: the range
    /// that a caller resets.
    LeavesOnly,
    /// Wrong: the barrier before anything is cleared.
    BarrierFirst,
    /// Wrong: the leaves are taken before the summary.
    LeavesFirst,
}

/// Where a datum's page is marked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    leaf: Location,
    /// The bit of the leaf in the summary, and of the page in a set of pages.
    bit: u8,
}

const PAGE_BIT_IN_LEAF: u8 = 1;

/// The pages, each with a leaf word of its own.
pub(crate) const PAGES: [Page; 2] = [
    Page {
        leaf: Location::Leaf0,
        bit: 1,
    },
    Page {
        leaf: Location::Leaf1,
        bit: 2,
    },
];

/// Whether writers look at the flag that switches tracking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tracking {
    Always,
    Switched,
}

/// A thread that writes `values` to `datum`, each followed by its mark.
pub(crate) fn writer(
    name: &'static str,
    datum: Location,
    values: &[u8],
    mark: Mark,
    tracking: Tracking,
) -> Program {
    let mut program = Program::new(name);
    for &value in values {
        program.push(Op::Store(datum, value));
        if mark == Mark::Fenced {
            program.push(Op::Fence);
        }
        if tracking == Tracking::Switched {
            program.push(Op::Load(Register::Found, Location::Tracking));
            program.unless(Condition::Lacks(Register::Found, 1), |program| {
                set_bits(program, page_of(datum), mark);
            });
        } else {
            set_bits(&mut program, page_of(datum), mark);
        }
        program.push(Op::WriteFinished(datum, value));
    }
    program
}

/// A thread that harvests and copies so many times, waits until the first `writers` threads ended, and does
/// so once more: then its copy equals memory.
pub(crate) fn harvester(harvests: usize, harvest: Harvest, writers: usize) -> Program {
    let mut program = Program::new("harvester");
    for _ in 0..harvests {
        take_and_copy(&mut program, harvest);
    }
    finish(&mut program, harvest, writers);
    program
}

/// Waits for the first `threads` threads; after one more harvest the copy equals memory.
pub(crate) fn finish(program: &mut Program, harvest: Harvest, threads: usize) {
    program.push(Op::AwaitEndOfFirst(threads));
    take_and_copy(program, harvest);
    program.push(Op::CopyEqualsMemory);
}

/// One harvest and the copy of what it found.
pub(crate) fn take_and_copy(program: &mut Program, harvest: Harvest) {
    program.push(Op::HarvestBegins);
    take(program, harvest);
    copy_dirty(program);
    program.push(Op::HarvestEnds);
}

/// Takes the marks into [`Register::Dirty`].
pub(crate) fn take(program: &mut Program, harvest: Harvest) {
    program.push(Op::Load(Register::Found, Location::Summary));
    program.unless(Condition::Lacks(Register::Found, u8::MAX), |program| {
        if harvest == Harvest::BarrierFirst {
            program.push(Op::ProcessBarrier);
        }
        if !matches!(harvest, Harvest::LeavesFirst | Harvest::LeavesOnly) {
            program.push(Op::LockedSwap(Register::Found, Location::Summary, 0));
        }
        for page in PAGES {
            program.unless(Condition::Lacks(Register::Found, page.bit), |program| {
                program.push(Op::LockedSwap(Register::Named, page.leaf, 0));
                program.unless(
                    Condition::Lacks(Register::Named, PAGE_BIT_IN_LEAF),
                    |program| program.push(Op::SetBits(Register::Dirty, page.bit)),
                );
            });
        }
        match harvest {
            Harvest::ProcessBarrier | Harvest::LeavesOnly => program.push(Op::ProcessBarrier),
            Harvest::Fence => program.push(Op::Fence),
            Harvest::LeavesFirst => {
                program.push(Op::LockedSwap(Register::Found, Location::Summary, 0));
                program.push(Op::ProcessBarrier);
            }
            Harvest::NoBarrier | Harvest::BarrierFirst => {}
        }
    });
}

/// Copies the pages in [`Register::Dirty`].
pub(crate) fn copy_dirty(program: &mut Program) {
    for (page, data) in PAGES.iter().zip(DATA_OF_PAGES) {
        program.unless(Condition::Lacks(Register::Dirty, page.bit), |program| {
            data.iter().for_each(|&datum| program.push(Op::Copy(datum)));
        });
    }
}

/// Copies all pages, dirty or not.
pub(crate) fn copy_everything(program: &mut Program) {
    for &datum in DATA_OF_PAGES.iter().copied().flatten() {
        program.push(Op::Copy(datum));
    }
}

const DATA_OF_PAGES: [&[Location]; 2] =
    [&[Location::Page0, Location::Page0Too], &[Location::Page1]];

fn page_of(datum: Location) -> Page {
    match datum {
        Location::Page0 | Location::Page0Too => PAGES[0],
        Location::Page1 => PAGES[1],
        other => unreachable!("{other:?} is no datum"),
    }
}

fn set_bits(program: &mut Program, page: Page, mark: Mark) {
    let leaf = (page.leaf, PAGE_BIT_IN_LEAF);
    let summary = (Location::Summary, page.bit);
    match mark {
        Mark::Shortcut | Mark::Fenced => {
            set_where_clear(program, leaf, |_| {});
            set_where_clear(program, summary, |_| {});
        }
        Mark::AlwaysOr => {
            program.push(Op::LockedOr(leaf.0, leaf.1));
            program.push(Op::LockedOr(summary.0, summary.1));
        }
        Mark::SummaryFirst => {
            set_where_clear(program, summary, |_| {});
            set_where_clear(program, leaf, |_| {});
        }
        Mark::LeafTrusted => set_where_clear(program, leaf, |program| {
            set_where_clear(program, summary, |_| {});
        }),
    }
}

/// Sets a bit, then does `then`, both only where a load shows the bit clear.
fn set_where_clear(
    program: &mut Program,
    (word, bit): (Location, u8),
    then: impl FnOnce(&mut Program),
) {
    program.push(Op::Load(Register::Found, word));
    program.unless(Condition::Has(Register::Found, bit), |program| {
        program.push(Op::LockedOr(word, bit));
        then(program);
    });
}
