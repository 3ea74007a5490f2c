// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Making and finding holes in files.
#![expect(unsafe_code, reason = "calls the C library")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Makes `[offset, offset + len_bytes)` of a file a hole, which reads as zero, and keeps the file's length.
///
/// See [fallocate(2)](https://man7.org/linux/man-pages/man2/fallocate.2.html).
pub(crate) fn punch_hole(
    file: BorrowedFd<'_>,
    offset: libc::off64_t,
    len_bytes: libc::off64_t,
) -> io::Result<()> {
    const MODE: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: the descriptor is open while it is borrowed; all other arguments are integers.
    match unsafe { libc::fallocate64(file.as_raw_fd(), MODE, offset, len_bytes) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Moves a file's position to what `whence` says, `SEEK_DATA` for instance, and returns it.
///
/// See [lseek(2)](https://man7.org/linux/man-pages/man2/lseek.2.html). Whoever shares the descriptor's file shares
/// the position.
pub(crate) fn seek(
    file: BorrowedFd<'_>,
    offset: libc::off64_t,
    whence: i32,
) -> io::Result<libc::off64_t> {
    // SAFETY: the descriptor is open while it is borrowed; all other arguments are integers.
    match unsafe { libc::lseek64(file.as_raw_fd(), offset, whence) } {
        position if position >= 0 => Ok(position),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn a_device_has_no_holes_and_a_negative_place_does_not_exist() {
        let zero = File::options().write(true).open("/dev/zero").unwrap();
        let error = punch_hole(zero.as_fd(), 0, 4096).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        let file = tempfile::tempfile().unwrap();
        let error = seek(file.as_fd(), -1, libc::SEEK_SET).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
