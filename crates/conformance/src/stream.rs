// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Sources and sinks for the stream operations: well-behaved, dribbling and broken ones.

use std::io;

use guest_memory_bitmap::BitmapSlice;
use guest_memory_volatile::{ReadVolatile, VolatileMemoryError, VolatileSlice, WriteVolatile};

/// How a source hands out its bytes, or a sink takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// As a plain slice (`&[u8]`) or vector (`Vec<u8>`) does.
    Plain,
    /// As an `io::Cursor` does.
    Cursor,
    /// At most so many bytes at a time, as a socket may.
    Dribble(usize),
    /// At most so many bytes at a time, across all slices that it is given at once, and each time a signal interrupts
    /// it first.
    Across(usize),
    /// With an I/O error once so many bytes went through.
    FailAfter(usize),
}

/// One end of a stream that remembers how far it got.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) data: Vec<u8>,
    pub(crate) done: usize,
    flow: Flow,
}

impl Pipe {
    /// Makes a source of `data`, or a sink that takes as many bytes as `data` has.
    pub(crate) fn new(data: Vec<u8>, flow: Flow) -> Self {
        Self {
            data,
            done: 0,
            flow,
        }
    }

    /// Says how many of the `wanted` bytes go through now.
    fn portion(&self, wanted: usize) -> Result<usize, VolatileMemoryError> {
        let most = match self.flow {
            Flow::Plain | Flow::Cursor => usize::MAX,
            Flow::Dribble(portion) | Flow::Across(portion) => portion.max(1),
            Flow::FailAfter(limit) if self.done >= limit && wanted > 0 => {
                let error = io::Error::other("the stream broke as asked");
                return Err(VolatileMemoryError::IOError(error));
            }
            Flow::FailAfter(limit) => limit - self.done.min(limit),
        };
        Ok(wanted.min(most).min(self.data.len() - self.done))
    }
}

impl ReadVolatile for Pipe {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        buf: &mut VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        let portion = self.portion(buf.len())?;
        let written = buf.write(&self.data[self.done..][..portion], 0)?;
        self.done += written;
        Ok(written)
    }
}

impl WriteVolatile for Pipe {
    fn write_volatile<B: BitmapSlice>(
        &mut self,
        buf: &VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        let portion = self.portion(buf.len())?;
        let read = buf.read(&mut self.data[self.done..][..portion], 0)?;
        self.done += read;
        Ok(read)
    }
}

/// A pipe with vectored calls of its own, which signals interrupt.
#[derive(Debug)]
pub(crate) struct Across {
    pub(crate) pipe: Pipe,
    was_interrupted: bool,
}

impl Across {
    pub(crate) fn new(pipe: Pipe) -> Self {
        Self {
            pipe,
            was_interrupted: false,
        }
    }

    /// Fails every other time.
    fn interrupt(&mut self) -> Result<(), VolatileMemoryError> {
        self.was_interrupted = !self.was_interrupted;
        if self.was_interrupted {
            let error = io::Error::from(io::ErrorKind::Interrupted);
            return Err(VolatileMemoryError::IOError(error));
        }
        Ok(())
    }

    /// Cuts slices to what goes through now.
    fn portions<'a, B: BitmapSlice>(
        &self,
        bufs: &[VolatileSlice<'a, B>],
    ) -> Result<Vec<VolatileSlice<'a, B>>, VolatileMemoryError> {
        let room = bufs.iter().map(VolatileSlice::len).sum();
        let mut left = self.pipe.portion(room)?;
        let portions = bufs.iter().map(|buf| {
            let here = left.min(buf.len());
            left -= here;
            buf.subslice(0, here)
        });
        portions.collect()
    }
}

impl ReadVolatile for Across {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        buf: &mut VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        self.read_vectored_volatile(std::slice::from_mut(buf))
    }

    fn read_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &mut [VolatileSlice<'_, B>],
    ) -> Result<usize, VolatileMemoryError> {
        self.interrupt()?;
        let before = self.pipe.done;
        for portion in self.portions(bufs)? {
            let end = self.pipe.done + portion.len();
            portion.write_slice(&self.pipe.data[self.pipe.done..end], 0)?;
            self.pipe.done = end;
        }
        Ok(self.pipe.done - before)
    }
}

impl WriteVolatile for Across {
    fn write_volatile<B: BitmapSlice>(
        &mut self,
        buf: &VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        self.write_vectored_volatile(std::slice::from_ref(buf))
    }

    fn write_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &[VolatileSlice<'_, B>],
    ) -> Result<usize, VolatileMemoryError> {
        self.interrupt()?;
        let before = self.pipe.done;
        for portion in self.portions(bufs)? {
            let end = self.pipe.done + portion.len();
            portion.read_slice(&mut self.pipe.data[self.pipe.done..end], 0)?;
            self.pipe.done = end;
        }
        Ok(self.pipe.done - before)
    }
}
