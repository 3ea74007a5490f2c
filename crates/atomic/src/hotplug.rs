// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Plugging and unplugging as transactions that others take part in.

mod listener;
mod transaction;

use std::error::Error;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use guest_memory_core::{
    GuestAddress, GuestMemoryRegion, GuestRegionCollection, GuestRegionCollectionError, GuestUsize,
};

use crate::atomic::GuestMemoryAtomic;
use crate::sync::{Mutex, MutexGuard, sleep};
use transaction::{Failure, Listeners};

pub use listener::{ChangeKind, HotplugChange, HotplugListener};

/// How often to look whether a region is free.
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// Why memory cannot be plugged or unplugged; the map and all listeners are as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HotplugError {
    /// The map has no room for the region, or has no such region; no listener was asked.
    #[error("cannot {kind} {len} bytes at gpa {start}")]
    Map {
        /// What was tried.
        kind: ChangeKind,
        /// The region's first address.
        start: GuestAddress,
        /// The region's size, in bytes.
        len: GuestUsize,
        /// What the map says.
        source: GuestRegionCollectionError,
    },
    /// A listener refused.
    #[error("{listener} refused to {kind} {len} bytes at gpa {start}")]
    Refused {
        /// The listener's name.
        listener: String,
        /// What was tried.
        kind: ChangeKind,
        /// The region's first address.
        start: GuestAddress,
        /// The region's size, in bytes.
        len: GuestUsize,
        /// What the listener says.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// A region is still in use when the time is over.
#[derive(thiserror::Error)]
#[error("memory of {len} bytes at gpa {start} is still in use by {} others", self.holder_count())]
pub struct RegionInUse<R> {
    region: Arc<R>,
    start: GuestAddress,
    len: GuestUsize,
}

impl<R> RegionInUse<R> {
    /// Returns the region, to try again.
    pub fn into_region(self) -> Arc<R> {
        self.region
    }

    /// Returns how many others have it now: maps that were replaced, windows, and whoever took an `Arc` of it.
    pub fn holder_count(&self) -> usize {
        Arc::strong_count(&self.region).saturating_sub(1)
    }
}

/// By hand, since the region need not be printable.
impl<R> fmt::Debug for RegionInUse<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionInUse")
            .field("start", &self.start)
            .field("len", &self.len)
            .field("holder_count", &self.holder_count())
            .finish_non_exhaustive()
    }
}

/// Which listener of one [`HotplugMemory`] and its clones, as [`HotplugMemory::add_listener`] says it and
/// [`HotplugMemory::remove_listener`] takes it. Another memory may have the same for a listener of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(u64);

/// A swappable map whose regions are plugged and unplugged as transactions.
///
/// Whoever keeps something for each region registers a [`HotplugListener`]: a hypervisor's slot table, the
/// mappings of an assigned device's IOMMU, the memory table of a vhost back end. A change happens for all of them and for
/// the map, or for none.
///
/// # The order
///
/// 1. The new map is made. If there is no room for the region, or no such region, nobody is asked.
/// 2. Each listener prepares: in the order of registration to plug, in reverse to unplug. If one refuses, those
///    that have prepared roll back, the last one first, and the map stays.
/// 3. The map is swapped. From here on devices find the new memory, or do not find the old one.
/// 4. Each listener commits, in the order in which they prepared.
///
/// So with the hypervisor's slot table registered first, memory is in the slots before devices can find it, and
/// what devices had is gone before the slot goes. Step 4 of an unplug does not wait for readers that still use the
/// map before: the bytes stay mapped for them whatever the listeners do. To give the memory back afterwards,
/// [`reclaim`](Self::reclaim) the region.
///
/// # Panics of listeners
///
/// A panic in `prepare` counts as a refusal: the others are rolled back and the map stays. One in `commit` or `rollback`
/// keeps none of the others from theirs. The panic goes on when all is done.
///
/// # Examples
///
/// ```
/// use std::collections::BTreeMap;
/// use std::error::Error;
/// use std::sync::{Arc, Mutex};
///
/// use guest_memory_atomic::{GuestMemoryAtomic, HotplugChange, HotplugListener, HotplugMemory};
/// use guest_memory_core::{GuestAddress, GuestMemoryRegion};
/// use guest_memory_mmap::{GuestMemoryMmap, GuestRegionMmap};
///
/// /// Stands for a hypervisor's table.
/// #[derive(Default)]
/// struct Slots(BTreeMap<u64, u64>);
///
/// impl HotplugListener<GuestRegionMmap> for Slots {
///     fn prepare(
///         &mut self,
///         change: &HotplugChange<'_, GuestRegionMmap>,
///     ) -> Result<(), Box<dyn Error + Send + Sync>> {
///         if change.is_plug() {
///             self.0.insert(change.start_addr().0, change.len());
///         }
///         Ok(())
///     }
///
///     fn rollback(&mut self, change: &HotplugChange<'_, GuestRegionMmap>) {
///         if change.is_plug() {
///             self.0.remove(&change.start_addr().0);
///         }
///     }
///
///     fn commit(&mut self, change: &HotplugChange<'_, GuestRegionMmap>) {
///         if change.is_unplug() {
///             self.0.remove(&change.start_addr().0);
///         }
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn Error>> {
/// let map = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)])?;
/// let hotplug = HotplugMemory::new(GuestMemoryAtomic::new(map));
/// let slots = Arc::new(Mutex::new(Slots::default()));
/// hotplug.add_listener(Arc::clone(&slots))?; // hears of the region that is there
///
/// hotplug.plug(GuestRegionMmap::from_range(GuestAddress(0x10_0000), 0x2000, None)?)?;
/// assert_eq!(slots.lock().unwrap().0, [(0, 0x1000), (0x10_0000, 0x2000)].into());
///
/// let region = hotplug.unplug(GuestAddress(0x10_0000), 0x2000)?;
/// let region = hotplug.reclaim(region, std::time::Duration::from_secs(1))?;
/// drop(region); // unmapped here, for certain
/// # Ok(())
/// # }
/// ```
pub struct HotplugMemory<R: GuestMemoryRegion> {
    memory: GuestMemoryAtomic<GuestRegionCollection<R>>,
    /// Held during a transaction; taken before the lock for writers of the map.
    listeners: Arc<Mutex<Listeners<R>>>,
}

impl<R: GuestMemoryRegion> HotplugMemory<R> {
    /// Makes the regions of `memory` pluggable; there are no listeners yet.
    ///
    /// Who replaces the map by [`GuestMemoryAtomic::lock`] or [`update`](GuestMemoryAtomic::update) passes the listeners
    /// by.
    pub fn new(memory: GuestMemoryAtomic<GuestRegionCollection<R>>) -> Self {
        Self {
            memory,
            listeners: Arc::new(Mutex::new(Listeners::default())),
        }
    }

    /// Returns the map's handle, for readers and windows.
    pub fn memory(&self) -> &GuestMemoryAtomic<GuestRegionCollection<R>> {
        &self.memory
    }

    /// Adds a listener behind the others and plugs the regions that are there into it, by ascending address.
    ///
    /// It prepares for all of these, then commits for all; the map before and after is the one in force. To go on using
    /// a listener oneself, add an `Arc<Mutex<..>>` of it.
    ///
    /// # Errors
    ///
    /// [`HotplugError::Refused`] if it refuses a region. It rolled back those before and is not added.
    ///
    /// # Panics
    ///
    /// If the listener does; it is not added then.
    pub fn add_listener(
        &self,
        mut listener: impl HotplugListener<R> + Send + 'static,
    ) -> Result<ListenerId, HotplugError> {
        let mut listeners = self.listeners();
        let writer = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.memory.shared.load_full();
        let introduced = transaction::introduce(&mut listener, version.map());
        let added = introduced.map(|()| ListenerId(listeners.push(Box::new(listener))));
        // A panic goes on when nothing is locked.
        drop((version, writer, listeners));
        added.map_err(Failure::into_error)
    }

    /// Takes a listener out, for instance when its device is removed; returns whether it was there.
    ///
    /// It is not called any more, and dropped: what it has of regions is its own affair.
    ///
    /// Waits until other changes of the map are done. When called by a listener it may panic, or wait forever.
    pub fn remove_listener(&self, id: ListenerId) -> bool {
        let listener = self.listeners().remove(id.0);
        // Dropped when nothing is locked.
        listener.is_some()
    }

    /// Plugs a region, given as itself or as an `Arc`.
    ///
    /// Waits until other changes of the map are done.
    ///
    /// # Errors
    ///
    /// [`HotplugError::Map`] if the map cannot take the region, [`HotplugError::Refused`] if a listener does not. Nothing
    /// has changed then.
    ///
    /// # Panics
    ///
    /// If a listener does. May panic, or wait forever, when called by a listener or while this thread holds the
    /// [lock](GuestMemoryAtomic::lock).
    pub fn plug(&self, region: impl Into<Arc<R>>) -> Result<(), HotplugError> {
        let region = region.into();
        let (start, len) = (region.start_addr(), region.len());
        self.change(ChangeKind::Plug, start, len, |map| {
            let after = map.insert_region(Arc::clone(&region))?;
            Ok((after, region))
        })
        .map(drop)
    }

    /// Unplugs the region of `len` bytes at `start` and returns it. Waits until other changes of the map are done.
    ///
    /// Readers may use it until they take the new map, so it is still mapped; see [`reclaim`](Self::reclaim).
    ///
    /// # Errors
    ///
    /// [`HotplugError::Map`] if there is no region with exactly these bounds, [`HotplugError::Refused`] if a listener
    /// does not let it go. Nothing has changed then.
    ///
    /// # Panics
    ///
    /// Those of [`plug`](Self::plug).
    pub fn unplug(&self, start: GuestAddress, len: GuestUsize) -> Result<Arc<R>, HotplugError> {
        self.change(ChangeKind::Unplug, start, len, |map| {
            map.remove_region(start, len)
        })
    }

    /// Waits until nobody else has the region, which was unplugged, and returns it, for its memory to be unmapped or used
    /// for something else.
    ///
    /// It asks readers to let go, see [`on_release_request`](GuestMemoryAtomic::on_release_request), and then looks at
    /// the region's count every now and then.
    ///
    /// # Errors
    ///
    /// [`RegionInUse`], with the region, if somebody still has it when the time is over. A time of zero is enough to
    /// find out.
    ///
    /// # Panics
    ///
    /// If a hook does.
    pub fn reclaim(&self, region: Arc<R>, timeout: Duration) -> Result<R, RegionInUse<R>> {
        // A time too long to be reckoned with is no limit.
        let deadline = Instant::now().checked_add(timeout);
        let mut region = match Arc::try_unwrap(region) {
            Ok(region) => return Ok(region),
            Err(region) => region,
        };
        self.memory.ask_for_release();
        loop {
            region = match Arc::try_unwrap(region) {
                Ok(region) => return Ok(region),
                Err(region) => region,
            };
            let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if rest.is_some_and(|rest| rest.is_zero()) {
                let (start, len) = (region.start_addr(), region.len());
                return Err(RegionInUse { region, start, len });
            }
            sleep(rest.map_or(LOOK_AGAIN, |rest| rest.min(LOOK_AGAIN)));
        }
    }

    /// Runs the transaction that leads to the map that `make` makes.
    fn change(
        &self,
        kind: ChangeKind,
        start: GuestAddress,
        len: GuestUsize,
        make: impl FnOnce(
            &GuestRegionCollection<R>,
        )
            -> Result<(GuestRegionCollection<R>, Arc<R>), GuestRegionCollectionError>,
    ) -> Result<Arc<R>, HotplugError> {
        let mut listeners = self.listeners();
        let writer = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.memory.shared.load_full();
        let (after, region) = make(before.map()).map_err(|source| HotplugError::Map {
            kind,
            start,
            len,
            source,
        })?;
        let after = Arc::new(after);
        let change = HotplugChange::new(kind, &region, before.map(), &after);
        let done = listeners.run(&change, || writer.replace_shared(Arc::clone(&after)));
        // In order: a panic goes on when nothing is locked, and the old map goes when others can go on.
        drop(listeners);
        drop(before);
        done.map_err(Failure::into_error)?;
        Ok(region)
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners<R>> {
        // A transaction catches what a listener throws, and the list does not change in one.
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

// By hand: a derived one would ask for `R: Clone`.
impl<R: GuestMemoryRegion> Clone for HotplugMemory<R> {
    /// Makes another handle on the same map and the same listeners.
    fn clone(&self) -> Self {
        Self {
            memory: self.memory.clone(),
            listeners: Arc::clone(&self.listeners),
        }
    }
}

impl<R: GuestMemoryRegion + fmt::Debug> fmt::Debug for HotplugMemory<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HotplugMemory")
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}
