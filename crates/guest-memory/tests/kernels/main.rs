// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What depends on the kernel and the machine: several NUMA nodes, paths for older kernels, broken memory.
//!
//! `.ci/kernels` boots virtual machines that run these tests. Elsewhere those run for which the machine at hand has
//! everything.

#![cfg(target_os = "linux")]
// A helper that cannot go on is as good as a failed assertion.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod machine;
mod nodes;
mod older;
#[cfg(all(
    feature = "fault-guard",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(guest_memory_portable)
))]
mod poison;
#[expect(dead_code, reason = "what only the tests of the mapping crate need")]
#[path = "../../../mmap/tests/mmap/pool.rs"]
mod pool;
