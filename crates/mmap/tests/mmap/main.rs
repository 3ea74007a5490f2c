// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The public API of guest-memory-mmap, from outside.

mod backing_kinds;
mod backings;
mod bad_input;
mod changing_protection;
mod child;
mod discard;
mod files;
mod flat;
mod guards;
mod huge_pages;
mod lifetime;
mod model;
mod mount;
mod overlap;
mod pool;
mod prefault;
mod protection;
mod region;
mod residency;
mod seed;
mod sources;
mod zeroes;
