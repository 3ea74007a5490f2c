// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The barrier that one thread makes for all threads of the process.

#[cfg(not(all(feature = "std", target_os = "linux", not(miri), not(loom))))]
mod absent;
#[cfg(all(feature = "std", target_os = "linux", not(miri), not(loom)))]
mod linux;

#[cfg(not(all(feature = "std", target_os = "linux", not(miri), not(loom))))]
use absent as sys;
#[cfg(all(feature = "std", target_os = "linux", not(miri), not(loom)))]
use linux as sys;

pub(crate) use sys::{is_available, on_all_threads};
