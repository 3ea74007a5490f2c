// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The programs that measure: their options, the run, and where its rows go.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::fault_guard;
use crate::measure::{Row, Runner};
use crate::report;

/// A program that runs cases and prints a table.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// What it is called.
    pub name: &'static str,
    /// Runs the cases that the runner wants.
    pub cases: fn(&mut Runner),
    /// Prints the table.
    pub print: fn(&[Row], &mut dyn Write) -> io::Result<()>,
}

impl Program {
    /// Runs the program with the options of the command line.
    pub fn main(self) -> ExitCode {
        let options = match Options::parse(std::env::args().skip(1)) {
            Ok(Some(options)) => options,
            Ok(None) => {
                println!("{}", self.usage());
                return ExitCode::SUCCESS;
            }
            Err(message) => {
                eprintln!("{}: {message}\n{}", self.name, self.usage());
                return ExitCode::from(2);
            }
        };
        match self.run(options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{}: {error}", self.name);
                ExitCode::FAILURE
            }
        }
    }

    fn run(self, options: Options) -> io::Result<()> {
        // Opened first: a wrong path should not cost a minute.
        let csv = options.csv.map(File::create).transpose()?;
        let guard = fault_guard::prepare();
        let load_before = load_average();
        let mut runner = Runner::new(options.round_count, options.filter);
        (self.cases)(&mut runner);

        let mut out = io::stdout().lock();
        (self.print)(runner.rows(), &mut out)?;
        writeln!(
            out,
            "\n{guard}. Load average of the last minute: {load_before} before, {} after.",
            load_average()
        )?;
        if let Some(file) = csv {
            let mut file = BufWriter::new(file);
            report::write_csv(runner.rows(), &mut file)?;
            file.flush()?;
        }
        Ok(())
    }

    fn usage(self) -> String {
        format!(
            "usage: {} [--csv PATH] [--rounds NUMBER] [--filter TEXT]

  --csv PATH       also write the table to PATH, as comma-separated values
  --rounds NUMBER  rounds per case, default 41; the table has the medians
  --filter TEXT    only the cases whose name contains TEXT",
            self.name
        )
    }
}

/// What the command line asks for.
#[derive(Debug)]
struct Options {
    csv: Option<PathBuf>,
    round_count: usize,
    filter: Option<String>,
}

impl Options {
    /// Returns the options, or nothing if help was asked for.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self {
            csv: None,
            round_count: 41,
            filter: None,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| format!("{argument} needs a value"))
            };
            match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--csv" => options.csv = Some(value()?.into()),
                "--filter" => options.filter = Some(value()?),
                "--rounds" => {
                    let number = value()?;
                    options.round_count = number
                        .parse()
                        .ok()
                        .filter(|&round_count| round_count > 0)
                        .ok_or_else(|| format!("{number} is not a number of rounds"))?;
                }
                _ => return Err(format!("unknown argument {argument}")),
            }
        }
        Ok(Some(options))
    }
}

/// Returns the load average as the kernel prints it.
fn load_average() -> String {
    fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| text.split(' ').next().map(str::to_owned))
        .unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn all_options_are_taken() {
        let options = parse("--csv a.csv --rounds 3 --filter u32")
            .unwrap()
            .unwrap();
        assert_eq!(options.csv, Some("a.csv".into()));
        assert_eq!(options.round_count, 3);
        assert_eq!(options.filter.as_deref(), Some("u32"));
    }

    #[test]
    fn wrong_arguments_are_named() {
        assert_eq!(
            parse("--rounds 0").unwrap_err(),
            "0 is not a number of rounds"
        );
        assert_eq!(parse("--csv").unwrap_err(), "--csv needs a value");
        assert_eq!(parse("fast").unwrap_err(), "unknown argument fast");
        assert!(parse("--rounds 3 --help").unwrap().is_none());
    }
}
