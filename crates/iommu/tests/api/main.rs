// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The public API.
// A helper that cannot go on is as good as a failed assertion.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod accesses;
mod concurrency;
mod faults;
mod handles;
mod locked;
#[path = "../common/silent.rs"]
mod silent;
