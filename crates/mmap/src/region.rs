// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory mapped into this process, with its dirty bitmap, not yet at a guest address.
#![expect(
    unsafe_code,
    reason = "cuts slices out of the mapping; takes raw pointers from the caller"
)]

use std::marker::PhantomData;
use std::mem;
use std::ops::Range;
use std::os::fd::AsFd;

use guest_memory_bitmap::{BS, Bitmap, NewBitmap};
use guest_memory_core::FileOffset;
use guest_memory_volatile::{
    VolatileMemory, VolatileMemoryError, VolatileMemoryResult, VolatileSlice, compute_offset,
};

use crate::backing::Prepared;
use crate::backing::file::BackingFile;
use crate::error::MmapRegionError;
use crate::extent::{Details, Extent};
use crate::mapping::Mapping;
use crate::protections::Protections;
use crate::view::View;
use crate::{
    BackingKind, MmapRegionBuilder, Policies, PolicyError, PolicyReport, Protection, Sharing,
    policy,
};

/// A piece of memory mapped into this process, and the bitmap that records writes to it.
///
/// It is unmapped on drop, unless it was built around a raw pointer that was not handed over. [`MmapRegionBuilder`] has all
/// options.
///
/// The region knows its protection. Mapped without `PROT_WRITE` it hands out read-only slices, which
/// refuse writes. Mapped without `PROT_READ` it hands out no slice at all; it can still be given to a
/// hypervisor by its [pointer](Self::as_ptr).
///
/// # Examples
///
/// ```
/// use guest_memory_mmap::MmapRegion;
/// use guest_memory_volatile::VolatileMemory;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let region = MmapRegion::<()>::new(0x2000)?;
/// let slice = region.get_slice(0x1000, 16)?;
/// slice.write_obj(0x1234_u16, 8)?;
/// assert_eq!(slice.read_obj::<u16>(8)?, 0x1234);
/// assert!(region.get_slice(0x1ff8, 16).is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MmapRegion<B = ()> {
    // # Invariants
    //
    // 1. `view` is of the memory of `mapping`, which this region keeps; of no bytes if there are `protections`.
    // 2. The memory has the protection that `protections` says, or that of `prot` where there are none.
    pub(crate) view: View,
    bitmap: B,
    pub(crate) mapping: Mapping,
    pub(crate) prot: i32,
    pub(crate) protections: Option<Protections>,
    flags: i32,
    pub(crate) page_size: usize,
    backing: BackingKind,
    file: Option<BackingFile>,
    known_hugetlbfs: Option<bool>,
    hugetlbfs_hint: Option<bool>,
    policies: PolicyReport,
}

/// What a region is told when it is made, beside its memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Properties {
    /// The protection, an OR of `PROT_*`.
    pub(crate) prot: i32,
    /// Whether it may change while the region is in use.
    pub(crate) is_protection_changeable: bool,
    /// Whether the memory is on hugetlbfs, where that cannot be known.
    pub(crate) hugetlbfs_hint: Option<bool>,
}

/// Short ways to a region. It has no guard pages, so that it costs no more than the call that maps it; one that is built by a
/// [`MmapRegionBuilder`] has.
impl<B: NewBitmap> MmapRegion<B> {
    /// Maps `size` bytes of anonymous private memory, readable and writable; they need not be whole pages.
    ///
    /// # Errors
    ///
    /// Those of [`MmapRegionBuilder::build`].
    pub fn new(size: usize) -> Result<Self, MmapRegionError> {
        MmapRegionBuilder::new(size).without_guard_pages().build()
    }

    /// Maps `size` bytes of a file, readable, writable and shared, as [`MmapRegionBuilder::with_file_offset`] does.
    ///
    /// # Errors
    ///
    /// Those of [`MmapRegionBuilder::build`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::os::unix::fs::FileExt;
    ///
    /// use guest_memory_core::FileOffset;
    /// use guest_memory_mmap::{MmapRegion, MmapRegionError};
    /// use guest_memory_volatile::VolatileMemory;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let file = tempfile::tempfile()?;
    /// file.write_all_at(b"saved", 0x1_0000)?;
    /// file.set_len(0x2_0000)?;
    /// let file = FileOffset::new(file, 0x1_0000);
    /// let region = MmapRegion::<()>::from_file(file.clone(), 0x1_0000)?;
    /// assert_eq!(region.as_volatile_slice().read_obj::<[u8; 5]>(0)?, *b"saved");
    ///
    /// // What reaches past the end of the file would be a signal when it is touched.
    /// let error = MmapRegion::<()>::from_file(file, 0x1_0001).err().ok_or("mapped")?;
    /// assert!(matches!(error, MmapRegionError::MappingPastEof { file_len: 0x2_0000, .. }));
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_file(file_offset: FileOffset, size: usize) -> Result<Self, MmapRegionError> {
        MmapRegionBuilder::new(size)
            .without_guard_pages()
            .with_file_offset(file_offset)
            .build()
    }

    /// Maps `size` bytes of a file, or of nothing, with the given protection, an OR of `PROT_*`, and flags, an OR of `MAP_*`.
    ///
    /// Without a file the flags must hold `MAP_ANONYMOUS`, with one they must not.
    ///
    /// # Errors
    ///
    /// Those of [`MmapRegionBuilder::build`].
    pub fn build(
        file_offset: Option<FileOffset>,
        size: usize,
        prot: i32,
        flags: i32,
    ) -> Result<Self, MmapRegionError> {
        let builder = MmapRegionBuilder::new(size)
            .without_guard_pages()
            .with_mmap_prot(prot)
            .with_mmap_flags(flags);
        match file_offset {
            Some(file_offset) => builder.with_file_offset(file_offset).build(),
            None => builder.build(),
        }
    }

    /// Makes a region of `size` bytes from `addr` on that somebody else mapped and will unmap; protection, an OR of `PROT_*`, and
    /// flags, an OR of `MAP_*`, describe it.
    ///
    /// For memory that the region is to unmap see [`MmapRegionBuilder::with_owned_mmap_pointer`].
    ///
    /// # Safety
    ///
    /// As for [`MmapRegionBuilder::with_raw_mmap_pointer`].
    ///
    /// # Errors
    ///
    /// Those of [`MmapRegionBuilder::build`].
    pub unsafe fn build_raw(
        addr: *mut u8,
        size: usize,
        prot: i32,
        flags: i32,
    ) -> Result<Self, MmapRegionError> {
        let builder = MmapRegionBuilder::new(size)
            .with_mmap_prot(prot)
            .with_mmap_flags(flags);
        // SAFETY: the caller vouches for the same, with this size and protection.
        unsafe { builder.with_raw_mmap_pointer(addr) }.build()
    }
}

impl<B: Bitmap> MmapRegion<B> {
    /// Joins what a builder prepared.
    ///
    /// # Safety
    ///
    /// The memory must be mapped with `prot`, be initialised, and be covered by no Rust reference but those that the
    /// volatile crate's definition of a valid guest range admits, while the mapping lives.
    pub(crate) unsafe fn from_parts(
        mapping: Mapping,
        prepared: Prepared,
        properties: Properties,
        bitmap: B,
    ) -> Self {
        let known_hugetlbfs = match &prepared.file {
            Some(file) => Some(file.is_hugetlbfs),
            // Anonymous memory of huge pages lives on a hugetlbfs that only the kernel sees.
            None => prepared.huge_page_size.map(|_| true),
        };
        let protection = Protection::from_prot(properties.prot);
        let protections = properties
            .is_protection_changeable
            .then(|| Protections::uniform(mapping.len_bytes(), protection));
        let is_accessible = protection.is_readable() && protections.is_none();
        let len_bytes = if is_accessible {
            mapping.len_bytes()
        } else {
            0
        };
        Self {
            // SAFETY: the caller vouches for the memory.
            view: unsafe { View::new(mapping.start(), len_bytes, !protection.is_writable()) },
            bitmap,
            mapping,
            prot: properties.prot,
            protections,
            flags: prepared.flags,
            page_size: prepared.page_size,
            backing: prepared.kind,
            file: prepared.file,
            known_hugetlbfs,
            hugetlbfs_hint: properties.hugetlbfs_hint,
            policies: PolicyReport::default(),
        }
    }

    /// Applies policies, in their order, and notes what became of them.
    pub(crate) fn apply(&mut self, policies: &Policies) -> Result<(), PolicyError> {
        let mut report = mem::take(&mut self.policies);
        let applied = policy::apply_all(policies, self.extent(), &mut report);
        self.policies = report;
        applied
    }

    /// Returns the host address of the first byte, a multiple of the page.
    ///
    /// Writes through it are not recorded in the bitmap. It is valid as long as the region lives, for what the
    /// [protection](Self::protection) allows.
    pub fn as_ptr(&self) -> *mut u8 {
        self.mapping.as_ptr()
    }

    /// Returns the size in bytes, as it was asked for: never 0, and not always whole pages.
    pub fn size(&self) -> usize {
        self.mapping.len_bytes()
    }

    /// Returns the protection, an OR of `PROT_*`; where parts have been changed, that of the rest.
    ///
    /// See [`protection`](Self::protection) for a part.
    pub fn prot(&self) -> i32 {
        self.prot
    }

    /// Returns the flags of the mapping, an OR of `MAP_*`; for a raw pointer those that the caller gave.
    pub fn flags(&self) -> i32 {
        self.flags
    }

    /// Returns what is behind the memory.
    pub fn backing(&self) -> BackingKind {
        self.backing
    }

    /// Says who sees what is written; for a raw pointer as far as the flags say.
    pub fn sharing(&self) -> Sharing {
        Sharing::from_flags(self.flags)
    }

    /// Returns the size of the pages that the kernel maps the memory by, in bytes: a huge page's for memory of huge
    /// pages, but an ordinary page's where the kernel puts ordinary pages together by itself.
    pub fn page_size(&self) -> usize {
        self.page_size
    }

    /// Returns what became of the policies that were asked for when the region was built.
    pub fn policies(&self) -> &PolicyReport {
        &self.policies
    }

    /// Says whether the memory is unmapped when the region is dropped.
    pub fn owned(&self) -> bool {
        self.mapping.is_owned()
    }

    /// Returns the dirty bitmap of the whole region.
    #[inline]
    pub fn bitmap(&self) -> &B {
        &self.bitmap
    }

    /// Returns the file behind the region and where in it the region starts, also for a memory file.
    pub fn file_offset(&self) -> Option<&FileOffset> {
        self.file.as_ref().map(|file| &file.file_offset)
    }

    /// Says whether the memory is on hugetlbfs, if that is known.
    ///
    /// For files the file system answered when the region was built. Anonymous memory of huge pages is
    /// on hugetlbfs; for other memory without a file only a hint is known, if one was given.
    pub fn is_hugetlbfs(&self) -> Option<bool> {
        self.known_hugetlbfs.or(self.hugetlbfs_hint)
    }

    /// Notes whether the memory is on hugetlbfs; without effect where the region knows.
    pub fn set_hugetlbfs(&mut self, hugetlbfs: bool) {
        self.hugetlbfs_hint = Some(hugetlbfs);
    }

    /// Says whether both regions map some of the same bytes of the same file.
    ///
    /// Files are told apart by device and inode as they were when the regions were built, so another
    /// descriptor of the file, duplicated or opened anew, does not hide the overlap. Devices are told
    /// apart by their number, and files without a type (some that the kernel makes for descriptors
    /// only) by the descriptor. Whether the mappings are shared or private does not matter: even a
    /// private one shows the file's changes until it is written. Regions without a file never overlap. What is left of a last
    /// page behind a region does not count.
    ///
    /// # Examples
    ///
    /// ```
    /// use guest_memory_core::FileOffset;
    /// use guest_memory_mmap::MmapRegion;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let file = tempfile::tempfile()?;
    /// file.set_len(0x3_0000)?;
    /// let of = |file, start| MmapRegion::<()>::from_file(FileOffset::new(file, start), 0x2_0000);
    /// let (low, high) = (of(file.try_clone()?, 0)?, of(file, 0x1_0000)?);
    /// assert!(low.fds_overlap(&high));
    /// # Ok(())
    /// # }
    /// ```
    pub fn fds_overlap<T: Bitmap>(&self, other: &MmapRegion<T>) -> bool {
        let (Some(ours), Some(theirs)) = (&self.file, &other.file) else {
            return false;
        };
        let end = |file: &BackingFile, size: usize| {
            // Neither saturates: the sum was checked when the region was built.
            file.file_offset
                .start()
                .saturating_add(u64::try_from(size).unwrap_or(u64::MAX))
        };
        ours.identity == theirs.identity
            && ours.file_offset.start() < end(theirs, other.size())
            && theirs.file_offset.start() < end(ours, self.size())
    }

    /// Returns `[offset, offset + length)`, if the region has all of it.
    pub(crate) fn range(&self, offset: usize, length: usize) -> Option<Range<usize>> {
        let end = offset.checked_add(length)?;
        (end <= self.size()).then_some(offset..end)
    }

    /// Returns what slices are cut from.
    ///
    /// It may be used as long as this region lives.
    pub(crate) fn view(&self) -> View {
        self.view
    }

    /// Returns the mapped memory as the calls see it that manage it.
    pub(crate) fn extent(&self) -> Extent<'_> {
        let details = Details {
            page_size: self.page_size,
            is_hugetlb: self.known_hugetlbfs == Some(true),
            sharing: self.sharing(),
            protection: self.protection(0, self.size()),
            file: self
                .file
                .as_ref()
                .map(|file| (file.file_offset.file().as_fd(), file.file_offset.start())),
            mapped: PhantomData,
        };
        // SAFETY: the mapping is this region's memory and mapped as long as `self` is borrowed, by invariant 2 with this
        // protection; what else the details say was learned when it was mapped.
        unsafe { Extent::new(self.mapping.start(), self.size(), details) }
    }

    /// Returns the slice that the view could not give, after a look at the protection of the range, or says why there is none.
    #[cold]
    #[inline(never)]
    pub(crate) fn looked_up_slice(
        &self,
        offset: usize,
        count: usize,
    ) -> VolatileMemoryResult<VolatileSlice<'_, BS<'_, B>>> {
        let view = self.looked_up_view(offset, count);
        // SAFETY: the view is of this region's mapping, which lives as long as `self` is borrowed.
        let slice = view.and_then(|view| unsafe { view.slice(offset, count, &self.bitmap) });
        slice.ok_or_else(|| self.no_slice(offset, count))
    }

    /// Says why the range has no slice.
    fn no_slice(&self, offset: usize, count: usize) -> VolatileMemoryError {
        match compute_offset(offset, count) {
            Err(error) => error,
            Ok(end) if end > self.size() => VolatileMemoryError::OutOfBounds { addr: end },
            Ok(_) => VolatileMemoryError::NotReadable { addr: offset },
        }
    }
}

impl<B: Bitmap> VolatileMemory for MmapRegion<B> {
    type B = B;

    #[inline]
    fn len(&self) -> usize {
        self.mapping.len_bytes()
    }

    /// Returns a window on `[offset, offset + count)`, read-only if the memory is mapped without `PROT_WRITE`.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`](VolatileMemoryError::OutOfBounds) or [`Overflow`](VolatileMemoryError::Overflow) if the
    /// range reaches past the end; [`NotReadable`](VolatileMemoryError::NotReadable) if the memory is
    /// mapped without `PROT_READ`.
    #[inline]
    fn get_slice(
        &self,
        offset: usize,
        count: usize,
    ) -> VolatileMemoryResult<VolatileSlice<'_, BS<'_, B>>> {
        // SAFETY: by this type's invariant the view's mapping lives as long as `self` is borrowed.
        let slice = unsafe { self.view.slice(offset, count, &self.bitmap) };
        slice.map_or_else(|| self.looked_up_slice(offset, count), Ok)
    }

    /// Returns a window on everything that can be read: nothing if the memory is mapped without `PROT_READ`.
    fn as_volatile_slice(&self) -> VolatileSlice<'_, BS<'_, B>> {
        let view = self.looked_up_view(0, self.size()).unwrap_or(self.view);
        // SAFETY: by this type's invariant the view's mapping lives as long as `self` is borrowed.
        unsafe { view.whole(&self.bitmap) }
    }
}
