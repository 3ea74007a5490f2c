// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A forked child that reads and writes.
#![expect(unsafe_code, reason = "forks")]

use crate::pages;
use crate::pool::Turn;

/// Forks a child that finds a value at an address and writes another one.
pub(crate) fn exchange_with_child(_turn: &Turn, address: *mut u8, finds: u64, writes: u64) {
    // SAFETY: the child reads, writes and exits; it neither allocates nor returns to the program.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no child process");
    if child == 0 {
        // SAFETY: the parent has the memory mapped; if the child has not, it ends here.
        let found = unsafe { pages::read(address) };
        // SAFETY: likewise; no reference to the memory is in use in the child.
        unsafe { pages::write(address, writes) };
        // SAFETY: ends the process without running anything of the parent's.
        unsafe { libc::_exit(i32::from(found != finds)) }
    }
    let mut status = 0;
    // SAFETY: `status` is a place for the answer.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child);
    assert_eq!(status, 0, "the child found something else, or was killed");
}
