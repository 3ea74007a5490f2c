// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory for these tests: mapped by hand, or of a file that anybody may shorten.
#![expect(
    unsafe_code,
    reason = "maps memory by hand and takes access away from parts of it"
)]

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::FromRawFd;

use guest_memory::bitmap::AtomicBitmap;
use guest_memory::{
    FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionCollection, GuestRegionMmap, MmapRegion,
    MmapRegionBuilder,
};

/// Guest memory with a dirty bitmap.
pub(crate) type Memory = GuestMemoryMmap<AtomicBitmap>;

/// Where all of these memories start.
pub(crate) const START: GuestAddress = GuestAddress(0x1_0000);

/// Returns the size of a page in bytes.
pub(crate) fn page() -> usize {
    // SAFETY: no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap()
}

/// Places a region at [`START`].
pub(crate) fn memory_of(region: MmapRegion<AtomicBitmap>) -> Memory {
    let region = GuestRegionMmap::new(region, START).unwrap();
    GuestRegionCollection::from_regions(vec![region]).unwrap()
}

/// Memory mapped by the test; it is unmapped on drop.
pub(crate) struct Mapping {
    base: *mut u8,
    len_bytes: usize,
}

impl Mapping {
    /// Maps private anonymous memory.
    pub(crate) fn anonymous(len_bytes: usize) -> Self {
        Self::with_flags(len_bytes, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).unwrap()
    }

    /// Maps memory without a file, readable and writable, with these flags.
    pub(crate) fn with_flags(len_bytes: usize, flags: i32) -> io::Result<Self> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses the place, so nothing that is there already is touched.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len_bytes, prot, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            base: base.cast(),
            len_bytes,
        })
    }

    /// Changes the protection of a range of bytes, whole pages.
    pub(crate) fn protect(&self, range: Range<usize>, prot: i32) {
        assert!(range.end <= self.len_bytes);
        // SAFETY: within the mapping, as just checked.
        let start = unsafe { self.base.add(range.start) };
        // SAFETY: pages of this mapping; no Rust object lives there.
        let done = unsafe { libc::mprotect(start.cast(), range.len(), prot) };
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
    }

    pub(crate) fn base(&self) -> *mut u8 {
        self.base
    }

    /// Copies a range of bytes out, not by way of the library.
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        assert!(range.end <= self.len_bytes);
        // SAFETY: within the mapping, as just checked.
        let start = unsafe { self.base.add(range.start) };
        // SAFETY: mapped, as the tests ask only for pages with access; written by nobody until the borrow ends, as the
        // tests that ask run in one thread and drop it before they go on.
        unsafe { std::slice::from_raw_parts(start, range.len()) }
    }

    /// Makes a region of all the memory, with one dirty bit per `granule` bytes.
    pub(crate) fn region(&self, granule: usize) -> MmapRegion<AtomicBitmap> {
        let bitmap = AtomicBitmap::new(self.len_bytes, NonZeroUsize::new(granule).unwrap());
        let builder = MmapRegionBuilder::new_with_bitmap(self.len_bytes, bitmap)
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: mapped with that size; the tests drop the region first. That some pages cannot be accessed is what
        // they are about: the fault guard is installed before the first access.
        let builder = unsafe { builder.with_raw_mmap_pointer(self.base) };
        builder.build().unwrap()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by this object with that size; the tests drop what uses it before.
        let done = unsafe { libc::munmap(self.base.cast(), self.len_bytes) };
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
    }
}

/// Makes a memory file without seals, so that its size can be changed.
pub(crate) fn memory_file(len_bytes: usize) -> File {
    // SAFETY: the name ends with a zero byte.
    let descriptor = unsafe { libc::memfd_create(c"shortened".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(descriptor >= 0, "{}", io::Error::last_os_error());
    // SAFETY: just opened, and owned by nobody else.
    let file = unsafe { File::from_raw_fd(descriptor) };
    file.set_len(len_bytes as u64).unwrap();
    file
}

/// Makes guest memory of a file that the test keeps as well.
pub(crate) fn shared_memory(len_bytes: usize) -> (File, Memory) {
    let file = memory_file(len_bytes);
    let offset = FileOffset::new(file.try_clone().unwrap(), 0);
    let memory = memory_of(MmapRegion::from_file(offset, len_bytes).unwrap());
    (file, memory)
}
