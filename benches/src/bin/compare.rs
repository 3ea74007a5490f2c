// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Runs this library and `vm-memory` in turn over the same cases and prints a table with ratios.

use std::process::ExitCode;

use guest_memory_benches::command_line::Program;
use guest_memory_benches::{cases, report};

fn main() -> ExitCode {
    Program {
        name: "compare",
        cases: cases::run,
        print: report::print_ratios,
    }
    .main()
}
