// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Host memory as source and destination.

use std::io::{self, Cursor, Empty, Sink, Write};

use guest_memory_bitmap::BitmapSlice;

use super::{ReadVolatile, ReadVolatileAt, WriteVolatile};
use crate::error::{Error, Result};
use crate::slice::VolatileSlice;

/// Reads from the front of the slice, which becomes shorter.
impl ReadVolatile for &[u8] {
    fn read_volatile<B: BitmapSlice>(&mut self, buf: &mut VolatileSlice<'_, B>) -> Result<usize> {
        let (given, _) = self.split_at(usize::min(self.len(), buf.len()));
        let count = short_or_fault(buf.try_copy_from(given))?;
        let (_, rest) = self.split_at(count);
        *self = rest;
        Ok(count)
    }
}

/// Writes to the front of the slice, which becomes shorter.
impl WriteVolatile for &mut [u8] {
    fn write_volatile<B: BitmapSlice>(&mut self, buf: &VolatileSlice<'_, B>) -> Result<usize> {
        let (filled, _) = self.split_at_mut(usize::min(self.len(), buf.len()));
        let count = short_or_fault(buf.try_copy_to(filled))?;
        let (_, rest) = core::mem::take(self).split_at_mut(count);
        *self = rest;
        Ok(count)
    }
}

/// Appends to the vector.
impl WriteVolatile for Vec<u8> {
    fn write_volatile<B: BitmapSlice>(&mut self, buf: &VolatileSlice<'_, B>) -> Result<usize> {
        self.try_reserve(buf.len())
            .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let start = self.len();
        self.resize(start.saturating_add(buf.len()), 0);
        let (_, appended) = self.split_at_mut(start);
        let count = short_or_fault(buf.try_copy_to(appended));
        self.truncate(start.saturating_add(*count.as_ref().unwrap_or(&0)));
        count
    }
}

/// Reads from the cursor's position on and moves it.
impl<T: AsRef<[u8]>> ReadVolatile for Cursor<T> {
    fn read_volatile<B: BitmapSlice>(&mut self, buf: &mut VolatileSlice<'_, B>) -> Result<usize> {
        let inner = self.get_ref().as_ref();
        let at = position(self.position(), inner.len());
        let (_, mut rest) = inner.split_at(at);
        let count = rest.read_volatile(buf)?;
        self.set_position(self.position().saturating_add(count as u64));
        Ok(count)
    }
}

/// Writes from the cursor's position on, up to the end of the slice, and moves it.
impl WriteVolatile for Cursor<&mut [u8]> {
    fn write_volatile<B: BitmapSlice>(&mut self, buf: &VolatileSlice<'_, B>) -> Result<usize> {
        let at = position(self.position(), self.get_ref().len());
        let (_, mut rest) = self.get_mut().split_at_mut(at);
        let count = rest.write_volatile(buf)?;
        self.set_position(self.position().saturating_add(count as u64));
        Ok(count)
    }
}

/// Writes from the cursor's position on, over what is there and beyond, and moves it.
impl WriteVolatile for Cursor<Vec<u8>> {
    fn write_volatile<B: BitmapSlice>(&mut self, buf: &VolatileSlice<'_, B>) -> Result<usize> {
        let mut bytes = Vec::new();
        let count = bytes.write_volatile(buf)?;
        self.write_all(&bytes)?;
        Ok(count)
    }
}

/// Reads the bytes from the offset on.
impl ReadVolatileAt for [u8] {
    fn read_volatile_at<B: BitmapSlice>(
        &self,
        buf: &mut VolatileSlice<'_, B>,
        offset: u64,
    ) -> Result<usize> {
        let (_, mut rest) = self.split_at(position(offset, self.len()));
        rest.read_volatile(buf)
    }
}

/// Reads the bytes from the offset on.
impl ReadVolatileAt for Vec<u8> {
    fn read_volatile_at<B: BitmapSlice>(
        &self,
        buf: &mut VolatileSlice<'_, B>,
        offset: u64,
    ) -> Result<usize> {
        self.as_slice().read_volatile_at(buf, offset)
    }
}

/// Is always at its end.
impl ReadVolatile for Empty {
    fn read_volatile<B: BitmapSlice>(&mut self, buf: &mut VolatileSlice<'_, B>) -> Result<usize> {
        buf.span().check_writable(0)?;
        Ok(0)
    }
}

/// Takes everything and keeps nothing; the memory is not read.
impl WriteVolatile for Sink {
    fn write_volatile<B: BitmapSlice>(&mut self, buf: &VolatileSlice<'_, B>) -> Result<usize> {
        Ok(buf.len())
    }
}

/// Makes a short count of a fault after some bytes, as system calls do; the next call has the fault at its first byte.
pub(super) fn short_or_fault(moved: Result<usize>) -> Result<usize> {
    match moved {
        Err(Error::Fault { completed, .. }) if completed > 0 => Ok(completed),
        other => other,
    }
}

/// Returns the cursor's position in a buffer of `len` bytes: its end if the cursor stands behind.
fn position(position: u64, len: usize) -> usize {
    usize::try_from(position).map_or(len, |at| usize::min(at, len))
}
