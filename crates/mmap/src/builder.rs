// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Step-by-step description of a mapping, checked as a whole when it is built.
#![expect(unsafe_code, reason = "takes a raw pointer from the caller")]

mod source;

use guest_memory_bitmap::{Bitmap, NewBitmap};
use guest_memory_core::FileOffset;

use self::source::{RawPointer, Source};
use crate::backing::{Prepared, external};
use crate::bitmap_choice::BitmapChoice;
use crate::error::MmapRegionError;
use crate::mapping::{Mapping, check_size};
use crate::placement::Placement;
use crate::region::Properties;
use crate::{Alignment, Backing, HugePageSize, MmapRegion, Policies, Protection, Seals};

/// Builds an [`MmapRegion`].
///
/// Without further options the region is anonymous private memory, readable and writable, between guard pages. Options may
/// come in any order; of two calls of one the last counts. Those that contradict each other are an error of
/// [`build`](Self::build).
///
/// # Examples
///
/// ```
/// use guest_memory_mmap::{Alignment, MmapRegion, MmapRegionBuilder, Seals};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Memory in a sealed file that can be passed to another process.
/// let ours: MmapRegion = MmapRegionBuilder::new(0x10000)
///     .with_memfd("guest-ram")
///     .with_alignment(Alignment::TWO_MIB)
///     .build()?;
/// assert!(ours.as_ptr().addr().is_multiple_of(2 << 20));
/// let file = ours.file_offset().ok_or("no file")?.clone();
///
/// // What the other process makes of the file: nobody can shrink it under the mapping.
/// let theirs: MmapRegion = MmapRegionBuilder::new(0x10000)
///     .with_file_offset(file)
///     .with_required_seals(Seals::ALL)
///     .build()?;
/// assert!(theirs.fds_overlap(&ours));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MmapRegionBuilder<B = ()> {
    size: usize,
    flags: Option<i32>,
    source: Source,
    placement: Placement,
    /// In a box, since most regions have none, and a builder is moved at each step.
    policies: Option<Box<Policies>>,
    properties: Properties,
    bitmap: BitmapChoice<B>,
}

impl<B: NewBitmap> MmapRegionBuilder<B> {
    /// Starts the description of a region of `size` bytes whose bitmap covers it all.
    ///
    /// The size is at least 1 and at most `isize::MAX`. Only of huge pages, and of a device of memory, must it be a multiple of the
    /// page; elsewhere what is left of the last page is mapped too, but no part of the region.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self::with_choice(size, BitmapChoice::OfSize(B::with_len))
    }
}

impl<B: Bitmap> MmapRegionBuilder<B> {
    /// Starts the description of a region of `size` bytes with a bitmap of the caller's, whose offset 0 is the region's first byte.
    ///
    /// A bitmap that [says](Bitmap::tracked_bytes) that it tracks fewer bytes is an error of [`build`](Self::build).
    #[must_use]
    pub fn new_with_bitmap(size: usize, bitmap: B) -> Self {
        Self::with_choice(size, BitmapChoice::Given(bitmap))
    }

    fn with_choice(size: usize, bitmap: BitmapChoice<B>) -> Self {
        Self {
            size,
            flags: None,
            source: Source::default(),
            placement: Placement::default(),
            policies: None,
            properties: Properties {
                prot: Protection::ReadWrite.prot(),
                is_protection_changeable: false,
                hugetlbfs_hint: None,
            },
            bitmap,
        }
    }

    /// Sets where the memory comes from. It goes with no other option that names a source, and with no flags.
    #[must_use]
    pub fn with_backing(mut self, backing: Backing) -> Self {
        self.source.backing = Some(Box::new(backing));
        self
    }

    /// Sets what may be done with the memory; read and write if not called.
    ///
    /// Memory that cannot be written refuses writes; memory that cannot be read hands out no slice at all. It is the same
    /// setting as [`with_mmap_prot`](Self::with_mmap_prot).
    #[must_use]
    pub fn with_protection(self, protection: Protection) -> Self {
        self.with_mmap_prot(protection.prot())
    }

    /// Lets [`MmapRegion::protect`] change the protection while the region is in use.
    ///
    /// Each access then looks up the protection of its range, at a cost of some ten nanoseconds.
    #[must_use]
    pub fn with_changeable_protection(mut self) -> Self {
        self.properties.is_protection_changeable = true;
        self
    }

    /// Sets how the system is to treat the memory.
    ///
    /// What became of each policy is in the region's [report](MmapRegion::policies). A [required](crate::Need::Required) one that
    /// does not hold is an error of [`build`](Self::build).
    #[must_use]
    pub fn with_policies(mut self, policies: Policies) -> Self {
        self.policies = Some(Box::new(policies));
        self
    }

    /// Leaves out the inaccessible pages before and behind the memory.
    ///
    /// They make a stray pointer past either end a signal instead of a write to somebody else's memory. They cost two or three
    /// microseconds when a region is built and as much when it is dropped, two more mappings, and up to
    /// the alignment in address space. Memory that somebody else mapped has none.
    #[must_use]
    pub fn without_guard_pages(mut self) -> Self {
        self.placement.has_guard_pages = false;
        self
    }

    /// Sets the least alignment of the memory in this process's address space.
    ///
    /// With guard pages, memory of 2 MiB and more is aligned to that without being asked, and memory of huge pages to
    /// its pages always. Memory that somebody else mapped has the alignment that it has.
    #[must_use]
    pub fn with_alignment(mut self, alignment: Alignment) -> Self {
        self.placement.alignment = Some(alignment);
        self
    }

    /// Sets the protection, an OR of `PROT_READ`, `PROT_WRITE` and `PROT_EXEC`; read and write if not called.
    ///
    /// Without `PROT_WRITE` the region refuses writes; without `PROT_READ` it hands out no slice at all.
    #[must_use]
    pub fn with_mmap_prot(mut self, prot: i32) -> Self {
        self.properties.prot = prot;
        self
    }

    /// Sets the flags of the mapping, an OR of `MAP_*`, in place of the defaults.
    ///
    /// The defaults are private and unreserved for anonymous memory, shared and unreserved for files,
    /// shared and reserved for huge pages. With `MAP_NORESERVE` on huge pages an empty pool
    /// shows as SIGBUS when a page is first touched. Flags that fix the address are refused, and ones that say
    /// where it should be (`MAP_32BIT`) mean nothing with guard pages or an alignment: memory is moved to its place then.
    #[must_use]
    pub fn with_mmap_flags(mut self, flags: i32) -> Self {
        self.flags = Some(flags);
        self
    }

    /// Maps a file from the given offset on.
    ///
    /// The offset must be a multiple of the page, or of the huge page on hugetlbfs. A regular file or
    /// block device must hold the whole mapping; other files are taken as they are. The file must be open for reading, and for
    /// writing where the mapping is shared and writable, as it is unless flags or protection say otherwise.
    #[must_use]
    pub fn with_file_offset(mut self, file_offset: FileOffset) -> Self {
        self.source.file_offset = Some(file_offset);
        self
    }

    /// Extends the [file that is given](Self::with_file_offset) if it is a regular one and too short for the mapping.
    ///
    /// It stays longer, also if the region cannot be built then.
    #[must_use]
    pub fn with_file_growth(mut self) -> Self {
        self.source.must_grow_file = true;
        self
    }

    /// Refuses the [file that is given](Self::with_file_offset) unless it has these seals, for instance against shrinking under
    /// the mapping.
    #[must_use]
    pub fn with_required_seals(mut self, seals: Seals) -> Self {
        self.source.required_seals = Some(seals);
        self
    }

    /// Maps a new memory file with all [`Seals`], under a name that shows in `/proc`: at most 249 bytes, none of them zero.
    ///
    /// [`MmapRegion::file_offset`] has the file, to be passed to other processes. [`Backing::Memfd`] lets seals be left out.
    #[must_use]
    pub fn with_memfd(mut self, name: impl Into<String>) -> Self {
        self.source.memfd_name = Some(name.into());
        self
    }

    /// Maps a new memory file of huge pages, reserved in the system's pool when built.
    ///
    /// The size must be a multiple of the huge page. [`with_memfd`](Self::with_memfd) may name the file.
    #[must_use]
    pub fn with_huge_pages(mut self, page_size: HugePageSize) -> Self {
        self.source.huge_pages = Some(page_size);
        self
    }

    /// Notes whether the memory is on hugetlbfs, where this crate cannot know.
    ///
    /// Files are asked themselves; this hint does not override their answer.
    #[must_use]
    pub fn with_hugetlbfs(mut self, hugetlbfs: bool) -> Self {
        self.properties.hugetlbfs_hint = Some(hugetlbfs);
        self
    }

    /// Uses memory that somebody else mapped and will unmap.
    ///
    /// The pointer must be aligned to a page. The flags given are only noted, and what they say of
    /// [sharing](MmapRegion::sharing) is believed.
    ///
    /// # Safety
    ///
    /// With the size given to the builder and the protection it has when the region is built, whether that
    /// is set before or after this call,
    /// `[raw_ptr, raw_ptr + size)` must be, while the region lives,
    /// - mapped with that protection, or the one that the region has been given since,
    /// - a [valid guest range](guest_memory_volatile#valid-guest-range) as far as that protection lets it.
    ///
    /// Who has the region can change the protection of its pages ([`MmapRegion::set_protection`]) and how the system treats them
    /// ([`with_policies`](Self::with_policies)), which stays so when the region is gone. Whoever else uses these pages must be
    /// able to bear that.
    ///
    /// # Examples
    ///
    /// ```
    /// use guest_memory_mmap::{MmapRegion, MmapRegionBuilder};
    /// use guest_memory_volatile::VolatileMemory;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // Stands for another library that maps memory.
    /// let owner = MmapRegion::<()>::new(0x1000)?;
    /// // SAFETY: `owner` keeps it mapped readable and writable, and is dropped after the region.
    /// let builder = unsafe { MmapRegionBuilder::new(0x1000).with_raw_mmap_pointer(owner.as_ptr()) };
    /// let region: MmapRegion = builder.build()?;
    /// region.as_volatile_slice().write_obj(7u8, 0xfff)?;
    /// assert_eq!(owner.as_volatile_slice().read_obj::<u8>(0xfff)?, 7);
    /// assert!(!region.owned());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub unsafe fn with_raw_mmap_pointer(mut self, raw_ptr: *mut u8) -> Self {
        self.source.raw_pointer = Some(RawPointer {
            start: raw_ptr,
            is_owned: false,
        });
        self
    }

    /// Takes over memory that somebody else mapped: it is unmapped when the region is dropped.
    ///
    /// The pointer must be aligned to a page. The flags given are only noted. If the region cannot be built, the memory
    /// stays the caller's, treated as the policies say that were applied before the one that failed.
    ///
    /// # Safety
    ///
    /// As for [`with_raw_mmap_pointer`](Self::with_raw_mmap_pointer). And once the region is built, nobody else may unmap or
    /// replace any page of the range, which must have been made by `mmap`; what else lies in its last page goes too.
    #[must_use]
    pub unsafe fn with_owned_mmap_pointer(mut self, raw_ptr: *mut u8) -> Self {
        self.source.raw_pointer = Some(RawPointer {
            start: raw_ptr,
            is_owned: true,
        });
        self
    }

    /// Maps the region.
    ///
    /// # Errors
    ///
    /// Everything that can be wrong with the description is found here and leaves nothing mapped:
    /// - [`ZeroSize`](MmapRegionError::ZeroSize), [`TooLarge`](MmapRegionError::TooLarge),
    ///   [`MapFixed`](MmapRegionError::MapFixed),
    ///   [`ConflictingOptions`](MmapRegionError::ConflictingOptions): the description makes no sense;
    /// - [`InvalidPointer`](MmapRegionError::InvalidPointer): the raw pointer is null or not aligned, or its range wraps;
    /// - [`InvalidOffsetLength`](MmapRegionError::InvalidOffsetLength),
    ///   [`UnalignedFileOffset`](MmapRegionError::UnalignedFileOffset),
    ///   [`MappingPastEof`](MmapRegionError::MappingPastEof), [`FileNotOpenFor`](MmapRegionError::FileNotOpenFor),
    ///   [`SealsMissing`](MmapRegionError::SealsMissing), [`GrowFile`](MmapRegionError::GrowFile): the file does not fit;
    /// - [`SizeNotMultipleOfHugePage`](MmapRegionError::SizeNotMultipleOfHugePage),
    ///   [`HugePagesUnsupported`](MmapRegionError::HugePagesUnsupported),
    ///   [`HugePagePool`](MmapRegionError::HugePagePool): the huge pages do not fit;
    /// - [`File`](MmapRegionError::File), [`SharedMemory`](MmapRegionError::SharedMemory),
    ///   [`NotHugetlbfs`](MmapRegionError::NotHugetlbfs), [`NotDax`](MmapRegionError::NotDax),
    ///   [`SizeNotMultiple`](MmapRegionError::SizeNotMultiple): what a [`Backing`] names cannot be had or used;
    /// - [`BitmapTooShort`](MmapRegionError::BitmapTooShort): writes would go unrecorded;
    /// - [`Policy`](MmapRegionError::Policy): a required policy does not hold;
    /// - [`Mmap`](MmapRegionError::Mmap), [`FileMetadata`](MmapRegionError::FileMetadata),
    ///   [`MemoryFile`](MmapRegionError::MemoryFile), [`PageSize`](MmapRegionError::PageSize): the
    ///   operating system refused.
    ///
    /// What stays is a file or shared memory object that was made under a name, and the length of a file that was extended.
    pub fn build(self) -> Result<MmapRegion<B>, MmapRegionError> {
        let placement = self.placement;
        self.build_by(|prepared, size, prot| prepared.map(size, prot, &placement))
    }

    /// As [`build`](Self::build), with memory that `map` maps: so many bytes with a protection, an OR of `PROT_*`. It is
    /// not called for memory that is mapped already.
    pub(crate) fn build_by<E: From<MmapRegionError>>(
        mut self,
        map: impl FnOnce(&Prepared, usize, i32) -> Result<Mapping, E>,
    ) -> Result<MmapRegion<B>, E> {
        let policies = self.policies.take();
        let is_handed_over = self
            .source
            .raw_pointer
            .is_some_and(|pointer| pointer.is_owned);
        let mut region = self.map(map)?;
        if let Some(policies) = policies {
            region.apply(&policies).map_err(MmapRegionError::from)?;
        }
        // Last, since the memory stays the caller's if anything before fails.
        if is_handed_over {
            // SAFETY: `with_owned_mmap_pointer` got the promise that nobody else unmaps or replaces the memory from now on.
            unsafe { region.mapping.take_over() };
        }
        Ok(region)
    }

    fn map<E: From<MmapRegionError>>(
        self,
        map: impl FnOnce(&Prepared, usize, i32) -> Result<Mapping, E>,
    ) -> Result<MmapRegion<B>, E> {
        check_size(self.size)?;
        self.source.check(self.flags)?;
        let prot = self.properties.prot;
        let (mapping, prepared) = match self.source.raw_pointer {
            Some(pointer) => {
                let prepared = external::describe(self.flags.unwrap_or(0))?;
                // SAFETY: `with_raw_mmap_pointer` or the other got the promise for this size and protection.
                let mapping = unsafe { external::adopt(pointer.start, self.size) }?;
                (mapping, prepared)
            }
            None => {
                let prepared = self.source.prepare(self.size, self.flags, prot)?;
                let mapping = map(&prepared, self.size, prot)?;
                (mapping, prepared)
            }
        };
        let size = self.size;
        let too_short = |tracked| MmapRegionError::BitmapTooShort { tracked, size };
        let bitmap = self.bitmap.make(size).map_err(too_short)?;
        // SAFETY: memory mapped above has this protection, is zeroed or a file's, and is new, so that no
        // reference covers it; for memory of somebody else the caller promised the same.
        Ok(unsafe { MmapRegion::from_parts(mapping, prepared, self.properties, bitmap) })
    }
}

/// What a place in a flat memory asks of a description.
impl<B> MmapRegionBuilder<B> {
    /// Returns the size in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Returns the least alignment that was asked for, in bytes.
    pub(crate) fn alignment(&self) -> usize {
        self.placement.alignment.map_or(1, Alignment::bytes)
    }

    /// Says whether the memory is mapped already, wherever that is.
    pub(crate) fn has_pointer(&self) -> bool {
        self.source.raw_pointer.is_some()
    }

    /// Describes the same memory with another bitmap.
    pub(crate) fn tracked_by<C>(self, bitmap: C) -> MmapRegionBuilder<C> {
        MmapRegionBuilder {
            size: self.size,
            flags: self.flags,
            source: self.source,
            placement: self.placement,
            properties: self.properties,
            policies: self.policies,
            bitmap: BitmapChoice::Given(bitmap),
        }
    }
}
