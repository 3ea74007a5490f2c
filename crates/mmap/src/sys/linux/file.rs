// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a file is, and how long.
#![expect(unsafe_code, reason = "calls the C library")]

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};

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

/// Returns the seals of a memory file, an OR of `F_SEAL_*`.
///
/// See [fcntl(2)](https://man7.org/linux/man-pages/man2/fcntl.2.html), `F_GET_SEALS`. `EINVAL` for files that have none.
pub(crate) fn seals(file: BorrowedFd<'_>) -> io::Result<i32> {
    fcntl(file, libc::F_GET_SEALS)
}

/// Returns what the file was opened for, an OR of `O_*`.
///
/// See [fcntl(2)](https://man7.org/linux/man-pages/man2/fcntl.2.html), `F_GETFL`.
pub(crate) fn status_flags(file: BorrowedFd<'_>) -> io::Result<i32> {
    fcntl(file, libc::F_GETFL)
}

/// Asks `fcntl` a question without an argument.
fn fcntl(file: BorrowedFd<'_>, question: i32) -> io::Result<i32> {
    // SAFETY: the descriptor is open while it is borrowed; the questions asked here take no argument and change nothing.
    match unsafe { libc::fcntl(file.as_raw_fd(), question) } {
        -1 => Err(io::Error::last_os_error()),
        answer => Ok(answer),
    }
}

/// Opens or makes a shared memory object, closed on exec; a new one is for this user alone.
///
/// See [shm_open(3)](https://man7.org/linux/man-pages/man3/shm_open.3.html).
pub(crate) fn shm_open(name: &CStr, flags: i32) -> io::Result<File> {
    let mode: libc::mode_t = 0o600;
    // SAFETY: the name is a string with its end, and lives through the call.
    match unsafe { libc::shm_open(name.as_ptr(), flags | libc::O_CLOEXEC, mode) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the descriptor is open, new, and known to nobody else; closing it is all that it needs.
        descriptor => Ok(unsafe { File::from_raw_fd(descriptor) }),
    }
}

/// Takes the name of a shared memory object away.
///
/// See [shm_unlink(3)](https://man7.org/linux/man-pages/man3/shm_open.3.html).
pub(crate) fn shm_unlink(name: &CStr) -> io::Result<()> {
    // SAFETY: the name is a string with its end, and lives through the call.
    match unsafe { libc::shm_unlink(name.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
