// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest memory on aarch64.

mod bulk;
mod word;

pub(in crate::copy) use bulk::{copy_bulk, fill_bulk, skip_zeroes};
