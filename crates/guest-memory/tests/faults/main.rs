// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pages that cannot be accessed: what an access to guest memory then says, and what else stays as it was.
//!
//! Tests of what ends a process run in child processes, see [`processes`].

#![cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(guest_memory_portable)
))]
// A helper that cannot go on is as good as a failed assertion.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod calls;
mod copies;
mod holes;
mod huge_pages;
mod mapping;
mod overlaps;
mod processes;
mod streams;
mod threads;
mod truncation;
