// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Records: what a program measured, as comma-separated values below lines that say where and when.
//!
//! A file of one kind and day holds one run or several, told apart by the column `run`.

mod csv;
mod groups;
pub mod shelf;

use std::fmt;

pub use groups::Group;

use crate::machine;

const RUN: &str = "run";

/// A table with a head of keys and values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    head: Vec<(String, String)>,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Record {
    /// Makes an empty record of one run with these columns besides that of the run.
    pub fn new(columns: &[&str]) -> Self {
        let columns = [RUN].iter().chain(columns);
        Self {
            head: Vec::new(),
            columns: columns.map(|&name| name.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row to the first run.
    ///
    /// # Panics
    ///
    /// If there is not one field for each column.
    pub fn push(&mut self, fields: impl IntoIterator<Item = String>) {
        let row: Vec<String> = ["1".to_owned()].into_iter().chain(fields).collect();
        assert_eq!(row.len(), self.columns.len(), "one field for each column");
        self.rows.push(row);
    }

    /// Adds a line to the head.
    pub fn say(&mut self, key: &str, value: &str) {
        self.head.push((key.to_owned(), value.to_owned()));
    }

    /// Returns what the head says of a key.
    ///
    /// # Errors
    ///
    /// Names the key if it says nothing.
    pub fn said(&self, key: &str) -> Result<&str, String> {
        let found = self.head.iter().find(|(it, _)| it == key);
        let (_, value) = found.ok_or_else(|| format!("the record does not say its {key}"))?;
        Ok(value)
    }

    /// Returns the number of runs.
    ///
    /// # Errors
    ///
    /// If a row says none.
    pub fn run_count(&self) -> Result<usize, String> {
        let mut runs = self.rows.iter().map(|row| {
            let run = row.first().map(String::as_str).unwrap_or_default();
            run.parse().map_err(|_| format!("{run} is no run"))
        });
        runs.try_fold(0, |last, run| Ok(last.max(run?)))
    }

    /// Adds the first run of another record as the next one of this.
    ///
    /// # Errors
    ///
    /// Says in what they differ if they are not of the same columns, program, machine, compiler and profile.
    pub fn append(&mut self, other: &Self) -> Result<(), String> {
        if self.columns != other.columns {
            return Err("the columns are others".to_owned());
        }
        for key in ["program"].into_iter().chain(machine::KEYS) {
            let (before, now) = (self.said(key)?, other.said(key)?);
            if before != now {
                return Err(format!("the {key} was {before} and is {now}"));
            }
        }
        let run = (self.run_count()? + 1).to_string();
        for (key, value) in &other.head {
            if let Some(rest) = key.strip_prefix("run 1") {
                self.say(&format!("run {run}{rest}"), value);
            }
        }
        for row in &other.rows {
            let fields = [run.clone()].into_iter().chain(row[1..].iter().cloned());
            self.rows.push(fields.collect());
        }
        Ok(())
    }

    /// Reads a record as it is displayed.
    ///
    /// # Errors
    ///
    /// Names the line that is not one of such a record.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut record = Self {
            head: Vec::new(),
            columns: Vec::new(),
            rows: Vec::new(),
        };
        for line in text.lines() {
            if let Some(said) = line.strip_prefix("# ") {
                let (key, value) = said.split_once(": ").ok_or_else(|| no_line(line))?;
                record.say(key, value);
            } else if record.columns.is_empty() {
                record.columns = csv::fields(line)?;
            } else {
                let row = csv::fields(line)?;
                if row.len() != record.columns.len() {
                    return Err(no_line(line));
                }
                record.rows.push(row);
            }
        }
        Ok(record)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, value) in &self.head {
            writeln!(f, "# {key}: {value}")?;
        }
        for row in [&self.columns].into_iter().chain(&self.rows) {
            writeln!(f, "{}", csv::line(row))?;
        }
        Ok(())
    }
}

/// Returns a number as records have it, or an empty field.
pub fn number(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| format!("{value:.3}"))
}

fn no_line(line: &str) -> String {
    format!("not a line of a record: {line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(ours: &str) -> Record {
        let mut record = Record::new(&["case", "ours_ns"]);
        record.say("program", "compare --rounds 11");
        for key in machine::KEYS {
            record.say(key, "the same");
        }
        record.say("run 1, load average", "0.1 before, 1.0 after");
        record.push(["read, all of it".to_owned(), ours.to_owned()]);
        record
    }

    #[test]
    fn a_record_comes_back_from_its_text() {
        let text = record("1.5").to_string();
        assert!(
            text.starts_with("# program: compare --rounds 11\n# cpu: the same\n"),
            "{text}"
        );
        assert!(
            text.ends_with("run,case,ours_ns\n1,\"read, all of it\",1.5\n"),
            "{text}"
        );
        assert_eq!(Record::parse(&text), Ok(record("1.5")));
        assert!(Record::parse("a,b\n1\n").unwrap_err().ends_with(": 1"));
        assert!(Record::parse("# nothing said\n").is_err());
    }

    #[test]
    fn a_run_is_added_to_those_before() {
        let mut all = record("1.5");
        all.append(&record("2.5")).unwrap();
        all.append(&record("3.5")).unwrap();
        assert_eq!(all.run_count(), Ok(3));
        let text = all.to_string();
        assert!(text.ends_with("3,\"read, all of it\",3.5\n"), "{text}");
        assert_eq!(all.said("run 3, load average"), Ok("0.1 before, 1.0 after"));
    }

    #[test]
    fn a_run_of_another_machine_is_refused() {
        let mut other = record("2.5");
        other.head[1].1 = "another".to_owned();
        assert_eq!(
            record("1.5").append(&other),
            Err("the cpu was the same and is another".to_owned())
        );
        assert_eq!(
            record("1.5").append(&Record::new(&["case"])),
            Err("the columns are others".to_owned())
        );
    }
}
