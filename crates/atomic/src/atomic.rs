// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The map, its readers' guard and its writers' guard.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LockResult, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, Guard};
use guest_memory_core::{GuestAddressSpace, IoMemory};

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
    shared: Arc<Shared<M>>,
}

/// What all handles share.
struct Shared<M> {
    map: ArcSwap<M>,
    /// Held by whoever is about to replace the map, so that no change is computed from a stale one.
    writer: Mutex<()>,
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
}

impl<M: IoMemory> From<Arc<M>> for GuestMemoryAtomic<M> {
    fn from(map: Arc<M>) -> Self {
        let shared = Shared {
            map: ArcSwap::new(map),
            writer: Mutex::new(()),
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
            .field("map", &*self.shared.map.load())
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
            map: self.shared.map.load(),
        }
    }
}

/// A map as it was when loaded; it stays whole and mapped while the guard lives, even when replaced.
///
/// Meant for a short time, such as one request: a guard kept keeps the memory of a replaced map. A
/// thread should keep few at a time; [`into_inner`](Self::into_inner) is for longer use.
pub struct GuestMemoryLoadGuard<M: IoMemory> {
    map: Guard<Arc<M>>,
}

impl<M: IoMemory> GuestMemoryLoadGuard<M> {
    /// Returns the map itself, shared.
    pub fn into_inner(self) -> Arc<M> {
        Guard::into_inner(self.map)
    }
}

impl<M: IoMemory> Clone for GuestMemoryLoadGuard<M> {
    fn clone(&self) -> Self {
        Self {
            map: Guard::from_inner(Arc::clone(&self.map)),
        }
    }
}

impl<M: IoMemory> Deref for GuestMemoryLoadGuard<M> {
    type Target = M;

    #[inline]
    fn deref(&self) -> &M {
        &self.map
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
        let old = self.shared.map.swap(Arc::new(map));
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
