// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Accesses that survive a page that cannot be accessed.
//!
//! Guest memory is mapped from files, from a pool of huge pages, by other processes; a peer that truncates the file, a
//! pool that runs dry or a page of broken memory makes the next access to it a signal, SIGBUS or SIGSEGV, which ends the
//! process. After [`install`] such an access is an error instead,
//! [`Fault`](crate::VolatileMemoryError::Fault), which says at which byte it stopped and why.
//!
//! ```
//! use guest_memory_volatile::fault;
//!
//! # fn main() -> Result<(), fault::InstallError> {
//! # #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
//! fault::install()?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is caught
//!
//! Faults of this crate's own accesses to guest memory, in the thread that makes them: copies, values, atomics, fills.
//! Each of their instructions has an entry in a table that the linker puts together, and the handlers look nowhere else.
//! An access that succeeds costs the same with and without the handlers.
//!
//! # What is not
//!
//! Any other fault goes to the handler that was there before, with what the kernel gave, on the same stack; where there
//! was none the process ends as it would have. So a bad pointer elsewhere is still a crash, and the detection of stack
//! overflows in the standard library still works. In particular nothing catches accesses
//!
//! * through raw pointers and references that were handed out: pointer guards,
//!   [`get_atomic_ref`](crate::VolatileMemory::get_atomic_ref), slices made by an unsafe method;
//! * in a thread that blocks SIGBUS or SIGSEGV: the kernel ends the process before any handler;
//! * once another handler was installed over these and does not call them;
//! * of a copy of this crate in another dynamic library: each copy has its own table and its own handlers;
//! * that were compiled into another dynamic library or program than this crate itself, as with Rust's `dylib`: short
//!   accesses stand where they are called, and each library has a table, but only that of [`install`]'s is known.
//!
//! System calls on such a page fail with `EFAULT`, which is reported as the same error without any of this.

#[cfg(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(
        target_arch = "aarch64",
        all(target_arch = "x86_64", target_feature = "sse2")
    ),
    not(any(miri, guest_memory_portable))
))]
mod linux;
#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(
        target_arch = "aarch64",
        all(target_arch = "x86_64", target_feature = "sse2")
    ),
    not(any(miri, guest_memory_portable))
)))]
mod unsupported;

use std::io;

#[cfg(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(
        target_arch = "aarch64",
        all(target_arch = "x86_64", target_feature = "sse2")
    ),
    not(any(miri, guest_memory_portable))
))]
use linux as platform;
#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(
        target_arch = "aarch64",
        all(target_arch = "x86_64", target_feature = "sse2")
    ),
    not(any(miri, guest_memory_portable))
)))]
use unsupported as platform;

use crate::fault_kind::FaultKind;

/// Why the handlers were not installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// Faults cannot be caught on this target.
    #[error("faults of guest memory cannot be caught on this target")]
    Unsupported,
    /// The linker left the table of accesses out of the program.
    #[error("the program has no table of guest memory accesses")]
    NoTable,
    /// The operating system refused a handler.
    #[error("cannot install a signal handler")]
    Handler(#[source] io::Error),
}

/// Installs the handlers of SIGBUS and SIGSEGV, for the whole process and for good.
///
/// Calling it again does nothing. What was installed before is called for all faults that are not this crate's; install
/// other handlers first. Call it early: before other threads use guest memory.
///
/// # Errors
///
/// [`InstallError`] says why; nothing is installed then, or SIGBUS's handler only.
pub fn install() -> Result<(), InstallError> {
    platform::install()
}

/// Says whether [`install`] succeeded in this process.
///
/// It does not know about handlers that somebody else installed afterwards.
pub fn is_installed() -> bool {
    platform::is_installed()
}

/// Returns the kind of this thread's last fault.
pub(crate) fn last_kind() -> FaultKind {
    platform::last_kind()
}
