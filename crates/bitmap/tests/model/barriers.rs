// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One writer and a harvester: what orders the data against the bits.

use crate::explore::{assert_holds, assert_loses};
use crate::machine::{Location, Machine};
use crate::protocol::{Harvest, Mark, Tracking, harvester, writer};

fn one_writer(mark: Mark, harvest: Harvest) -> Machine {
    Machine::new([
        writer(
            "writer",
            Location::Page0,
            &[1, 2, 3],
            mark,
            Tracking::Always,
        ),
        harvester(2, harvest, 1),
    ])
}

#[test]
fn shortcut_with_the_process_wide_barrier_holds() {
    let machine = one_writer(Mark::Shortcut, Harvest::ProcessBarrier);
    assert_holds("shortcut and process-wide barrier", &machine);
}

#[test]
fn shortcut_with_a_fence_on_both_sides_holds() {
    let machine = one_writer(Mark::Fenced, Harvest::Fence);
    assert_holds("shortcut and fences", &machine);
}

#[test]
fn marking_by_locked_operations_always_holds_without_any_barrier() {
    let machine = one_writer(Mark::AlwaysOr, Harvest::NoBarrier);
    assert_holds("always a locked operation", &machine);
}

#[test]
fn shortcut_without_a_barrier_loses_a_write() {
    let machine = one_writer(Mark::Shortcut, Harvest::NoBarrier);
    let trace = assert_loses("shortcut alone", &machine);
    assert!(trace.iter().any(|step| step.starts_with("harvester: Copy")));
}

#[test]
fn shortcut_with_a_fence_of_the_harvester_alone_loses_a_write() {
    let machine = one_writer(Mark::Shortcut, Harvest::Fence);
    assert_loses("shortcut and the harvester's fence", &machine);
}

#[test]
fn barrier_before_the_clearing_loses_a_write() {
    let machine = one_writer(Mark::Shortcut, Harvest::BarrierFirst);
    assert_loses("barrier first", &machine);
}
