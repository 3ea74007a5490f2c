// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What of a region is in memory, what of its file is data, and which of its pages are zero.

mod data;
mod error;
mod in_memory;
mod zeroes;

use std::io;
use std::ops::Range;

use guest_memory_bitmap::Bitmap;

use crate::MmapRegion;
use crate::whole_pages;
pub(crate) use data::file_len;
pub use error::ResidencyError;
pub(crate) use in_memory::resident_bytes;

/// What is in memory. Nothing here touches a page or moves one in or out; the answers may be out of date when they arrive.
///
/// A page counts as in memory if an access to it would wait for no disk and allocate nothing:
/// - of private memory without a file, if this process has used it and it did not leave for the swap;
/// - of a file or of shared memory, if it is in the page cache, whoever brought it there, and whether or not it is
///   mapped here. For a private mapping of a file its own copies count as well;
/// - of a huge page on hugetlbfs, if it is mapped in this process: a page that only another process has
///   touched does not count;
/// - of a file that this process could not open for writing, always: the kernel does not say what others read.
impl<B: Bitmap> MmapRegion<B> {
    /// Says whether all bytes of `[offset, offset + length)` are in memory; true for a length of 0.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`](ResidencyError::OutOfBounds) if the range reaches past the end,
    /// [`Query`](ResidencyError::Query) if the kernel cannot say.
    pub fn is_resident(&self, offset: usize, length: usize) -> Result<bool, ResidencyError> {
        let range = self.checked(offset, length)?;
        in_memory::is_resident(&self.extent(), range).map_err(no_answer(offset, length))
    }

    /// Counts the bytes of `[offset, offset + length)` that are in memory; of a page that lies partly in the range, those that do.
    ///
    /// # Errors
    ///
    /// Those of [`is_resident`](Self::is_resident).
    pub fn resident_bytes(&self, offset: usize, length: usize) -> Result<usize, ResidencyError> {
        let range = self.checked(offset, length)?;
        in_memory::resident_bytes(&self.extent(), range).map_err(no_answer(offset, length))
    }

    /// Lists what of `[offset, offset + length)` is in memory: ranges of offsets, sorted and apart from each other.
    ///
    /// # Errors
    ///
    /// Those of [`is_resident`](Self::is_resident).
    ///
    /// # Examples
    ///
    /// ```
    /// use guest_memory_mmap::{MmapRegion, MmapRegionBuilder};
    /// use guest_memory_volatile::VolatileMemory;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let region: MmapRegion = MmapRegionBuilder::new(1 << 20).with_memfd("ram").build()?;
    /// region.as_volatile_slice().write_obj(1u8, 0)?;
    /// let in_memory = region.resident_ranges(0, 1 << 20)?;
    /// assert_eq!(in_memory, [0..region.page_size()]);
    /// assert!(!region.is_resident(0, 1 << 20)?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn resident_ranges(
        &self,
        offset: usize,
        length: usize,
    ) -> Result<Vec<Range<usize>>, ResidencyError> {
        let range = self.checked(offset, length)?;
        in_memory::resident_ranges(&self.extent(), range).map_err(no_answer(offset, length))
    }

    /// Lists what of `[offset, offset + length)` is data in the region's file: ranges of offsets in the region, sorted and
    /// apart from each other. What lies between them are holes, which read as zero.
    ///
    /// The file system tells, in its own granularity. All is data in a file that has no holes or cannot tell them: on
    /// hugetlbfs, a device. The answer is about the file: of a private mapping it leaves out what was written
    /// there. The position of the file's descriptor does not move; the file is opened once more through `/proc`.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`](ResidencyError::OutOfBounds) if the range reaches past the end,
    /// [`NoFile`](ResidencyError::NoFile) if the region has none,
    /// [`Query`](ResidencyError::Query) if the file cannot be opened again or asked.
    ///
    /// # Examples
    ///
    /// ```
    /// use guest_memory_mmap::{MmapRegion, MmapRegionBuilder};
    /// use guest_memory_volatile::VolatileMemory;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // What of a memory file a snapshot has to copy.
    /// let region: MmapRegion = MmapRegionBuilder::new(1 << 20).with_memfd("ram").build()?;
    /// region.as_volatile_slice().write_obj(1u8, 0x8_0000)?;
    /// let data = region.data_ranges(0, 1 << 20)?;
    /// assert_eq!(data, [0x8_0000..0x8_0000 + region.page_size()]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn data_ranges(
        &self,
        offset: usize,
        length: usize,
    ) -> Result<Vec<Range<usize>>, ResidencyError> {
        self.checked(offset, length)?;
        let (file, start) = self.extent().details().file.ok_or(ResidencyError::NoFile)?;
        // Does not saturate: the end of the region has an offset in the file.
        let start = start.saturating_add(offset as u64);
        let ranges = data::data_ranges(file, start, length);
        let ranges = ranges.map_err(|source| ResidencyError::Query {
            operation: "find the file's data",
            offset,
            length,
            source,
        })?;
        let in_region = |range: Range<usize>| {
            // Within the region, as was just checked.
            range.start.saturating_add(offset)..range.end.saturating_add(offset)
        };
        Ok(ranges.into_iter().map(in_region).collect())
    }

    /// Lists the whole pages inside `[offset, offset + length)` that are known to read as zero: ranges of offsets, sorted and
    /// apart from each other.
    ///
    /// Pages are huge pages where the region consists of such. No memory is allocated: pages of private memory that were
    /// never used and holes of files are known to be zero without a touch, and the others are read. Of shared memory without a
    /// file, devices, and memory that somebody else mapped only what is in memory is looked at: the rest may be swapped out or,
    /// of huge pages, another process's. Pages left out may be zero.
    ///
    /// The answer is that of some moment during the call for each page. A page that was promised by userfaultfd and not
    /// delivered yet counts as never used.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`](ResidencyError::OutOfBounds) if the range reaches past the end,
    /// [`NotReadable`](ResidencyError::NotReadable) if the range is not all mapped with `PROT_READ`,
    /// [`Query`](ResidencyError::Query) if `/proc` is not there or the kernel cannot say,
    /// [`Access`](ResidencyError::Access) if a page cannot be read.
    ///
    /// # Examples
    ///
    /// ```
    /// use guest_memory_mmap::MmapRegion;
    /// use guest_memory_volatile::VolatileMemory;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // The pages that a snapshot need not hold.
    /// let region = MmapRegion::<()>::new(1 << 20)?;
    /// region.as_volatile_slice().write_obj(1u8, 0x80000)?;
    /// let zeroes = region.zero_ranges(0, 1 << 20)?;
    /// assert_eq!(zeroes.len(), 2);
    /// assert_eq!((zeroes[0].start, zeroes[0].end), (0, 0x80000));
    /// assert_eq!(zeroes[1].end, 1 << 20);
    /// # Ok(())
    /// # }
    /// ```
    pub fn zero_ranges(
        &self,
        offset: usize,
        length: usize,
    ) -> Result<Vec<Range<usize>>, ResidencyError> {
        let mut ranges = Vec::new();
        for run in self.zero_runs(offset, length)? {
            whole_pages::push(&mut ranges, run.range);
        }
        Ok(ranges)
    }

    /// Lists the whole pages inside the range that have memory behind them here and read as zero.
    pub(crate) fn zero_ranges_in_use(
        &self,
        offset: usize,
        length: usize,
    ) -> Result<Vec<Range<usize>>, ResidencyError> {
        let runs = self.zero_runs(offset, length)?.into_iter();
        Ok(runs
            .filter(|run| run.is_in_use)
            .map(|run| run.range)
            .collect())
    }

    fn zero_runs(
        &self,
        offset: usize,
        length: usize,
    ) -> Result<Vec<zeroes::ZeroRun>, ResidencyError> {
        let range = self.checked(offset, length)?;
        let details = self.extent().details();
        if !self.protection(offset, length).is_readable() {
            return Err(ResidencyError::NotReadable);
        }
        let pages = whole_pages::inside(range, details.page_size);
        if pages.is_empty() {
            return Ok(Vec::new());
        }
        zeroes::find(self, pages)
    }

    fn checked(&self, offset: usize, length: usize) -> Result<Range<usize>, ResidencyError> {
        self.range(offset, length)
            .ok_or(ResidencyError::OutOfBounds {
                offset,
                length,
                size: self.size(),
            })
    }
}

fn no_answer(offset: usize, length: usize) -> impl FnOnce(io::Error) -> ResidencyError {
    move |source| ResidencyError::Query {
        operation: "learn which pages are in memory",
        offset,
        length,
        source,
    }
}
