// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Keeping memory from being swapped out.

use std::fmt;
use std::fs;
use std::io;

use super::{Policy, PolicyKind, Refusal, status_field};
use crate::Protection;
use crate::extent::Extent;
use crate::sys;

/// Whether pages, once in memory, stay there.
///
/// Without `CAP_IPC_LOCK` a process may lock as much as its limit (`RLIMIT_MEMLOCK`) says, which is little by default.
/// Huge pages from the pool stay in any case; a lock of them only populates.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Locking {
    /// They are all brought in when the region is built, and stay. For memory that can be read.
    Now,
    /// Each stays from its first touch on.
    OnFault,
}

impl Policy for Locking {
    const KIND: PolicyKind = PolicyKind::Locking;

    fn apply(&self, extent: Extent<'_>) -> Result<(), Refusal> {
        let result = match self {
            // The kernel would fail to populate it, with the errno of a limit that is reached.
            Self::Now if extent.details().protection == Protection::NoAccess => {
                return Err(Refusal::NoAccess);
            }
            Self::Now => sys::lock(extent),
            Self::OnFault => sys::lock_on_fault(extent),
        };
        result.map_err(|error| {
            // Where populating failed, what is there would stay locked.
            let _ = sys::unlock(extent);
            explain(&error, extent.len_bytes())
        })
    }
}

impl fmt::Display for Locking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Now => "now",
            Self::OnFault => "on-fault",
        })
    }
}

/// Tells a limit that is reached from other failures, which have the same errno.
fn explain(error: &io::Error, len_bytes: usize) -> Refusal {
    let may_be_limit = matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::EPERM));
    if may_be_limit
        && let Ok(Some(limit_bytes)) = sys::lock_limit()
        && let Some(locked_bytes) = locked_bytes()
        && locked_bytes.saturating_add(len_bytes) > limit_bytes
    {
        return Refusal::LockLimit {
            errno: error.raw_os_error().unwrap_or(libc::ENOMEM),
            locked_bytes,
            limit_bytes,
        };
    }
    let hint = match error.raw_os_error() {
        Some(libc::ENOMEM | libc::EAGAIN) => "not all of the memory could be populated",
        Some(libc::EPERM) => "locking needs CAP_IPC_LOCK or a limit (RLIMIT_MEMLOCK)",
        Some(libc::ENOSYS) => "locking on fault needs Linux 4.4",
        _ => "mlock failed",
    };
    Refusal::kernel(error, hint)
}

/// Returns how much this process has locked already.
fn locked_bytes() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes = status_field(&status, "VmLck")?.strip_suffix(" kB")?;
    kibibytes.trim().parse::<usize>().ok()?.checked_mul(1024)
}
