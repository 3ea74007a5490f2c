// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The table and the CSV file.

use std::fmt;
use std::io::{self, Write};

use crate::measure::Row;
use crate::statistics::geometric_mean;

/// Cases that wait for what this library does not have yet.
const NOT_MEASURED_YET: [&str; 4] = [
    "access through the atomic map by a device thread with a reader handle of its own",
    "a 64-segment scatter read from a file in one system call",
    "prefault of 4 GiB by several threads",
    "harvest of a few dirty pages through a summary level, into a reused buffer",
];

/// Prints the table in Markdown, with the means below it.
///
/// # Errors
///
/// What writing says.
pub fn print_table(rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "| {:<44} | {:>10} | {:>12} | {:>6} | {:>10} | {:>10} | {:<28} |",
        "case", "ours ns", "vm-memory ns", "ratio", "limit ns", "over limit", "limit is"
    )?;
    writeln!(out, "|---|--:|--:|--:|--:|--:|---|")?;
    for row in rows {
        let (limit, over, what) = match row.limit {
            Some((limit, what)) => (
                Figure(limit).to_string(),
                Figure(row.ours - limit).to_string(),
                what,
            ),
            None => Default::default(),
        };
        writeln!(
            out,
            "| {:<44} | {:>10} | {:>12} | {:>6} | {limit:>10} | {over:>10} | {what:<28} |",
            row.case,
            Figure(row.ours).to_string(),
            Figure(row.theirs).to_string(),
            format!("{:.2}", row.ratio()),
        )?;
    }
    print_summary(rows, out)
}

fn print_summary(rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    let ratios: Vec<f64> = rows.iter().map(Row::ratio).collect();
    let worst = rows.iter().min_by(|a, b| a.ratio().total_cmp(&b.ratio()));
    if let Some(worst) = worst {
        writeln!(out)?;
        writeln!(
            out,
            "{} cases. Geometric mean of the ratios: {:.2}. Worst case: {:.2} ({}). Slower than vm-memory: {}.",
            rows.len(),
            geometric_mean(&ratios),
            worst.ratio(),
            worst.case,
            ratios.iter().filter(|&&ratio| ratio < 1.0).count(),
        )?;
    }
    writeln!(out, "\nNot measured yet:\n")?;
    for case in NOT_MEASURED_YET {
        writeln!(out, "* {case}")?;
    }
    Ok(())
}

/// Writes the table as comma-separated values, one line a case; no limit leaves its fields empty.
///
/// # Errors
///
/// What writing says.
pub fn write_csv(rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "case,ours_ns,vm_memory_ns,ratio,limit_ns,over_limit_ns,limit_is"
    )?;
    for row in rows {
        let (limit, over, what) = match row.limit {
            Some((limit, what)) => (
                format!("{limit:.3}"),
                format!("{:.3}", row.ours - limit),
                what,
            ),
            None => Default::default(),
        };
        writeln!(
            out,
            "\"{}\",{:.3},{:.3},{:.3},{limit},{over},\"{what}\"",
            row.case,
            row.ours,
            row.theirs,
            row.ratio()
        )?;
    }
    Ok(())
}

/// A time with as many digits as say something.
struct Figure(f64);

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit_count = match self.0.abs() {
            small if small < 100.0 => 2,
            middle if middle < 1000.0 => 1,
            _ => 0,
        };
        write!(f, "{:.digit_count$}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let row = |case: &str, ours, theirs, limit| Row {
            case: case.to_owned(),
            ours,
            theirs,
            limit,
        };
        vec![
            row("fast", 2.0, 16.0, Some((1.5, "by hand"))),
            row("slow", 4.0, 2.0, None),
        ]
    }

    #[test]
    fn the_table_ends_with_mean_and_worst_case() {
        let mut out = Vec::new();
        print_table(&rows(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("Geometric mean of the ratios: 2.00. Worst case: 0.50 (slow)"));
    }

    #[test]
    fn csv_lines_have_all_fields_with_and_without_limit() {
        let mut out = Vec::new();
        write_csv(&rows(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.lines().all(|line| line.split(',').count() == 7),
            "{text}"
        );
        assert!(text.contains("\"fast\",2.000,16.000,8.000,1.500,0.500,\"by hand\"\n"));
        assert!(text.contains("\"slow\",4.000,2.000,0.500,,,\"\"\n"));
    }
}
