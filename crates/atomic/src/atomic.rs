// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The map, its guard for readers and its guard for writers.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LockResult, PoisonError};

use guest_memory_core::{GuestAddressSpace, IoMemory};

use crate::grace::Hooks;
use crate::sync::{AtomicU64, Loaded, Mutex, MutexGuard, Ordering, Slot, loaded};
use crate::versions::{Version, Versions};

/// A guest memory map that can be replaced while others use it.
///
/// A clone is another handle on the same map: all see what one of them replaces.
///
/// # Examples
///
/// ```
/// use guest_memory_atomic::GuestMemoryAtomic;
/// use guest_memory_core::{GuestAddress, GuestAddressSpace, GuestMemory};
/// use guest_memory_mmap::GuestMemoryMmap;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let small = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x1000)])?;
/// let memory = GuestMemoryAtomic::new(small);
/// let seen_before = memory.memory();
///
/// let large = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x4000)])?;
/// memory.lock().expect("no writer panicked").replace(large);
///
/// assert_eq!(memory.memory().last_addr(), GuestAddress(0x3fff));
/// assert_eq!(seen_before.last_addr(), GuestAddress(0xfff));
/// # Ok(())
/// # }
/// ```
pub struct GuestMemoryAtomic<M: IoMemory> {
    pub(crate) shared: Arc<Shared<M>>,
}

/// What all handles share.
pub(crate) struct Shared<M> {
    /// The number of the map in force, told before that map is there.
    announced: Announced,
    version: Slot<Version<M>>,
    versions: Arc<Versions<M>>,
    /// Held by whoever is about to replace the map, so that no change is computed from a stale one.
    writer: Mutex<()>,
    pub(crate) hooks: Hooks,
}

/// A number in a cache line that nobody writes but for a replacement.
#[repr(align(64))]
struct Announced(AtomicU64);

impl<M> Shared<M> {
    /// Says whether a map newer than this one is or will be in force.
    #[inline(always)]
    pub(crate) fn is_newer_than(&self, generation: u64) -> bool {
        // Relaxed: the number orders no data, the map comes from the slot. Who knows of a replacement, because it came
        // before or because the new map was loaded before, sees its number: it is stored before the map is there.
        self.announced.0.load(Ordering::Relaxed) > generation
    }

    #[inline]
    pub(crate) fn load(&self) -> Loaded<Version<M>> {
        self.version.load()
    }

    pub(crate) fn load_full(&self) -> Arc<Version<M>> {
        self.version.load_full()
    }

    pub(crate) fn versions(&self) -> &Versions<M> {
        &self.versions
    }

    /// Puts a map in force, on behalf of the one writer; returns the version before.
    fn replace(&self, map: Arc<M>) -> Arc<Version<M>> {
        let generation = self.version.load().generation().wrapping_add(1);
        let next = self.versions.enter(map, generation);
        // Before the swap: a reader that loads the map in between looks again, and none that could know of the new map
        // goes on with an older one. Relaxed: see `is_newer_than`; the swap releases it.
        self.announced.0.store(generation, Ordering::Relaxed);
        self.version.swap(next)
    }
}

impl<M: IoMemory> GuestMemoryAtomic<M> {
    /// Makes `map` replaceable.
    pub fn new(map: M) -> Self {
        Arc::new(map).into()
    }

    /// Waits until no other writer holds the map, and keeps further writers out.
    ///
    /// Readers go on. To change the map, take this lock first, then read the map with
    /// [`memory`](GuestAddressSpace::memory), then [`replace`](GuestMemoryExclusiveGuard::replace) it: a change
    /// computed before the lock was taken could undo another writer's.
    ///
    /// # Errors
    ///
    /// A poisoned lock: another writer panicked while it held the lock. The map is whole nevertheless, since it is
    /// replaced in one step, and the guard inside the error works.
    ///
    /// # Panics
    ///
    /// May panic, or wait forever, if this thread holds the guard already.
    pub fn lock(&self) -> LockResult<GuestMemoryExclusiveGuard<'_, M>> {
        let guard = |writer| GuestMemoryExclusiveGuard {
            shared: &self.shared,
            writer,
        };
        match self.shared.writer.lock() {
            Ok(writer) => Ok(guard(writer)),
            Err(poisoned) => Err(PoisonError::new(guard(poisoned.into_inner()))),
        }
    }

    /// Replaces the map by what `change` makes of it, as one step for other writers.
    ///
    /// Returns what `change` returned beside the map. A writer that panicked before does no harm.
    ///
    /// # Errors
    ///
    /// Those of `change`; the map stays then.
    ///
    /// # Panics
    ///
    /// If `change` does; the map stays. May panic, or wait forever, if this thread is about to replace the map already.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use guest_memory_atomic::GuestMemoryAtomic;
    /// # use guest_memory_core::{GuestAddress, GuestAddressSpace, GuestMemory};
    /// # use guest_memory_mmap::{GuestMemoryMmap, GuestRegionMmap};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let map = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x1000)])?;
    /// # let memory = GuestMemoryAtomic::new(map);
    /// let region = GuestRegionMmap::from_range(GuestAddress(0x10_0000), 0x1000, None)?;
    /// memory.update(|map| map.insert_region(Arc::new(region)).map(|larger| (larger, ())))?;
    ///
    /// let removed = memory.update(|map| map.remove_region(GuestAddress(0x10_0000), 0x1000))?;
    /// assert_eq!(memory.memory().num_regions(), 1);
    /// # drop(removed);
    /// # Ok(())
    /// # }
    /// ```
    pub fn update<T, E>(&self, change: impl FnOnce(&M) -> Result<(M, T), E>) -> Result<T, E> {
        let guard = self.lock().unwrap_or_else(PoisonError::into_inner);
        // Counted, not borrowed from the thread's few slots: `change` may take long.
        let version = self.shared.load_full();
        let (map, result) = change(version.map())?;
        drop(version);
        guard.replace(map);
        Ok(result)
    }

    /// Returns the number of the map in force: 0 at first, one more with each replacement.
    pub fn generation(&self) -> u64 {
        self.shared.load().generation()
    }
}

impl<M: IoMemory> From<Arc<M>> for GuestMemoryAtomic<M> {
    fn from(map: Arc<M>) -> Self {
        let versions = Versions::new();
        let shared = Shared {
            announced: Announced(AtomicU64::new(0)),
            version: Slot::new(versions.enter(map, 0)),
            versions,
            writer: Mutex::new(()),
            hooks: Hooks::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }
}

// By hand: a derived one would ask for `M: Clone`, and clone the handle is all this does.
impl<M: IoMemory> Clone for GuestMemoryAtomic<M> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<M: IoMemory + fmt::Debug> fmt::Debug for GuestMemoryAtomic<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestMemoryAtomic")
            .field("map", &**self.shared.load().map())
            .finish()
    }
}

impl<M: IoMemory> GuestAddressSpace for GuestMemoryAtomic<M> {
    type M = M;
    type T = GuestMemoryLoadGuard<M>;

    /// Returns the map as it is now, without waiting for anybody.
    #[inline]
    fn memory(&self) -> Self::T {
        GuestMemoryLoadGuard {
            version: self.shared.load(),
        }
    }
}

/// A map as it was when loaded; it stays whole and mapped while the guard lives, even when replaced.
///
/// Meant for a short time, such as one request: a guard kept keeps the memory of a replaced map. A
/// thread should keep few at a time; [`into_inner`](Self::into_inner) is for longer use.
pub struct GuestMemoryLoadGuard<M: IoMemory> {
    version: Loaded<Version<M>>,
}

impl<M: IoMemory> GuestMemoryLoadGuard<M> {
    /// Returns the map itself, shared, to keep for as long as wished.
    ///
    /// Who waits for readers waits for this one too, but has to look again and again whether it is gone.
    pub fn into_inner(self) -> Arc<M> {
        Arc::clone(self.version.map())
    }
}

impl<M: IoMemory> Clone for GuestMemoryLoadGuard<M> {
    fn clone(&self) -> Self {
        Self {
            version: loaded(Arc::clone(&self.version)),
        }
    }
}

impl<M: IoMemory> Deref for GuestMemoryLoadGuard<M> {
    type Target = M;

    #[inline]
    fn deref(&self) -> &M {
        self.version.map()
    }
}

impl<M: IoMemory + fmt::Debug> fmt::Debug for GuestMemoryLoadGuard<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestMemoryLoadGuard")
            .field("map", &**self)
            .finish()
    }
}

/// The right to replace the map; one at a time.
pub struct GuestMemoryExclusiveGuard<'a, M: IoMemory> {
    shared: &'a Shared<M>,
    writer: MutexGuard<'a, ()>,
}

impl<M: IoMemory> GuestMemoryExclusiveGuard<'_, M> {
    /// Replaces the map and lets the next writer in.
    ///
    /// Whoever loads the map from now on gets `map`. The old one goes when its last guard does.
    pub fn replace(self, map: M) {
        self.replace_shared(Arc::new(map));
    }

    pub(crate) fn replace_shared(self, map: Arc<M>) {
        let old = self.shared.replace(map);
        // Unmapping may take long: let the next writer in first.
        drop(self.writer);
        drop(old);
    }
}

impl<M: IoMemory> fmt::Debug for GuestMemoryExclusiveGuard<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestMemoryExclusiveGuard")
            .finish_non_exhaustive()
    }
}
