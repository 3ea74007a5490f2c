// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The public API: what readers, windows and writers see of each other, and what becomes of memory.
#![expect(clippy::unwrap_used, reason = "tests may unwrap, in helpers too")]

mod grace;
mod hotplug;
mod reader;
mod stress;
mod swap;
mod window;
