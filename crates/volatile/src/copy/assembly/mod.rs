// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest memory in assembly, with a fault table if the fault guard is built in and the target has one.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(all(feature = "fault-guard", target_os = "linux"))]
mod guarded;
#[cfg(not(all(feature = "fault-guard", target_os = "linux")))]
mod unguarded;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(all(feature = "fault-guard", target_os = "linux"))]
use guarded as guard;
#[cfg(not(all(feature = "fault-guard", target_os = "linux")))]
use unguarded as guard;
#[cfg(target_arch = "x86_64")]
pub(super) use x86_64::{Pair, copy_bulk, fill_bulk, load_pair, skip_zeroes};
#[cfg(target_arch = "aarch64")]
pub(super) use {
    super::pair::{Pair, load_pair},
    aarch64::{copy_bulk, fill_bulk, skip_zeroes},
};
