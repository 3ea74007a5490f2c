// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Everything with a file descriptor: the kernel moves the bytes, nothing is copied here.
//!
//! One call of the trait is one system call. A call that a signal interrupts says so, as the standard library's
//! streams do, so that a thread can be woken; the exact forms and access by address try again.
#![expect(unsafe_code, reason = "calls read(2), write(2) and send(2)")]

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{ChildStderr, ChildStdin, ChildStdout};

use guest_memory_bitmap::BitmapSlice;

use super::{ReadVolatile, WriteVolatile};
use crate::error::{Error, Result};
use crate::slice::VolatileSlice;

/// Calls [`read(2)`](https://man7.org/linux/man-pages/man2/read.2.html) once.
fn read_fd<B: BitmapSlice>(fd: &impl AsFd, buf: &VolatileSlice<'_, B>) -> Result<usize> {
    buf.span().check_writable(0)?;
    let guard = buf.ptr_guard_mut();
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the guard's bytes stay mapped and writable while it lives, and the kernel writes at
    // most `len` of them; that others write them too is allowed for a valid guest range.
    let result = count(unsafe { libc::read(fd, guard.as_ptr().cast(), guard.len()) });
    // A failed call may have left bytes behind: too many marks are harmless, one too few loses a
    // write.
    let marked = *result.as_ref().unwrap_or(&buf.len());
    buf.bitmap().mark_dirty(0, marked);
    result
}

/// Calls [`write(2)`](https://man7.org/linux/man-pages/man2/write.2.html) once.
fn write_fd<B: BitmapSlice>(fd: &impl AsFd, buf: &VolatileSlice<'_, B>) -> Result<usize> {
    let guard = buf.ptr_guard();
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the guard's bytes stay mapped and readable while it lives, and the kernel reads at
    // most `len` of them; that others write them meanwhile is allowed for a valid guest range.
    count(unsafe { libc::write(fd, guard.as_ptr().cast(), guard.len()) })
}

/// Calls [`send(2)`](https://man7.org/linux/man-pages/man2/send.2.html) once; a peer that is gone is an error and
/// not SIGPIPE.
fn send_socket<B: BitmapSlice>(fd: &impl AsFd, buf: &VolatileSlice<'_, B>) -> Result<usize> {
    let guard = buf.ptr_guard();
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: as for `write_fd`.
    count(unsafe { libc::send(fd, guard.as_ptr().cast(), guard.len(), libc::MSG_NOSIGNAL) })
}

/// Turns the result of a system call into a count or an error.
fn count(result: libc::ssize_t) -> Result<usize> {
    // Only a negative result has no place in a `usize`.
    usize::try_from(result).map_err(|_| Error::IOError(io::Error::last_os_error()))
}

macro_rules! readers {
    ($($fd:ty),*) => {$(
        impl ReadVolatile for $fd {
            fn read_volatile<B: BitmapSlice>(&mut self, buf: &mut VolatileSlice<'_, B>) -> Result<usize> {
                read_fd(self, buf)
            }
        }
    )*};
}

macro_rules! writers {
    ($call:ident: $($fd:ty),*) => {$(
        impl WriteVolatile for $fd {
            fn write_volatile<B: BitmapSlice>(&mut self, buf: &VolatileSlice<'_, B>) -> Result<usize> {
                $call(self, buf)
            }
        }
    )*};
}

readers!(
    File,
    &File,
    OwnedFd,
    BorrowedFd<'_>,
    TcpStream,
    &TcpStream,
    UnixStream,
    &UnixStream,
    PipeReader,
    ChildStdout,
    ChildStderr
);
writers!(write_fd: File, &File, OwnedFd, BorrowedFd<'_>, PipeWriter, ChildStdin);
writers!(send_socket: TcpStream, &TcpStream, UnixStream, &UnixStream);
