// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The table of ratios: this library, `vm-memory`, and the limit.

use std::io::{self, Write};

use super::{figure, ratio};
use crate::measure::Row;
use crate::statistics::geometric_mean;

/// Prints the table in Markdown, with the means below it.
///
/// # Errors
///
/// What writing says.
pub fn print_ratios(rows: &[Row], out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "| {:<44} | {:>10} | {:>12} | {:>6} | {:>10} | {:>10} | {:<28} |",
        "case", "ours ns", "vm-memory ns", "ratio", "limit ns", "over limit", "limit is"
    )?;
    writeln!(out, "|---|--:|--:|--:|--:|--:|---|")?;
    for row in rows {
        let (limit, what) = row.limit.unzip();
        writeln!(
            out,
            "| {:<44} | {:>10} | {:>12} | {:>6} | {:>10} | {:>10} | {:<28} |",
            row.case,
            figure(Some(row.ours)),
            figure(row.theirs),
            ratio(row.ratio()),
            figure(limit),
            figure(row.over_limit()),
            what.unwrap_or_default(),
        )?;
    }
    print_summary(rows, out)
}

fn print_summary(rows: &[Row], out: &mut dyn Write) -> io::Result<()> {
    let ratios: Vec<(f64, &str)> = rows
        .iter()
        .filter_map(|row| Some((row.ratio()?, row.case.as_str())))
        .collect();
    let worst = ratios.iter().min_by(|a, b| a.0.total_cmp(&b.0));
    if let Some((worst_ratio, worst_case)) = worst {
        let alone: Vec<f64> = ratios.iter().map(|&(ratio, _)| ratio).collect();
        writeln!(out)?;
        writeln!(
            out,
            "{} cases. Geometric mean of the ratios: {:.2}. Worst case: {worst_ratio:.2} ({worst_case}). \
             Slower than vm-memory: {}.",
            alone.len(),
            geometric_mean(&alone),
            alone.iter().filter(|&&ratio| ratio < 1.0).count(),
        )?;
    }
    Ok(())
}
