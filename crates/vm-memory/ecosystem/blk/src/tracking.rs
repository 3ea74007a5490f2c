// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a device has to know about the bitmap of its memory.

use std::io;

use vhost_user_backend::bitmap::BitmapReplace;
use vm_memory::GuestMemoryRegion;
use vm_memory::mmap::NewBitmap;

use crate::dirty_log::DirtyLog;

/// A bitmap, or none, for the memory of a device.
pub trait Tracking: BitmapReplace + NewBitmap + Clone + Send + Sync + 'static {
    /// Whether a front end may hand in a log for it: without one, a virtual machine with the device cannot migrate.
    const TAKES_LOG: bool;

    /// Forgets the front end's log.
    fn detach(&self) {}

    /// Marks in the log of `other` from now on if that has one and this has not; `region` is the one of this bitmap.
    ///
    /// What was written to the region before is not known: all of it is marked.
    ///
    /// # Errors
    ///
    /// Returns why the log cannot be used for the region.
    fn follow(&self, region: &impl GuestMemoryRegion, other: &Self) -> io::Result<()> {
        let _ = (region, other);
        Ok(())
    }
}

impl Tracking for () {
    const TAKES_LOG: bool = false;
}

impl Tracking for DirtyLog {
    const TAKES_LOG: bool = false;
}
