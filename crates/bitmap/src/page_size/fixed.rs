// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! No operating system to ask.

/// Returns `None`: the host's page size is not known here.
pub(super) fn host_page_size() -> Option<usize> {
    None
}
