// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A bitmap of this repository that marks in the front end's log.
#![expect(unsafe_code, reason = "vouches for the daemon's mapping of the log")]

use std::io;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vhost_user_backend::bitmap::{AtomicBitmapMmap, BitmapReplace, MemRegionBitmap, MmapLogReg};
use vm_memory::bitmap::{Bitmap, ExternalLog, RefSlice, SwappableLog, WithBitmapSlice};
use vm_memory::mmap::NewBitmap;
use vm_memory::{Address, GuestMemoryRegion};

use crate::tracking::Tracking;

/// Marks pages in the front end's log while there is one.
#[derive(Clone, Debug)]
pub struct SharedLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pages: SwappableLog,
    /// The log in use, for other regions to follow.
    mapping: Mutex<Option<Arc<MmapLogReg>>>,
}

/// What a region needs of a log that reaches its end.
#[derive(Debug)]
pub struct Part {
    log: Arc<ExternalLog>,
    region_start: u64,
    mapping: Arc<MmapLogReg>,
}

impl MemRegionBitmap for Part {
    fn new<R: GuestMemoryRegion>(region: &R, mapping: Arc<MmapLogReg>) -> io::Result<Self> {
        // A mapping does not say how long it is. This bitmap, of no other use, is refused if it is too short.
        AtomicBitmapMmap::new(region, Arc::clone(&mapping))?;
        let page_count = region.last_addr().raw_value() / ExternalLog::PAGE_SIZE + 1;
        let len_bytes = usize::try_from(page_count.div_ceil(8)).map_err(io::Error::other)?;
        // By its address: a reference to one byte says nothing about those behind it.
        let address = ptr::from_ref(&mapping[0]).expose_provenance();
        let first = NonNull::new(ptr::with_exposed_provenance_mut(address))
            .ok_or_else(|| io::Error::other("the log is at address 0"))?;
        let owner = Arc::clone(&mapping);
        // SAFETY: The bytes are mapped, to be read and written, as long as `owner` lives; there are as many by the check above.
        // What else in this process accesses them does so by atomic operations.
        let log = unsafe { ExternalLog::new(first, len_bytes, owner) };
        let log = log.map_err(io::Error::other)?;
        Ok(Self {
            log: Arc::new(log),
            region_start: region.start_addr().raw_value(),
            mapping,
        })
    }
}

impl SharedLog {
    fn mapping(&self) -> MutexGuard<'_, Option<Arc<MmapLogReg>>> {
        self.0
            .mapping
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> WithBitmapSlice<'a> for SharedLog {
    type S = RefSlice<'a, SwappableLog>;
}

impl Bitmap for SharedLog {
    #[inline]
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.0.pages.mark_dirty(offset, len);
    }

    #[inline]
    fn dirty_at(&self, offset: usize) -> bool {
        self.0.pages.dirty_at(offset)
    }

    #[inline]
    fn slice_at(&self, offset: usize) -> <Self as WithBitmapSlice<'_>>::S {
        self.0.pages.slice_at(offset)
    }

    fn tracked_bytes(&self) -> Option<usize> {
        self.0.pages.tracked_bytes()
    }
}

impl Default for SharedLog {
    fn default() -> Self {
        Self::with_len(0)
    }
}

impl NewBitmap for SharedLog {
    fn with_len(len: usize) -> Self {
        Self(Arc::new(Inner {
            pages: SwappableLog::with_len(len),
            mapping: Mutex::default(),
        }))
    }
}

impl BitmapReplace for SharedLog {
    type InnerBitmap = Part;

    fn replace(&self, part: Part) {
        let mut mapping = self.mapping();
        // `Part::new` has seen to it that the log is long enough.
        let replaced = self.0.pages.swap(Some((part.log, part.region_start)));
        if replaced.is_ok() {
            *mapping = Some(part.mapping);
        }
    }
}

impl Tracking for SharedLog {
    const TAKES_LOG: bool = true;

    fn detach(&self) {
        let mut mapping = self.mapping();
        // No log is never too short.
        drop(self.0.pages.swap(None));
        *mapping = None;
    }

    fn follow(&self, region: &impl GuestMemoryRegion, other: &Self) -> io::Result<()> {
        // One lock at a time: a region that stays follows itself.
        let theirs = other.mapping().clone();
        let Some(mapping) = theirs.filter(|_| self.mapping().is_none()) else {
            return Ok(());
        };
        self.replace(Part::new(region, mapping)?);
        self.mark_dirty(0, usize::MAX);
        Ok(())
    }
}
