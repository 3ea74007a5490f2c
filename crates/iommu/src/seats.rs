// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Who is in the middle of accesses, so that others can wait for the end of those.

use std::sync::{Arc, PoisonError};

use crate::sync::{AtomicU64, Mutex, Ordering, fence, pause};

/// No epoch comes to this.
const GONE: u64 = u64::MAX;

/// The seats of all devices.
#[derive(Debug)]
pub(crate) struct Seats {
    /// Grows with each wait; a seat that was taken at a later number is not waited for.
    epoch: AtomicU64,
    all: Mutex<Vec<Arc<Seat>>>,
}

/// Where a device notes that it is in the middle of accesses.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    /// The epoch when it was taken; 0 while it is free, [`GONE`] when it will not be taken again.
    taken_at: AtomicU64,
}

impl Default for Seats {
    fn default() -> Self {
        Self {
            epoch: AtomicU64::new(1),
            all: Mutex::default(),
        }
    }
}

impl Seats {
    /// Adds a seat, free.
    pub(crate) fn add(&self) -> Arc<Seat> {
        let seat = Arc::new(Seat::default());
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|seat| !seat.is_gone());
        all.push(Arc::clone(&seat));
        seat
    }

    /// Takes a seat. What the thread loads from then on is as new as what anyone stored who does not wait for it.
    pub(crate) fn take(&self, seat: &Seat) {
        let epoch = self.epoch.load(Ordering::Relaxed);
        // Release: who sees this one sees the end of the one before as well; pairs as in `leave`.
        seat.taken_at.store(epoch, Ordering::Release);
        // SeqCst, with the fence in `wait`: either that one's loads see the seat taken, or the loads after this see what
        // was stored before that one.
        fence(Ordering::SeqCst);
    }

    /// Waits until all seats have been free since this was called.
    pub(crate) fn wait(&self) {
        // SeqCst: see `take`.
        fence(Ordering::SeqCst);
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed);
        // A seat that is added behind this look has a thread that took the lock later, and so sees what was stored before.
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let seats = all.clone();
        drop(all);
        for seat in seats {
            let mut looks = 0u32;
            while seat.is_taken_since(epoch) {
                pause(looks);
                looks = looks.saturating_add(1);
            }
        }
    }
}

impl Seat {
    /// Frees the seat. Who waits for it sees all that the thread has done before.
    pub(crate) fn leave(&self) {
        // Pairs with the load in `is_taken_since`.
        self.taken_at.store(0, Ordering::Release);
    }

    /// Frees the seat for good.
    pub(crate) fn retire(&self) {
        // As in `leave`.
        self.taken_at.store(GONE, Ordering::Release);
    }

    fn is_gone(&self) -> bool {
        // Pairs with the store in `retire`; the lock of the list passes on what that has seen.
        self.taken_at.load(Ordering::Acquire) == GONE
    }

    /// Says whether it is taken, and was at this epoch or before.
    fn is_taken_since(&self, epoch: u64) -> bool {
        // Pairs with the stores in `leave`, `retire` and `take`.
        let taken_at = self.taken_at.load(Ordering::Acquire);
        taken_at != 0 && taken_at <= epoch
    }
}

#[cfg(all(test, loom))]
mod interleavings;
