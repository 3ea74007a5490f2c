// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What was promised: no finished write is missing from the copy.
//!
//! The values written to a datum increase. When a harvest starts, the newest value of every datum whose write
//! finished (its mark returned) is what the harvest owes; when the copy after it is done, the copy must be at
//! least as new.
//!
//! Two harvesters that fill the same copy at once may share what is owed: a write that finished before a
//! harvest began is "in that harvest or in an earlier one not yet copied". So what one harvest did not copy is
//! owed by another one that is still running; how often a debt may be passed on so is the scenario's to say.

use crate::machine::{DATA, THREADS};

/// Copies of the memory that are made independently of each other.
const COPIES: usize = 2;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ledger {
    finished: [u8; DATA],
    copies: [[u8; DATA]; COPIES],
    harvests: [Option<Harvest>; THREADS],
}

/// How often a debt may be passed on between harvests at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passing {
    /// To the harvest that overlaps the one it was owed by, and no further.
    Once,
    /// As long as some harvest is running: all is paid when none is.
    WhileOneRuns,
}

/// A harvest and the copy that belongs to it, while they are being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Harvest {
    destination: usize,
    owed: [u8; DATA],
    passed_on_by_another: [u8; DATA],
}

impl Ledger {
    pub(crate) fn write_finished(&mut self, datum: usize, value: u8) {
        self.finished[datum] = self.finished[datum].max(value);
    }

    pub(crate) fn harvest_begins(&mut self, thread: usize, destination: usize) {
        self.harvests[thread] = Some(Harvest {
            destination,
            owed: self.finished,
            passed_on_by_another: [0; DATA],
        });
    }

    /// A datum was read and stored in the copy, in one step: two harvesters that fill the same copy must see to
    /// it that the older of two copies of a page does not come last.
    pub(crate) fn copied(&mut self, destination: usize, datum: usize, value: u8) {
        self.copies[destination][datum] = value;
    }

    pub(crate) fn harvest_ends(&mut self, thread: usize, passing: Passing) -> Result<(), String> {
        let harvest = self.harvests[thread].take().expect("a harvest began");
        let copy = self.copies[harvest.destination];
        let mut others = self
            .harvests
            .iter_mut()
            .flatten()
            .filter(|other| other.destination == harvest.destination);
        let mut other = others.next();
        assert!(others.next().is_none(), "two harvests at once, not more");

        for (datum, &held) in copy.iter().enumerate() {
            let owed = harvest.owed[datum];
            let passed_on = harvest.passed_on_by_another[datum];
            let may_pass = match passing {
                Passing::Once => held >= passed_on,
                Passing::WhileOneRuns => true,
            };
            match &mut other {
                _ if held >= owed.max(passed_on) => {}
                Some(other) if may_pass => {
                    let debt = &mut other.passed_on_by_another[datum];
                    *debt = owed.max(passed_on).max(*debt);
                }
                _ => {
                    return Err(format!(
                        "datum {datum}: the copy holds {held}, and owed are {owed} from before this harvest and \
                         {passed_on} from before another"
                    ));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn copy_equals(&self, destination: usize, data: [u8; DATA]) -> Result<(), String> {
        let copy = self.copies[destination];
        if copy == data {
            Ok(())
        } else {
            Err(format!(
                "everything ended and was harvested; the copy holds {copy:?}, memory holds {data:?}"
            ))
        }
    }
}
