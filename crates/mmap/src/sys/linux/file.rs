// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a file is, and how long.
#![expect(unsafe_code, reason = "calls the C library")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Request that asks a block device for its size in bytes, from `linux/fs.h`.
const BLKGETSIZE64: libc::Ioctl = libc::_IOR::<usize>(0x12, 114);

/// Describes the file system that `file` lives on.
///
/// See [fstatfs(2)](https://man7.org/linux/man-pages/man2/statfs.2.html).
pub(crate) fn fstatfs(file: BorrowedFd<'_>) -> io::Result<libc::statfs64> {
    let mut answer = MaybeUninit::<libc::statfs64>::zeroed();
    // SAFETY: the descriptor is open while it is borrowed and `answer` has room for the structure.
    let status = unsafe { libc::fstatfs64(file.as_raw_fd(), answer.as_mut_ptr()) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the structure is plain integers, zeroed above and then filled by the successful call.
    Ok(unsafe { answer.assume_init() })
}

/// Returns the size of a block device in bytes.
///
/// See [ioctl(2)](https://man7.org/linux/man-pages/man2/ioctl.2.html). Unlike a seek to the end it leaves
/// the file's position, which others may share, alone.
pub(crate) fn block_device_len(file: BorrowedFd<'_>) -> io::Result<u64> {
    let mut len_bytes = 0u64;
    // SAFETY: the descriptor is open while it is borrowed; this request writes eight bytes through the
    // pointer if the descriptor is a block device and fails without a write otherwise.
    let status = unsafe { libc::ioctl(file.as_raw_fd(), BLKGETSIZE64, &raw mut len_bytes) };
    match status {
        0 => Ok(len_bytes),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn proc_is_not_hugetlbfs_and_no_block_device() {
        let file = File::open("/proc/version").unwrap();
        let answer = fstatfs(file.as_fd()).unwrap();
        assert_eq!(
            i128::from(answer.f_type),
            i128::from(libc::PROC_SUPER_MAGIC)
        );
        let error = block_device_len(file.as_fd()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
    }
}
