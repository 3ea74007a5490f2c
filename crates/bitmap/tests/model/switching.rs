// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Switching tracking on and off while a writer runs.

use crate::explore::{assert_holds, assert_loses};
use crate::machine::{Location, Machine, Op, Program};
use crate::protocol::{Harvest, Mark, Tracking, copy_everything, finish, take_and_copy, writer};

fn switched_writer(mark: Mark) -> Program {
    writer("writer", Location::Page0, &[1, 2], mark, Tracking::Switched)
}

/// Switches tracking on, `barrier`, copies everything.
fn start_and_copy_all(program: &mut Program, barrier: Option<Op>) {
    // The copy of everything owes what finished before; later writes are marked or in it, which shows at the end.
    program.push(Op::HarvestBegins);
    program.push(Op::Store(Location::Tracking, 1));
    if let Some(barrier) = barrier {
        program.push(barrier);
    }
    copy_everything(program);
    program.push(Op::HarvestEnds);
}

fn starting(mark: Mark, harvest: Harvest, barrier: Option<Op>) -> Machine {
    let mut starter = Program::new("starter");
    start_and_copy_all(&mut starter, barrier);
    take_and_copy(&mut starter, harvest);
    finish(&mut starter, harvest, 1);
    Machine::new([switched_writer(mark), starter])
}

#[test]
fn switching_tracking_on_under_a_writer_holds() {
    for (mark, harvest, barrier) in [
        (Mark::Shortcut, Harvest::ProcessBarrier, Op::ProcessBarrier),
        (Mark::Fenced, Harvest::Fence, Op::Fence),
    ] {
        let machine = starting(mark, harvest, Some(barrier));
        assert_holds(&format!("tracking switched on, {mark:?}"), &machine);
    }
}

#[test]
fn switching_tracking_on_without_a_barrier_loses_a_write() {
    for (mark, harvest) in [
        (Mark::Shortcut, Harvest::ProcessBarrier),
        (Mark::Fenced, Harvest::Fence),
    ] {
        let machine = starting(mark, harvest, None);
        assert_loses(&format!("no barrier at the start, {mark:?}"), &machine);
    }
}

#[test]
fn switching_tracking_off_loses_nothing_marked_before() {
    for (mark, harvest) in [
        (Mark::Shortcut, Harvest::ProcessBarrier),
        (Mark::Fenced, Harvest::Fence),
    ] {
        let mut stopper = Program::new("stopper");
        // What finished before tracking is switched off is owed by the harvest after that.
        stopper.push(Op::HarvestBegins);
        stopper.push(Op::Store(Location::Tracking, 0));
        crate::protocol::take(&mut stopper, harvest);
        crate::protocol::copy_dirty(&mut stopper);
        stopper.push(Op::HarvestEnds);
        let machine = Machine::new([switched_writer(mark), stopper]).with(Location::Tracking, 1);
        assert_holds(&format!("tracking switched off, {mark:?}"), &machine);
    }
}

#[test]
fn switching_tracking_off_and_on_again_holds() {
    for (mark, harvest, barrier) in [
        (Mark::Shortcut, Harvest::ProcessBarrier, Op::ProcessBarrier),
        (Mark::Fenced, Harvest::Fence, Op::Fence),
    ] {
        let mut switcher = Program::new("switcher");
        switcher.push(Op::Store(Location::Tracking, 0));
        start_and_copy_all(&mut switcher, Some(barrier));
        take_and_copy(&mut switcher, harvest);
        finish(&mut switcher, harvest, 1);
        let machine = Machine::new([switched_writer(mark), switcher]).with(Location::Tracking, 1);
        assert_holds(&format!("tracking off and on, {mark:?}"), &machine);
    }
}
