// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The public API of guest-memory-mmap, from outside.

mod backing_kinds;
mod backings;
mod bad_input;
mod cgroups;
mod changing_protection;
mod child;
mod discard;
mod files;
mod flat;
mod guards;
mod guest_builder;
#[cfg(feature = "serde")]
mod guest_config;
mod huge_pages;
mod lifetime;
mod memory_table;
mod model;
mod mount;
mod overlap;
mod policies;
mod pool;
mod prefault;
mod protection;
mod refusals;
mod region;
#[path = "../../src/policy/tests/rerun.rs"]
mod rerun;
mod residency;
mod seed;
mod sources;
mod zeroes;
