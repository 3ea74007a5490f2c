// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The system calls of this crate: one function each, no policy.
//!
//! A port to another operating system is a sibling of `linux` with the same names.

#[cfg(not(any(target_os = "linux", target_os = "android")))]
compile_error!("guest-memory-mmap maps memory on Linux only");

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) use linux::*;
