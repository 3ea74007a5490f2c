// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A device thread's own handle, which keeps translations.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;

use guest_memory_bitmap::BS;
use guest_memory_core::{
    GuestAddress, GuestMemory, GuestMemoryResult, GuestMemorySliceIterator, IoMemory, Permissions,
    VolatileSlice,
};

use crate::iommu::Iommu;
use crate::iotlb::Iotlb;
use crate::mapping::{MappedRange, Mapping};
use crate::memory::{BitmapOf, IommuMemory};
use crate::seats::Seat;
use crate::slices::IommuMemorySliceIterator;

/// Mappings that are kept, one for each of so many neighbouring IOVA pages.
const SLOTS: usize = 64;

/// Bytes of an IOVA page, as a shift.
const PAGE_SHIFT: u32 = 12;

/// A device thread's handle of an [`IommuMemory`], which keeps the mappings that it used last: an access by one of them
/// costs one or two nanoseconds more than an untranslated one.
///
/// The device accesses memory in sessions, one for each time it has something to do. In a session each access checks that
/// the IOMMU has not changed ([`Iommu::generation`]) before it uses what was kept, so it promises what
/// [`SharedIotlb`](crate::SharedIotlb) does. Where it has changed the device looks at the new table. An IOMMU without a
/// generation is asked each time.
///
/// It keeps up to 64 mappings, in about 2.5 KiB: one for each page of 4 KiB of IOVAs, in which a page takes the place of one
/// that is a multiple of 256 KiB away. Where it has none it searches the table.
///
/// # Examples
///
/// ```
/// use guest_memory_core::{Bytes, GuestAddress, Permissions};
/// use guest_memory_iommu::{IommuDevice, IommuMemory, SharedIotlb};
/// use guest_memory_mmap::GuestMemoryMmap;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let below = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x10_000)])?;
/// let memory = IommuMemory::new(below, SharedIotlb::new(), true, ());
/// memory.iommu().set_mapping(GuestAddress(0x7000), GuestAddress(0x1000), 0x1000, Permissions::ReadWrite)?;
///
/// let mut device = IommuDevice::new(memory.clone());
/// let session = device.enter();
/// session.write_obj(5u32, GuestAddress(0x7010))?;
/// assert_eq!(memory.get_backend().read_obj::<u32>(GuestAddress(0x1010))?, 5);
/// drop(session);
///
/// memory.iommu().invalidate_all();
/// memory.wait_for_devices();
/// // From here on the device is done with the page.
/// assert!(device.enter().read_obj::<u32>(GuestAddress(0x7010)).is_err());
/// # Ok(())
/// # }
/// ```
pub struct IommuDevice<M: GuestMemory, I: Iommu> {
    memory: IommuMemory<M, I>,
    seat: Arc<Seat>,
    slots: Box<[Cell<Slot>; SLOTS]>,
    kept: RefCell<Option<Kept>>,
}

/// A mapping of the table of some generation.
#[derive(Clone, Copy)]
struct Slot {
    generation: u64,
    mapping: Mapping,
}

impl Slot {
    /// Holds no address, whatever the generation.
    const EMPTY: Self = Self {
        generation: 0,
        mapping: Mapping::NONE,
    };
}

/// The table, at least as new as some generation.
struct Kept {
    generation: u64,
    iotlb: Arc<Iotlb>,
}

impl<M: GuestMemory, I: Iommu> IommuDevice<M, I> {
    /// Makes a handle with nothing kept yet.
    pub fn new(memory: IommuMemory<M, I>) -> Self {
        Self {
            seat: memory.seats.add(),
            memory,
            slots: Box::new([const { Cell::new(Slot::EMPTY) }; SLOTS]),
            kept: RefCell::new(None),
        }
    }

    /// Returns the memory, whose accesses are translated without what is kept and are in no session.
    pub fn memory(&self) -> &IommuMemory<M, I> {
        &self.memory
    }

    /// Goes on with another memory below, as after a change of the memory map; the mappings that are kept stay.
    pub fn replace_backend(&mut self, new_backend: M) {
        self.memory = self.memory.with_replaced_backend(new_backend);
    }

    /// Begins a session, which costs a full fence.
    ///
    /// [`wait_for_devices`](IommuMemory::wait_for_devices) waits for its end, so a session should not last while the
    /// device has nothing to do. (One that is forgotten lasts as long as the device.)
    pub fn enter(&mut self) -> IommuSession<'_, M, I> {
        self.memory.seats.take(&self.seat);
        IommuSession { device: self }
    }

    /// Returns what the start of `[iova, iova + length)` is mapped to, by a mapping of this generation that is kept if
    /// possible.
    #[inline(always)]
    fn first_mapped(
        &self,
        generation: u64,
        iova: GuestAddress,
        length: usize,
        access: Permissions,
    ) -> Option<MappedRange> {
        let slot = self.slot(iova).get();
        if slot.generation == generation
            && length > 0
            && slot.mapping.holds(iova.0)
            && slot.mapping.allowed.allow(access)
        {
            return Some(slot.mapping.resolve(iova.0, length));
        }
        self.find(generation, iova, length, access)
    }

    /// As `first_mapped`, by the table.
    #[inline(never)]
    fn find(
        &self,
        generation: u64,
        iova: GuestAddress,
        length: usize,
        access: Permissions,
    ) -> Option<MappedRange> {
        let mut kept = self.kept.borrow_mut();
        if kept
            .as_ref()
            .is_none_or(|kept| kept.generation != generation)
        {
            // The generation was read before: the table is as new, or newer, and then the next access finds that out.
            *kept = self
                .memory
                .iommu()
                .snapshot()
                .map(|iotlb| Kept { generation, iotlb });
        }
        let Some(kept) = kept.as_ref() else {
            return self.memory.iommu().first_mapped(iova, length, access);
        };
        let mapping = *kept.iotlb.find(iova)?;
        self.slot(iova).set(Slot {
            generation,
            mapping,
        });
        (length > 0 && mapping.allowed.allow(access)).then(|| mapping.resolve(iova.0, length))
    }

    #[inline(always)]
    fn slot(&self, iova: GuestAddress) -> &Cell<Slot> {
        let page = iova.0 >> PAGE_SHIFT;
        &self.slots[usize::try_from(page % SLOTS as u64).unwrap_or(0)]
    }
}

// Also for a session that was forgotten: nobody waits for a device that is gone.
impl<M: GuestMemory, I: Iommu> Drop for IommuDevice<M, I> {
    fn drop(&mut self) {
        self.seat.retire();
    }
}

impl<M: GuestMemory + fmt::Debug, I: Iommu> fmt::Debug for IommuDevice<M, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IommuDevice")
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

/// A device in the middle of its accesses; made by [`IommuDevice::enter`].
///
/// It is an [`IoMemory`], so it has [`Bytes<GuestAddress>`](guest_memory_core::Bytes), with the errors and marks of
/// [`IommuMemory`]; windows on memory live no longer than it does. Dropping it ends the session.
pub struct IommuSession<'d, M: GuestMemory, I: Iommu> {
    device: &'d IommuDevice<M, I>,
}

impl<M: GuestMemory, I: Iommu> Drop for IommuSession<'_, M, I> {
    fn drop(&mut self) {
        self.device.seat.leave();
    }
}

impl<M: GuestMemory, I: Iommu> IoMemory for IommuSession<'_, M, I> {
    type PhysicalMemory = M;
    type Bitmap = BitmapOf<M>;

    fn check_range(&self, addr: GuestAddress, count: usize, access: Permissions) -> bool {
        self.single_slice(addr, count, access).is_some()
            || self.device.memory.check_range(addr, count, access)
    }

    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> GuestMemoryResult<impl GuestMemorySliceIterator<'a, BS<'a, Self::Bitmap>>> {
        IommuMemorySliceIterator::new(&self.device.memory, addr, count, access)
    }

    #[inline(always)]
    fn single_slice(
        &self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Option<VolatileSlice<'_, BS<'_, Self::Bitmap>>> {
        let memory = &self.device.memory;
        if !memory.get_iommu_enabled() {
            return memory.get_backend().single_slice(addr, count, access);
        }
        let Some(generation) = memory.iommu().generation() else {
            return memory.single_slice(addr, count, access);
        };
        let mapped = self.device.first_mapped(generation, addr, count, access)?;
        memory.whole_window(mapped, addr, count, access)
    }

    #[inline]
    fn first_slice(
        &self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Option<VolatileSlice<'_, BS<'_, Self::Bitmap>>> {
        let memory = &self.device.memory;
        if !memory.get_iommu_enabled() {
            return memory.get_backend().first_slice(addr, count, access);
        }
        let Some(generation) = memory.iommu().generation() else {
            return memory.first_slice(addr, count, access);
        };
        let mapped = self.device.first_mapped(generation, addr, count, access)?;
        memory.first_window(mapped, addr, access)
    }

    fn physical_memory(&self) -> Option<&M> {
        self.device.memory.physical_memory()
    }
}

impl<M: GuestMemory + fmt::Debug, I: Iommu> fmt::Debug for IommuSession<'_, M, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IommuSession").field(self.device).finish()
    }
}
