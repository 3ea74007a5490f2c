// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The tables and the CSV file.

mod limits;
mod ratios;

use std::fmt;
use std::io::{self, Write};

pub use limits::print_limits;
pub use ratios::print_ratios;

use crate::measure::Row;

/// Writes the rows as comma-separated values, one line a case; a side that is missing leaves its fields empty.
///
/// # Errors
///
/// What writing says.
pub fn write_csv(rows: &[Row], out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "case,ours_ns,vm_memory_ns,ratio,limit_ns,over_limit_ns,limit_is"
    )?;
    for row in rows {
        let number = |value: Option<f64>| value.map_or_else(String::new, |it| format!("{it:.3}"));
        let (limit, what) = row.limit.unzip();
        writeln!(
            out,
            "\"{}\",{:.3},{},{},{},{},\"{}\"",
            row.case,
            row.ours,
            number(row.theirs),
            number(row.ratio()),
            number(limit),
            number(row.over_limit()),
            what.unwrap_or_default(),
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

/// Returns a time as the tables print it, or nothing where there is none.
fn figure(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| Figure(value).to_string())
}

/// Returns a ratio as the tables print it, or nothing where there is none.
fn ratio(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| format!("{value:.2}"))
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
            row("fast", 2.0, Some(16.0), Some((1.5, "by hand"))),
            row("slow", 4.0, Some(2.0), None),
            row("alone", 2.5, None, Some((2.0, "by hand"))),
        ]
    }

    fn printed(print: fn(&[Row], &mut dyn Write) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        print(&rows(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_table_ends_with_mean_and_worst_case_of_those_that_have_a_ratio() {
        let text = printed(print_ratios);
        assert!(text.contains(
            "2 cases. Geometric mean of the ratios: 2.00. Worst case: 0.50 (slow). Slower than vm-memory: 1."
        ));
    }

    #[test]
    fn the_table_of_limits_says_what_is_over_and_which_fraction_is_reached() {
        let text = printed(print_limits);
        let alone: Vec<_> = text
            .lines()
            .find(|line| line.starts_with("| alone"))
            .unwrap()
            .split('|')
            .map(str::trim)
            .collect();
        assert_eq!(
            alone,
            ["", "alone", "2.50", "2.00", "0.50", "0.80", "by hand", ""]
        );
    }

    #[test]
    fn csv_lines_have_all_fields_with_and_without_each_side() {
        let text = printed(write_csv);
        assert!(
            text.lines().all(|line| line.split(',').count() == 7),
            "{text}"
        );
        assert!(text.contains("\"fast\",2.000,16.000,8.000,1.500,0.500,\"by hand\"\n"));
        assert!(text.contains("\"slow\",4.000,2.000,0.500,,,\"\"\n"));
        assert!(text.contains("\"alone\",2.500,,,2.000,0.500,\"by hand\"\n"));
    }
}
