// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What can be harvested.

use alloc::sync::Arc;

use crate::dirty_pages::DirtyPages;

/// A log of dirty pages that is switched on, harvested and switched off again while writers run.
///
/// One bitmap is such a log ([`AtomicBitmap`](crate::AtomicBitmap)), and so are all bitmaps of a guest's memory together.
/// A harvest takes the marks: two that harvest the same log share them out between them. `Readers` (feature `std`) gives each
/// its own view.
///
/// ```
/// use core::num::NonZeroUsize;
/// use guest_memory_bitmap::{AtomicBitmap, Bitmap, DirtyLog};
///
/// /// Runs `work` and returns what was marked meanwhile.
/// fn pages_of<L: DirtyLog>(log: &L, work: impl FnOnce()) -> L::Pages {
///     let mut pages = log.empty_pages();
///     log.start_tracking();
///     log.harvest_into(&mut pages); // from before
///     work();
///     log.harvest_into(&mut pages);
///     log.stop_tracking();
///     pages
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let log = AtomicBitmap::new(1 << 20, NonZeroUsize::try_from(4096)?);
/// log.mark_dirty(0, 1);
/// let pages = pages_of(&log, || log.mark_dirty(0x3fff, 2));
/// assert!(pages.ranges().eq([0x3000..0x5000]));
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// The methods that start and harvest panic where the log can no longer say which writes were lost, as [`AtomicBitmap`] does.
///
/// [`AtomicBitmap`]: crate::AtomicBitmap#panics
pub trait DirtyLog {
    /// What a harvest yields.
    type Pages: PageSet;

    /// Records marks from now on.
    ///
    /// When this returns, a write that is not marked is visible to the caller.
    fn start_tracking(&self);

    /// Records no marks from now on; what is marked stays until it is taken.
    fn stop_tracking(&self);

    /// Tells whether marks are recorded.
    fn is_tracking(&self) -> bool;

    /// Returns the empty set of what the log tracks: where to add the pages of several harvests.
    fn empty_pages(&self) -> Self::Pages;

    /// Takes all marks into `pages`, in place of what was in it, and leaves the log clean.
    ///
    /// # Dirty tracking
    ///
    /// A write whose mark returned before this was called is in `pages` or was in an earlier harvest, and its data is
    /// visible when this returns. A write that races is visible to whoever copies the page after this, or is in the next
    /// harvest.
    fn harvest_into(&self, pages: &mut Self::Pages);
}

/// A set of dirty pages that can be added to another; the [`Default`] tracks nothing.
pub trait PageSet: Default {
    /// Removes all pages.
    fn clear(&mut self);

    /// Tracks what `other` tracks from now on; pages that are in the set and tracked by it stay.
    fn fit_to(&mut self, other: &Self);

    /// Adds the pages of `other`. A set that tracks nothing, such as the default, tracks then what `other` does.
    ///
    /// Where the two track different pages, those that `self` does not track are left out, and those that it tracks at another
    /// size are added as far as they hold a byte of a page of `other`.
    fn union_with(&mut self, other: &Self);
}

impl<L: DirtyLog + ?Sized> DirtyLog for &L {
    type Pages = L::Pages;

    fn start_tracking(&self) {
        L::start_tracking(self);
    }

    fn stop_tracking(&self) {
        L::stop_tracking(self);
    }

    fn is_tracking(&self) -> bool {
        L::is_tracking(self)
    }

    fn empty_pages(&self) -> Self::Pages {
        L::empty_pages(self)
    }

    fn harvest_into(&self, pages: &mut Self::Pages) {
        L::harvest_into(self, pages);
    }
}

impl<L: DirtyLog + ?Sized> DirtyLog for Arc<L> {
    type Pages = L::Pages;

    fn start_tracking(&self) {
        L::start_tracking(self);
    }

    fn stop_tracking(&self) {
        L::stop_tracking(self);
    }

    fn is_tracking(&self) -> bool {
        L::is_tracking(self)
    }

    fn empty_pages(&self) -> Self::Pages {
        L::empty_pages(self)
    }

    fn harvest_into(&self, pages: &mut Self::Pages) {
        L::harvest_into(self, pages);
    }
}

/// The log that is there; `None` records nothing and has no pages.
impl<L: DirtyLog<Pages = DirtyPages>> DirtyLog for Option<L> {
    type Pages = DirtyPages;

    fn start_tracking(&self) {
        if let Some(log) = self {
            log.start_tracking();
        }
    }

    fn stop_tracking(&self) {
        if let Some(log) = self {
            log.stop_tracking();
        }
    }

    fn is_tracking(&self) -> bool {
        self.as_ref().is_some_and(DirtyLog::is_tracking)
    }

    fn empty_pages(&self) -> DirtyPages {
        self.as_ref().map(DirtyLog::empty_pages).unwrap_or_default()
    }

    fn harvest_into(&self, pages: &mut DirtyPages) {
        match self {
            Some(log) => log.harvest_into(pages),
            None => *pages = DirtyPages::default(),
        }
    }
}
