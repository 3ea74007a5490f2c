// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Independent readers of one log.
//!
//! A log can be taken once. What one reader takes is therefore handed to all others as well, into a set of pages that
//! each of them owns, and a reader's harvest is that set and what is in the log now. Writers know nothing of it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use std::sync::PoisonError;

use crate::dirty_log::{DirtyLog, PageSet};
use crate::sync::{Mutex, MutexGuard};

/// A log that several readers harvest, each in its own time: a migration, a diff snapshot and a display, for instance.
///
/// Each reader sees every page that is written while it is there, once per epoch of its own, whenever it harvests. One that
/// joins late starts clean. While there are readers nobody else may harvest the log.
///
/// It is a handle: clones are of the same log.
///
/// # Cost
///
/// Writers pay nothing for a second reader. A harvest costs what is dirty, once for each reader; readers wait for each other. After
/// the first harvests nothing is allocated.
///
/// # Examples
///
/// ```
/// use core::num::NonZeroUsize;
/// use guest_memory_bitmap::{AtomicBitmap, Readers};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let log = AtomicBitmap::new(1 << 20, NonZeroUsize::try_from(4096)?);
/// let readers = Readers::new(&log);
/// let mut migration = readers.join();
/// log.set_bit(1);
/// let mut display = readers.join();
/// log.set_bit(2);
///
/// assert!(migration.harvest().pages().eq([1, 2]));
/// assert!(display.harvest().pages().eq([2])); // page 1 was written before it joined
///
/// log.set_bit(3);
/// assert!(display.harvest().pages().eq([3]));
/// assert!(migration.harvest().pages().eq([3]));
/// assert!(migration.harvest().is_empty());
/// # Ok(())
/// # }
/// ```
pub struct Readers<L: DirtyLog> {
    shared: Arc<Shared<L>>,
}

/// One of several readers of a log. It leaves when it is dropped.
pub struct Reader<L: DirtyLog> {
    shared: Arc<Shared<L>>,
    seat: usize,
}

struct Shared<L: DirtyLog> {
    log: L,
    seats: Mutex<Seats<L::Pages>>,
}

struct Seats<P> {
    /// By reader: the pages that others took from the log since its last harvest. `None` where nobody sits.
    unseen: Vec<Option<P>>,
    /// Whether the log was tracking before the first reader came.
    was_tracking: bool,
}

impl<P: PageSet> Seats<P> {
    fn hand_out(&mut self, taken: &P) {
        for unseen in self.unseen.iter_mut().flatten() {
            unseen.fit_to(taken);
            unseen.union_with(taken);
        }
    }
}

impl<L: DirtyLog> Readers<L> {
    /// Makes a log available to readers. Nothing is switched on before the first joins.
    pub fn new(log: L) -> Self {
        let seats = Seats {
            unseen: Vec::new(),
            was_tracking: false,
        };
        Self {
            shared: Arc::new(Shared {
                log,
                seats: Mutex::new(seats),
            }),
        }
    }

    /// Returns the log.
    pub fn log(&self) -> &L {
        &self.shared.log
    }

    /// Adds a reader, which starts clean: it will see what is written from now on. The first one switches tracking on.
    ///
    /// When this returns, everything that was written before is visible to the caller: what it copies now and
    /// harvests later misses nothing.
    ///
    /// # Panics
    ///
    /// Panics if a reader panicked while it was harvesting.
    pub fn join(&self) -> Reader<L> {
        let log = &self.shared.log;
        let mut seats = self.shared.seats();
        if seats.unseen.iter().all(Option::is_none) {
            seats.was_tracking = log.is_tracking();
            log.start_tracking();
        }
        // What is marked by now belongs to the others.
        let mut earlier = L::Pages::default();
        log.harvest_into(&mut earlier);
        seats.hand_out(&earlier);

        let empty = Some(log.empty_pages());
        let seat = match seats.unseen.iter().position(Option::is_none) {
            Some(free) => {
                seats.unseen[free] = empty;
                free
            }
            None => {
                seats.unseen.push(empty);
                seats.unseen.len() - 1
            }
        };
        drop(seats);
        Reader {
            shared: self.shared.clone(),
            seat,
        }
    }
}

impl<L: DirtyLog> Reader<L> {
    /// Returns the log.
    pub fn log(&self) -> &L {
        &self.shared.log
    }

    /// Returns the pages written since this reader joined or last harvested.
    ///
    /// # Panics
    ///
    /// As [`harvest_into`](Self::harvest_into).
    pub fn harvest(&mut self) -> L::Pages {
        let mut pages = L::Pages::default();
        self.harvest_into(&mut pages);
        pages
    }

    /// Puts into `pages` the pages written since this reader joined or last harvested, in place of what was in it.
    ///
    /// # Panics
    ///
    /// Panics if another reader panicked while it was harvesting: what it had taken is lost.
    pub fn harvest_into(&mut self, pages: &mut L::Pages) {
        let mut seats = self.shared.seats();
        self.shared.log.harvest_into(pages);
        // The reader's own seat is empty while the others get what was taken.
        let mut own = seats.unseen[self.seat].take().unwrap_or_default();
        seats.hand_out(pages);
        // What the log no longer tracks is gone.
        own.fit_to(pages);
        pages.union_with(&own);
        own.clear();
        seats.unseen[self.seat] = Some(own);
    }
}

impl<L: DirtyLog> Shared<L> {
    fn seats(&self) -> MutexGuard<'_, Seats<L::Pages>> {
        self.seats
            .lock()
            .expect("a reader panicked while it was harvesting the dirty log")
    }
}

/// Leaves. The last reader switches tracking off, unless it was on before the first came.
impl<L: DirtyLog> Drop for Reader<L> {
    fn drop(&mut self) {
        // Also after a panic: leaving needs nothing that a harvest may have left half done.
        let seats = self.shared.seats.lock();
        let mut seats = seats.unwrap_or_else(PoisonError::into_inner);
        seats.unseen[self.seat] = None;
        if !seats.was_tracking && seats.unseen.iter().all(Option::is_none) {
            self.shared.log.stop_tracking();
        }
    }
}

impl<L: DirtyLog> Clone for Readers<L> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<L: DirtyLog + fmt::Debug> fmt::Debug for Readers<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers")
            .field("log", self.log())
            .finish_non_exhaustive()
    }
}

impl<L: DirtyLog + fmt::Debug> fmt::Debug for Reader<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("log", self.log())
            .finish_non_exhaustive()
    }
}
