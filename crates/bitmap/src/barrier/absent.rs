// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where there is no such barrier, or nobody may be asked for it.

/// Says that [`on_all_threads`] must not be called.
#[inline]
pub(crate) fn is_available() -> bool {
    false
}

/// Never called: no bitmap relies on what [`is_available`] denies.
#[cold]
pub(crate) fn on_all_threads() {
    unreachable!("there is no barrier for all threads here");
}
