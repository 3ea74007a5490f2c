// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Asks the C library that std links anyway, so that no dependency is needed.
#![expect(unsafe_code, reason = "declares getpagesize(3)")]

use core::ffi::c_int;

// The declaration is the one of <unistd.h>, `int getpagesize(void)`. The function has no precondition
// and no effect, so it is safe to call.
unsafe extern "C" {
    safe fn getpagesize() -> c_int;
}

/// Returns what [getpagesize(3)] says, in bytes; `None` if it is negative.
///
/// [getpagesize(3)]: https://man7.org/linux/man-pages/man2/getpagesize.2.html
pub(super) fn host_page_size() -> Option<usize> {
    usize::try_from(getpagesize()).ok()
}
