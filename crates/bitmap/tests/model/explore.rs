// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The explorer: every order of the threads' steps and of their buffers' flushes.

use std::collections::HashSet;

use crate::machine::{Machine, State, Turn};

/// A way to break the promise, step by step.
pub(crate) type Trace = Vec<String>;

/// Explores `machine`; panics with the steps if the promise can be broken.
pub(crate) fn assert_holds(scenario: &str, machine: &Machine) {
    if let Some(trace) = explore(scenario, machine) {
        panic!("{scenario}:\n  {}", trace.join("\n  "));
    }
}

/// Explores `machine`; returns a way to break the promise, which the caller knows to exist.
pub(crate) fn assert_loses(scenario: &str, machine: &Machine) -> Trace {
    let trace = explore(scenario, machine).unwrap_or_else(|| panic!("{scenario}: nothing is lost"));
    assert!(!trace.is_empty());
    println!("  {}", trace.join("\n  "));
    trace
}

/// A state on the way to the current one, and the next choice to try there.
struct Visit {
    state: State,
    choice: usize,
}

fn explore(scenario: &str, machine: &Machine) -> Option<Trace> {
    let threads = machine.programs.len();
    let start = machine.start();
    // The states themselves, not their hashes: nothing is passed over because two hashes are equal.
    let mut seen = HashSet::from([start]);
    let mut path = vec![Visit {
        state: start,
        choice: 0,
    }];
    let mut broken = None;

    while let Some(visit) = path.last_mut() {
        let choice = visit.choice;
        if choice == 2 * threads {
            path.pop();
            continue;
        }
        visit.choice += 1;
        let turn = match choice.checked_sub(threads) {
            None => machine.step(&visit.state, choice),
            Some(thread) => machine.flush(&visit.state, thread),
        };
        match turn {
            Turn::Idle => {}
            Turn::Done(state) => {
                if seen.insert(*state) {
                    assert!(can_go_on(machine, &state), "{scenario}: stuck in {state:?}");
                    path.push(Visit {
                        state: *state,
                        choice: 0,
                    });
                }
            }
            Turn::Broken(message) => {
                broken = Some(trace_of(machine, &path, message));
                break;
            }
        }
    }
    println!(
        "{scenario}: {} states, {}",
        seen.len(),
        if broken.is_some() { "loses" } else { "holds" }
    );
    broken
}

/// Whether all threads ended or one of them has something to do: nobody waits for ever.
fn can_go_on(machine: &Machine, state: &State) -> bool {
    let threads = 0..machine.programs.len();
    let is_done = |thread| machine.has_ended(state, thread);
    let acts = |thread| {
        !matches!(machine.step(state, thread), Turn::Idle)
            || !matches!(machine.flush(state, thread), Turn::Idle)
    };
    threads.clone().all(is_done) || threads.into_iter().any(acts)
}

fn trace_of(machine: &Machine, path: &[Visit], message: String) -> Trace {
    let threads = machine.programs.len();
    let steps = path.iter().map(|visit| {
        // The choice that was made is the one before the next.
        let choice = visit.choice - 1;
        match choice.checked_sub(threads) {
            None => machine.describe(&visit.state, choice),
            Some(thread) => format!(
                "{}: the oldest store reaches memory",
                machine.programs[thread].name
            ),
        }
    });
    steps.chain([message]).collect()
}
