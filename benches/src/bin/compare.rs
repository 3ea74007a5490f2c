// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Runs this library and `vm-memory` in turn over the same cases and prints a table with ratios.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use guest_memory_benches::measure::Runner;
use guest_memory_benches::{cases, report};

const USAGE: &str = "usage: compare [--csv PATH] [--rounds NUMBER] [--filter TEXT]

  --csv PATH       also write the table to PATH, as comma-separated values
  --rounds NUMBER  rounds per case, default 41; the table has the medians
  --filter TEXT    only the cases whose name contains TEXT";

struct Options {
    csv: Option<PathBuf>,
    round_count: usize,
    filter: Option<String>,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("compare: {message}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> io::Result<()> {
    // Opened first: a wrong path should not cost a minute.
    let csv = options.csv.map(File::create).transpose()?;
    let load_before = load_average();
    let mut runner = Runner::new(options.round_count, options.filter);
    cases::run(&mut runner);

    let mut out = io::stdout().lock();
    report::print_table(runner.rows(), &mut out)?;
    writeln!(
        out,
        "\nLoad average of the last minute: {load_before} before, {} after.",
        load_average()
    )?;
    if let Some(file) = csv {
        let mut file = BufWriter::new(file);
        report::write_csv(runner.rows(), &mut file)?;
        file.flush()?;
    }
    Ok(())
}

/// Returns the options, or nothing if help was asked for.
fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options {
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

/// Returns the load average as the kernel prints it.
fn load_average() -> String {
    fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| text.split(' ').next().map(str::to_owned))
        .unwrap_or_else(|| "unknown".to_owned())
}
