// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Building the program `paths` and having valgrind count its instructions.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The loop is run so often, and then so often.
const COUNTS: [u64; 2] = [1000, 11000];

/// A profile of the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// What most users build with.
    Release,
    /// Release with link-time optimisation in one codegen unit.
    Lto,
}

impl Profile {
    /// All, in the order of the table's columns.
    pub const ALL: [Self; 2] = [Self::Release, Self::Lto];
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Release => "release",
            Self::Lto => "lto",
        })
    }
}

/// Returns what keeps this machine from counting, if something does.
pub fn why_not() -> Option<&'static str> {
    if env::consts::ARCH != "x86_64" {
        return Some("the recorded counts are those of x86-64");
    }
    match Command::new("valgrind").arg("--version").output() {
        Ok(_) => None,
        Err(_) => Some("valgrind is not installed"),
    }
}

/// Builds the program and returns where it is.
pub(super) fn build(profile: Profile) -> Result<PathBuf, String> {
    // Flags from outside are left out: the counts are recorded without.
    let output = run(Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "build",
            "--package",
            env!("CARGO_PKG_NAME"),
            "--bin",
            "paths",
        ])
        .args(["--profile", &profile.to_string()])
        .args(["--message-format", "json-render-diagnostics"])
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS"))?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .find_map(executable)
        .map(PathBuf::from)
        .ok_or_else(|| "cargo does not say where it put the program".to_owned())
}

/// Returns the path in cargo's message about an executable.
fn executable(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once(r#""executable":""#)?;
    Some(rest.split_once('"')?.0)
}

/// Returns the instructions of one operation and the loop around it.
pub(super) fn instructions_each(program: &Path, case: &str) -> Result<u64, String> {
    let [few, many] = COUNTS;
    let difference = instructions(program, case, many)?
        .checked_sub(instructions(program, case, few)?)
        .ok_or_else(|| format!("{case}: fewer instructions for more operations"))?;
    let operations = many - few;
    Ok((difference + operations / 2) / operations)
}

/// Returns the instructions of a whole run, in an empty environment.
fn instructions(program: &Path, case: &str, count: u64) -> Result<u64, String> {
    let output = run(Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([case, &count.to_string()])
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default()))?;
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines()
        .find_map(collected)
        .ok_or_else(|| format!("valgrind does not say what it collected:\n{text}"))
}

/// Returns the number in valgrind's line about what was collected.
fn collected(line: &str) -> Option<u64> {
    line.split_once("Collected :")?.1.trim().parse().ok()
}

/// Runs a command to its end, which must be a success.
fn run(command: &mut Command) -> Result<Output, String> {
    let output = command
        .output()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(output);
    }
    Err(format!(
        "{}: {}\n{}",
        command.get_program().display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_what_valgrind_prints() {
        assert_eq!(collected("==7== Collected : 294732"), Some(294_732));
        assert_eq!(collected("==7== Events    : Ir"), None);
    }

    #[test]
    fn the_program_is_found_in_what_cargo_prints() {
        let message =
            r#"{"reason":"compiler-artifact","executable":"/target/release/paths","fresh":true}"#;
        assert_eq!(executable(message), Some("/target/release/paths"));
        assert_eq!(executable(r#"{"executable":null,"fresh":true}"#), None);
    }
}
