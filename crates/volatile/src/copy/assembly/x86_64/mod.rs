// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest memory on x86-64.

mod bulk;
mod features;
mod pair;
mod word;

pub(in crate::copy) use bulk::{copy_bulk, fill_bulk, skip_zeroes};
pub(in crate::copy) use pair::{Pair, load_pair};
