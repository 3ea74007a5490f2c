// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The table of limits: this library against the same work by hand.

use std::io::{self, Write};

use super::{figure, ratio};
use crate::measure::Row;

/// Prints the table in Markdown; *of limit* is this library's speed as a fraction of the limit's.
///
/// # Errors
///
/// What writing says.
pub fn print_limits(rows: &[Row], out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "| {:<36} | {:>10} | {:>10} | {:>10} | {:>8} | {:<20} |",
        "case", "ours ns", "limit ns", "over limit", "of limit", "limit is"
    )?;
    writeln!(out, "|---|--:|--:|--:|--:|---|")?;
    for row in rows {
        let (limit, what) = row.limit.unzip();
        writeln!(
            out,
            "| {:<36} | {:>10} | {:>10} | {:>10} | {:>8} | {:<20} |",
            row.case,
            figure(Some(row.ours)),
            figure(limit),
            figure(row.over_limit()),
            ratio(row.limit_ratio()),
            what.unwrap_or_default(),
        )?;
    }
    Ok(())
}
