// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Populating memory before it is used, so that the guest waits for no page and a page that cannot be had is an error.

mod crew;
mod error;
mod memory_limit;
mod node;
mod page;

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicBool;

use guest_memory_bitmap::Bitmap;

use crate::extent::Extent;
use crate::whole_pages;
use crate::{MmapRegion, NumaNode};
use crew::Job;
pub use error::{PrefaultError, PrefaultReason};

/// How to populate memory: by how many threads, on which processors, with which reports.
///
/// # Examples
///
/// ```
/// use std::num::NonZeroUsize;
/// use std::sync::atomic::AtomicBool;
///
/// use guest_memory_mmap::{MmapRegion, Prefault, PrefaultProgress};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let region = MmapRegion::<()>::new(64 << 20)?;
/// let progress = |progress: PrefaultProgress| {
///     println!("{} of {} bytes", progress.done, progress.total);
/// };
/// // Somebody else may set it.
/// let cancelled = AtomicBool::new(false);
/// let prefault = Prefault::new()
///     .with_threads(NonZeroUsize::new(2).ok_or("no threads")?)
///     .with_progress(&progress)
///     .with_cancellation(&cancelled);
/// let report = region.prefault(&prefault)?;
/// assert_eq!(report.populated, 64 << 20);
/// assert!(region.is_resident(0, 64 << 20)?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Prefault<'a> {
    threads: NonZeroUsize,
    cpus: Vec<usize>,
    progress: Option<&'a (dyn Fn(PrefaultProgress) + Sync)>,
    cancelled: Option<&'a AtomicBool>,
}

impl<'a> Prefault<'a> {
    /// Starts with one thread, the caller's, and no reports.
    #[must_use]
    pub fn new() -> Self {
        Self {
            threads: NonZeroUsize::MIN,
            cpus: Vec::new(),
            progress: None,
            cancelled: None,
        }
    }

    /// Sets how many threads populate; they take pieces of the memory in turn until none is left.
    #[must_use]
    pub fn with_threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }

    /// Lets the threads run on these processors only, by their numbers; the caller's thread then only waits.
    ///
    /// Without a memory policy a page comes from the node of the processor that touches it first. No processor at all
    /// stands for the caller's own. Where none of them may be used, populating is a [`Thread`](PrefaultError::Thread) error.
    #[must_use]
    pub fn with_cpus(mut self, cpus: impl Into<Vec<usize>>) -> Self {
        self.cpus = cpus.into();
        self
    }

    /// Lets the threads run on the processors of a NUMA node only, so that pages need not be cleared across the machine.
    ///
    /// Where pages come from is up to the region's [policy](crate::NumaPolicy). A node without processors leaves the threads
    /// where they are.
    ///
    /// # Errors
    ///
    /// What the system said when it was asked for the node's processors: there is no such node.
    pub fn on_node(self, node: NumaNode) -> io::Result<Self> {
        Ok(self.with_cpus(node::node_cpus(node)?))
    }

    /// Sets what is told of the progress, after each piece.
    ///
    /// It is called by whichever thread populated the piece, by one at a time, and the count of bytes only grows; the last call of a
    /// success has them all. The other threads may have to wait for it to return. If it panics, all threads stop at the end of
    /// their piece and the caller panics.
    #[must_use]
    pub fn with_progress(mut self, progress: &'a (dyn Fn(PrefaultProgress) + Sync)) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Sets the flag by which somebody may call it off: all threads stop at the end of their piece once it is true.
    ///
    /// A piece is 16 MiB, or one huge page where that is more: milliseconds, as far as there is memory.
    #[must_use]
    pub fn with_cancellation(mut self, cancelled: &'a AtomicBool) -> Self {
        self.cancelled = Some(cancelled);
        self
    }
}

impl Default for Prefault<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Prefault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prefault")
            .field("threads", &self.threads)
            .field("cpus", &self.cpus)
            .field("has_progress", &self.progress.is_some())
            .field("cancelled", &self.cancelled)
            .finish()
    }
}

/// How far populating is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PrefaultProgress {
    /// Bytes populated, of all regions.
    pub done: usize,
    /// Bytes to populate in all.
    pub total: usize,
}

/// What populating did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PrefaultReport {
    /// Bytes that are populated now: the whole pages around what was asked for, up to the regions' ends.
    pub populated: usize,
    /// How it was done.
    pub method: PrefaultMethod,
}

/// How memory was populated.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum PrefaultMethod {
    /// By the kernel at one's request (`MADV_POPULATE_WRITE`, `MADV_POPULATE_READ`): a page that cannot be had is an error.
    Populate,
    /// By a touch of each page, on kernels before Linux 5.14: a page that cannot be had is a signal, or an error where
    /// the fault guard of the volatile crate is installed.
    Touch,
}

/// Populating memory.
impl<B: Bitmap> MmapRegion<B> {
    /// Populates the whole region: each page is there afterwards, mapped, so that its first use does not wait for the kernel.
    ///
    /// Writable pages are made ready to be written, read-only ones to be read. No byte changes, whoever
    /// else uses the memory at the same time. Pages may leave again if the system runs short of memory, unless they are
    /// locked or huge pages.
    ///
    /// # Errors
    ///
    /// - [`NoAccess`](PrefaultError::NoAccess): some of the memory can neither be read nor written;
    /// - [`OverLimit`](PrefaultError::OverLimit): a control group would have this process killed;
    /// - [`Populate`](PrefaultError::Populate): a page cannot be had; it says which, why, and how many were;
    /// - [`Cancelled`](PrefaultError::Cancelled): the flag was set;
    /// - [`Thread`](PrefaultError::Thread): a thread could not be started, or not on these processors.
    ///
    /// What was populated before an error stays.
    ///
    /// # Dirty tracking
    ///
    /// Nothing is marked: what the memory holds does not change.
    pub fn prefault(&self, how: &Prefault<'_>) -> Result<PrefaultReport, PrefaultError> {
        self.prefault_range(0, self.size(), how)
    }

    /// Populates the pages of `[offset, offset + length)`, including those that it shares with bytes outside; of no bytes none.
    ///
    /// # Errors
    ///
    /// Those of [`prefault`](Self::prefault), and [`OutOfBounds`](PrefaultError::OutOfBounds) if the range reaches past the end.
    ///
    /// # Dirty tracking
    ///
    /// As for [`prefault`](Self::prefault).
    pub fn prefault_range(
        &self,
        offset: usize,
        length: usize,
        how: &Prefault<'_>,
    ) -> Result<PrefaultReport, PrefaultError> {
        let mut work = Vec::new();
        add_jobs(&mut work, 0, self, offset, length)?;
        crew::run(&work, how)
    }
}

/// Populates several regions, such as all of a guest's, as one piece of work with one progress.
///
/// # Errors
///
/// Those of [`MmapRegion::prefault`]; a region that cannot be populated at all is found before work begins.
///
/// # Examples
///
/// ```
/// use guest_memory_core::{GuestAddress, GuestMemory};
/// use guest_memory_mmap::{GuestMemoryMmap, Prefault, prefault_all};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ranges = [(GuestAddress(0), 1 << 20), (GuestAddress(1 << 32), 1 << 20)];
/// let memory = GuestMemoryMmap::<()>::from_ranges(&ranges)?;
/// let report = prefault_all(memory.iter().map(|region| &**region), &Prefault::new())?;
/// assert_eq!(report.populated, 2 << 20);
/// # Ok(())
/// # }
/// ```
pub fn prefault_all<'r, B: Bitmap + 'r>(
    regions: impl IntoIterator<Item = &'r MmapRegion<B>>,
    how: &Prefault<'_>,
) -> Result<PrefaultReport, PrefaultError> {
    let mut work = Vec::new();
    for (index, region) in regions.into_iter().enumerate() {
        add_jobs(&mut work, index, region, 0, region.size())?;
    }
    crew::run(&work, how)
}

/// Populates all of an extent.
pub(crate) fn prefault_extent(
    extent: Extent<'_>,
    how: &Prefault<'_>,
) -> Result<PrefaultReport, PrefaultError> {
    crew::run(&[job(0, 0, extent)?], how)
}

/// Adds what is to be done for a range of a region: one job for each part that differs in protection.
fn add_jobs<'r, B: Bitmap>(
    work: &mut Vec<Job<'r>>,
    index: usize,
    region: &'r MmapRegion<B>,
    offset: usize,
    length: usize,
) -> Result<(), PrefaultError> {
    let size = region.size();
    let range = region
        .range(offset, length)
        .ok_or(PrefaultError::OutOfBounds {
            offset,
            length,
            size,
        })?;
    let pages = whole_pages::around(range, region.page_size(), size);
    for (range, extent) in region.extents(pages) {
        work.push(job(index, range.start, extent)?);
    }
    Ok(())
}

fn job(region: usize, offset: usize, extent: Extent<'_>) -> Result<Job<'_>, PrefaultError> {
    if !extent.details().protection.is_readable() {
        return Err(PrefaultError::NoAccess { region });
    }
    Ok(Job {
        region,
        offset,
        extent,
    })
}
