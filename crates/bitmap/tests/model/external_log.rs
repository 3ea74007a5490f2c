// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! An external log that is exchanged for another one under a writer.
//!
//! Writers set bits there by locked operations always: others may share the log. What is modelled is the
//! exchange. A writer announces that it uses the log, looks once more whether that is still the current one, and
//! marks; the exchange waits until nobody uses the old log, and then reads what is left in it.

use crate::explore::{assert_holds, assert_loses};
use crate::machine::{Condition, Location, Machine, Op, Program, Register};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    /// Announces, then looks again.
    LooksAgain,
    /// Wrong: announces only.
    AnnouncesOnly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exchange {
    Waits,
    /// Wrong: reads the old log while somebody may still mark in it.
    ReadsAtOnce,
}

const BIT: u8 = 1;
const ONE_LESS: u8 = u8::MAX;

fn log_writer(name: &'static str, datum: Location, values: &[u8], guard: Guard) -> Program {
    let mut program = Program::new(name);
    for &value in values {
        program.push(Op::Store(datum, value));
        mark_in_current_log(&mut program, guard);
        program.push(Op::WriteFinished(datum, value));
    }
    program
}

fn mark_in_current_log(program: &mut Program, guard: Guard) {
    let again = program.here();
    program.push(Op::Load(Register::Found, Location::Current));
    for (log, users, is_other) in [
        (
            Location::LogA,
            Location::UsersOfA,
            Condition::Has(Register::Found, 1),
        ),
        (
            Location::LogB,
            Location::UsersOfB,
            Condition::Lacks(Register::Found, 1),
        ),
    ] {
        program.unless(is_other, |program| {
            program.push(Op::LockedAdd(users, 1));
            if guard == Guard::LooksAgain {
                program.push(Op::Load(Register::Kept, Location::Current));
            } else {
                program.push(Op::OrInto(Register::Kept, Register::Found));
            }
            program.unless(
                Condition::Differ(Register::Found, Register::Kept),
                |program| program.push(Op::LockedOr(log, BIT)),
            );
            program.push(Op::LockedAdd(users, ONE_LESS));
        });
    }
    // It was exchanged in between: again, with the new one.
    program.unless(
        Condition::Equal(Register::Found, Register::Kept),
        |program| {
            program.push(Op::Jump(Condition::Always, again));
        },
    );
}

/// Exchanges log A for log B, copies what A still holds, and at the end what B holds.
fn swapper(exchange: Exchange, writers: usize) -> Program {
    let mut program = Program::new("swapper");
    read_log(&mut program, Location::LogA);
    program.push(Op::HarvestBegins);
    program.push(Op::LockedSwap(Register::Found, Location::Current, 1));
    if exchange == Exchange::Waits {
        program.push(Op::AwaitZero(Location::UsersOfA));
    }
    // What finished before the exchange is in the old log or was copied from it before.
    copy_from_log(&mut program, Location::LogA);
    program.push(Op::HarvestEnds);
    read_log(&mut program, Location::LogB);
    program.push(Op::AwaitEndOfFirst(writers));
    read_log(&mut program, Location::LogB);
    program.push(Op::CopyEqualsMemory);
    program
}

fn read_log(program: &mut Program, log: Location) {
    program.push(Op::HarvestBegins);
    copy_from_log(program, log);
    program.push(Op::HarvestEnds);
}

fn copy_from_log(program: &mut Program, log: Location) {
    program.push(Op::LockedSwap(Register::Dirty, log, 0));
    program.unless(Condition::Lacks(Register::Dirty, BIT), |program| {
        program.push(Op::Copy(Location::Page0));
        program.push(Op::Copy(Location::Page0Too));
    });
}

fn exchanging(guard: Guard, exchange: Exchange) -> Machine {
    Machine::new([
        log_writer("one", Location::Page0, &[1, 2], guard),
        log_writer("other", Location::Page0Too, &[1], guard),
        swapper(exchange, 2),
    ])
}

#[test]
fn exchanging_an_external_log_under_writers_loses_no_mark() {
    let machine = exchanging(Guard::LooksAgain, Exchange::Waits);
    assert_holds("external log exchanged", &machine);
}

#[test]
fn exchange_that_does_not_wait_for_users_of_the_old_log_loses_a_mark() {
    let machine = exchanging(Guard::LooksAgain, Exchange::ReadsAtOnce);
    assert_loses("external log read at once", &machine);
}

#[test]
fn announcing_without_looking_again_loses_a_mark() {
    let machine = exchanging(Guard::AnnouncesOnly, Exchange::Waits);
    assert_loses("external log, guard too late", &machine);
}
