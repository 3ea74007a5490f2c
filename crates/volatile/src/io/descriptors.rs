// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Everything with a file descriptor: the kernel moves the bytes, nothing is copied here.
//!
//! One call of the trait is one system call. A call that a signal interrupts says so, as the standard library's
//! streams do, so that a thread can be woken; the exact forms and access by address try again.
//!
//! A failed call may have left bytes behind: all that was given to it is marked. Too many marks are harmless, one too few
//! loses a write.
#![expect(
    unsafe_code,
    reason = "calls read(2), write(2), send(2) and their forms with many slices and with offsets"
)]

use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, PipeWriter};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{ChildStderr, ChildStdin, ChildStdout};

use guest_memory_bitmap::BitmapSlice;
// The forms whose offsets have 64 bits on every machine.
#[cfg(not(target_os = "linux"))]
use libc::{off_t, pread, preadv, pwrite, pwritev};
#[cfg(target_os = "linux")]
use libc::{off64_t as off_t, pread64 as pread, preadv64 as preadv};
#[cfg(target_os = "linux")]
use libc::{pwrite64 as pwrite, pwritev64 as pwritev};

use super::iovec::with_iovecs;
use super::vectored::{check_writable, mark_front, without_empty_front};
use super::{ReadVolatile, ReadVolatileAt, WriteVolatile, WriteVolatileAt};
use crate::error::{Error, Result};
use crate::fault_kind::FaultKind;
use crate::slice::VolatileSlice;

/// Calls [`read(2)`](https://man7.org/linux/man-pages/man2/read.2.html) once.
fn read_fd<B: BitmapSlice>(fd: &impl AsFd, buf: &VolatileSlice<'_, B>) -> Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    fill(buf, |base, len_bytes| {
        // SAFETY: `fill` gives the address and length of a slice that may be written and that stays mapped during the
        // call; that others write it too is allowed for a valid guest range.
        unsafe { libc::read(fd, base.cast(), len_bytes) }
    })
}

/// Calls [`pread(2)`](https://man7.org/linux/man-pages/man2/pread.2.html) once.
fn pread_fd<B: BitmapSlice>(
    fd: &impl AsFd,
    buf: &VolatileSlice<'_, B>,
    offset: u64,
) -> Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    let offset = file_offset(offset)?;
    fill(buf, |base, len_bytes| {
        // SAFETY: as for `read_fd`.
        unsafe { pread(fd, base.cast(), len_bytes, offset) }
    })
}

/// Calls [`readv(2)`](https://man7.org/linux/man-pages/man2/readv.2.html) once.
fn readv_fd<B: BitmapSlice>(fd: &impl AsFd, bufs: &[VolatileSlice<'_, B>]) -> Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    fill_many(bufs, |iovecs| {
        // SAFETY: `fill_many` gives the addresses and lengths of slices that may be written and that stay mapped during
        // the call; that others write them too is allowed for a valid guest range.
        unsafe { libc::readv(fd, iovecs.as_ptr(), count_of(iovecs)) }
    })
}

/// Calls [`preadv(2)`](https://man7.org/linux/man-pages/man2/readv.2.html) once.
fn preadv_fd<B: BitmapSlice>(
    fd: &impl AsFd,
    bufs: &[VolatileSlice<'_, B>],
    offset: u64,
) -> Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    let offset = file_offset(offset)?;
    fill_many(bufs, |iovecs| {
        // SAFETY: as for `readv_fd`.
        unsafe { preadv(fd, iovecs.as_ptr(), count_of(iovecs), offset) }
    })
}

/// Calls [`write(2)`](https://man7.org/linux/man-pages/man2/write.2.html) once.
fn write_fd<B: BitmapSlice>(fd: &impl AsFd, buf: &VolatileSlice<'_, B>) -> Result<usize> {
    let guard = buf.ptr_guard();
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the guard's bytes stay mapped and readable while it lives, and the kernel reads at
    // most `len` of them; that others write them meanwhile is allowed for a valid guest range.
    count(unsafe { libc::write(fd, guard.as_ptr().cast(), guard.len()) })
}

/// Calls [`pwrite(2)`](https://man7.org/linux/man-pages/man2/pread.2.html) once.
fn pwrite_fd<B: BitmapSlice>(
    fd: &impl AsFd,
    buf: &VolatileSlice<'_, B>,
    offset: u64,
) -> Result<usize> {
    let guard = buf.ptr_guard();
    let fd = fd.as_fd().as_raw_fd();
    let offset = file_offset(offset)?;
    // SAFETY: as for `write_fd`.
    count(unsafe { pwrite(fd, guard.as_ptr().cast(), guard.len(), offset) })
}

/// Calls [`writev(2)`](https://man7.org/linux/man-pages/man2/readv.2.html) once.
fn writev_fd<B: BitmapSlice>(fd: &impl AsFd, bufs: &[VolatileSlice<'_, B>]) -> Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    drain_many(bufs, |iovecs| {
        // SAFETY: `drain_many` gives the addresses and lengths of slices that stay mapped and readable during the call;
        // that others write them meanwhile is allowed for a valid guest range.
        unsafe { libc::writev(fd, iovecs.as_ptr(), count_of(iovecs)) }
    })
}

/// Calls [`pwritev(2)`](https://man7.org/linux/man-pages/man2/readv.2.html) once.
fn pwritev_fd<B: BitmapSlice>(
    fd: &impl AsFd,
    bufs: &[VolatileSlice<'_, B>],
    offset: u64,
) -> Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    let offset = file_offset(offset)?;
    drain_many(bufs, |iovecs| {
        // SAFETY: as for `writev_fd`.
        unsafe { pwritev(fd, iovecs.as_ptr(), count_of(iovecs), offset) }
    })
}

/// Calls [`send(2)`](https://man7.org/linux/man-pages/man2/send.2.html) once; a peer that is gone is an error and
/// not SIGPIPE.
fn send_socket<B: BitmapSlice>(fd: &impl AsFd, buf: &VolatileSlice<'_, B>) -> Result<usize> {
    let guard = buf.ptr_guard();
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: as for `write_fd`.
    count(unsafe { libc::send(fd, guard.as_ptr().cast(), guard.len(), libc::MSG_NOSIGNAL) })
}

/// Calls [`sendmsg(2)`](https://man7.org/linux/man-pages/man2/send.2.html) once; a peer that is gone is an error and
/// not SIGPIPE.
fn sendmsg_socket<B: BitmapSlice>(fd: &impl AsFd, bufs: &[VolatileSlice<'_, B>]) -> Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    drain_many(bufs, |iovecs| {
        // SAFETY: a plain C struct; zeroes are valid in each of its fields and mean no address and no control data.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = iovecs.as_ptr().cast_mut();
        // The field's type differs between C libraries.
        message.msg_iovlen = iovecs.len() as _;
        // SAFETY: the message names `iovecs`, which the call only reads, and nothing else; for the bytes behind them
        // as for `writev_fd`.
        unsafe { libc::sendmsg(fd, &raw const message, libc::MSG_NOSIGNAL) }
    })
}

/// Has a system call fill a slice, given its address and length, and marks what it wrote.
fn fill<B: BitmapSlice>(
    buf: &VolatileSlice<'_, B>,
    call: impl FnOnce(*mut u8, usize) -> libc::ssize_t,
) -> Result<usize> {
    buf.span().check_writable(0)?;
    let guard = buf.ptr_guard_mut();
    let result = count(call(guard.as_ptr(), guard.len()));
    let marked = *result.as_ref().unwrap_or(&buf.len());
    buf.bitmap().mark_dirty(0, marked);
    result
}

/// Has a system call fill slices and marks what it wrote. Without a byte to fill there is no call.
fn fill_many<B: BitmapSlice>(
    bufs: &[VolatileSlice<'_, B>],
    call: impl FnOnce(&[libc::iovec]) -> libc::ssize_t,
) -> Result<usize> {
    check_writable(bufs)?;
    let bufs = without_empty_front(bufs);
    if bufs.is_empty() {
        return Ok(0);
    }
    with_iovecs(bufs, |iovecs| {
        let result = count(call(iovecs));
        let given = bufs.get(..iovecs.len()).unwrap_or(bufs);
        mark_front(given, *result.as_ref().unwrap_or(&usize::MAX));
        result
    })
}

/// Has a system call take the bytes of slices. Without a byte to take there is no call.
fn drain_many<B: BitmapSlice>(
    bufs: &[VolatileSlice<'_, B>],
    call: impl FnOnce(&[libc::iovec]) -> libc::ssize_t,
) -> Result<usize> {
    let bufs = without_empty_front(bufs);
    if bufs.is_empty() {
        return Ok(0);
    }
    with_iovecs(bufs, |iovecs| count(call(iovecs)))
}

/// Returns the number of `iovec`s as the kernel takes it; there are never more than it allows.
fn count_of(iovecs: &[libc::iovec]) -> libc::c_int {
    libc::c_int::try_from(iovecs.len()).unwrap_or(libc::c_int::MAX)
}

/// Turns an offset into the kernel's, which is signed.
fn file_offset(offset: u64) -> Result<off_t> {
    off_t::try_from(offset).map_err(|_| {
        let error = io::Error::new(ErrorKind::InvalidInput, "offset is beyond those of a file");
        Error::IOError(error)
    })
}

/// Turns the result of a system call into a count or an error.
fn count(result: libc::ssize_t) -> Result<usize> {
    // Only a negative result has no place in a `usize`.
    usize::try_from(result).map_err(|_| io_error(io::Error::last_os_error()))
}

/// Tells a fault of the memory that a system call was given from a failure of the stream.
///
/// The kernel says neither which byte it was nor what it moved before; where it moved some, it gives their count and
/// no error. So the first byte is named.
fn io_error(error: io::Error) -> Error {
    if error.raw_os_error() != Some(libc::EFAULT) {
        return Error::IOError(error);
    }
    Error::Fault {
        addr: 0,
        completed: 0,
        kind: FaultKind::System,
    }
}

macro_rules! readers {
    ($($fd:ty),*) => {$(
        impl ReadVolatile for $fd {
            fn read_volatile<B: BitmapSlice>(&mut self, buf: &mut VolatileSlice<'_, B>) -> Result<usize> {
                read_fd(self, buf)
            }

            fn read_vectored_volatile<B: BitmapSlice>(
                &mut self,
                bufs: &mut [VolatileSlice<'_, B>],
            ) -> Result<usize> {
                readv_fd(self, bufs)
            }
        }
    )*};
}

macro_rules! writers {
    ($call:ident, $vectored:ident: $($fd:ty),*) => {$(
        impl WriteVolatile for $fd {
            fn write_volatile<B: BitmapSlice>(&mut self, buf: &VolatileSlice<'_, B>) -> Result<usize> {
                $call(self, buf)
            }

            fn write_vectored_volatile<B: BitmapSlice>(
                &mut self,
                bufs: &[VolatileSlice<'_, B>],
            ) -> Result<usize> {
                $vectored(self, bufs)
            }
        }
    )*};
}

macro_rules! positioned {
    ($($fd:ty),*) => {$(
        impl ReadVolatileAt for $fd {
            fn read_volatile_at<B: BitmapSlice>(
                &self,
                buf: &mut VolatileSlice<'_, B>,
                offset: u64,
            ) -> Result<usize> {
                pread_fd(self, buf, offset)
            }

            fn read_vectored_volatile_at<B: BitmapSlice>(
                &self,
                bufs: &mut [VolatileSlice<'_, B>],
                offset: u64,
            ) -> Result<usize> {
                preadv_fd(self, bufs, offset)
            }
        }

        impl WriteVolatileAt for $fd {
            fn write_volatile_at<B: BitmapSlice>(
                &self,
                buf: &VolatileSlice<'_, B>,
                offset: u64,
            ) -> Result<usize> {
                pwrite_fd(self, buf, offset)
            }

            fn write_vectored_volatile_at<B: BitmapSlice>(
                &self,
                bufs: &[VolatileSlice<'_, B>],
                offset: u64,
            ) -> Result<usize> {
                pwritev_fd(self, bufs, offset)
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
writers!(write_fd, writev_fd: File, &File, OwnedFd, BorrowedFd<'_>, PipeWriter, ChildStdin);
writers!(send_socket, sendmsg_socket: TcpStream, &TcpStream, UnixStream, &UnixStream);
positioned!(File, OwnedFd, BorrowedFd<'_>);

#[cfg(test)]
mod tests;
