// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Step-by-step description of a mapping, checked as a whole when it is built.
#![expect(unsafe_code, reason = "takes a raw pointer from the caller")]

use guest_memory_bitmap::{Bitmap, NewBitmap};
use guest_memory_core::FileOffset;

use crate::backing::{Prepared, anonymous, base_page_size, external, file, hugetlb, memfd};
use crate::error::MmapRegionError;
use crate::mapping::check_size;
use crate::{HugePageSize, MmapRegion};

/// Name of the memory file behind huge pages when the caller gives none.
const HUGE_PAGES_NAME: &str = "guest-memory";

/// Builds an [`MmapRegion`].
///
/// Without further options the region is anonymous private memory, readable and writable.
///
/// # Examples
///
/// ```
/// use guest_memory_mmap::{MmapRegion, MmapRegionBuilder};
///
/// # fn main() -> Result<(), guest_memory_mmap::MmapRegionError> {
/// // Memory in a sealed file that can be passed to another process.
/// let region: MmapRegion = MmapRegionBuilder::new(0x10000).with_memfd("guest-ram").build()?;
/// assert_eq!(region.size(), 0x10000);
/// assert!(region.file_offset().is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MmapRegionBuilder<B = ()> {
    size: usize,
    prot: i32,
    flags: Option<i32>,
    file_offset: Option<FileOffset>,
    memfd_name: Option<String>,
    huge_pages: Option<HugePageSize>,
    raw_pointer: Option<*mut u8>,
    hugetlbfs_hint: Option<bool>,
    bitmap: BitmapChoice<B>,
}

/// Where the bitmap comes from.
#[derive(Debug)]
enum BitmapChoice<B> {
    Given(B),
    /// Made once the memory is mapped: a size that cannot be mapped must not cost a bitmap.
    OfSize(fn(usize) -> B),
}

impl<B: NewBitmap> MmapRegionBuilder<B> {
    /// Starts the description of a region of `size` bytes whose bitmap covers it all.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self::with_choice(size, BitmapChoice::OfSize(B::with_len))
    }
}

impl<B: Bitmap> MmapRegionBuilder<B> {
    /// Starts the description of a region of `size` bytes with a bitmap of the caller's.
    #[must_use]
    pub fn new_with_bitmap(size: usize, bitmap: B) -> Self {
        Self::with_choice(size, BitmapChoice::Given(bitmap))
    }

    fn with_choice(size: usize, bitmap: BitmapChoice<B>) -> Self {
        Self {
            size,
            prot: libc::PROT_READ | libc::PROT_WRITE,
            flags: None,
            file_offset: None,
            memfd_name: None,
            huge_pages: None,
            raw_pointer: None,
            hugetlbfs_hint: None,
            bitmap,
        }
    }

    /// Sets the protection, an OR of `PROT_READ`, `PROT_WRITE` and `PROT_EXEC`; read and write if not called.
    ///
    /// Without `PROT_WRITE` the region refuses writes; without `PROT_READ` it hands out no slice at all.
    #[must_use]
    pub fn with_mmap_prot(mut self, prot: i32) -> Self {
        self.prot = prot;
        self
    }

    /// Sets the flags of the mapping, an OR of `MAP_*`, in place of the defaults.
    ///
    /// The defaults are private and unreserved for anonymous memory, shared and unreserved for files,
    /// shared and reserved for huge pages. With `MAP_NORESERVE` on huge pages an empty pool
    /// shows as SIGBUS when a page is first touched.
    #[must_use]
    pub fn with_mmap_flags(mut self, flags: i32) -> Self {
        self.flags = Some(flags);
        self
    }

    /// Maps a file from the given offset on.
    ///
    /// The offset must be a multiple of the page, or of the huge page on hugetlbfs. A regular file or
    /// block device must hold the whole mapping; other files are taken as they are.
    #[must_use]
    pub fn with_file_offset(mut self, file_offset: FileOffset) -> Self {
        self.file_offset = Some(file_offset);
        self
    }

    /// Maps a new memory file, sealed against shrinking and growing, under a name that shows in `/proc`.
    ///
    /// [`MmapRegion::file_offset`] has the file, to be passed to other processes.
    #[must_use]
    pub fn with_memfd(mut self, name: impl Into<String>) -> Self {
        self.memfd_name = Some(name.into());
        self
    }

    /// Maps a new memory file of huge pages, reserved in the system's pool when built.
    ///
    /// The size must be a multiple of the huge page. [`with_memfd`](Self::with_memfd) may name the file.
    #[must_use]
    pub fn with_huge_pages(mut self, page_size: HugePageSize) -> Self {
        self.huge_pages = Some(page_size);
        self
    }

    /// Notes whether the memory is on hugetlbfs, where this crate cannot know.
    ///
    /// Files are asked themselves; this hint does not override their answer.
    #[must_use]
    pub fn with_hugetlbfs(mut self, hugetlbfs: bool) -> Self {
        self.hugetlbfs_hint = Some(hugetlbfs);
        self
    }

    /// Uses memory that somebody else mapped and will unmap.
    ///
    /// The pointer must be aligned to a page. The flags given are only noted.
    ///
    /// # Safety
    ///
    /// With the size given to the builder and the protection it has when the region is built, whether that
    /// is set before or after this call,
    /// `[raw_ptr, raw_ptr + size)` must be, while the region lives,
    /// - mapped with that protection,
    /// - a [valid guest range](guest_memory_volatile#valid-guest-range) as far as that protection lets it.
    #[must_use]
    pub unsafe fn with_raw_mmap_pointer(mut self, raw_ptr: *mut u8) -> Self {
        self.raw_pointer = Some(raw_ptr);
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
    /// - [`InvalidPointer`](MmapRegionError::InvalidPointer): the raw pointer is null or not aligned;
    /// - [`InvalidOffsetLength`](MmapRegionError::InvalidOffsetLength),
    ///   [`UnalignedFileOffset`](MmapRegionError::UnalignedFileOffset),
    ///   [`MappingPastEof`](MmapRegionError::MappingPastEof): the file does not fit;
    /// - [`SizeNotMultipleOfHugePage`](MmapRegionError::SizeNotMultipleOfHugePage),
    ///   [`HugePagePool`](MmapRegionError::HugePagePool): the huge pages do not fit;
    /// - [`BitmapTooShort`](MmapRegionError::BitmapTooShort): writes would go unrecorded;
    /// - [`Mmap`](MmapRegionError::Mmap), [`FileMetadata`](MmapRegionError::FileMetadata),
    ///   [`MemoryFile`](MmapRegionError::MemoryFile), [`PageSize`](MmapRegionError::PageSize): the
    ///   operating system refused.
    pub fn build(self) -> Result<MmapRegion<B>, MmapRegionError> {
        self.check_options()?;
        let (mapping, prepared) = match self.raw_pointer {
            Some(pointer) => {
                // SAFETY: `with_raw_mmap_pointer` got the promise for this size and protection.
                let mapping = unsafe { external::adopt(pointer, self.size) }?;
                let flags = self.flags.unwrap_or(0);
                (
                    mapping,
                    Prepared {
                        flags,
                        file: None,
                        huge_page_size: None,
                        page_size: base_page_size()?,
                    },
                )
            }
            None => {
                let prepared = prepare(
                    self.size,
                    self.flags,
                    self.file_offset,
                    self.memfd_name,
                    self.huge_pages,
                )?;
                (prepared.map(self.size, self.prot)?, prepared)
            }
        };
        let bitmap = match self.bitmap {
            BitmapChoice::Given(bitmap) => bitmap,
            BitmapChoice::OfSize(with_len) => with_len(self.size),
        };
        if let Some(tracked) = bitmap.tracked_bytes()
            && tracked < self.size
        {
            return Err(MmapRegionError::BitmapTooShort {
                tracked,
                size: self.size,
            });
        }
        // SAFETY: memory mapped above has this protection, is zeroed or a file's, and is new, so that no
        // reference covers it; for memory of somebody else `with_raw_mmap_pointer` got the promise.
        Ok(unsafe {
            MmapRegion::from_parts(mapping, self.prot, prepared, self.hugetlbfs_hint, bitmap)
        })
    }

    /// Checks what does not depend on the source, and that there is one source.
    fn check_options(&self) -> Result<(), MmapRegionError> {
        check_size(self.size)?;
        let raw = ("a raw pointer", self.raw_pointer.is_some());
        let file = ("a file", self.file_offset.is_some());
        let memfd = ("a memfd", self.memfd_name.is_some());
        let huge_pages = ("huge pages", self.huge_pages.is_some());
        let exclusive = [
            (raw, file),
            (raw, memfd),
            (raw, huge_pages),
            (file, memfd),
            (file, huge_pages),
        ];
        for ((first, has_first), (second, has_second)) in exclusive {
            if has_first && has_second {
                return Err(MmapRegionError::ConflictingOptions { first, second });
            }
        }
        Ok(())
    }
}

/// Prepares the one source that the options name.
fn prepare(
    size: usize,
    flags: Option<i32>,
    file_offset: Option<FileOffset>,
    memfd_name: Option<String>,
    huge_pages: Option<HugePageSize>,
) -> Result<Prepared, MmapRegionError> {
    let file_offset = match (file_offset, memfd_name, huge_pages) {
        (Some(file_offset), ..) => file_offset,
        (None, name, Some(page_size)) => {
            hugetlb::create(name.as_deref().unwrap_or(HUGE_PAGES_NAME), size, page_size)?
        }
        (None, Some(name), None) => memfd::create(&name, size, None)?,
        (None, None, None) => return anonymous::prepare(size, flags),
    };
    file::prepare(file_offset, size, flags)
}
