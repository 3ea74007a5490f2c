// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Populating a range by one thread, and the page at which it failed.
#![expect(
    unsafe_code,
    reason = "asks the kernel for pages; touches pages through a slice of its own"
)]

use std::io;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use guest_memory_volatile::{VolatileMemoryError, VolatileSlice};

use super::{PrefaultMethod, PrefaultReason};
use crate::backing::hugetlb;
use crate::extent::Extent;
use crate::{residency, sys};

/// How often the kernel may say that it lacks something for the moment, and how long to wait each time.
const PATIENCE: (u32, Duration) = (50, Duration::from_millis(2));

/// The first page of a range that could not be had.
#[derive(Debug)]
pub(super) struct PopulateFailure {
    /// Where it starts in the range, thus how many bytes are populated.
    pub(super) at: usize,
    /// Its length, in bytes.
    pub(super) len_bytes: usize,
    /// What the kernel said.
    pub(super) source: io::Error,
}

/// Says whether the kernel knows the request to populate memory, which came with Linux 5.14.
pub(super) fn kernel_populates(extent: &Extent<'_>) -> bool {
    // Nothing is asked of no bytes, but an unknown request is refused first.
    match ask_once(extent, 0) {
        Err(error) => error.raw_os_error() != Some(libc::EINVAL),
        Ok(()) => true,
    }
}

/// Populates an extent, for writing if it is writable.
pub(super) fn populate(extent: &Extent<'_>, method: PrefaultMethod) -> Result<(), PopulateFailure> {
    match method {
        PrefaultMethod::Populate => by_the_kernel(extent),
        PrefaultMethod::Touch => by_touch(extent),
    }
}

/// Asks the kernel, and looks for the page if it refuses: it does not say how far it came.
fn by_the_kernel(extent: &Extent<'_>) -> Result<(), PopulateFailure> {
    let len_bytes = extent.len_bytes();
    let page_size = extent.details().page_size;
    // Of two halves the first that is refused has the page. What is there already is passed over quickly.
    let mut done = 0usize;
    while ask(extent, done, len_bytes).is_err() {
        let mut end = len_bytes;
        loop {
            let left = end.saturating_sub(done);
            if left <= page_size {
                break;
            }
            let half = (left / 2).next_multiple_of(page_size);
            let middle = done.saturating_add(half);
            match ask(extent, done, middle) {
                Ok(()) => done = middle,
                Err(_) => end = middle,
            }
        }
        if let Err(source) = ask(extent, done, end) {
            return Err(PopulateFailure {
                at: done,
                len_bytes: end.saturating_sub(done),
                source,
            });
        }
        // It was refused before and is not now: somebody gave a page back.
        done = end;
    }
    Ok(())
}

/// Asks the kernel to populate `[from, to)` and again if that is what its answer calls for.
fn ask(extent: &Extent<'_>, from: usize, to: usize) -> io::Result<()> {
    let len_bytes = to.saturating_sub(from);
    let Some(part) = extent.part(from, len_bytes) else {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    };
    let (mut patience, pause) = PATIENCE;
    loop {
        match ask_once(&part, len_bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && patience > 0 => {
                patience = patience.saturating_sub(1);
                thread::sleep(pause);
            }
            answer => return answer,
        }
    }
}

/// Asks the kernel to populate the first bytes of an extent, of which `len_bytes` must be part.
fn ask_once(extent: &Extent<'_>, len_bytes: usize) -> io::Result<()> {
    let advice = if extent.details().protection.is_writable() {
        libc::MADV_POPULATE_WRITE
    } else {
        libc::MADV_POPULATE_READ
    };
    let len_bytes = usize::min(len_bytes, extent.len_bytes());
    // SAFETY: the range is part of an extent, thus a region's memory; populating it changes no byte.
    unsafe { sys::madvise(extent.start(), len_bytes, advice) }
}

/// Reads a byte of each page and, if it may be written, writes it back unless somebody else has written it meanwhile.
fn by_touch(extent: &Extent<'_>) -> Result<(), PopulateFailure> {
    let details = extent.details();
    // SAFETY: an extent is a region's memory, mapped while the extent lives, and read-only memory is not written below.
    let slice = unsafe { VolatileSlice::new(extent.start().as_ptr(), extent.len_bytes()) };
    let touch = |at| -> Result<(), VolatileMemoryError> {
        let before = slice.load::<u8>(at, Ordering::Relaxed)?;
        if details.protection.is_writable() {
            // An exchange for the same value: to or with zero is what a compiler may turn into a load.
            // The slice has no bitmap, so that nothing is marked.
            let (done, failed) = (Ordering::Relaxed, Ordering::Relaxed);
            // Whoever wrote in between has the page populated as well.
            let _ = slice.compare_exchange(before, before, at, done, failed)?;
        }
        Ok(())
    };
    for at in (0..extent.len_bytes()).step_by(details.page_size) {
        touch(at).map_err(|_| PopulateFailure {
            at,
            len_bytes: usize::min(details.page_size, extent.len_bytes().saturating_sub(at)),
            // The one error there is: the fault guard caught a signal.
            source: io::Error::from_raw_os_error(libc::EFAULT),
        })?;
    }
    Ok(())
}

/// Says what an error at the first page of an extent means, `[start, start + needed_bytes)` being what is to be populated.
pub(super) fn explain(
    extent: &Extent<'_>,
    needed_bytes: usize,
    error: &io::Error,
) -> PrefaultReason {
    match error.raw_os_error() {
        Some(libc::EFAULT) => explain_fault(extent, needed_bytes),
        Some(libc::EHWPOISON) => PrefaultReason::HardwareError,
        Some(libc::ENOMEM) => PrefaultReason::OutOfMemory,
        Some(libc::EINVAL) => PrefaultReason::NotPopulatable,
        _ => PrefaultReason::Other,
    }
}

/// What would have been a signal at a touch.
fn explain_fault(extent: &Extent<'_>, needed_bytes: usize) -> PrefaultReason {
    let details = extent.details();
    if let Some((file, file_offset)) = details.file
        && let Ok(Some(file_len)) = residency::file_len(file)
        && file_offset >= file_len
    {
        return PrefaultReason::FileTooShort {
            file_offset,
            file_len,
        };
    }
    let page_size = details.page_size;
    if details.is_hugetlb
        && let Ok(free_pages) = hugetlb::free_pages(page_size)
    {
        return PrefaultReason::HugePagePool {
            needed_pages: needed_bytes.div_ceil(page_size),
            free_pages,
            page_size,
        };
    }
    if details.file.is_some() {
        PrefaultReason::File
    } else {
        PrefaultReason::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extent::Details;
    use crate::policy::PageSource;
    use crate::prefault::crew::{Job, run_by};
    use crate::prefault::{Prefault, PrefaultError};
    use crate::{MmapRegion, MmapRegionBuilder};
    use guest_memory_bitmap::{AtomicBitmap, Bitmap};
    use guest_memory_core::FileOffset;
    use guest_memory_volatile::VolatileMemory;
    use std::fs::File;
    use std::num::NonZeroUsize;
    use std::os::unix::fs::FileExt;

    const SIZE: usize = 40 << 20;

    fn by_touch_of<B: Bitmap>(region: &MmapRegion<B>, threads: usize) -> Result<(), PrefaultError> {
        let job = Job {
            region: 0,
            offset: 0,
            extent: region.extent(),
        };
        let how = Prefault::new().with_threads(NonZeroUsize::new(threads).unwrap());
        let report = run_by(&[job], &how, PrefaultMethod::Touch)?;
        assert_eq!(report.method, PrefaultMethod::Touch);
        assert_eq!(report.populated, region.size());
        Ok(())
    }

    #[test]
    fn a_touch_populates_and_changes_and_marks_nothing() {
        for threads in [1, 2] {
            for builder in [
                MmapRegionBuilder::<AtomicBitmap>::new(SIZE),
                MmapRegionBuilder::new(SIZE).with_memfd("touched"),
            ] {
                let region = builder.build().unwrap();
                let slice = region.as_volatile_slice();
                slice.write_obj(0x55u8, 17 << 20).unwrap();
                by_touch_of(&region, threads).unwrap();
                assert!(region.is_resident(0, SIZE).unwrap());
                assert_eq!(slice.read_obj::<u8>(17 << 20).unwrap(), 0x55);
                let dirty: Vec<_> = (0..SIZE)
                    .step_by(4096)
                    .filter(|at| region.bitmap().dirty_at(*at))
                    .collect();
                assert_eq!(dirty, [17 << 20]);
            }
        }
    }

    #[test]
    fn read_only_memory_is_touched_without_a_write() {
        let builder = MmapRegionBuilder::<()>::new(SIZE)
            .with_mmap_prot(libc::PROT_READ)
            .with_memfd("read-only");
        let region = builder.build().unwrap();
        by_touch_of(&region, 2).unwrap();
        assert!(region.is_resident(0, SIZE).unwrap());
    }

    /// Bytes of the region that are in pages that nobody else has, as the page table tells.
    fn bytes_of_its_own(region: &MmapRegion<()>) -> usize {
        const EXCLUSIVE: u64 = 1 << 56;
        let page_size = sys::page_size().unwrap();
        let mut entries = vec![0; SIZE / page_size * 8];
        let place = region.as_ptr().addr() / page_size * 8;
        let page_table = File::open("/proc/self/pagemap").unwrap();
        page_table
            .read_exact_at(&mut entries, place as u64)
            .unwrap();
        let entries = entries.as_chunks::<8>().0.iter();
        let own = entries.filter(|entry| u64::from_ne_bytes(**entry) & EXCLUSIVE != 0);
        own.count() * page_size
    }

    #[test]
    fn a_touch_for_writing_leaves_no_page_to_copy() {
        // What a read maps is the page of zeroes that all share; it would count as resident.
        let region = MmapRegion::<()>::new(SIZE).unwrap();
        region.as_volatile_slice().is_zero().unwrap();
        assert!(region.is_resident(0, SIZE).unwrap());
        assert_eq!(bytes_of_its_own(&region), 0);
        by_touch_of(&region, 1).unwrap();
        assert_eq!(bytes_of_its_own(&region), SIZE);
    }

    #[test]
    fn each_errno_has_its_meaning() {
        let region = MmapRegion::<()>::new(SIZE).unwrap();
        let extent = region.extent();
        let table = [
            (libc::EHWPOISON, PrefaultReason::HardwareError),
            (libc::ENOMEM, PrefaultReason::OutOfMemory),
            (libc::EINVAL, PrefaultReason::NotPopulatable),
            (libc::EFAULT, PrefaultReason::Other),
            (libc::EPERM, PrefaultReason::Other),
        ];
        for (errno, reason) in table {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!(explain(&extent, SIZE, &error), reason);
        }
    }

    #[test]
    fn large_pages_of_a_device_are_not_those_of_the_pool() {
        let device = File::options().read(true).write(true).open("/dev/zero");
        let device = FileOffset::new(device.unwrap(), 0);
        let region = MmapRegion::<()>::from_file(device, SIZE).unwrap();
        // As for a device of memory, which maps by pages of its own.
        let details = Details {
            page_size: 2 << 20,
            ..region.extent().details()
        };
        // SAFETY: a region's memory, mapped as long as the region is borrowed.
        let extent = unsafe { Extent::new(region.extent().start(), SIZE, details) };
        let fault = io::Error::from_raw_os_error(libc::EFAULT);
        assert_eq!(explain(&extent, SIZE, &fault), PrefaultReason::File);
        assert_ne!(PageSource::of(extent), Ok(PageSource::HugePages));
    }
}
