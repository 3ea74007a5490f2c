// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Independent readers of one log: each one's copy is complete, though the bits are taken only once.

use crate::explore::{assert_holds, assert_loses};
use crate::machine::{Condition, Location, Machine, Op, Program, Register};
use crate::protocol::{Harvest, Mark, Tracking, copy_dirty, copy_everything, take, writer};

/// What a reader does with bits that it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HandOver {
    /// Adds them to the other reader's, and makes the data visible before the lock is free.
    UnderTheLock,
    /// Wrong: makes the data visible when the lock is free already, and only if the log had marks.
    BarrierAfterTheLock,
    /// Wrong: keeps them.
    Forgotten,
}

fn reader(index: usize, harvest: Harvest, hand_over: HandOver) -> Program {
    let mut program = Program::new(["first reader", "second reader"][index]);
    program.destination = index;
    read(&mut program, index, harvest, hand_over);
    program.push(Op::AwaitEndOfFirst(1));
    read(&mut program, index, harvest, hand_over);
    program.push(Op::CopyEqualsMemory);
    program
}

fn read(program: &mut Program, index: usize, harvest: Harvest, hand_over: HandOver) {
    let pending = [Location::Pending0, Location::Pending1];
    program.push(Op::HarvestBegins);
    program.push(Op::Acquire(Location::Lock));
    let barrier = if hand_over == HandOver::BarrierAfterTheLock {
        take(program, Harvest::NoBarrier);
        Some(Op::ProcessBarrier)
    } else {
        take(program, harvest);
        None
    };
    if hand_over != HandOver::Forgotten {
        program.unless(Condition::Lacks(Register::Dirty, u8::MAX), |program| {
            let other = pending[1 - index];
            program.push(Op::Load(Register::Kept, other));
            program.push(Op::OrInto(Register::Kept, Register::Dirty));
            program.push(Op::StoreRegister(other, Register::Kept));
        });
    }
    program.push(Op::Load(Register::Kept, pending[index]));
    program.push(Op::OrInto(Register::Dirty, Register::Kept));
    program.unless(Condition::Lacks(Register::Kept, u8::MAX), |program| {
        program.push(Op::Store(pending[index], 0));
    });
    program.push(Op::Store(Location::Lock, 0));
    if let Some(barrier) = barrier {
        program.unless(Condition::Lacks(Register::Found, u8::MAX), |program| {
            program.push(barrier);
        });
    }
    copy_dirty(program);
    program.push(Op::HarvestEnds);
}

/// A second reader that comes while the first one reads: what is marked by then is the first one's; the second one
/// copies everything, and then what is written from then on.
fn joining(mark: Mark, harvest: Harvest, at_joining: Harvest) -> Machine {
    let mut second = Program::new("joining reader");
    second.destination = 1;
    second.push(Op::HarvestBegins);
    second.push(Op::Acquire(Location::Lock));
    take(&mut second, at_joining);
    second.unless(Condition::Lacks(Register::Dirty, u8::MAX), |second| {
        second.push(Op::Load(Register::Kept, Location::Pending0));
        second.push(Op::OrInto(Register::Kept, Register::Dirty));
        second.push(Op::StoreRegister(Location::Pending0, Register::Kept));
    });
    second.push(Op::Store(Location::Lock, 0));
    copy_everything(&mut second);
    second.push(Op::HarvestEnds);
    second.push(Op::AwaitEndOfFirst(1));
    read(&mut second, 1, harvest, HandOver::UnderTheLock);
    second.push(Op::CopyEqualsMemory);
    Machine::new([
        writer("writer", Location::Page0, &[1, 2], mark, Tracking::Always),
        reader(0, harvest, HandOver::UnderTheLock),
        second,
    ])
}

fn two_readers(mark: Mark, harvest: Harvest, hand_over: HandOver) -> Machine {
    Machine::new([
        writer("writer", Location::Page0, &[1, 2], mark, Tracking::Always),
        reader(0, harvest, hand_over),
        reader(1, harvest, hand_over),
    ])
}

#[test]
fn two_readers_of_one_log_each_see_every_write() {
    for (mark, harvest) in [
        (Mark::Shortcut, Harvest::ProcessBarrier),
        (Mark::Fenced, Harvest::Fence),
    ] {
        let machine = two_readers(mark, harvest, HandOver::UnderTheLock);
        assert_holds(&format!("two readers, {mark:?}"), &machine);
    }
}

#[test]
fn reader_that_keeps_what_it_took_loses_the_others_writes() {
    let machine = two_readers(Mark::Shortcut, Harvest::ProcessBarrier, HandOver::Forgotten);
    assert_loses("two readers, nothing handed over", &machine);
}

#[test]
fn reader_that_makes_data_visible_after_the_lock_loses_the_others_writes() {
    let machine = two_readers(
        Mark::Shortcut,
        Harvest::ProcessBarrier,
        HandOver::BarrierAfterTheLock,
    );
    assert_loses("two readers, barrier after the lock", &machine);
}

#[test]
fn reader_that_joins_copies_everything_and_then_misses_nothing() {
    for (mark, harvest) in [
        (Mark::Shortcut, Harvest::ProcessBarrier),
        (Mark::Fenced, Harvest::Fence),
    ] {
        let machine = joining(mark, harvest, harvest);
        assert_holds(&format!("reader joins, {mark:?}"), &machine);
    }
}

#[test]
fn reader_that_joins_without_a_barrier_misses_a_write() {
    let machine = joining(Mark::Shortcut, Harvest::ProcessBarrier, Harvest::NoBarrier);
    assert_loses("reader joins without a barrier", &machine);
}
