// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A mapping at a guest address.
#![expect(unsafe_code, reason = "cuts slices out of the mapping it keeps")]

use std::ops::Deref;
use std::slice;
use std::sync::Arc;

use guest_memory_bitmap::{BS, Bitmap, NewBitmap};
use guest_memory_core::{
    FileOffset, GuestAddress, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes,
    GuestMemoryResult, GuestUsize, MemoryRegionAddress, Operation, RegionFromRange,
};
use guest_memory_volatile::VolatileSlice;

use crate::backing::guest_memfd;
use crate::error::{FromRangesError, MmapRegionError};
use crate::protect::ProtectError;
use crate::view::View;
use crate::{MmapRegion, MmapRegionBuilder, Protection, RegionKind};

/// A mapped piece of memory and the guest address where the guest sees it.
///
/// It dereferences to its [`MmapRegion`], which has the pointer, protection and file.
///
/// # Examples
///
/// ```
/// use guest_memory_core::{Bytes, GuestAddress, GuestMemoryRegion, MemoryRegionAddress};
/// use guest_memory_mmap::{GuestRegionMmap, MmapRegion, RegionKind};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mapping = MmapRegion::<()>::new(0x1000)?;
/// let region = GuestRegionMmap::new(mapping, GuestAddress(0x8000)).ok_or("past the last address")?;
/// region.write_obj(7u32, MemoryRegionAddress(0x10))?;
/// assert_eq!(region.last_addr(), GuestAddress(0x8fff));
///
/// // What it is, for whoever walks over a memory's regions.
/// let region = region.with_kind(RegionKind::Persistent).with_label("nvdimm0");
/// assert_eq!((region.kind(), region.label()), (RegionKind::Persistent, Some("nvdimm0")));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct GuestRegionMmap<B = ()> {
    // # Invariants
    //
    // 1. `view` was taken from the memory of `mapping`, which this region keeps.
    // 2. `guest_base + size - 1` does not overflow.
    // 3. `size_bytes` is the size of `mapping`.
    /// A copy of the mapping's, so that an access need not follow the `Arc`.
    view: View,
    /// Likewise; a view of memory that cannot be read has no bytes.
    size_bytes: usize,
    guest_base: GuestAddress,
    mapping: Arc<MmapRegion<B>>,
    kind: RegionKind,
    label: Option<Arc<str>>,
    guest_memfd: Option<FileOffset>,
}

impl<B: Bitmap> GuestRegionMmap<B> {
    /// Places a mapping at a guest address, which need not be that of a page.
    ///
    /// Returns `None` if it would reach past the last address; it may end right there, at 2^64.
    pub fn new(mapping: MmapRegion<B>, guest_base: GuestAddress) -> Option<Self> {
        Self::with_arc(Arc::new(mapping), guest_base)
    }

    /// Places a mapping that others use as well at a guest address.
    ///
    /// Returns `None` if it would reach past the last address; it may end right there, at 2^64.
    pub fn with_arc(mapping: Arc<MmapRegion<B>>, guest_base: GuestAddress) -> Option<Self> {
        let last_offset = u64::try_from(mapping.size().checked_sub(1)?).ok()?;
        guest_base.0.checked_add(last_offset)?;
        Some(Self {
            view: mapping.view(),
            size_bytes: mapping.size(),
            guest_base,
            mapping,
            kind: RegionKind::default(),
            label: None,
            guest_memfd: None,
        })
    }

    /// Notes what the region is for.
    #[must_use]
    pub fn with_kind(self, kind: RegionKind) -> Self {
        Self { kind, ..self }
    }

    /// Gives the region a name, for people to read.
    #[must_use]
    pub fn with_label(self, label: impl Into<Arc<str>>) -> Self {
        Self {
            label: Some(label.into()),
            ..self
        }
    }

    /// Returns what the region is for; [`RegionKind::Ram`] unless something else was noted.
    pub fn kind(&self) -> RegionKind {
        self.kind
    }

    /// Returns the region's name, if it has one.
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// Keeps a hypervisor's file beside the region, which holds what only the guest sees (guest_memfd).
    ///
    /// Nothing of it is mapped; the monitor gives both to the hypervisor. The region starts in the file where the offset says, in
    /// bytes: a multiple of the system's page.
    ///
    /// # Errors
    ///
    /// [`UnalignedFileOffset`](MmapRegionError::UnalignedFileOffset), [`MappingPastEof`](MmapRegionError::MappingPastEof),
    /// [`InvalidOffsetLength`](MmapRegionError::InvalidOffsetLength) if the file has no whole pages for all of the region;
    /// [`FileMetadata`](MmapRegionError::FileMetadata) if it cannot be asked.
    pub fn with_guest_memfd(self, file_offset: FileOffset) -> Result<Self, MmapRegionError> {
        guest_memfd::check(&file_offset, self.size_bytes)?;
        Ok(Self {
            guest_memfd: Some(file_offset),
            ..self
        })
    }

    /// Returns the hypervisor's file that is kept beside the region, and where in it the region starts.
    pub fn guest_memfd(&self) -> Option<&FileOffset> {
        self.guest_memfd.as_ref()
    }

    /// Changes what may be done with `[offset, offset + length)`, whole pages, while nobody else has the region.
    ///
    /// [`MmapRegion::protect`] is for regions in use.
    ///
    /// # Errors
    ///
    /// Those of [`MmapRegion::set_protection`]; [`Fixed`](ProtectError::Fixed) if somebody else has the
    /// [mapping](Self::get_mmap).
    pub fn set_protection(
        &mut self,
        offset: usize,
        length: usize,
        protection: Protection,
    ) -> Result<(), ProtectError> {
        let mapping = Arc::get_mut(&mut self.mapping).ok_or(ProtectError::Fixed)?;
        let changed = mapping.set_protection(offset, length, protection);
        self.view = mapping.view();
        changed
    }

    /// Returns the mapping, shared: it stays mapped while somebody has it.
    pub fn get_mmap(&self) -> Arc<MmapRegion<B>> {
        Arc::clone(&self.mapping)
    }

    /// Returns the slice that the view could not give, or says why there is none.
    ///
    /// The error is in a box: one that is returned through its address keeps the slice of the good case in memory too.
    #[cold]
    #[inline(never)]
    fn looked_up_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> Result<VolatileSlice<'_, BS<'_, B>>, Box<GuestMemoryError>> {
        // An offset beyond the host's addresses is as far out of bounds as the last of them.
        let host_offset = usize::try_from(offset.0).unwrap_or(usize::MAX);
        self.mapping
            .looked_up_slice(host_offset, count)
            .map_err(|source| {
                Box::new(GuestMemoryError::Access {
                    operation: Operation::Slice,
                    address: GuestAddress(self.guest_base.0.wrapping_add(offset.0)),
                    length: count,
                    completed: 0,
                    source,
                })
            })
    }
}

impl<B: NewBitmap> GuestRegionMmap<B> {
    /// Maps `size` bytes, anonymous and private or of a file and shared, without guard pages, and places them at a guest address.
    ///
    /// # Errors
    ///
    /// [`FromRangesError::MmapRegion`] if the memory cannot be mapped,
    /// [`FromRangesError::InvalidGuestRegion`] if it would reach past the last address.
    pub fn from_range(
        addr: GuestAddress,
        size: usize,
        file: Option<FileOffset>,
    ) -> Result<Self, FromRangesError> {
        let builder = MmapRegionBuilder::new(size).without_guard_pages();
        let mapping = match file {
            Some(file_offset) => builder.with_file_offset(file_offset).build()?,
            None => builder.build()?,
        };
        Self::new(mapping, addr).ok_or(FromRangesError::InvalidGuestRegion)
    }
}

impl<B> Deref for GuestRegionMmap<B> {
    type Target = MmapRegion<B>;

    #[inline]
    fn deref(&self) -> &MmapRegion<B> {
        &self.mapping
    }
}

impl<B: Bitmap> GuestMemoryRegion for GuestRegionMmap<B> {
    type B = B;

    #[inline]
    fn len(&self) -> GuestUsize {
        // Lossless: `usize` has at most 64 bits on every target.
        self.size_bytes as GuestUsize
    }

    #[inline]
    fn start_addr(&self) -> GuestAddress {
        self.guest_base
    }

    #[inline]
    fn bitmap(&self) -> &B {
        self.mapping.bitmap()
    }

    /// Returns the host address of a byte of the region, whatever the protection of the memory.
    ///
    /// # Errors
    ///
    /// [`InvalidGuestAddress`](GuestMemoryError::InvalidGuestAddress) if the region has no such byte. The address in it is the
    /// guest's, and wraps where the sum exceeds 2^64.
    fn get_host_address(&self, addr: MemoryRegionAddress) -> GuestMemoryResult<*mut u8> {
        match usize::try_from(addr.0) {
            // In bounds by the guard; wrapping keeps this free of unsafe code.
            Ok(offset) if offset < self.mapping.size() => {
                Ok(self.mapping.as_ptr().wrapping_add(offset))
            }
            _ => {
                let address = GuestAddress(self.guest_base.0.wrapping_add(addr.0));
                Err(GuestMemoryError::InvalidGuestAddress(address))
            }
        }
    }

    fn file_offset(&self) -> Option<&FileOffset> {
        self.mapping.file_offset()
    }

    /// Returns the memory as bytes, unless it is mapped without `PROT_READ`.
    ///
    /// # Safety
    ///
    /// While the slice lives nobody may write the memory: no guest, no device, no other thread.
    unsafe fn as_slice(&self) -> Option<&[u8]> {
        if !self.protection(0, self.size()).is_readable() {
            return None;
        }
        // SAFETY: readable memory of a region is a valid guest range: mapped, initialised, at most `isize::MAX` bytes,
        // at least while `self` is borrowed, which keeps the mapping; the caller keeps writers away.
        Some(unsafe { slice::from_raw_parts(self.mapping.as_ptr(), self.mapping.size()) })
    }

    /// Returns the memory as bytes that can be changed, if it is mapped with `PROT_READ` and `PROT_WRITE`.
    ///
    /// # Safety
    ///
    /// While the slice lives nobody else may read or write the memory.
    unsafe fn as_mut_slice(&self) -> Option<&mut [u8]> {
        if !self.protection(0, self.size()).is_writable() {
            return None;
        }
        // SAFETY: as in `as_slice`; writable as just checked; the caller keeps everybody else away.
        Some(unsafe { slice::from_raw_parts_mut(self.mapping.as_ptr(), self.mapping.size()) })
    }

    /// Returns a window on `[offset, offset + count)`, read-only if the memory is mapped without `PROT_WRITE`.
    ///
    /// # Errors
    ///
    /// [`Access`](GuestMemoryError::Access) if the range reaches past the end or the memory is mapped without
    /// `PROT_READ`; its source tells which.
    #[inline]
    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> GuestMemoryResult<VolatileSlice<'_, BS<'_, B>>> {
        let bitmap = self.mapping.bitmap();
        let slice = usize::try_from(offset.0).ok().and_then(|offset| {
            // SAFETY: by invariant 1 the view's mapping lives as long as `self` is borrowed.
            unsafe { self.view.slice(offset, count, bitmap) }
        });
        match slice {
            Some(slice) => Ok(slice),
            None => self.looked_up_slice(offset, count).map_err(|error| *error),
        }
    }

    /// Returns a window on the whole region, read-only if the memory is mapped without `PROT_WRITE`.
    ///
    /// # Errors
    ///
    /// [`Access`](GuestMemoryError::Access) if the memory is mapped without `PROT_READ`.
    #[inline]
    fn as_volatile_slice(&self) -> GuestMemoryResult<VolatileSlice<'_, BS<'_, B>>> {
        self.get_slice(MemoryRegionAddress(0), self.mapping.size())
    }

    fn is_hugetlbfs(&self) -> Option<bool> {
        self.mapping.is_hugetlbfs()
    }
}

/// Reads, writes, atomic accesses and streams come with it.
impl<B: Bitmap> GuestMemoryRegionBytes for GuestRegionMmap<B> {}

impl<B: NewBitmap> RegionFromRange for GuestRegionMmap<B> {
    type Error = FromRangesError;

    fn from_range(
        addr: GuestAddress,
        size: usize,
        file: Option<FileOffset>,
    ) -> Result<Self, FromRangesError> {
        // The inherent function of the same name.
        GuestRegionMmap::from_range(addr, size, file)
    }
}
