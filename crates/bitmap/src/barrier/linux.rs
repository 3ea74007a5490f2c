// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! [membarrier(2)], private and expedited: every running thread of this process passes a full barrier before the call
//! returns. Threads that do not run passed one when they were switched out.
//!
//! [membarrier(2)]: https://man7.org/linux/man-pages/man2/membarrier.2.html
#![expect(unsafe_code, reason = "calls membarrier(2)")]

use std::io;
use std::sync::OnceLock;

/// Returns whether this process may call [`on_all_threads`]; the first call registers it with the kernel.
pub(crate) fn is_available() -> bool {
    static IS_REGISTERED: OnceLock<bool> = OnceLock::new();
    *IS_REGISTERED.get_or_init(|| register().is_ok() && expedite().is_ok())
}

/// Makes every running thread of this process pass a full memory barrier, the caller among them.
///
/// # Panics
///
/// Panics if the system refuses what it granted before: a filter of system calls was installed in between. Going on would lose writes.
pub(crate) fn on_all_threads() {
    if expedite().is_ok() {
        return;
    }
    // A process that was restored from a checkpoint is registered no more.
    if let Err(error) = register().and_then(|()| expedite()) {
        panic!(
            "membarrier(2) was granted when the dirty bitmap was made and is refused now: {error}; \
             a filter of system calls has to allow it"
        );
    }
}

fn register() -> io::Result<()> {
    membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
}

fn expedite() -> io::Result<()> {
    membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
}

fn membarrier(command: libc::c_int) -> io::Result<()> {
    const FLAGS: libc::c_uint = 0;
    const CPU: libc::c_int = 0;
    // SAFETY: `syscall` needs the arguments that the call takes: three integers, of which the last two are zero for both
    // commands. The call reads and writes none of the process's memory.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, command, FLAGS, CPU) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
