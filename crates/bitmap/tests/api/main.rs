// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The public API: against a naive model, from several threads, and what it does to memory.
#![expect(clippy::unwrap_used, reason = "tests may unwrap, in helpers too")]

mod external_log;
mod memory;
mod model;
mod pages;
mod readers;
mod threads;
