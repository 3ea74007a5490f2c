// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a forked child really has.

use super::*;

/// Forks a child that reads the region's first byte, and returns the byte, or nothing if that killed the child.
fn first_byte_in_a_child(region: &MmapRegion) -> Option<u8> {
    let start = region.as_ptr();
    // SAFETY: the child reads a byte and exits; it neither allocates nor returns to the program, whose other
    // threads it has not got.
    match unsafe { libc::fork() } {
        0 => {
            // A page that is missing is to end the child quietly.
            // SAFETY: takes integers; the child has one thread.
            unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
            // SAFETY: the region is mapped in the parent; whether it is here is the question, and what happens if
            // not is a signal that ends this process.
            let byte = unsafe { start.read_volatile() };
            // SAFETY: ends the child without its parent's exit handlers.
            unsafe { libc::_exit(byte.into()) }
        }
        child => {
            assert!(child > 0, "fork");
            let mut status = 0;
            // SAFETY: writes an integer; the child is ours and nobody else waits for it.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status).try_into().unwrap())
        }
    }
}

#[test]
fn a_child_has_the_memory_or_zeros_or_nothing() {
    let table = [
        (OnFork::Wipe, Some(0)),
        (OnFork::Exclude, None),
        (OnFork::Inherit, Some(7)),
    ];
    // The same memory for all: each takes the place of the one before.
    let region = anonymous(BIG_PAGE);
    region.as_volatile_slice().write_obj(7u8, 0).unwrap();
    for (on_fork, expected) in table {
        apply(
            &Policies::new().with_on_fork(on_fork, Need::Required),
            &region,
        )
        .unwrap();
        assert_eq!(first_byte_in_a_child(&region), expected, "{on_fork}");
        assert_eq!(region.as_volatile_slice().read_obj::<u8>(0).unwrap(), 7);
    }
}
