// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The tables, each of a record: of what a program has just measured, and of what was kept.

mod cases;
mod flat;
mod growth;
mod limits;
mod ratios;
mod system;
mod table;

use std::fmt;

pub use cases::{Case, cases, record};
pub use flat::flat;
pub use growth::{Growth, HARVESTS, LOOKUPS};
pub use limits::limits;
pub use ratios::ratios;
pub use system::{BACKINGS, PREFAULT, backings, prefault, speed};
pub(crate) use table::table;

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

    use crate::measure::Row;
    use crate::record::Record;

    fn measured() -> Record {
        let row = |case: &str, ours, theirs, limit| Row {
            case: case.to_owned(),
            ours,
            theirs,
            limit,
        };
        record(&[
            row("fast", 2.0, Some(16.0), Some((1.5, "by hand"))),
            row("slow", 4.0, Some(2.0), None),
            row("alone", 2.5, None, Some((2.0, "by hand"))),
        ])
    }

    #[test]
    fn the_table_ends_with_mean_and_worst_case_of_those_that_have_a_ratio() {
        let text = ratios(&measured()).unwrap();
        assert!(text.contains(
            "2 cases. Geometric mean of the ratios: 2.00. Worst case: 0.50 (slow). Slower than vm-memory: 1."
        ));
    }

    #[test]
    fn the_table_of_limits_says_what_is_over_and_which_fraction_is_reached() {
        let text = limits(&measured()).unwrap();
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
        let text = measured().to_string();
        assert!(
            text.lines().all(|line| line.split(',').count() == 8),
            "{text}"
        );
        assert!(text.contains("1,fast,2.000,16.000,8.000,1.500,0.500,\"by hand\"\n"));
        assert!(text.contains("1,slow,4.000,2.000,0.500,,,\n"));
        assert!(text.contains("1,alone,2.500,,,2.000,0.500,\"by hand\"\n"));
    }

    #[test]
    fn a_table_of_several_runs_has_the_medians_of_times_and_of_ratios() {
        let text = "run,case,ours_ns,vm_memory_ns,ratio,limit_ns,over_limit_ns,limit_is\n\
                    1,a,1,9,9,0.5,0.5,memcpy\n2,a,2,8,4,0.5,1.5,memcpy\n3,a,4,20,5,0.75,3.25,memcpy\n";
        let text = ratios(&Record::parse(text).unwrap()).unwrap();
        assert_eq!(
            text.lines().nth(2),
            Some("| a    |    2.00 |         9.00 |  5.00 |     0.50 |       1.50 | memcpy   |"),
            "{text}"
        );
    }

    #[test]
    fn growth_and_the_work_of_the_system_have_units() {
        let mut harvests = HARVESTS.record();
        HARVESTS.push(
            &mut harvests,
            &["64".to_owned(), "1 %".to_owned()],
            1500.0,
            3000.0,
        );
        let text = HARVESTS.table(&harvests).unwrap();
        assert!(
            text.contains("| 64 GiB, 1 % | 1.50 µs |   3.00 µs |   2.0 |\n"),
            "{text}"
        );

        let mut populated = Record::new(&PREFAULT);
        populated.push(["memfd", "4096", "5", "2000.0", "1000.0", "2.0"].map(str::to_owned));
        let text = prefault(&populated).unwrap();
        assert!(
            text.contains(
                "| memfd  | 4.00 | 2000 ms, 2.00 GiB/s | 1000 ms, 4.00 GiB/s |  2.00 |\n"
            ),
            "{text}"
        );

        let mut built = Record::new(&BACKINGS);
        built.push(["memfd", "24.1", "1.7", "335.3", "389.2"].map(str::to_owned));
        let text = backings(&built).unwrap();
        assert!(
            text.contains("| memfd   |      24.1 µs |          1.7 GiB/s |"),
            "{text}"
        );
    }
}
