// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The process's standard streams.
//!
//! They have buffers of their own in the standard library, which a system call would bypass; bytes
//! would be lost or change places. So these go through those buffers.

use std::io::{BufRead, Stderr, StderrLock, Stdin, StdinLock, Stdout, StdoutLock, Write};

use guest_memory_bitmap::BitmapSlice;

use super::buffers::short_or_fault;
use super::vectored::{check_writable, in_turn, with_lengths_mut};
use super::{ReadVolatile, WriteVolatile};
use crate::error::Result;
use crate::slice::VolatileSlice;

/// Bytes that travel at once.
const CHUNK_LEN: usize = 4096;

/// Takes what the reader has buffered, or what one read of its source gives.
fn read_buffered<B: BitmapSlice>(
    reader: &mut impl BufRead,
    buf: &VolatileSlice<'_, B>,
) -> Result<usize> {
    buf.span().check_writable(0)?;
    if buf.is_empty() {
        return Ok(0);
    }
    let count = buf.write(reader.fill_buf()?, 0)?;
    reader.consume(count);
    Ok(count)
}

/// Fills many slices from what the reader has buffered, or from what one read of its source gives: a terminal is not
/// asked for a second line because the first one filled a slice.
fn read_buffered_vectored<B: BitmapSlice>(
    reader: &mut impl BufRead,
    bufs: &mut [VolatileSlice<'_, B>],
) -> Result<usize> {
    check_writable(bufs)?;
    if bufs.iter().all(VolatileSlice::is_empty) {
        return Ok(0);
    }
    let mut buffered = reader.fill_buf()?;
    let count = in_turn(with_lengths_mut(bufs), |buf| buffered.read_volatile(buf))?;
    reader.consume(count);
    Ok(count)
}

/// Offers the writer the first bytes of the slice, and sees to it that they come out: a guest's prompt has
/// no line end.
fn write_chunk<B: BitmapSlice>(
    writer: &mut impl Write,
    buf: &VolatileSlice<'_, B>,
) -> Result<usize> {
    let mut chunk = [0u8; CHUNK_LEN];
    let (offered, _) = chunk.split_at_mut(usize::min(CHUNK_LEN, buf.len()));
    // What cannot be read is not offered.
    let readable = short_or_fault(buf.try_copy_to(offered))?;
    let (offered, _) = offered.split_at(readable);
    let count = writer.write(offered)?;
    writer.flush()?;
    Ok(count)
}

impl ReadVolatile for Stdin {
    fn read_volatile<B: BitmapSlice>(&mut self, buf: &mut VolatileSlice<'_, B>) -> Result<usize> {
        read_buffered(&mut self.lock(), buf)
    }

    fn read_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &mut [VolatileSlice<'_, B>],
    ) -> Result<usize> {
        read_buffered_vectored(&mut self.lock(), bufs)
    }
}

impl ReadVolatile for StdinLock<'_> {
    fn read_volatile<B: BitmapSlice>(&mut self, buf: &mut VolatileSlice<'_, B>) -> Result<usize> {
        read_buffered(self, buf)
    }

    fn read_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &mut [VolatileSlice<'_, B>],
    ) -> Result<usize> {
        read_buffered_vectored(self, bufs)
    }
}

macro_rules! writers {
    ($($stream:ty),*) => {$(
        impl WriteVolatile for $stream {
            fn write_volatile<B: BitmapSlice>(&mut self, buf: &VolatileSlice<'_, B>) -> Result<usize> {
                write_chunk(self, buf)
            }
        }
    )*};
}

writers!(Stdout, StdoutLock<'_>, Stderr, StderrLock<'_>);

#[cfg(all(test, feature = "fault-guard", target_os = "linux"))]
mod tests {
    #![expect(unsafe_code, reason = "maps pages and takes one away")]

    use std::ptr;

    use super::*;
    use crate::error::Error;

    #[test]
    fn what_cannot_be_read_is_not_offered_to_a_writer() {
        if let Err(error) = crate::fault::install() {
            println!("skipped: {error}");
            return;
        }
        let (page, flags) = (65536, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address that the kernel chooses.
        let base = unsafe { libc::mmap(ptr::null_mut(), 2 * page, libc::PROT_READ, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED);
        let border = base.cast::<u8>().wrapping_add(page);
        // SAFETY: the second half of the mapping, which nobody uses yet.
        let taken = unsafe { libc::mprotect(border.cast(), page, libc::PROT_NONE) };
        assert_eq!(taken, 0);
        // SAFETY: mapped for the rest of the process; that half of it cannot be read is what the guard is for.
        let slice = unsafe { VolatileSlice::new(border.wrapping_sub(3), 10) };
        let mut written = Vec::new();
        let count = write_chunk(&mut written, &slice).expect("three bytes can be read");
        assert_eq!((count, written), (3, vec![0; 3]));
        let rest = slice.offset(3).expect("in bounds");
        let mut written = Vec::new();
        let told = write_chunk(&mut written, &rest);
        assert!(
            matches!(told, Err(Error::Fault { completed: 0, .. })),
            "{told:?}"
        );
        assert!(written.is_empty());
    }
}
