// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A test that runs itself again in a process of its own, which is prepared in ways that cannot be taken back.
#![expect(unsafe_code, reason = "runs code between fork and exec")]

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::pool::Turn;

/// In the environment of the other process: what it is to do.
const TASK: &str = "GUEST_MEMORY_TEST_TASK";

/// Returns the task if this is the other process, and says that it has started on it.
pub(crate) fn task() -> Option<String> {
    let task = env::var(TASK).ok()?;
    println!("{}", started(&task));
    Some(task)
}

/// Runs the test of this name with the task; passes if it does.
pub(crate) fn run_plainly(_turn: &Turn, test: &str, task: &str) {
    run_command(command(test, task), task);
}

/// Runs the test of this name with the task, in a process that is prepared; passes if it does.
///
/// # Safety
///
/// What prepares the process runs between fork and exec: it may only make system calls.
pub(crate) unsafe fn run(
    _turn: &Turn,
    test: &str,
    task: &str,
    prepare: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    let mut command = command(test, task);
    // SAFETY: the caller vouches for the function: system calls need nothing that another thread may have locked.
    unsafe { command.pre_exec(prepare) };
    run_command(command, task);
}

fn command(test: &str, task: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--exact", test, "--nocapture"]);
    command.env(TASK, task);
    command
}

fn run_command(mut command: Command, task: &str) {
    let output = command.output().expect("the other process");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    // A name that fits no test would pass as well.
    assert!(text.contains(&started(task)), "{text}{errors}");
}

fn started(task: &str) -> String {
    format!("task {task} started")
}
