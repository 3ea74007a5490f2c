// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A `vhost-user-blk` device: a disk for a virtual machine, served by another process out of a file.
//!
//! Everything that touches guest memory goes through `vm-memory`'s names, so the same sources run on that crate and on
//! the one that stands in for it. From the bottom up:
//!
//! * [`Disk`]: where sectors live: [`FileDisk`] (a file) or [`RamDisk`] (memory, for measurements);
//! * [`request`]: one descriptor chain taken apart, executed and answered;
//! * [`serve`]: every chain that a driver has made available;
//! * [`Device`]: the queue's thread, features and configuration space, for `vhost_user_backend::VhostUserDaemon`;
//! * [`Vring`]: a queue as the daemon holds it;
//! * [`Tracking`]: what the device asks of the bitmap of its memory: [`DirtyLog`] is one of its own, [`SharedLog`] a part
//!   of the log that the front end shares for a migration;
//! * [`guard_faults`]: guest memory that goes away is an error, not the end of the process.
//!
//! Data moves between disk and guest memory without a buffer in between, with the feature `vectored` all of a request's
//! in one system call. Whatever the guest writes into its rings, the
//! device does not panic: it answers with an error status where there is room for a status, and else ignores the chain.

#![warn(missing_debug_implementations)]

mod device;
mod dirty_log;
mod disk;
mod fault_guard;
mod file_disk;
mod ram_disk;
pub mod request;
mod serve;
mod shared_log;
mod tracking;
mod transfer;
mod vring;

pub use device::Device;
pub use dirty_log::DirtyLog;
pub use disk::{Disk, ID_LEN_BYTES, SECTOR_LEN_BYTES};
pub use fault_guard::guard_faults;
pub use file_disk::FileDisk;
pub use ram_disk::RamDisk;
pub use serve::serve;
pub use shared_log::SharedLog;
pub use tracking::Tracking;
pub use vring::Vring;
