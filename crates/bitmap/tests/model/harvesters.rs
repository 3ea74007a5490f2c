// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Two harvesters at once that fill one copy.
//!
//! A harvester that has taken the summary word, and not yet the leaf words, holds pages that nobody sees in
//! its hands. A second one finds the summary clear and ends; then a writer sets the summary's bit again, and a
//! third harvest takes the leaf before the first one gets to it. The page is late, not lost: it is in a harvest that is
//! running. So without a lock the promise is about the harvests together: when none is running, everything
//! that finished before the last one began has been copied. Harvests that take under a lock, as those of `AtomicBitmap`
//! do, keep the promise one by one.

use crate::explore::{assert_holds, assert_loses};
use crate::ledger::Passing;
use crate::machine::{Location, Machine, Op, Program};
use crate::protocol::{Harvest, Mark, Tracking, copy_dirty, finish, take, take_and_copy, writer};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taking {
    Freely,
    UnderALock,
}

fn harvest_once(program: &mut Program, harvest: Harvest, taking: Taking) {
    if taking == Taking::Freely {
        return take_and_copy(program, harvest);
    }
    program.push(Op::HarvestBegins);
    program.push(Op::Acquire(Location::Lock));
    take(program, harvest);
    program.push(Op::Store(Location::Lock, 0));
    copy_dirty(program);
    program.push(Op::HarvestEnds);
}

/// The second harvester waits for the others, then makes the last harvest.
fn two_harvesters(mark: Mark, harvest: Harvest, taking: Taking) -> Machine {
    let mut first = Program::new("first harvester");
    let mut second = Program::new("second harvester");
    harvest_once(&mut first, harvest, taking);
    harvest_once(&mut first, harvest, taking);
    harvest_once(&mut second, harvest, taking);
    finish(&mut second, harvest, 2);
    let values = &[1, 2];
    Machine::new([
        writer("writer", Location::Page0, values, mark, Tracking::Always),
        first,
        second,
    ])
}

#[test]
fn two_harvesters_at_once_have_copied_everything_when_both_ended() {
    for (mark, harvest) in [
        (Mark::Shortcut, Harvest::ProcessBarrier),
        (Mark::Fenced, Harvest::Fence),
        (Mark::AlwaysOr, Harvest::NoBarrier),
    ] {
        let machine = two_harvesters(mark, harvest, Taking::Freely).passing(Passing::WhileOneRuns);
        assert_holds(&format!("two harvesters, {mark:?}"), &machine);
    }
}

#[test]
fn two_harvesters_at_once_may_leave_a_page_to_a_third_harvest() {
    let machine = two_harvesters(Mark::Shortcut, Harvest::ProcessBarrier, Taking::Freely);
    assert_loses("two harvesters, one by one", &machine);
}

#[test]
fn two_harvesters_that_take_under_a_lock_keep_the_promise_one_by_one() {
    for (mark, harvest) in [
        (Mark::Shortcut, Harvest::ProcessBarrier),
        (Mark::Fenced, Harvest::Fence),
    ] {
        let machine = two_harvesters(mark, harvest, Taking::UnderALock);
        assert_holds(&format!("two harvesters, lock, {mark:?}"), &machine);
    }
}

#[test]
fn two_harvesters_without_a_barrier_lose_a_write() {
    let machine = two_harvesters(Mark::Shortcut, Harvest::NoBarrier, Taking::Freely)
        .passing(Passing::WhileOneRuns);
    assert_loses("two harvesters, no barrier", &machine);
}
