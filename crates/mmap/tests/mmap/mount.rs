// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A file system of huge pages.
#![expect(unsafe_code, reason = "mounts")]

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A hugetlbfs on a folder, unmounted on drop.
#[derive(Debug)]
pub(crate) struct Mount(tempfile::TempDir);

impl Mount {
    /// Mounts one of pages of 2 MiB.
    pub(crate) fn new() -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = CString::new(folder.path().as_os_str().as_bytes())?;
        // SAFETY: all are strings with their ends.
        let status = unsafe {
            libc::mount(
                c"none".as_ptr(),
                path.as_ptr(),
                c"hugetlbfs".as_ptr(),
                0,
                c"pagesize=2M".as_ptr().cast(),
            )
        };
        match status {
            0 => Ok(Self(folder)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Returns the folder.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let path = CString::new(self.0.path().as_os_str().as_bytes()).expect("a path");
        // SAFETY: a string with its end.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
}
