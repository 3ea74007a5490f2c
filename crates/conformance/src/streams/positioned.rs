// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A file at an offset as a stream, by its own methods, all of them.

use guest_memory_bitmap::BitmapSlice;
use guest_memory_volatile::{
    ReadVolatile, ReadVolatileAt, VolatileMemoryError, VolatileSlice, WriteVolatile,
    WriteVolatileAt,
};

type Result<T> = std::result::Result<T, VolatileMemoryError>;

/// A file and where the next byte is.
///
/// Before each call something else is done elsewhere: the file has no position to keep. A write elsewhere is one further on, which
/// later writes cover.
pub(super) struct Positioned<S> {
    inner: S,
    position: usize,
}

impl<S> Positioned<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, position: 0 }
    }

    pub(super) fn inner(&self) -> &S {
        &self.inner
    }

    /// Returns the number of bytes that were moved.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    fn passed(&mut self, result: Result<usize>) -> Result<usize> {
        self.position += *result.as_ref().unwrap_or(&0);
        result
    }

    fn passed_all(&mut self, wanted: usize, result: Result<()>) -> Result<()> {
        self.position += match &result {
            Ok(()) => wanted,
            Err(VolatileMemoryError::PartialStream { completed, .. }) => *completed,
            Err(_) => 0,
        };
        result
    }
}

fn room<B: BitmapSlice>(bufs: &[VolatileSlice<'_, B>]) -> usize {
    bufs.iter().map(VolatileSlice::len).sum()
}

impl<S: ReadVolatileAt> Positioned<S> {
    fn read_elsewhere(&self) {
        let mut bytes = [0; 5];
        let elsewhere = (self.position as u64).wrapping_mul(13) % 97;
        // Whether there is a byte does not matter.
        let _ = self
            .inner
            .read_volatile_at(&mut VolatileSlice::from(&mut bytes[..]), elsewhere);
    }
}

impl<S: ReadVolatileAt> ReadVolatile for Positioned<S> {
    fn read_volatile<B: BitmapSlice>(&mut self, buf: &mut VolatileSlice<'_, B>) -> Result<usize> {
        self.read_elsewhere();
        let result = self.inner.read_volatile_at(buf, self.position as u64);
        self.passed(result)
    }

    fn read_exact_volatile<B: BitmapSlice>(
        &mut self,
        buf: &mut VolatileSlice<'_, B>,
    ) -> Result<()> {
        self.read_elsewhere();
        let result = self.inner.read_exact_volatile_at(buf, self.position as u64);
        self.passed_all(buf.len(), result)
    }

    fn read_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &mut [VolatileSlice<'_, B>],
    ) -> Result<usize> {
        self.read_elsewhere();
        let result = self
            .inner
            .read_vectored_volatile_at(bufs, self.position as u64);
        self.passed(result)
    }

    fn read_exact_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &mut [VolatileSlice<'_, B>],
    ) -> Result<()> {
        self.read_elsewhere();
        let result = self
            .inner
            .read_exact_vectored_volatile_at(bufs, self.position as u64);
        self.passed_all(room(bufs), result)
    }
}

impl<S: WriteVolatileAt> Positioned<S> {
    fn write_elsewhere(&self) {
        let mut bytes = [0xee; 5];
        let elsewhere = (self.position as u64) + 7;
        // Whether there is room does not matter.
        let _ = self
            .inner
            .write_volatile_at(&VolatileSlice::from(&mut bytes[..]), elsewhere);
    }
}

impl<S: WriteVolatileAt> WriteVolatile for Positioned<S> {
    fn write_volatile<B: BitmapSlice>(&mut self, buf: &VolatileSlice<'_, B>) -> Result<usize> {
        self.write_elsewhere();
        let result = self.inner.write_volatile_at(buf, self.position as u64);
        self.passed(result)
    }

    fn write_all_volatile<B: BitmapSlice>(&mut self, buf: &VolatileSlice<'_, B>) -> Result<()> {
        self.write_elsewhere();
        let result = self.inner.write_all_volatile_at(buf, self.position as u64);
        self.passed_all(buf.len(), result)
    }

    fn write_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &[VolatileSlice<'_, B>],
    ) -> Result<usize> {
        self.write_elsewhere();
        let result = self
            .inner
            .write_vectored_volatile_at(bufs, self.position as u64);
        self.passed(result)
    }

    fn write_all_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &[VolatileSlice<'_, B>],
    ) -> Result<()> {
        self.write_elsewhere();
        let result = self
            .inner
            .write_all_vectored_volatile_at(bufs, self.position as u64);
        self.passed_all(room(bufs), result)
    }
}
