// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The programs that measure: their options, the run, and where its record goes.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::fault_guard;
use crate::machine::{self, load_average};
use crate::measure::Runner;
use crate::record::Record;
use crate::report;

/// A program that measures and prints a table.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// What it is called.
    pub name: &'static str,
    /// How many rounds it takes the medians of if it is not told.
    pub round_count: usize,
    /// How much memory it takes if it is not told, in MiB, where it can be told.
    pub size_mib: Option<usize>,
    /// Measures.
    pub measure: fn(&Options) -> Result<Record, Box<dyn Error>>,
    /// Makes the table.
    pub print: fn(&Record) -> Result<String, String>,
}

/// What the command line asks for.
#[derive(Debug)]
pub struct Options {
    /// Rounds of which the medians are taken.
    pub round_count: usize,
    /// Memory to take, in MiB; 0 where that is not asked.
    pub size_mib: usize,
    filter: Option<String>,
    csv: Option<PathBuf>,
    is_to_append: bool,
}

/// Runs cases and makes a record of them.
pub fn of_cases(options: &Options, cases: fn(&mut Runner)) -> Record {
    let mut runner = Runner::new(options.round_count, options.filter.clone());
    cases(&mut runner);
    report::record(runner.rows())
}

impl Program {
    /// Runs the program with the options of the command line.
    pub fn main(self) -> ExitCode {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let options = match Options::parse(&self, arguments.iter().cloned()) {
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
        match self.run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{}: {error}", self.name);
                ExitCode::FAILURE
            }
        }
    }

    fn run(self, options: &Options) -> Result<(), Box<dyn Error>> {
        // Looked at first: a wrong path should not cost a minute.
        let before = match &options.csv {
            Some(path) => runs_before(path, options.is_to_append)?,
            None => None,
        };
        let guard = fault_guard::prepare();
        let load_before = load_average();
        let measured = (self.measure)(options)?;
        let load = format!("{load_before} before, {} after", load_average());

        let mut out = io::stdout().lock();
        write!(out, "{}", (self.print)(&measured)?)?;
        writeln!(out, "\n{guard}. Load average of the last minute: {load}.")?;
        if let Some(path) = &options.csv {
            let measured = self.with_head(measured, options, guard, &load);
            let all = match before {
                Some(mut all) => {
                    all.append(&measured)?;
                    all
                }
                None => measured,
            };
            fs::write(path, all.to_string())?;
        }
        Ok(())
    }

    fn with_head(self, measured: Record, options: &Options, guard: &str, load: &str) -> Record {
        let mut command = format!("{} --rounds {}", self.name, options.round_count);
        if self.size_mib.is_some() {
            command += &format!(" --mib {}", options.size_mib);
        }
        if let Some(filter) = &options.filter {
            command += &format!(" --filter {filter:?}");
        }
        let mut record = measured;
        record.say("program", &command);
        for (key, value) in machine::KEYS.iter().zip(machine::here()) {
            record.say(key, &value);
        }
        record.say("date", &machine::today());
        record.say("fault guard", guard);
        record.say("run 1, load average", load);
        record
    }

    fn usage(self) -> String {
        let (mib, about_mib) = match self.size_mib {
            Some(mib) => (
                " [--mib NUMBER]",
                format!("\n  --mib NUMBER     how much memory, in MiB, default {mib}"),
            ),
            None => ("", String::new()),
        };
        format!(
            "usage: {} [--csv PATH [--append]] [--rounds NUMBER] [--filter TEXT]{mib}

  --csv PATH       also write a record to PATH, as comma-separated values
  --append         as one more run of the record that is there
  --rounds NUMBER  rounds per case, default {}; the table has the medians
  --filter TEXT    only the cases whose name contains TEXT{about_mib}",
            self.name, self.round_count
        )
    }
}

/// Returns the record to append to, and checks that a file can be written there.
fn runs_before(path: &Path, is_to_append: bool) -> Result<Option<Record>, Box<dyn Error>> {
    let describe = |error: &dyn Error| format!("{}: {error}", path.display());
    File::options()
        .append(true)
        .create(true)
        .open(path)
        .map_err(|error| describe(&error))?;
    let text = fs::read_to_string(path).map_err(|error| describe(&error))?;
    if !is_to_append || text.is_empty() {
        return Ok(None);
    }
    Ok(Some(Record::parse(&text)?))
}

impl Options {
    /// Says whether a case is to be measured.
    pub fn wants(&self, case: &str) -> bool {
        let filter = self.filter.as_deref();
        filter.is_none_or(|filter| case.contains(filter))
    }

    /// Returns the options, or nothing if help was asked for.
    fn parse(
        program: &Program,
        mut arguments: impl Iterator<Item = String>,
    ) -> Result<Option<Self>, String> {
        let mut options = Self {
            round_count: program.round_count,
            size_mib: program.size_mib.unwrap_or_default(),
            filter: None,
            csv: None,
            is_to_append: false,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| format!("{argument} needs a value"))
            };
            match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--append" => options.is_to_append = true,
                "--csv" => options.csv = Some(value()?.into()),
                "--filter" => options.filter = Some(value()?),
                "--rounds" => options.round_count = positive(&value()?, "rounds")?,
                "--mib" if program.size_mib.is_some() => {
                    options.size_mib = positive(&value()?, "MiB")?;
                }
                _ => return Err(format!("unknown argument {argument}")),
            }
        }
        if options.is_to_append && options.csv.is_none() {
            return Err("--append needs --csv".to_owned());
        }
        Ok(Some(options))
    }
}

fn positive(number: &str, what: &str) -> Result<usize, String> {
    let parsed = number.parse().ok().filter(|&number| number > 0);
    parsed.ok_or_else(|| format!("{number} is not a number of {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: Program = Program {
        name: "example",
        round_count: 41,
        size_mib: None,
        measure: |_| Ok(Record::new(&[])),
        print: |_| Ok(String::new()),
    };

    fn parse(line: &str) -> Result<Option<Options>, String> {
        parse_for(&PROGRAM, line)
    }

    fn parse_for(program: &Program, line: &str) -> Result<Option<Options>, String> {
        Options::parse(program, line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn all_options_are_taken() {
        let options = parse("--csv a.csv --append --rounds 3 --filter u32")
            .unwrap()
            .unwrap();
        assert_eq!(options.csv, Some("a.csv".into()));
        assert!(options.is_to_append);
        assert_eq!(options.round_count, 3);
        assert_eq!(options.filter.as_deref(), Some("u32"));
        assert!(options.wants("read_obj u32") && !options.wants("read_obj u64"));
        assert_eq!(parse("").unwrap().unwrap().round_count, 41);
    }

    #[test]
    fn a_size_is_taken_where_the_program_has_one() {
        let program = Program {
            size_mib: Some(4096),
            ..PROGRAM
        };
        assert_eq!(parse_for(&program, "").unwrap().unwrap().size_mib, 4096);
        assert_eq!(
            parse_for(&program, "--mib 64").unwrap().unwrap().size_mib,
            64
        );
        assert_eq!(parse("--mib 64").unwrap_err(), "unknown argument --mib");
    }

    #[test]
    fn wrong_arguments_are_named() {
        assert_eq!(
            parse("--rounds 0").unwrap_err(),
            "0 is not a number of rounds"
        );
        assert_eq!(parse("--csv").unwrap_err(), "--csv needs a value");
        assert_eq!(parse("--append").unwrap_err(), "--append needs --csv");
        assert_eq!(parse("fast").unwrap_err(), "unknown argument fast");
        assert!(parse("--rounds 3 --help").unwrap().is_none());
    }

    #[test]
    fn a_record_has_a_head_and_one_more_run_each_time() {
        let program = Program {
            measure: |_| {
                let mut record = Record::new(&["case"]);
                record.push(["read".to_owned()]);
                Ok(record)
            },
            ..PROGRAM
        };
        let name = format!("guest-memory-record-{}.csv", std::process::id());
        let path = std::env::temp_dir().join(name);
        let line = format!("--csv {} --append", path.display());
        for _ in 0..2 {
            let options = parse_for(&program, &line).unwrap().unwrap();
            program.run(&options).unwrap();
        }
        let record = Record::parse(&fs::read_to_string(&path).unwrap()).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(record.run_count(), Ok(2));
        assert_eq!(record.said("program"), Ok("example --rounds 41"));
        for key in [
            "cpu",
            "kernel",
            "compiler",
            "profile",
            "date",
            "run 2, load average",
        ] {
            assert_ne!(record.said(key), Ok(""), "{key}");
        }
    }
}
