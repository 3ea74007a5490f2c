// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Waiting until maps that were replaced are gone.

use std::fmt;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use guest_memory_core::IoMemory;

use crate::atomic::GuestMemoryAtomic;
use crate::sync::{Mutex, MutexGuard};

/// Maps that were replaced are still in use when the time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{map_count} replaced memory maps are still in use")]
pub struct StillInUse {
    /// Maps older than the one in force that somebody has.
    pub map_count: usize,
}

impl<M: IoMemory> GuestMemoryAtomic<M> {
    /// Waits until every map older than the one in force is gone.
    ///
    /// When it returns, no reader, guard or `Arc` of such a map is left, and what only they had mapped is
    /// unmapped, with one exception: an `Arc` that was [taken out](crate::GuestMemoryLoadGuard::into_inner) and dropped
    /// by another thread just now may still be at it.
    ///
    /// Who holds an old map is asked to let it go by [hooks](Self::on_release_request); a thread without one may sleep
    /// on it for long, so a wait without a time limit is for programs that know their readers.
    ///
    /// Regions that somebody has apart from the maps, such as the one that an unplug returned or that of a
    /// [`MemoryWindow`](crate::MemoryWindow), stay mapped: [`HotplugMemory::reclaim`](crate::HotplugMemory::reclaim)
    /// waits for these too.
    ///
    /// The calling thread must hold no older map itself, or it waits forever.
    ///
    /// # Panics
    ///
    /// If a hook does.
    ///
    /// # Examples
    ///
    /// A device that sleeps on a channel is woken by its hook and lets go:
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use std::thread;
    ///
    /// use guest_memory_atomic::GuestMemoryAtomic;
    /// use guest_memory_core::GuestAddress;
    /// use guest_memory_mmap::GuestMemoryMmap;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let ranges = [(GuestAddress(0), 0x1000), (GuestAddress(0x8000), 0x1000)];
    /// let memory = GuestMemoryAtomic::new(GuestMemoryMmap::<()>::from_ranges(&ranges)?);
    ///
    /// let mut reader = memory.reader();
    /// reader.memory(); // keeps the map with both regions
    /// let (wake, woken) = mpsc::channel();
    /// let hook = memory.on_release_request(move || wake.send(()).unwrap_or_default());
    /// let device = thread::spawn(move || woken.iter().for_each(|()| reader.release()));
    ///
    /// let removed = memory.update(|map| map.remove_region(GuestAddress(0x8000), 0x1000))?;
    /// memory.wait_for_readers();
    /// // No older map is left, so nobody but this thread has the region.
    /// assert_eq!(std::sync::Arc::strong_count(&removed), 1);
    /// # drop(hook);
    /// # device.join().expect("the device does not panic");
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_for_readers(&self) {
        // Without a time limit there is no error.
        let _ = self.wait(None);
    }

    /// As [`wait_for_readers`](Self::wait_for_readers), but no longer than `timeout`; with a `timeout` of zero it looks, asks
    /// by the hooks, and does not wait.
    ///
    /// # Errors
    ///
    /// [`StillInUse`] if older maps are left then.
    ///
    /// # Panics
    ///
    /// If a hook does.
    pub fn wait_for_readers_timeout(&self, timeout: Duration) -> Result<(), StillInUse> {
        self.wait(Some(timeout))
    }

    /// Has `ask` called whenever somebody waits for older maps to go, as long as the result lives.
    ///
    /// It runs in the thread that waits, and should make its own thread let go of the map, for instance by a write to
    /// the eventfd that this one sleeps on. It must not wait for anything. Right after the result is dropped
    /// it may be running still. There is an example at [`wait_for_readers`](Self::wait_for_readers).
    pub fn on_release_request(&self, ask: impl Fn() + Send + Sync + 'static) -> ReleaseHook {
        let ask: Arc<Ask> = Arc::new(ask);
        let mut hooks = self.shared.hooks.lock();
        hooks.retain(|hook| hook.strong_count() > 0);
        hooks.push(Arc::downgrade(&ask));
        ReleaseHook { _ask: ask }
    }

    fn wait(&self, timeout: Option<Duration>) -> Result<(), StillInUse> {
        let generation = self.generation();
        let versions = self.shared.versions();
        let is_over = versions.wait_for_end_of_older(generation, Some(Duration::ZERO));
        if is_over.is_ok() {
            return Ok(());
        }
        self.ask_for_release();
        versions
            .wait_for_end_of_older(generation, timeout)
            .map_err(|map_count| StillInUse { map_count })
    }

    /// Asks all threads with a hook to let go of their maps.
    pub(crate) fn ask_for_release(&self) {
        let hooks: Vec<Arc<Ask>> = self
            .shared
            .hooks
            .lock()
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        for ask in hooks {
            ask();
        }
    }
}

type Ask = dyn Fn() + Send + Sync;

/// Keeps a callback of [`GuestMemoryAtomic::on_release_request`]; it is not called any more when this is dropped.
#[must_use = "the callback goes when this is dropped"]
pub struct ReleaseHook {
    _ask: Arc<Ask>,
}

impl fmt::Debug for ReleaseHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReleaseHook").finish_non_exhaustive()
    }
}

/// The callbacks of all threads that have one.
pub(crate) struct Hooks(Mutex<Vec<Weak<Ask>>>);

impl Default for Hooks {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl Hooks {
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Ask>>> {
        // No step leaves the list half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
