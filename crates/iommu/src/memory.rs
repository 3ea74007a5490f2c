// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest memory behind an IOMMU.

use std::fmt;
use std::sync::Arc;

use guest_memory_bitmap::{BS, Bitmap};
use guest_memory_core::{
    GuestAddress, GuestMemory, GuestMemoryRegion, GuestMemoryResult, GuestMemorySliceIterator,
    IoMemory, IovaRange, Permissions, TranslationError, VolatileSlice,
};

use crate::iommu::Iommu;
use crate::mapping::MappedRange;
use crate::seats::Seats;
use crate::slices::IommuMemorySliceIterator;
use crate::sync::{AtomicBool, Ordering};

/// The dirty bitmap of the memory `M`'s regions.
pub(crate) type BitmapOf<M> = <<M as GuestMemory>::R as GuestMemoryRegion>::B;

/// A guest memory as a device behind an IOMMU sees it: addresses are IOVAs, which the IOMMU translates and checks for
/// each access.
///
/// It is an [`IoMemory`], so it has [`Bytes<GuestAddress>`](guest_memory_core::Bytes). A clone is another handle of the
/// same IOMMU, bitmap and switch, with a clone of the memory below. A device thread gets its accesses faster through an
/// [`IommuDevice`](crate::IommuDevice).
///
/// # Switched off
///
/// While the IOMMU is off, addresses are guest-physical and writes mark the bitmaps of the memory below.
/// [`enable`](Self::enable) and [`disable`](Self::disable) switch all clones, whichever thread has them;
/// [`set_iommu_enabled`](Self::set_iommu_enabled) parts one handle from the others. An access that is under way goes on
/// as it began.
///
/// # Errors
///
/// An access that meets a part it may not access moves what comes before; then the error is
/// [`GuestMemoryError::IommuError`](guest_memory_core::GuestMemoryError::IommuError), which says which IOVAs, how they
/// were to be accessed and why they cannot be. If bytes were moved before it is the source of an
/// [`Interrupted`](guest_memory_core::GuestMemoryError::Interrupted), which counts them.
///
/// # Dirty tracking
///
/// A translated write marks the bitmap given to [`new`](Self::new), at the IOVA as an offset, and nothing else: the bitmap
/// has to cover the IOVAs that devices use. Marks past its end are ignored.
pub struct IommuMemory<M: GuestMemory, I: Iommu> {
    backend: M,
    iommu: Arc<I>,
    bitmap: Arc<BitmapOf<M>>,
    enabled: Arc<AtomicBool>,
    pub(crate) seats: Arc<Seats>,
}

impl<M: GuestMemory, I: Iommu> IommuMemory<M, I> {
    /// Puts a memory behind an IOMMU, which is on at first if `use_iommu` says so.
    ///
    /// `bitmap` gets the marks of translated writes, by IOVA: its offset 0 is IOVA 0.
    pub fn new(backend: M, iommu: I, use_iommu: bool, bitmap: BitmapOf<M>) -> Self {
        Self {
            backend,
            iommu: Arc::new(iommu),
            bitmap: Arc::new(bitmap),
            enabled: Arc::new(AtomicBool::new(use_iommu)),
            seats: Arc::default(),
        }
    }

    /// Makes a handle with another memory below, as after a change of the memory map; otherwise it is as a clone of this one.
    pub fn with_replaced_backend(&self, new_backend: M) -> Self {
        Self {
            backend: new_backend,
            iommu: Arc::clone(&self.iommu),
            bitmap: Arc::clone(&self.bitmap),
            enabled: Arc::clone(&self.enabled),
            seats: Arc::clone(&self.seats),
        }
    }

    /// Returns the bitmap that translated writes mark, by IOVA.
    pub fn bitmap(&self) -> &Arc<BitmapOf<M>> {
        &self.bitmap
    }

    /// Returns the memory below, by guest-physical addresses.
    #[inline]
    pub fn get_backend(&self) -> &M {
        &self.backend
    }

    /// Returns the IOMMU.
    #[inline]
    pub fn iommu(&self) -> &Arc<I> {
        &self.iommu
    }

    /// Says whether addresses are translated.
    #[inline]
    pub fn get_iommu_enabled(&self) -> bool {
        // Pairs with the stores in `enable` and `disable`: who sees the IOMMU on sees the mappings made before.
        self.enabled.load(Ordering::Acquire)
    }

    /// Switches translation of this handle on or off, and of none other: it has a switch of its own from then on, which
    /// its later clones share.
    pub fn set_iommu_enabled(&mut self, enabled: bool) {
        self.enabled = Arc::new(AtomicBool::new(enabled));
    }

    /// Switches translation on, for this handle and all its clones.
    pub fn enable(&self) {
        // SeqCst: as a change of the table, it comes before the fence of a `wait_for_devices` that follows.
        self.enabled.store(true, Ordering::SeqCst);
    }

    /// Switches translation off, for this handle and all its clones.
    pub fn disable(&self) {
        // SeqCst: see `enable`.
        self.enabled.store(false, Ordering::SeqCst);
    }

    /// Waits until all [`IommuDevice`](crate::IommuDevice)s of this handle and its clones have left the sessions that
    /// they are in.
    ///
    /// Mappings that were removed before, a switch that was switched: no device is in the middle of an access by what
    /// was before, and what their accesses wrote is visible to the caller. Accesses that are not made in a session are
    /// not waited for.
    ///
    /// A thread that is itself in a session of this memory would wait for itself forever.
    pub fn wait_for_devices(&self) {
        self.seats.wait();
    }

    /// Returns the guest-physical address of `[iova, iova + length)`, in bytes, if it is one range there.
    ///
    /// This is for whoever needs an address rather than an access, a host pointer for instance. It is outdated as soon as the
    /// mapping changes, and marks nothing dirty. Whether the guest has memory there is not looked at; while the IOMMU is
    /// off, the result is `iova`, whatever the length.
    ///
    /// # Errors
    ///
    /// What the IOMMU says, and [`TranslationError::Fragmented`] if the range is mapped, but in several pieces. A `length`
    /// of 0 is in no range: [`Fragmented`](TranslationError::Fragmented).
    ///
    /// # Examples
    ///
    /// ```
    /// # use guest_memory_core::{GuestAddress, Permissions};
    /// # use guest_memory_iommu::{Error, IommuMemory, SharedIotlb};
    /// # use guest_memory_mmap::GuestMemoryMmap;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let below = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x10_000)])?;
    /// # let memory = IommuMemory::new(below, SharedIotlb::new(), true, ());
    /// let iommu = memory.iommu();
    /// iommu.set_mapping(GuestAddress(0x4000), GuestAddress(0x8000), 0x1000, Permissions::Read)?;
    /// iommu.set_mapping(GuestAddress(0x5000), GuestAddress(0x2000), 0x1000, Permissions::Read)?;
    ///
    /// let ring = memory.translate_whole(GuestAddress(0x4100), 0x80, Permissions::Read)?;
    /// assert_eq!(ring, GuestAddress(0x8100));
    /// // The pages are neighbours for the device, but not in guest memory.
    /// let both = memory.translate_whole(GuestAddress(0x4f00), 0x200, Permissions::Read);
    /// assert!(matches!(both, Err(Error::Fragmented { continuous_length: 0x100, .. })));
    /// # Ok(())
    /// # }
    /// ```
    pub fn translate_whole(
        &self,
        iova: GuestAddress,
        length: usize,
        access: Permissions,
    ) -> Result<GuestAddress, TranslationError> {
        if !self.get_iommu_enabled() {
            return Ok(iova);
        }
        let mut pieces = self.iommu.translate(iova, length, access)?;
        let first = pieces.next();
        let mut continuous_length = 0usize;
        if let Some(first) = first {
            continuous_length = first.length;
            // Neighbours with other permissions may still go on where the one before ended.
            for piece in pieces {
                let expected = first.base.0.checked_add(continuous_length as u64);
                if expected != Some(piece.base.0) {
                    break;
                }
                continuous_length = continuous_length.saturating_add(piece.length);
            }
            if continuous_length >= length {
                return Ok(first.base);
            }
        }
        Err(TranslationError::Fragmented {
            iova_range: IovaRange { base: iova, length },
            continuous_length,
        })
    }

    /// Has an IOMMU that has no short path of its own translate, for the first piece.
    #[inline]
    fn ask(&self, iova: GuestAddress, length: usize, access: Permissions) -> Option<MappedRange> {
        self.iommu.translate(iova, length, access).ok()?.next()
    }

    /// Returns the window on what `[iova, iova + count)` was translated to, if that is all of it and in one region.
    #[inline(always)]
    pub(crate) fn whole_window(
        &self,
        mapped: MappedRange,
        iova: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Option<VolatileSlice<'_, BS<'_, BitmapOf<M>>>> {
        if mapped.length != count {
            return None;
        }
        let slice = self.backend.single_slice(mapped.base, count, access)?;
        Some(self.by_iova(slice, iova.0))
    }

    /// Returns a window on the start of what `iova` was translated to.
    #[inline(always)]
    pub(crate) fn first_window(
        &self,
        mapped: MappedRange,
        iova: GuestAddress,
        access: Permissions,
    ) -> Option<VolatileSlice<'_, BS<'_, BitmapOf<M>>>> {
        let slice = self
            .backend
            .first_slice(mapped.base, mapped.length, access)?;
        Some(self.by_iova(slice, iova.0))
    }

    /// Has writes to what an IOVA was translated to marked by IOVA.
    #[inline(always)]
    pub(crate) fn by_iova<'a>(
        &'a self,
        slice: VolatileSlice<'a, BS<'a, BitmapOf<M>>>,
        iova: u64,
    ) -> VolatileSlice<'a, BS<'a, BitmapOf<M>>> {
        slice.replace_bitmap(slice_at(&*self.bitmap, iova))
    }
}

/// Says whether a range is in more than one page of 4 KiB, and so perhaps in more than one mapping.
#[inline]
fn crosses_page(iova: GuestAddress, length: usize) -> bool {
    const OFFSETS: u64 = 0xfff;
    (iova.0 & OFFSETS).saturating_add(length as u64) > OFFSETS + 1
}

/// Returns the bitmap from an IOVA on; one that no offset can say is past every bitmap's end.
#[inline(always)]
fn slice_at<B: Bitmap>(bitmap: &B, iova: u64) -> BS<'_, B> {
    bitmap.slice_at(usize::try_from(iova).unwrap_or(usize::MAX))
}

impl<M: GuestMemory, I: Iommu> IoMemory for IommuMemory<M, I> {
    type PhysicalMemory = M;
    type Bitmap = BitmapOf<M>;

    fn check_range(&self, addr: GuestAddress, count: usize, access: Permissions) -> bool {
        IommuMemorySliceIterator::new(self, addr, count, access)
            .is_ok_and(|mut slices| slices.all(|slice| slice.is_ok()))
    }

    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> GuestMemoryResult<impl GuestMemorySliceIterator<'a, BS<'a, Self::Bitmap>>> {
        IommuMemorySliceIterator::new(self, addr, count, access)
    }

    #[inline]
    fn single_slice(
        &self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Option<VolatileSlice<'_, BS<'_, Self::Bitmap>>> {
        if !self.get_iommu_enabled() {
            return self.backend.single_slice(addr, count, access);
        }
        let mapped = match self.iommu.generation() {
            Some(_) => self.iommu.first_mapped(addr, count, access)?,
            None if crosses_page(addr, count) => return None,
            None => self.ask(addr, count, access)?,
        };
        self.whole_window(mapped, addr, count, access)
    }

    #[inline]
    fn first_slice(
        &self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Option<VolatileSlice<'_, BS<'_, Self::Bitmap>>> {
        if !self.get_iommu_enabled() {
            return self.backend.first_slice(addr, count, access);
        }
        let mapped = match self.iommu.generation() {
            Some(_) => self.iommu.first_mapped(addr, count, access)?,
            None => self.ask(addr, count, access)?,
        };
        self.first_window(mapped, addr, access)
    }

    fn physical_memory(&self) -> Option<&M> {
        (!self.get_iommu_enabled()).then_some(&self.backend)
    }
}

// By hand: derived ones would ask for `I: Clone` and for more of the bitmap.
impl<M: GuestMemory + Clone, I: Iommu> Clone for IommuMemory<M, I> {
    fn clone(&self) -> Self {
        self.with_replaced_backend(self.backend.clone())
    }
}

impl<M: GuestMemory + fmt::Debug, I: Iommu> fmt::Debug for IommuMemory<M, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IommuMemory")
            .field("backend", &self.backend)
            .field("iommu", &self.iommu)
            .field("enabled", &self.get_iommu_enabled())
            .finish_non_exhaustive()
    }
}
