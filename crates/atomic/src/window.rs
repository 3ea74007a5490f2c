// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A range of guest memory that is looked up once and stays looked up while maps come and go.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use guest_memory_core::{
    Address, BS, GuestAddress, GuestMemory, GuestMemoryError, GuestMemoryRegion,
    GuestRegionCollection, MemoryRegionAddress, VolatileSlice,
};

use guest_memory_volatile::{AtomicAccess, ByteValued};

use crate::atomic::{GuestMemoryAtomic, Shared};

type Map<R> = GuestRegionCollection<R>;

/// Why a window cannot be had or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WindowError {
    /// The window's region was unplugged.
    #[error("window of {len} bytes at gpa {start} is stale: its memory was unplugged")]
    Stale {
        /// Where the window starts.
        start: GuestAddress,
        /// The window's size, in bytes.
        len: usize,
    },
    /// The access reaches past the window's end.
    #[error(
        "{length} bytes at offset {offset:#x} reach out of a window of {len} bytes at gpa {start}"
    )]
    OutOfWindow {
        /// Where the access starts in the window.
        offset: usize,
        /// Bytes that the access wanted.
        length: usize,
        /// Where the window starts.
        start: GuestAddress,
        /// The window's size, in bytes.
        len: usize,
    },
    /// The range is no window: not in one region, empty, or refused by its region.
    #[error("no window of {len} bytes at gpa {start}")]
    NoWindow {
        /// Where the window was to start.
        start: GuestAddress,
        /// The size it was to have, in bytes.
        len: usize,
        /// Why.
        source: Box<GuestMemoryError>,
    },
    /// The memory failed.
    #[error("access through a window failed")]
    Memory(#[source] Box<GuestMemoryError>),
}

/// A range of guest memory for repeated use, such as a ring of a virtqueue. Offsets and lengths are in bytes, from the
/// window's start.
///
/// Made by [`GuestMemoryAtomic::window`], one for each thread that needs it. The range is looked up and checked then; each
/// use compares one number to know that the map is still the same. After a change the window looks whether its
/// region is still there, and goes on if it is. After the region was unplugged the window is *stale*: it reports
/// [`WindowError::Stale`], for good, even if there is other memory at the same address by then, which a device has no
/// business with until its driver has set it up again. [`renew`](Self::renew) takes what is there now.
///
/// An unplug that returned before an access began is always seen by it. An access that was under way goes on in the
/// old memory, which the window keeps.
///
/// # What it keeps
///
/// Its region, until it finds out that this was unplugged. A thread that does not use its windows can ask
/// ([`is_stale`](Self::is_stale)), as in a [hook](GuestMemoryAtomic::on_release_request).
///
/// # Dirty tracking
///
/// That of the region, as with any access.
///
/// # Examples
///
/// ```
/// use guest_memory_atomic::{GuestMemoryAtomic, WindowError};
/// use guest_memory_core::GuestAddress;
/// use guest_memory_mmap::GuestMemoryMmap;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ranges = [(GuestAddress(0), 0x1000), (GuestAddress(0x1000), 0x1000)];
/// let memory = GuestMemoryAtomic::new(GuestMemoryMmap::<()>::from_ranges(&ranges)?);
///
/// let mut ring = memory.window(GuestAddress(0x1100), 0x80)?;
/// ring.write_obj(7u16, 2)?;
/// assert_eq!(ring.slice()?.read_obj::<u16>(2)?, 7);
///
/// // A change elsewhere does not matter; that of its own region does.
/// memory.update(|map| map.remove_region(GuestAddress(0), 0x1000))?;
/// assert_eq!(ring.read_obj::<u16>(2)?, 7);
/// memory.update(|map| map.remove_region(GuestAddress(0x1000), 0x1000))?;
/// assert!(matches!(ring.read_obj::<u16>(2), Err(WindowError::Stale { .. })));
/// # Ok(())
/// # }
/// ```
pub struct MemoryWindow<R: GuestMemoryRegion> {
    shared: Arc<Shared<Map<R>>>,
    /// The number of the map in which the region was found last.
    generation: u64,
    /// None when stale.
    region: Option<Arc<R>>,
    offset: MemoryRegionAddress,
    start: GuestAddress,
    len: usize,
}

impl<R: GuestMemoryRegion> GuestMemoryAtomic<Map<R>> {
    /// Makes a window on `[start, start + len)`, which must lie in one region.
    ///
    /// The cost grows with the number of regions; a window is for long use.
    ///
    /// # Errors
    ///
    /// [`WindowError::NoWindow`] if the range is empty, has no memory or lies in more than one region, or if its region
    /// gives out no slice of it.
    pub fn window(&self, start: GuestAddress, len: usize) -> Result<MemoryWindow<R>, WindowError> {
        let version = self.shared.load_full();
        let found = find(version.map(), start, len).map_err(|cause| WindowError::NoWindow {
            start,
            len,
            source: Box::new(cause),
        })?;
        Ok(MemoryWindow {
            shared: Arc::clone(&self.shared),
            generation: version.generation(),
            region: Some(found.0),
            offset: found.1,
            start,
            len,
        })
    }
}

impl<R: GuestMemoryRegion> MemoryWindow<R> {
    /// Returns the whole window.
    ///
    /// The slice is for now: keep it no longer than one request, since it does not see an unplug.
    ///
    /// # Errors
    ///
    /// [`WindowError::Stale`] after an unplug; [`WindowError::Memory`] if the region refuses, or gives a slice of another
    /// length.
    #[inline(always)]
    pub fn slice(&mut self) -> Result<VolatileSlice<'_, BS<'_, R::B>>, WindowError> {
        let (offset, len) = (self.offset, self.len);
        let region = self.region()?;
        match region.get_slice(offset, len) {
            Ok(slice) if slice.len() == len => Ok(slice),
            refused => Err(no_slice(
                region,
                offset,
                len,
                refused.map(|slice| slice.len()),
            )),
        }
    }

    /// Reads an object at an offset.
    ///
    /// # Atomicity
    ///
    /// That of [`Bytes::read_obj`](guest_memory_core::Bytes::read_obj).
    ///
    /// # Errors
    ///
    /// [`WindowError::Stale`] after an unplug; [`WindowError::OutOfWindow`] if the object reaches past the end;
    /// [`WindowError::Memory`] if the memory fails.
    #[inline(always)]
    pub fn read_obj<T: ByteValued>(&mut self, offset: usize) -> Result<T, WindowError> {
        let (region, addr) = self.place::<T>(offset)?;
        region.read_obj(addr).map_err(failed)
    }

    /// Writes an object at an offset.
    ///
    /// # Atomicity
    ///
    /// That of [`Bytes::write_obj`](guest_memory_core::Bytes::write_obj).
    ///
    /// # Errors
    ///
    /// Those of [`read_obj`](Self::read_obj).
    #[inline(always)]
    pub fn write_obj<T: ByteValued>(&mut self, value: T, offset: usize) -> Result<(), WindowError> {
        let (region, addr) = self.place::<T>(offset)?;
        region.write_obj(value, addr).map_err(failed)
    }

    /// Loads a value atomically at an offset.
    ///
    /// # Errors
    ///
    /// Those of [`read_obj`](Self::read_obj), and if the value is misaligned.
    ///
    /// # Panics
    ///
    /// If `order` is not one that a load can have.
    #[inline(always)]
    pub fn load<T: AtomicAccess>(
        &mut self,
        offset: usize,
        order: Ordering,
    ) -> Result<T, WindowError> {
        let (region, addr) = self.place::<T>(offset)?;
        region.load(addr, order).map_err(failed)
    }

    /// Stores a value atomically at an offset.
    ///
    /// # Errors
    ///
    /// Those of [`read_obj`](Self::read_obj), and if the value is misaligned.
    ///
    /// # Panics
    ///
    /// If `order` is not one that a store can have.
    #[inline(always)]
    pub fn store<T: AtomicAccess>(
        &mut self,
        value: T,
        offset: usize,
        order: Ordering,
    ) -> Result<(), WindowError> {
        let (region, addr) = self.place::<T>(offset)?;
        region.store(value, addr, order).map_err(failed)
    }

    /// Says whether the region was unplugged, and lets it go if so.
    #[inline]
    pub fn is_stale(&mut self) -> bool {
        self.region().is_err()
    }

    /// Takes the memory that is there now, stale or not, as after the driver has set the device up again.
    ///
    /// # Errors
    ///
    /// Those of [`GuestMemoryAtomic::window`]; the window is stale then.
    pub fn renew(&mut self) -> Result<(), WindowError> {
        self.region = None;
        let memory = GuestMemoryAtomic {
            shared: Arc::clone(&self.shared),
        };
        *self = memory.window(self.start, self.len)?;
        Ok(())
    }

    /// Returns the guest address of the first byte.
    #[inline]
    pub fn start_addr(&self) -> GuestAddress {
        self.start
    }

    /// Returns the size in bytes, which is not 0.
    #[expect(clippy::len_without_is_empty, reason = "a window is never empty")]
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the region, if it is in the map in force.
    #[inline(always)]
    fn region(&mut self) -> Result<&R, WindowError> {
        if self.shared.is_newer_than(self.generation) {
            self.look_again();
        }
        match &self.region {
            Some(region) => Ok(region),
            None => Err(self.stale()),
        }
    }

    /// Returns the place of a value in the region.
    #[inline(always)]
    fn place<T>(&mut self, offset: usize) -> Result<(&R, MemoryRegionAddress), WindowError> {
        let len = self.len;
        if offset > len || len - offset < size_of::<T>() {
            return Err(self.out_of_window(offset, size_of::<T>()));
        }
        // Within the window, so within the region.
        let addr = self.offset.unchecked_add(offset as u64);
        Ok((self.region()?, addr))
    }

    /// Looks for the region in the map in force, and lets it go if it is not there.
    #[cold]
    #[inline(never)]
    fn look_again(&mut self) {
        let version = self.shared.load();
        self.generation = version.generation();
        let is_there = self.region.as_ref().is_some_and(|region| {
            let found = version.map().to_region_span(self.start, self.len);
            // Kept, so that no other region can have its address.
            found.is_some_and(|(found, offset)| {
                std::ptr::eq(found, &raw const **region) && offset == self.offset
            })
        });
        drop(version);
        if !is_there {
            self.region = None;
        }
    }

    #[cold]
    #[inline(never)]
    fn stale(&self) -> WindowError {
        WindowError::Stale {
            start: self.start,
            len: self.len,
        }
    }

    #[cold]
    #[inline(never)]
    fn out_of_window(&self, offset: usize, length: usize) -> WindowError {
        WindowError::OutOfWindow {
            offset,
            length,
            start: self.start,
            len: self.len,
        }
    }
}

/// Finds the region that has all of the range, if it gives out a slice of it.
fn find<R: GuestMemoryRegion>(
    map: &Map<R>,
    start: GuestAddress,
    len: usize,
) -> Result<(Arc<R>, MemoryRegionAddress), GuestMemoryError> {
    map.get_slice(start, len)?;
    let (region, offset) = map
        .to_region_span(start, len)
        .ok_or(GuestMemoryError::InvalidGuestAddress(start))?;
    let shared = map
        .arc_regions()
        .find(|shared| std::ptr::eq(&raw const ***shared, region));
    let region = shared.ok_or(GuestMemoryError::InvalidGuestAddress(start))?;
    Ok((Arc::clone(region), offset))
}

#[cold]
#[inline(never)]
fn failed(cause: GuestMemoryError) -> WindowError {
    WindowError::Memory(Box::new(cause))
}

/// Says why a region gave no slice, or one of another length.
#[cold]
#[inline(never)]
fn no_slice<R: GuestMemoryRegion>(
    region: &R,
    offset: MemoryRegionAddress,
    expected: usize,
    given: Result<usize, GuestMemoryError>,
) -> WindowError {
    failed(match given {
        Err(cause) => cause,
        Ok(actual) => GuestMemoryError::SliceLength {
            address: region.start_addr().unchecked_add(offset.raw_value()),
            expected,
            actual,
        },
    })
}

impl<R: GuestMemoryRegion> fmt::Debug for MemoryWindow<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryWindow")
            .field("start", &self.start)
            .field("len", &self.len)
            .field("is_stale", &self.region.is_none())
            .finish_non_exhaustive()
    }
}
