// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Records of cases: this library, `vm-memory` and the work by hand, where each takes part.

use crate::measure::Row;
use crate::record::{Record, number};

/// One case, by the medians over the runs. Times are in nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// What was measured.
    pub name: String,
    /// This library.
    pub ours: f64,
    /// `vm-memory`.
    pub theirs: Option<f64>,
    /// How many times faster this library is than `vm-memory`.
    pub ratio: Option<f64>,
    /// The work by hand.
    pub limit: Option<f64>,
    /// This library's time beyond the limit.
    pub over_limit: Option<f64>,
    /// What the limit is.
    pub limit_is: String,
}

impl Case {
    /// Returns this library's speed as a fraction of the limit's.
    pub fn limit_ratio(&self) -> Option<f64> {
        Some(self.limit? / self.ours)
    }
}

/// Makes a record of what was measured.
pub fn record(rows: &[Row]) -> Record {
    let mut record = Record::new(&[
        "case",
        "ours_ns",
        "vm_memory_ns",
        "ratio",
        "limit_ns",
        "over_limit_ns",
        "limit_is",
    ]);
    for row in rows {
        let (limit, what) = row.limit.unzip();
        record.push([
            row.case.clone(),
            number(Some(row.ours)),
            number(row.theirs),
            number(row.ratio()),
            number(limit),
            number(row.over_limit()),
            what.unwrap_or_default().to_owned(),
        ]);
    }
    record
}

/// Returns the cases of a record.
///
/// # Errors
///
/// Names what is missing or no number.
pub fn cases(record: &Record) -> Result<Vec<Case>, String> {
    let groups = record.groups(&["case"])?;
    let case = |group: &crate::record::Group<'_>| {
        Ok(Case {
            name: group.text("case")?.to_owned(),
            ours: group.number("ours_ns")?,
            theirs: group.median("vm_memory_ns")?,
            ratio: group.median("ratio")?,
            limit: group.median("limit_ns")?,
            over_limit: group.median("over_limit_ns")?,
            limit_is: group.text("limit_is")?.to_owned(),
        })
    };
    groups.iter().map(case).collect()
}
