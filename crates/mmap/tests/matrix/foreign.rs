// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory and memory files that are made without the library.
#![expect(unsafe_code, reason = "maps memory, and makes a memory file")]

use std::fs::File;
use std::io;
use std::os::fd::FromRawFd;
use std::ptr;

use crate::pages::PAGE;

/// Pages that the test mapped, unmapped on drop.
#[derive(Debug)]
pub(crate) struct Pages {
    start: *mut u8,
    len_bytes: usize,
}

impl Pages {
    /// Maps `len_bytes` bytes without a file.
    pub(crate) fn map(len_bytes: usize, sharing: i32) -> Self {
        let flags = libc::MAP_ANONYMOUS | sharing;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: no fixed address.
        let start = unsafe { libc::mmap(ptr::null_mut(), len_bytes, prot, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED, "{}", io::Error::last_os_error());
        Self {
            start: start.cast(),
            len_bytes,
        }
    }

    /// Returns the address of a byte.
    pub(crate) fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.len_bytes);
        self.start.wrapping_add(offset)
    }

    /// Splits off the first and the last page, and leaves what is between to the caller.
    pub(crate) fn into_ends(self) -> [Self; 2] {
        let last = self.at(self.len_bytes - PAGE);
        let pages = [self.start, last].map(|start| Self {
            start,
            len_bytes: PAGE,
        });
        std::mem::forget(self);
        pages
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the pages are this value's own; a region of them is dropped before.
        let status = unsafe { libc::munmap(self.start.cast(), self.len_bytes) };
        assert_eq!(status, 0);
    }
}

/// Makes a memory file of zero bytes, as another process might.
pub(crate) fn memory_file(len_bytes: usize) -> File {
    // SAFETY: a string with its end; the answer is a descriptor or -1.
    let fd = unsafe { libc::memfd_create(c"of-somebody-else".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the descriptor is new and nobody else's.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(len_bytes as u64).expect("a longer file");
    file
}
