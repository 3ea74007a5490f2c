// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Runs this library and `vm-memory` in turn over the same cases and prints a table with ratios.

use std::process::ExitCode;

use guest_memory_benches::command_line::{Program, of_cases};
use guest_memory_benches::{cases, report};

fn main() -> ExitCode {
    Program {
        name: "compare",
        round_count: 41,
        size_mib: None,
        measure: |options| Ok(of_cases(options, cases::run)),
        print: report::ratios,
    }
    .main()
}
