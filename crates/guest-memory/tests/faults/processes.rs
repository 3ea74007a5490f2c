// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Faults that are not the library's end a process as they would without it, or go to the handler that was there.
//!
//! Each test runs this program again, as a child process that plays one of the [`scenes`].

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

mod handlers;
mod scenes;

/// Tells the child what to play.
const SCENE: &str = "GUEST_MEMORY_FAULT_SCENE";

/// Plays a scene in a process of its own.
fn play(scene: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "processes::scene", "--nocapture"])
        .env(SCENE, scene)
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap()
}

#[test]
#[ignore = "played in child processes of the other tests"]
fn scene() {
    match std::env::var(SCENE) {
        Ok(name) => scenes::play(&name),
        Err(_) => println!("skipped: no child process of a test"),
    }
}

#[track_caller]
fn assert_killed(scene: &str, signal: i32) {
    let output = play(scene);
    assert_eq!(output.status.signal(), Some(signal), "{scene}: {output:?}");
    assert!(!says(&output, "survived"), "{scene}: {output:?}");
}

#[track_caller]
fn assert_exits(scene: &str, code: i32, lines: &[&str]) {
    let output = play(scene);
    assert_eq!(output.status.code(), Some(code), "{scene}: {output:?}");
    for line in lines {
        assert!(says(&output, line), "{scene}: no {line:?} in {output:?}");
    }
}

fn says(output: &Output, text: &str) -> bool {
    [&output.stdout, &output.stderr]
        .iter()
        .any(|stream| String::from_utf8_lossy(stream).contains(text))
}

#[test]
fn a_bad_pointer_outside_the_engine_still_crashes() {
    assert_killed("bad pointer", libc::SIGSEGV);
    assert_killed("pointer past the end of a file", libc::SIGBUS);
}

#[test]
fn a_fault_of_the_engine_crashes_where_nothing_is_installed() {
    assert_killed("engine without handlers, short file", libc::SIGBUS);
    assert_killed("engine without handlers, no access", libc::SIGSEGV);
}

#[test]
fn a_fault_of_the_engine_crashes_where_its_signal_is_blocked() {
    assert_killed("engine with the signal blocked", libc::SIGBUS);
}

#[test]
fn a_handler_that_was_there_gets_the_faults_of_others() {
    let lines = ["the engine's fault is an error", "foreign SIGSEGV at 0x8"];
    assert_exits("handler of SIGSEGV before", 7, &lines);
    let lines = ["the engine's fault is an error", "foreign SIGBUS"];
    assert_exits("handler of SIGBUS before", 7, &lines);
    let lines = ["the engine's fault is an error", "foreign signal"];
    assert_exits("handler of one argument before", 7, &lines);
}

#[test]
fn a_handler_that_was_there_may_repair_the_page() {
    assert_exits("repairing handler before", 0, &["survived: 0"]);
}

#[test]
fn a_handler_that_was_there_for_one_fault_only_gets_one() {
    assert_killed("handler for one fault before", libc::SIGSEGV);
}

#[test]
fn stack_overflows_are_still_reported() {
    for scene in ["stack overflow", "stack overflow in a thread"] {
        let output = play(scene);
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
        assert!(says(&output, "has overflowed its stack"), "{output:?}");
    }
}

#[test]
fn signals_that_are_sent_do_what_they_did() {
    assert_killed("sent SIGSEGV", libc::SIGSEGV);
    assert_killed("sent SIGBUS", libc::SIGBUS);
    assert_exits("sent SIGSEGV, ignored", 0, &["survived"]);
    assert_exits("sent SIGBUS, ignored", 0, &["survived"]);
    assert_exits("sent to a handler before", 7, &["foreign SIGSEGV"]);
    assert_killed("news of a lost page", libc::SIGBUS);
    assert_exits("news of a lost page, ignored", 0, &["survived"]);
}

#[test]
fn the_guard_stays_when_the_handler_before_resets_its_signal() {
    let scene = "sent SIGSEGV to the runtime twice";
    assert_killed(scene, libc::SIGSEGV);
    assert!(says(&play(scene), "the engine's fault is still an error"));
}

#[test]
fn a_fault_ends_the_process_even_if_its_signal_is_ignored() {
    assert_killed("bad pointer, SIGSEGV ignored", libc::SIGSEGV);
}

#[test]
fn signals_that_are_sent_during_accesses_are_no_faults() {
    assert_exits("signals sent during copies", 0, &["survived"]);
}

#[test]
fn a_system_call_is_not_interrupted_by_a_signal_that_is_ignored() {
    assert_exits("ignored signal during a read", 0, &["survived: 1"]);
}

#[test]
fn children_of_the_process_inherit_the_handlers() {
    assert_exits("fork", 0, &["survived"]);
}
