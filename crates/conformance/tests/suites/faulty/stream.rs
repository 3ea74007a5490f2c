// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Sources, sinks and files.

use std::cell::Cell;
use std::io::{self, ErrorKind};

use guest_memory_bitmap::BitmapSlice;
use guest_memory_volatile::{
    ReadVolatile, ReadVolatileAt, VolatileMemoryError, VolatileSlice, WriteVolatile,
    WriteVolatileAt,
};

type Result<T> = std::result::Result<T, VolatileMemoryError>;

/// Bytes that a stream moves at a time, as a socket may.
const PORTION: usize = 11;

/// What is wrong with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamFault {
    CountIsOneLess,
    CountIsOneMore,
    SkipsAByte,
    DoesNotMark,
    MarksWholeSlice,
    WritesBehindWhatCame,
    EndsTooEarly,
    BreaksQuietly,
    SecondSliceStartsAfresh,
    LosesAByteBetweenSlices,
    StopsAtEmptySlice,
    ReadsBeforeRefusing,
    ExactIsShort,
    ExactRestartsAtStart,
    ErrorCountIsOff,
    ErrorHidesProgress,
    MarksWhatItTakes,
    RefusesReadOnly,
    IgnoresOffset,
    RowHasOneOffset,
}

impl StreamFault {
    /// Those of sources, each with a word that the report has to hold.
    pub(crate) const SOURCES: [(Self, &str); 15] = [
        (Self::CountIsOneLess, "expected"),
        (Self::CountIsOneMore, "expected"),
        (Self::SkipsAByte, "expected"),
        (Self::DoesNotMark, "expected dirty"),
        (Self::MarksWholeSlice, "expected clean"),
        (Self::WritesBehindWhatCame, "the memory around the slices"),
        (Self::EndsTooEarly, "expected"),
        (Self::SecondSliceStartsAfresh, "Row"),
        (Self::LosesAByteBetweenSlices, "Row"),
        (Self::StopsAtEmptySlice, "Row"),
        (Self::ReadsBeforeRefusing, "ReadOnlyRow"),
        (Self::ExactIsShort, "All("),
        (Self::ExactRestartsAtStart, "All("),
        (Self::ErrorCountIsOff, "PartialStream after"),
        (Self::ErrorHidesProgress, "PartialStream after"),
    ];

    /// Those of sources that break at their end.
    pub(crate) const BROKEN: [(Self, &str); 1] =
        [(Self::BreaksQuietly, "expected the stream's error")];

    /// Those of sinks.
    pub(crate) const SINKS: [(Self, &str); 12] = [
        (Self::CountIsOneLess, "expected"),
        (Self::CountIsOneMore, "expected"),
        (Self::SkipsAByte, "what the sink took"),
        (Self::EndsTooEarly, "expected"),
        (Self::SecondSliceStartsAfresh, "Row"),
        (Self::LosesAByteBetweenSlices, "Row"),
        (Self::ExactIsShort, "All("),
        (Self::ExactRestartsAtStart, "All("),
        (Self::ErrorCountIsOff, "PartialStream after"),
        (Self::ErrorHidesProgress, "PartialStream after"),
        (Self::MarksWhatItTakes, "expected clean"),
        (Self::RefusesReadOnly, "ReadOnly"),
    ];

    /// Those of files at an offset, either way.
    pub(crate) const FILES: [(Self, &str); 2] = [
        (Self::IgnoresOffset, "expected"),
        (Self::RowHasOneOffset, "Row"),
    ];
}

/// A source of bytes or a sink for them, with a fault. Without one it moves few bytes at a time, also of a row.
#[derive(Debug)]
pub(crate) struct FaultyStream {
    bytes: Vec<u8>,
    done: usize,
    breaks: bool,
    fault: Option<StreamFault>,
}

impl FaultyStream {
    /// Makes a source of these bytes.
    pub(crate) fn source(fault: Option<StreamFault>, breaks: bool, bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            done: 0,
            breaks,
            fault,
        }
    }

    /// Makes a sink with room for so many bytes.
    pub(crate) fn sink(fault: Option<StreamFault>, room: usize) -> Self {
        Self::source(fault, false, &vec![0; room])
    }

    /// Returns what a sink took.
    pub(crate) fn taken(&self) -> Vec<u8> {
        self.bytes[..self.done.min(self.bytes.len())].to_vec()
    }

    fn has(&self, fault: StreamFault) -> bool {
        self.fault == Some(fault)
    }

    /// Says how many of `wanted` bytes move now.
    fn portion(&self, wanted: usize) -> Result<usize> {
        let left = self.bytes.len().saturating_sub(self.done);
        if left == 0 && wanted > 0 && self.breaks && !self.has(StreamFault::BreaksQuietly) {
            return Err(io::Error::other("the stream broke as asked").into());
        }
        if self.has(StreamFault::EndsTooEarly) && left < 3 {
            return Ok(0);
        }
        Ok(wanted.min(PORTION).min(left))
    }

    fn told(&self, moved: usize) -> usize {
        match self.fault {
            Some(StreamFault::CountIsOneLess) => moved.saturating_sub(1),
            Some(StreamFault::CountIsOneMore) if moved > 0 => moved + 1,
            _ => moved,
        }
    }

    /// What an exact form says after `moved` of `wanted` bytes.
    fn all(&self, moved: usize, wanted: usize, kind: ErrorKind) -> Result<()> {
        if moved == wanted {
            return Ok(());
        }
        let source = io::Error::from(kind);
        if moved == 0 || self.has(StreamFault::ErrorHidesProgress) {
            return Err(source.into());
        }
        Err(VolatileMemoryError::PartialStream {
            expected: wanted,
            completed: moved + usize::from(self.has(StreamFault::ErrorCountIsOff)),
            source,
        })
    }

    /// Moves all of a slice by `step`, which moves a part from an offset on.
    fn exact(
        &mut self,
        len: usize,
        kind: ErrorKind,
        mut step: impl FnMut(&mut Self, usize) -> Result<usize>,
    ) -> Result<()> {
        let mut moved = 0;
        while moved < len {
            let from = if self.has(StreamFault::ExactRestartsAtStart) {
                0
            } else {
                moved
            };
            match step(self, from) {
                Ok(0) => break,
                Ok(count) => moved += count,
                Err(error) if moved == 0 => return Err(error),
                Err(_) => break,
            }
            if self.has(StreamFault::ExactIsShort) {
                return Ok(());
            }
        }
        self.all(moved, len, kind)
    }

    /// Moves a row by `step`, which moves one slice of it; the mistakes are those of who walks over slices.
    fn row(
        &mut self,
        lengths: &[usize],
        mut step: impl FnMut(&mut Self, usize) -> Result<usize>,
    ) -> Result<usize> {
        let mut moved = 0;
        for (index, &len) in lengths.iter().enumerate() {
            if len == 0 {
                if self.has(StreamFault::StopsAtEmptySlice) {
                    break;
                }
                continue;
            }
            if index > 0 && moved > 0 && self.has(StreamFault::LosesAByteBetweenSlices) {
                self.done = self.bytes.len().min(self.done + 1);
            }
            match step(self, index) {
                Ok(count) => {
                    moved += count;
                    // A part of this one and then the start of the next one is a gap.
                    if count < len && !self.has(StreamFault::SecondSliceStartsAfresh) {
                        break;
                    }
                }
                Err(_) if moved > 0 => break,
                failed => return failed,
            }
        }
        Ok(moved)
    }
}

impl ReadVolatile for FaultyStream {
    fn read_volatile<B: BitmapSlice>(&mut self, buf: &mut VolatileSlice<'_, B>) -> Result<usize> {
        if buf.is_read_only() {
            return Err(VolatileMemoryError::ReadOnly { addr: 0 });
        }
        let portion = self.portion(buf.len())?;
        let given = &self.bytes[self.done..][..portion];
        let moved = if self.has(StreamFault::DoesNotMark) {
            buf.clone().replace_bitmap(()).write(given, 0)?
        } else {
            buf.write(given, 0)?
        };
        match self.fault {
            Some(StreamFault::MarksWholeSlice) => buf.bitmap().mark_dirty(0, buf.len()),
            Some(StreamFault::WritesBehindWhatCame) if moved > 0 && moved < buf.len() => {
                buf.write_obj(0u8, moved)?;
            }
            Some(StreamFault::SkipsAByte) if moved == PORTION => self.done += 1,
            _ => {}
        }
        self.done = self.bytes.len().min(self.done + moved);
        Ok(self.told(moved))
    }

    fn read_exact_volatile<B: BitmapSlice>(
        &mut self,
        buf: &mut VolatileSlice<'_, B>,
    ) -> Result<()> {
        self.exact(buf.len(), ErrorKind::UnexpectedEof, |stream, from| {
            let mut rest = buf.offset(from)?;
            stream.read_volatile(&mut rest)
        })
    }

    fn read_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &mut [VolatileSlice<'_, B>],
    ) -> Result<usize> {
        let refused = bufs.iter().any(VolatileSlice::is_read_only);
        if refused {
            let first = bufs.first_mut().filter(|first| !first.is_read_only());
            if let Some(first) = first
                && self.has(StreamFault::ReadsBeforeRefusing)
            {
                self.read_volatile(first)?;
            }
            return Err(VolatileMemoryError::ReadOnly { addr: 0 });
        }
        let lengths: Vec<_> = bufs.iter().map(VolatileSlice::len).collect();
        self.row(&lengths, |stream, index| {
            stream.read_volatile(&mut bufs[index])
        })
    }
}

impl WriteVolatile for FaultyStream {
    fn write_volatile<B: BitmapSlice>(&mut self, buf: &VolatileSlice<'_, B>) -> Result<usize> {
        if self.has(StreamFault::RefusesReadOnly) && buf.is_read_only() {
            return Err(VolatileMemoryError::ReadOnly { addr: 0 });
        }
        let portion = self.portion(buf.len())?;
        let from = usize::from(self.has(StreamFault::SkipsAByte) && portion < buf.len());
        let taken = &mut self.bytes[self.done..][..portion];
        let moved = buf.read(taken, if portion > 0 { from } else { 0 })?;
        if self.has(StreamFault::MarksWhatItTakes) {
            buf.bitmap().mark_dirty(0, moved);
        }
        self.done += moved;
        Ok(self.told(moved))
    }

    fn write_all_volatile<B: BitmapSlice>(&mut self, buf: &VolatileSlice<'_, B>) -> Result<()> {
        self.exact(buf.len(), ErrorKind::WriteZero, |stream, from| {
            stream.write_volatile(&buf.offset(from)?)
        })
    }

    fn write_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &[VolatileSlice<'_, B>],
    ) -> Result<usize> {
        let lengths: Vec<_> = bufs.iter().map(VolatileSlice::len).collect();
        self.row(&lengths, |stream, index| {
            stream.write_volatile(&bufs[index])
        })
    }
}

/// A file with a fault.
#[derive(Debug)]
pub(crate) struct FaultyFile {
    bytes: Vec<Cell<u8>>,
    /// Where the last call ended; only a mistake looks at it.
    last: Cell<usize>,
    fault: Option<StreamFault>,
}

impl FaultyFile {
    pub(crate) fn new(fault: Option<StreamFault>, bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.iter().copied().map(Cell::new).collect(),
            last: Cell::new(0),
            fault,
        }
    }

    /// Returns the first `len` bytes.
    pub(crate) fn start(&self, len: usize) -> Vec<u8> {
        self.bytes.iter().take(len).map(Cell::get).collect()
    }

    /// Returns the bytes that a call on `len` bytes moves, at most a portion.
    fn part(&self, offset: u64, len: usize) -> &[Cell<u8>] {
        let offset = match self.fault {
            Some(StreamFault::IgnoresOffset) => self.last.get(),
            _ => super::offset_of(offset),
        };
        let rest = self.bytes.get(offset..).unwrap_or_default();
        let part = &rest[..len.min(PORTION).min(rest.len())];
        self.last.set(offset + part.len());
        part
    }

    /// Says where the slice after `moved` bytes of a row belongs.
    fn behind(&self, offset: u64, moved: usize) -> u64 {
        match self.fault {
            Some(StreamFault::RowHasOneOffset) => offset,
            _ => offset + moved as u64,
        }
    }
}

impl ReadVolatileAt for FaultyFile {
    fn read_volatile_at<B: BitmapSlice>(
        &self,
        buf: &mut VolatileSlice<'_, B>,
        offset: u64,
    ) -> Result<usize> {
        if buf.is_read_only() {
            return Err(VolatileMemoryError::ReadOnly { addr: 0 });
        }
        let given: Vec<_> = self.part(offset, buf.len()).iter().map(Cell::get).collect();
        buf.write(&given, 0)
    }

    fn read_vectored_volatile_at<B: BitmapSlice>(
        &self,
        bufs: &mut [VolatileSlice<'_, B>],
        offset: u64,
    ) -> Result<usize> {
        if bufs.iter().any(VolatileSlice::is_read_only) {
            return Err(VolatileMemoryError::ReadOnly { addr: 0 });
        }
        let mut moved = 0;
        for buf in bufs {
            let count = self.read_volatile_at(buf, self.behind(offset, moved))?;
            moved += count;
            if count < buf.len() {
                break;
            }
        }
        Ok(moved)
    }
}

impl WriteVolatileAt for FaultyFile {
    fn write_volatile_at<B: BitmapSlice>(
        &self,
        buf: &VolatileSlice<'_, B>,
        offset: u64,
    ) -> Result<usize> {
        let part = self.part(offset, buf.len());
        let mut taken = vec![0; part.len()];
        buf.read(&mut taken, 0)?;
        for (place, byte) in part.iter().zip(&taken) {
            place.set(*byte);
        }
        Ok(part.len())
    }

    fn write_vectored_volatile_at<B: BitmapSlice>(
        &self,
        bufs: &[VolatileSlice<'_, B>],
        offset: u64,
    ) -> Result<usize> {
        let mut moved = 0;
        for buf in bufs {
            let count = self.write_volatile_at(buf, self.behind(offset, moved))?;
            moved += count;
            if count < buf.len() {
                break;
            }
        }
        Ok(moved)
    }
}
