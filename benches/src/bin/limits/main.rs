// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Runs this library against the same work by hand, in a program as small as that takes, and prints a table.
//!
//! What a compiler inlines depends on what else is in the program; here nothing else is. The cases are in this crate,
//! not in the library of the benches, so that they are compiled apart from those of `compare`.

mod buffers;
mod objects;
mod window;

use std::process::ExitCode;

use guest_memory_benches::command_line::{Program, of_cases};
use guest_memory_benches::measure::Runner;
use guest_memory_benches::report;

/// Bytes of each memory.
const MEMORY_LEN: usize = 4 << 20;

const VOLATILE_READ: &str = "volatile read";
const VOLATILE_WRITE: &str = "volatile write";
const MEMCPY: &str = "memcpy";

fn main() -> ExitCode {
    Program {
        name: "limits",
        round_count: 41,
        size_mib: None,
        measure: |options| Ok(of_cases(options, cases)),
        print: report::limits,
    }
    .main()
}

fn cases(runner: &mut Runner) {
    objects::objects(runner);
    objects::atomics(runner);
    buffers::buffers(runner);
    window::copies(runner);
    window::ring(runner);
}
