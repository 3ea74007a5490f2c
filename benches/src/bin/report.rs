// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Makes the tables and plots of the pages with measurements from the newest records, or checks that they are.

use std::process::ExitCode;

use guest_memory_benches::page;

const USAGE: &str = "usage: report [--check]

  --check  write nothing, and fail if a page or a plot is not what the newest records in benches/record give";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [] => write(),
        [option] if option == "--check" => check(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("report: {message}");
            ExitCode::FAILURE
        }
    }
}

fn write() -> Result<(), String> {
    for path in page::write(&page::root())? {
        println!("{}", path.display());
    }
    // What is left is not for this program to write.
    check()
}

fn check() -> Result<(), String> {
    match page::stale(&page::root())?.as_slice() {
        [] => Ok(()),
        stale => Err(stale.join("\n")),
    }
}
