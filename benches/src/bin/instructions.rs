// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Counts the instructions of the hot paths in both profiles, and checks them or prints the table to record.

use std::process::ExitCode;

use guest_memory_benches::instructions::{self, Profile};

const USAGE: &str = "usage: instructions [--record]

  --record  print the table for benches/record/instructions.csv, and check nothing";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_to_record = match arguments.as_slice() {
        [] => false,
        [option] if option == "--record" => true,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(is_to_record) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("instructions: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(is_to_record: bool) -> Result<(), String> {
    if let Some(reason) = instructions::why_not() {
        eprintln!("skipped: {reason}");
        return Ok(());
    }
    let table = instructions::count(&Profile::ALL)?;
    print!("{table}");
    if is_to_record {
        return Ok(());
    }
    let grown = table.grown_from(&instructions::recorded()?);
    if grown.is_empty() {
        return Ok(());
    }
    Err(format!("paths have grown:\n{}", grown.join("\n")))
}
