// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What several tests need: files and the error's cause.

use std::error::Error;
use std::fs::File;

use guest_memory_core::FileOffset;

/// A size of page that every Linux system's page divides.
pub(crate) const BIG_PAGE: usize = 1 << 16;

/// Makes an unnamed file of `len_bytes` zero bytes.
pub(crate) fn file_of(len_bytes: u64) -> File {
    let file = tempfile::tempfile().expect("a temporary file");
    file.set_len(len_bytes).expect("room for it");
    file
}

/// Makes an unnamed file of `len_bytes` zero bytes, seen from `start` on.
pub(crate) fn file_offset(len_bytes: u64, start: u64) -> FileOffset {
    FileOffset::new(file_of(len_bytes), start)
}

/// Returns the errno at the end of the chain of causes.
pub(crate) fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    match error.downcast_ref::<std::io::Error>() {
        Some(error) => error.raw_os_error(),
        None => errno(error.source()?),
    }
}
