// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The public API of guest-memory-mmap, from outside.

mod backings;
mod bad_input;
mod files;
mod huge_pages;
mod lifetime;
mod model;
mod overlap;
mod protection;
mod region;
mod seed;
