// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! loom's.

pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};

/// Lets others go on.
pub(crate) fn pause(_looks: u32) {
    loom::thread::yield_now();
}
