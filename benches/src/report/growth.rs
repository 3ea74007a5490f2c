// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The tables of costs that grow with something, and the plots that a terminal can show.

use super::table;
use crate::plot::{Line, Plot, time};
use crate::record::{Record, number};

/// What a record of growth is about.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    /// The columns that tell its lines apart.
    pub by: &'static [&'static str],
    /// What the lines differ in, the head of the table's first column.
    pub head: &'static str,
    /// How a terminal shows it.
    plot: Plot,
}

/// Harvests, by the size of the log and by what is dirty.
pub const HARVESTS: Growth = Growth {
    by: &["log_gib", "dirty"],
    head: "log, dirty",
    plot: Plot {
        origin: 10.0,
        decade: 7,
    },
};

/// Lookups, by the number of regions.
pub const LOOKUPS: Growth = Growth {
    by: &["regions"],
    head: "regions",
    plot: Plot {
        origin: 1.0,
        decade: 24,
    },
};

impl Growth {
    /// Makes an empty record.
    pub fn record(&self) -> Record {
        Record::new(&[self.by, &["ours_ns", "vm_memory_ns", "ratio"]].concat())
    }

    /// Adds a line to a record: what tells it apart, and the times of both sides in nanoseconds.
    ///
    /// # Panics
    ///
    /// If there is not one of `at` for each of the columns.
    pub fn push(&self, record: &mut Record, at: &[String], ours: f64, theirs: f64) {
        let times = [ours, theirs, theirs / ours].map(|it| number(Some(it)));
        record.push(at.iter().cloned().chain(times));
    }

    /// Makes the table.
    ///
    /// # Errors
    ///
    /// What the record lacks.
    pub fn table(&self, record: &Record) -> Result<String, String> {
        let mut rows = Vec::new();
        for group in record.groups(self.by)? {
            let ratio = group.number("ratio")?;
            let times = [group.number("ours_ns")?, group.number("vm_memory_ns")?];
            let [ours, theirs] = times.map(time);
            rows.push([self.name(&group)?, ours, theirs, format!("{ratio:.1}")]);
        }
        Ok(table([self.head, ">ours", ">vm-memory", ">ratio"], &rows))
    }

    /// Makes the table and the plot below it.
    ///
    /// # Errors
    ///
    /// What the record lacks.
    pub fn table_and_plot(&self, record: &Record) -> Result<String, String> {
        let mut lines = Vec::new();
        for group in record.groups(self.by)? {
            lines.push(Line {
                name: self.name(&group)?,
                ours: group.number("ours_ns")?,
                theirs: group.number("vm_memory_ns")?,
            });
        }
        Ok(self.table(record)? + "\n" + &self.plot.markdown(&lines))
    }

    fn name(&self, group: &crate::record::Group<'_>) -> Result<String, String> {
        let parts: Result<Vec<String>, String> = self
            .by
            .iter()
            .map(|&column| {
                let unit = if column.ends_with("_gib") { " GiB" } else { "" };
                Ok(format!("{}{unit}", group.text(column)?))
            })
            .collect();
        Ok(parts?.join(", "))
    }
}
