// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the device does about guest memory that goes away under it.

use std::io;

/// Makes an access to guest memory whose page is gone, say because the front end truncated the file, an error instead of
/// the end of the process; without the feature `fault-guard` nothing.
///
/// The memory of a log that the front end shares is not guest memory: if that goes away, the process ends.
///
/// # Errors
///
/// Returns why the process cannot be guarded.
#[cfg(feature = "fault-guard")]
pub fn guard_faults() -> io::Result<()> {
    vm_memory::fault::install().map_err(io::Error::other)
}

/// Does nothing: the feature `fault-guard` is off.
///
/// # Errors
///
/// None.
#[cfg(not(feature = "fault-guard"))]
pub fn guard_faults() -> io::Result<()> {
    Ok(())
}
