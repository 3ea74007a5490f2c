// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Bitmaps that are harvested.

use guest_memory_bitmap::{AtomicBitmap, BS, Bitmap, DirtyLog, DirtyPages, WithBitmapSlice};

use crate::toys::PAGE_SIZE;

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFault {
    HarvestLosesAPage,
    HarvestReportsTwice,
    HarvestKeepsOldPages,
    HarvestLeavesLastPage,
    StartClearsAll,
    StopClearsAll,
    RecordsWhileStopped,
    IsAlwaysTracking,
    EmptyPagesAreNot,
    HarvestKeepsOtherSizes,
}

impl LogFault {
    /// Each fault and a word that the report has to hold.
    pub(crate) const ALL: [(Self, &str); 10] = [
        (Self::HarvestLosesAPage, "harvest"),
        (Self::HarvestReportsTwice, "harvested"),
        (Self::HarvestKeepsOldPages, "harvest"),
        (Self::HarvestLeavesLastPage, "harvested"),
        (Self::StartClearsAll, "expected"),
        (Self::StopClearsAll, "expected"),
        (Self::RecordsWhileStopped, "harvest"),
        (Self::IsAlwaysTracking, "is_tracking"),
        (Self::EmptyPagesAreNot, "empty_pages"),
        (Self::HarvestKeepsOtherSizes, "another log's set"),
    ];
}

/// A log with a fault.
#[derive(Debug)]
pub(crate) struct FaultyLog {
    inner: AtomicBitmap,
    fault: Option<LogFault>,
}

impl FaultyLog {
    pub(crate) fn new(fault: Option<LogFault>, len: usize) -> Self {
        Self {
            inner: AtomicBitmap::new(len, PAGE_SIZE),
            fault,
        }
    }

    fn has(&self, fault: LogFault) -> bool {
        self.fault == Some(fault)
    }

    fn clear_if(&self, fault: LogFault) {
        if self.has(fault) {
            self.inner.harvest_into(&mut DirtyPages::default());
        }
    }

    fn last_of(&self, pages: &DirtyPages) -> Option<usize> {
        pages.pages().last().map(|page| page * PAGE_SIZE.get())
    }
}

impl<'a> WithBitmapSlice<'a> for FaultyLog {
    type S = BS<'a, AtomicBitmap>;
}

impl Bitmap for FaultyLog {
    fn mark_dirty(&self, offset: usize, len: usize) {
        if self.has(LogFault::RecordsWhileStopped) && !self.inner.is_tracking() {
            self.inner.start_tracking();
            self.inner.mark_dirty(offset, len);
            self.inner.stop_tracking();
        }
        self.inner.mark_dirty(offset, len);
    }

    fn dirty_at(&self, offset: usize) -> bool {
        self.inner.dirty_at(offset)
    }

    fn slice_at(&self, offset: usize) -> BS<'_, AtomicBitmap> {
        self.inner.slice_at(offset)
    }
}

/// Says whether a set that is not empty tracks what another one does.
fn is_of_this(before: &DirtyPages, pages: &DirtyPages) -> bool {
    let geometry = |pages: &DirtyPages| (pages.byte_size(), pages.page_size());
    !before.is_empty() && geometry(before) == geometry(pages)
}

impl DirtyLog for FaultyLog {
    type Pages = DirtyPages;

    fn start_tracking(&self) {
        self.clear_if(LogFault::StartClearsAll);
        self.inner.start_tracking();
    }

    fn stop_tracking(&self) {
        self.clear_if(LogFault::StopClearsAll);
        self.inner.stop_tracking();
    }

    fn is_tracking(&self) -> bool {
        self.inner.is_tracking() || self.has(LogFault::IsAlwaysTracking)
    }

    fn empty_pages(&self) -> DirtyPages {
        let mut pages = self.inner.empty_pages();
        if self.has(LogFault::EmptyPagesAreNot) {
            pages.insert(0);
        }
        pages
    }

    fn harvest_into(&self, pages: &mut DirtyPages) {
        let before = pages.clone();
        self.inner.harvest_into(pages);
        match (self.fault, self.last_of(pages)) {
            (Some(LogFault::HarvestLosesAPage), Some(last)) => pages.remove_range(last..last + 1),
            (Some(LogFault::HarvestReportsTwice), Some(_)) => {
                let first = pages.pages().next().unwrap_or_default() * PAGE_SIZE.get();
                self.inner.mark_dirty(first, 1);
            }
            (Some(LogFault::HarvestLeavesLastPage), Some(last)) => self.inner.mark_dirty(last, 1),
            (Some(LogFault::HarvestKeepsOldPages), _) if is_of_this(&before, pages) => {
                pages.union_with(&before);
            }
            (Some(LogFault::HarvestKeepsOtherSizes), _) if before.page_count() > 0 => {
                let taken = std::mem::replace(pages, before);
                pages.clear();
                pages.union_with(&taken);
            }
            _ => {}
        }
    }
}
