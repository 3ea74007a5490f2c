// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The public API of guest-memory-mmap, from outside.

mod backing_kinds;
mod backings;
mod bad_input;
mod changing_protection;
mod files;
mod guards;
mod huge_pages;
mod lifetime;
mod model;
mod overlap;
mod pool;
mod protection;
mod region;
mod seed;
