// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The table of limits: this library against the same work by hand.

use super::{cases, figure, ratio, table};
use crate::record::Record;

/// Makes the table; *of limit* is this library's speed as a fraction of the limit's.
///
/// # Errors
///
/// What the record lacks.
pub fn limits(record: &Record) -> Result<String, String> {
    let rows: Vec<_> = cases(record)?
        .into_iter()
        .map(|case| {
            let of_limit = ratio(case.limit_ratio());
            [
                case.name,
                figure(Some(case.ours)),
                figure(case.limit),
                figure(case.over_limit),
                of_limit,
                case.limit_is,
            ]
        })
        .collect();
    Ok(table(
        [
            "case",
            ">ours ns",
            ">limit ns",
            ">over limit",
            ">of limit",
            "limit is",
        ],
        &rows,
    ))
}
