// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Accesses that may end in a signal, in a child process.
#![expect(unsafe_code, reason = "forks, and writes through stray pointers there")]

use crate::pool::Turn;

/// Writes a byte in a child process and returns the signal that ended it, if one did.
pub(crate) fn signal_of_write(_turn: &Turn, address: *mut u8) -> Option<i32> {
    // SAFETY: the child makes nothing but one write and a system call.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no child process");
    if child == 0 {
        // SAFETY: it may well not be mapped, which is what is asked: then the child ends here, and it shares no private
        // memory with anybody.
        unsafe { address.write_volatile(1) };
        // SAFETY: ends the process without running anything of the parent's.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: `status` is a place for the answer.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child);
    libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status))
}
