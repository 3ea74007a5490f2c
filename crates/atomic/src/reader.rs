// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A handle for one thread, which looks whether the map changed and usually has nothing else to do.

use std::fmt;
use std::sync::Arc;

use guest_memory_core::IoMemory;

use crate::atomic::{GuestMemoryAtomic, Shared};
use crate::versions::Version;

/// The map as one thread sees it: kept between uses, exchanged when there is a newer one.
///
/// Made by [`GuestMemoryAtomic::reader`], one for each device thread; a clone is one more. To find out that
/// the map has not changed is one load and one comparison, however many readers and guards there are.
///
/// # What it keeps
///
/// The map that [`memory`](Self::memory) returned last, until the next call or [`release`](Self::release). A
/// thread that goes to sleep for a long time should call `release` first, or be woken by a
/// [hook](GuestMemoryAtomic::on_release_request): what was unplugged meanwhile cannot be returned before.
///
/// # Examples
///
/// ```
/// use guest_memory_atomic::GuestMemoryAtomic;
/// use guest_memory_core::{Bytes, GuestAddress, GuestMemory};
/// use guest_memory_mmap::GuestMemoryMmap;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let small = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x1000)])?;
/// let memory = GuestMemoryAtomic::new(small);
///
/// let mut reader = memory.reader();
/// reader.memory().write_obj(7u32, GuestAddress(0x10))?;
///
/// let large = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x4000)])?;
/// memory.lock().expect("no writer panicked").replace(large);
/// assert_eq!(reader.memory().last_addr(), GuestAddress(0x3fff));
/// # Ok(())
/// # }
/// ```
pub struct GuestMemoryReader<M: IoMemory> {
    shared: Arc<Shared<M>>,
    /// The number of the map that is kept, or was last.
    generation: u64,
    kept: Option<Kept<M>>,
}

struct Kept<M> {
    // In this order: the version says that the map is gone.
    /// A copy of the version's, which is one step nearer.
    map: Arc<M>,
    version: Arc<Version<M>>,
}

impl<M: IoMemory> GuestMemoryAtomic<M> {
    /// Makes a handle for one thread.
    pub fn reader(&self) -> GuestMemoryReader<M> {
        GuestMemoryReader {
            shared: Arc::clone(&self.shared),
            generation: 0,
            kept: None,
        }
    }
}

impl<M: IoMemory> GuestMemoryReader<M> {
    /// Returns the map as it is now, without waiting for anybody.
    ///
    /// It stays whole and mapped while it is borrowed, even when replaced.
    ///
    /// The cost is about a nanosecond if it is the same as last time. If not, the old one is let go, which unmaps what
    /// only it had, and the new one loaded.
    #[inline]
    pub fn memory(&mut self) -> &M {
        if self.shared.is_newer_than(self.generation) {
            self.release();
        }
        let kept = self.kept.get_or_insert_with(|| {
            let kept = load(&self.shared);
            self.generation = kept.version.generation();
            kept
        });
        &kept.map
    }

    /// Lets the map go until the next use.
    ///
    /// When it returns, this reader keeps no memory from being unmapped.
    #[cold]
    pub fn release(&mut self) {
        self.kept = None;
    }
}

#[cold]
#[inline(never)]
fn load<M>(shared: &Shared<M>) -> Kept<M> {
    let version = shared.load_full();
    Kept {
        map: Arc::clone(version.map()),
        version,
    }
}

// By hand: a derived one would ask for `M: Clone`.
impl<M: IoMemory> Clone for GuestMemoryReader<M> {
    /// Makes a reader of the same map for another thread; it keeps nothing yet.
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            generation: 0,
            kept: None,
        }
    }
}

impl<M: IoMemory + fmt::Debug> fmt::Debug for GuestMemoryReader<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestMemoryReader")
            .field("kept", &self.kept.as_ref().map(|kept| &kept.map))
            .finish_non_exhaustive()
    }
}
