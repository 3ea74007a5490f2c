// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The table of flat memory beside an ordinary one.

use super::{cases, figure, ratio, table};
use crate::record::Record;

/// Makes the table.
///
/// # Errors
///
/// What the record lacks.
pub fn flat(record: &Record) -> Result<String, String> {
    let rows: Vec<_> = cases(record)?
        .into_iter()
        .map(|case| {
            let (ours, ordinary) = (figure(Some(case.ours)), figure(case.limit));
            let times = ratio(case.limit_ratio());
            [case.name, ours, ordinary, times]
        })
        .collect();
    Ok(table(
        ["case", ">flat ns", ">ordinary ns", ">ordinary / flat"],
        &rows,
    ))
}
