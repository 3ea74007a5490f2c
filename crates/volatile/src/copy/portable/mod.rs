// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest memory by the language's own atomics: for every target that has them at 8 bytes, and under Miri.
//!
//! A fault is the operating system's affair here, so nothing returns one.

mod bulk;
mod word;

pub(super) use super::pair::{Pair, load_pair};
pub(super) use bulk::{copy_bulk, fill_bulk, skip_zeroes};
