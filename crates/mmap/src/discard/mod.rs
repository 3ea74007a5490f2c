// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Giving memory back to the system, for a balloon, free page reports, memory that is unplugged or was copied away.
#![expect(unsafe_code, reason = "gives advice that empties pages")]

mod error;

use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use guest_memory_bitmap::Bitmap;

use crate::extent::Extent;
use crate::interrupted::again;
use crate::{BackingKind, MmapRegion, Sharing, residency, sys, whole_pages};
pub use error::DiscardError;

/// How memory was given back.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum DiscardMethod {
    /// `madvise` with `MADV_DONTNEED`: this process's own pages are dropped.
    DontNeed,
    /// `madvise` with `MADV_DONTNEED_LOCKED`: likewise, of memory locked by `mlock`.
    DontNeedLocked,
    /// `madvise` with `MADV_REMOVE`: a hole in what is mapped, for everybody who maps it.
    Remove,
    /// `fallocate` with `FALLOC_FL_PUNCH_HOLE`: a hole in the file.
    PunchHole,
}

impl fmt::Display for DiscardMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::DontNeed => "MADV_DONTNEED",
            Self::DontNeedLocked => "MADV_DONTNEED_LOCKED",
            Self::Remove => "MADV_REMOVE",
            Self::PunchHole => "FALLOC_FL_PUNCH_HOLE",
        })
    }
}

/// What discarded memory reads as.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum DiscardReads {
    /// Zero.
    Zero,
    /// What the file holds that is mapped privately: only what this process wrote is gone.
    FileContent,
}

/// What [`MmapRegion::discard`] did. Sizes are in bytes.
///
/// The length that was asked for is `unaligned_head` plus the discarded range plus `unaligned_tail`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct DiscardReport {
    /// Offsets of the whole pages that were discarded; an empty range if there is no whole page.
    pub discarded: Range<usize>,
    /// Bytes before that range that share their page with others and were left alone.
    pub unaligned_head: usize,
    /// Bytes after that range that share their page with others and were left alone.
    pub unaligned_tail: usize,
    /// Bytes of the range that were in memory just before, as [`MmapRegion::resident_bytes`] counts them; nothing if
    /// the kernel would not say.
    pub freed: Option<usize>,
    /// How it was done.
    pub method: DiscardMethod,
    /// What the range reads as.
    pub reads: DiscardReads,
    /// Whether the pages went to the system's pool of huge pages. The next touch takes one from there, and is SIGBUS if
    /// it has none left.
    pub back_to_pool: bool,
}

/// Giving memory back.
impl<B: Bitmap> MmapRegion<B> {
    /// Gives the memory of the whole pages inside `[offset, offset + length)` back to the system.
    ///
    /// Afterwards they read as zero, except in a private mapping of a file, where what this process wrote is
    /// dropped and the file shows again: the report says which. (To have zeroes there, write them.) The next touch
    /// allocates. Bytes that share their page with bytes outside the range are left alone; pages are huge pages where the region
    /// consists of such. Locked memory stays locked.
    ///
    /// - Private memory loses its pages (`MADV_DONTNEED`; locked, `MADV_DONTNEED_LOCKED`, Linux 5.18).
    /// - A shared file gets a hole (`fallocate`), for everybody who maps or reads it; its length stays. So do memory files.
    /// - Shared memory without a file loses its pages for everybody who maps it (`MADV_REMOVE`), unless they are locked.
    /// - Huge pages go back to the system's pool. The region's claim to them may be gone: if the pool is empty at
    ///   the next touch, that is SIGBUS. [Prefault](Self::prefault_range) the range before it is used again to
    ///   have an error in its place.
    ///
    /// To others that use the memory at the same time it is a write of zeroes, which may come in the middle of theirs.
    /// Who holds a slice of plain bytes of it has promised that nobody writes, thus that nobody discards.
    ///
    /// # Errors
    ///
    /// - [`OutOfBounds`](DiscardError::OutOfBounds): the range reaches past the end;
    /// - [`External`](DiscardError::External): somebody else mapped the memory, even if the region took it over;
    /// - [`NotWritable`](DiscardError::NotWritable): the pages are not all mapped for reading and writing;
    /// - [`Locked`](DiscardError::Locked): it is locked, and shared without a file or the kernel too old;
    /// - [`System`](DiscardError::System): the kernel or the file system refused.
    ///
    /// # Dirty tracking
    ///
    /// The discarded pages are marked after they changed, also when the operating system failed in between; the bytes
    /// left alone are not.
    ///
    /// # Cost
    ///
    /// Before the call that discards, one that counts what is in memory: per page a small part of what freeing it costs.
    ///
    /// # Examples
    ///
    /// ```
    /// use guest_memory_mmap::{DiscardReads, MmapRegion};
    /// use guest_memory_volatile::VolatileMemory;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let region = MmapRegion::<()>::new(1 << 20)?;
    /// let slice = region.as_volatile_slice();
    /// slice.write_obj(7u8, 0x10000)?;
    /// slice.write_obj(7u8, 0x30001)?;
    ///
    /// let report = region.discard(0x10000, 0x20002)?;
    /// assert_eq!((report.discarded, report.unaligned_tail), (0x10000..0x30000, 2));
    /// assert_eq!(report.reads, DiscardReads::Zero);
    /// assert_eq!(slice.read_obj::<u8>(0x10000)?, 0);
    /// assert_eq!(slice.read_obj::<u8>(0x30001)?, 7);
    /// # Ok(())
    /// # }
    /// ```
    pub fn discard(&self, offset: usize, length: usize) -> Result<DiscardReport, DiscardError> {
        let range = self.range_to_discard(offset, length)?;
        let extent = self.extent();
        let details = extent.details();
        let pages = whole_pages::inside(range.clone(), details.page_size);
        self.check_discardable(pages.clone())?;

        let freed = residency::resident_bytes(&extent, pages.clone()).ok();
        let discarded = discard(&extent, pages.clone());
        // After the pages have changed, or a harvest could take the marks before there is anything to copy.
        self.bitmap().mark_dirty(pages.start, pages.len());
        let method = discarded.map_err(|failure| failure.at(pages.clone()))?;
        Ok(DiscardReport {
            unaligned_head: pages.start.saturating_sub(range.start),
            unaligned_tail: range.end.saturating_sub(pages.end),
            discarded: pages,
            freed,
            method,
            reads: match (details.file, details.sharing) {
                (Some(_), Sharing::Private) => DiscardReads::FileContent,
                _ => DiscardReads::Zero,
            },
            back_to_pool: details.is_hugetlb,
        })
    }

    /// Gives those whole pages inside `[offset, offset + length)` back to the system that are in use and hold nothing but
    /// zeroes, and returns how many bytes they have together.
    ///
    /// Nothing may write the range during the call, neither the guest nor a device: what is written between
    /// the look at a page and its end is lost.
    ///
    /// # Errors
    ///
    /// Those of [`discard`](Self::discard) and of [`zero_ranges`](Self::zero_ranges), and
    /// [`FileContent`](DiscardError::FileContent) for a private mapping of a file. Pages before the one that failed
    /// are discarded.
    ///
    /// # Dirty tracking
    ///
    /// As for [`discard`](Self::discard).
    ///
    /// # Examples
    ///
    /// ```
    /// use guest_memory_mmap::{MmapRegion, MmapRegionBuilder};
    /// use guest_memory_volatile::VolatileMemory;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let region: MmapRegion = MmapRegionBuilder::new(1 << 20).with_memfd("ram").build()?;
    /// let slice = region.as_volatile_slice();
    /// slice.fill(0)?;
    /// slice.write_obj(1u8, 0)?;
    /// // All but the page that holds something.
    /// let bytes = region.discard_zero_pages(0, 1 << 20)?;
    /// assert_eq!(bytes, (1 << 20) - region.page_size());
    /// # Ok(())
    /// # }
    /// ```
    pub fn discard_zero_pages(&self, offset: usize, length: usize) -> Result<usize, DiscardError> {
        self.check_discardable(self.range_to_discard(offset, length)?)?;
        let details = self.extent().details();
        if details.file.is_some() && details.sharing == Sharing::Private {
            return Err(DiscardError::FileContent);
        }
        let mut bytes = 0usize;
        for pages in self.zero_ranges_in_use(offset, length)? {
            let report = self.discard(pages.start, pages.len())?;
            // Disjoint parts of one region.
            bytes = bytes.saturating_add(report.discarded.len());
        }
        Ok(bytes)
    }

    fn range_to_discard(&self, offset: usize, length: usize) -> Result<Range<usize>, DiscardError> {
        self.range(offset, length).ok_or(DiscardError::OutOfBounds {
            offset,
            length,
            size: self.size(),
        })
    }

    fn check_discardable(&self, range: Range<usize>) -> Result<(), DiscardError> {
        let protection = self.protection(range.start, range.len());
        if self.backing() == BackingKind::External {
            Err(DiscardError::External)
        } else if !protection.is_writable() {
            Err(DiscardError::NotWritable { protection })
        } else {
            Ok(())
        }
    }
}

/// Discards whole pages of an extent that the caller may write.
fn discard(extent: &Extent<'_>, pages: Range<usize>) -> Result<DiscardMethod, Failure> {
    let Some(part) = extent.part(pages.start, pages.len()) else {
        return Err(Failure {
            method: DiscardMethod::DontNeed,
            source: io::Error::from_raw_os_error(libc::EINVAL),
        });
    };
    let details = part.details();
    match (details.sharing, details.file) {
        (Sharing::Private, _) => drop_private(&part),
        (Sharing::Shared, None) => advise(&part, DiscardMethod::Remove),
        (Sharing::Shared, Some((file, start))) => match punch(file, start, part.len_bytes()) {
            // A device has no holes, but what it maps may: /dev/zero does.
            Err(failure) if failure.source.raw_os_error() == Some(libc::ENODEV) => {
                advise(&part, DiscardMethod::Remove)
            }
            other => other,
        },
    }
}

fn drop_private(part: &Extent<'_>) -> Result<DiscardMethod, Failure> {
    match advise(part, DiscardMethod::DontNeed) {
        // Of all that could be wrong with the arguments only a lock is left.
        Err(failure) if failure.source.raw_os_error() == Some(libc::EINVAL) => {
            advise(part, DiscardMethod::DontNeedLocked)
        }
        other => other,
    }
}

fn advise(part: &Extent<'_>, method: DiscardMethod) -> Result<DiscardMethod, Failure> {
    let advice = match method {
        DiscardMethod::DontNeed => libc::MADV_DONTNEED,
        DiscardMethod::DontNeedLocked => libc::MADV_DONTNEED_LOCKED,
        DiscardMethod::Remove | DiscardMethod::PunchHole => libc::MADV_REMOVE,
    };
    if part.len_bytes() == 0 {
        return Ok(method);
    }
    // SAFETY: the extent is a region's writable memory, in which anybody may write zeroes at any time, and the pages are
    // whole ones of it; the mapping stays. What a private mapping's file holds instead are initialised bytes too.
    match unsafe { sys::madvise(part.start(), part.len_bytes(), advice) } {
        Ok(()) => Ok(method),
        Err(source) => Err(Failure { method, source }),
    }
}

fn punch(file: BorrowedFd<'_>, start: u64, len_bytes: usize) -> Result<DiscardMethod, Failure> {
    let method = DiscardMethod::PunchHole;
    let failed = |source| Failure { method, source };
    if len_bytes == 0 {
        return Ok(method);
    }
    let (Ok(start), Ok(len_bytes)) = (start.try_into(), len_bytes.try_into()) else {
        return Err(failed(io::Error::from_raw_os_error(libc::EOVERFLOW)));
    };
    let punched = again(|| sys::punch_hole(file, start, len_bytes));
    punched.map(|()| method).map_err(failed)
}

/// What the operating system said to a method.
#[derive(Debug)]
struct Failure {
    method: DiscardMethod,
    source: io::Error,
}

impl Failure {
    fn at(self, pages: Range<usize>) -> DiscardError {
        let Self { method, source } = self;
        let (offset, length) = (pages.start, pages.len());
        // Everything else that these refuse with EINVAL does not happen to whole pages of a mapping of ours.
        let is_locked = source.raw_os_error() == Some(libc::EINVAL)
            && matches!(
                method,
                DiscardMethod::DontNeedLocked | DiscardMethod::Remove
            );
        if is_locked {
            DiscardError::Locked {
                offset,
                length,
                method,
                source,
            }
        } else {
            DiscardError::System {
                offset,
                length,
                method,
                source,
            }
        }
    }
}
