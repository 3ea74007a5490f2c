// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Without the fault guard.

/// Has nothing to install, and says so.
pub fn prepare() -> &'static str {
    "no fault guard"
}
