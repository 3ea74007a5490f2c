// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! No file: there are none without the standard library.

/// A file that backs a region: without the feature `std` there is none, so this type has no value.
#[derive(Clone, Debug)]
pub enum FileOffset {}
