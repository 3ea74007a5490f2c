// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A test that runs itself again in a process of its own, which may be prepared in ways that cannot be taken back.
//! Integration tests include this file as well.
//!
//! The other process has for a moment what this one has: who counts huge pages waits for its turn first.
#![expect(unsafe_code, reason = "runs code between fork and exec")]

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// In the environment of the other process: what it is to do.
const TASK: &str = "GUEST_MEMORY_TEST_TASK";
/// Lets a process lock without limit, from `linux/capability.h`.
const CAP_IPC_LOCK: libc::c_ulong = 14;

/// Returns the task if this is the other process, and says that it has started on it.
pub(crate) fn task() -> Option<String> {
    let task = env::var(TASK).ok()?;
    println!("{}", started(&task));
    Some(task)
}

/// Runs the test of this name, with all its modules, with the task, in a process that is prepared; passes if it does.
///
/// # Safety
///
/// What prepares the process runs between fork and exec: it may only make system calls.
pub(crate) unsafe fn run(
    test: &str,
    task: &str,
    prepare: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--exact", test, "--nocapture"]);
    command.env(TASK, task);
    // SAFETY: the caller vouches for the function: system calls need nothing that another thread may have locked.
    unsafe { command.pre_exec(prepare) };
    let output = command.output().expect("the other process");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    // A name that fits no test would pass as well.
    assert!(text.contains(&started(task)), "{text}{errors}");
}

/// Runs the test of this name with the task, in a process that may lock so many bytes of memory; passes if it does.
pub(crate) fn run_with_lock_limit(test: &str, task: &str, limit_bytes: libc::rlim_t) {
    // SAFETY: `limit_locks` makes two system calls.
    unsafe { run(test, task, move || limit_locks(limit_bytes)) };
}

/// Sets the limit, and drops the right to ignore it from what the program to come can have.
fn limit_locks(limit_bytes: libc::rlim_t) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: limit_bytes,
        rlim_max: limit_bytes,
    };
    // SAFETY: reads the structure.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // Who may not drop it has not got it: the result does not matter.
    // SAFETY: takes integers.
    unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_IPC_LOCK) };
    Ok(())
}

fn started(task: &str) -> String {
    format!("task {task} started")
}
