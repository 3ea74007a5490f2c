// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Two levels of words, marked and taken in an order that matters.

use crate::explore::{assert_holds, assert_loses};
use crate::machine::{Location, Machine, Program};
use crate::protocol::{Harvest, Mark, Tracking, finish, harvester, take_and_copy, writer};

fn two_writers(other: Location, mark: Mark, harvest: Harvest) -> Machine {
    Machine::new([
        writer("one", Location::Page0, &[1, 2], mark, Tracking::Always),
        writer("other", other, &[1, 2], mark, Tracking::Always),
        harvester(2, harvest, 2),
    ])
}

#[test]
fn two_writers_of_one_page_hold() {
    for (mark, harvest) in [
        (Mark::Shortcut, Harvest::ProcessBarrier),
        (Mark::Fenced, Harvest::Fence),
        (Mark::AlwaysOr, Harvest::NoBarrier),
    ] {
        let machine = two_writers(Location::Page0Too, mark, harvest);
        assert_holds(&format!("two writers of a page, {mark:?}"), &machine);
    }
}

#[test]
fn two_writers_of_two_leaf_words_under_one_summary_word_hold() {
    for (mark, harvest) in [
        (Mark::Shortcut, Harvest::ProcessBarrier),
        (Mark::Fenced, Harvest::Fence),
        (Mark::AlwaysOr, Harvest::NoBarrier),
    ] {
        let machine = two_writers(Location::Page1, mark, harvest);
        assert_holds(
            &format!("two writers of two leaf words, {mark:?}"),
            &machine,
        );
    }
}

#[test]
fn resetting_leaves_before_harvests_holds() {
    for other in [Location::Page0Too, Location::Page1] {
        let mut resetter = Program::new("harvester");
        take_and_copy(&mut resetter, Harvest::LeavesOnly);
        take_and_copy(&mut resetter, Harvest::ProcessBarrier);
        finish(&mut resetter, Harvest::ProcessBarrier, 2);
        let (mark, tracking) = (Mark::Shortcut, Tracking::Always);
        let machine = Machine::new([
            writer("one", Location::Page0, &[1, 2], mark, tracking),
            writer("other", other, &[1, 2], mark, tracking),
            resetter,
        ]);
        assert_holds(&format!("reset, then harvests, {other:?}"), &machine);
    }
}

#[test]
fn setting_the_summary_before_the_leaf_loses_a_write() {
    let machine = two_writers(
        Location::Page0Too,
        Mark::SummaryFirst,
        Harvest::ProcessBarrier,
    );
    assert_loses("summary before leaf", &machine);
}

#[test]
fn trusting_a_leaf_bit_without_looking_at_the_summary_loses_a_write() {
    let machine = two_writers(
        Location::Page0Too,
        Mark::LeafTrusted,
        Harvest::ProcessBarrier,
    );
    assert_loses("leaf bit trusted", &machine);
}

#[test]
fn taking_the_leaves_before_the_summary_loses_a_write() {
    for other in [Location::Page0Too, Location::Page1] {
        let machine = two_writers(other, Mark::Shortcut, Harvest::LeavesFirst);
        assert_loses("leaves before summary", &machine);
    }
}
