// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory of huge pages, taken from the system's pool when it is mapped.

use std::fs;
use std::io;

use guest_memory_core::FileOffset;
use memfd::HugetlbSize;

use super::memfd as memory_file;
use crate::error::MmapRegionError;

/// Size of the huge pages behind a region.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum HugePageSize {
    /// 2 MiB.
    TwoMiB,
    /// 1 GiB.
    OneGiB,
}

impl HugePageSize {
    /// Returns the size of one huge page in bytes.
    #[must_use]
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::TwoMiB => 1 << 21,
            Self::OneGiB => 1 << 30,
        }
    }

    fn for_memfd(self) -> HugetlbSize {
        match self {
            Self::TwoMiB => HugetlbSize::Huge2MB,
            Self::OneGiB => HugetlbSize::Huge1GB,
        }
    }
}

/// Makes a memory file of huge pages. The pages are reserved when it is mapped.
pub(crate) fn create(
    name: &str,
    size: usize,
    page_size: HugePageSize,
) -> Result<FileOffset, MmapRegionError> {
    check_multiple(size, page_size.size_bytes())?;
    memory_file::create(name, size, Some(page_size.for_memfd()))
}

/// Checks that `size` is whole huge pages.
///
/// The kernel would round up when mapping and then refuse to unmap the size that was asked for.
pub(crate) fn check_multiple(size: usize, huge_page_size: usize) -> Result<(), MmapRegionError> {
    if size.is_multiple_of(huge_page_size) {
        Ok(())
    } else {
        Err(MmapRegionError::SizeNotMultipleOfHugePage {
            size,
            huge_page_size,
        })
    }
}

/// Returns the page size that mmap's flags ask for together with `MAP_HUGETLB`.
pub(crate) fn page_size_from_flags(flags: i32) -> Result<usize, MmapRegionError> {
    let failed = |source| MmapRegionError::PageSize {
        kind: "huge page",
        source,
    };
    // Six bits hold the logarithm; zero stands for the system's default.
    let log2 =
        (flags.cast_unsigned() >> libc::MAP_HUGE_SHIFT) & libc::MAP_HUGE_MASK.cast_unsigned();
    match log2 {
        0 => default_page_size().map_err(failed),
        _ => 1usize
            .checked_shl(log2)
            .ok_or_else(|| failed(io::Error::from_raw_os_error(libc::EINVAL))),
    }
}

/// Says why huge pages could not be mapped, if the pool is the reason.
pub(crate) fn explain(error: MmapRegionError, size: usize, page_size: usize) -> MmapRegionError {
    let MmapRegionError::Mmap(source) = error else {
        return error;
    };
    let needed_pages = size.div_ceil(page_size);
    match free_pages(page_size) {
        Ok(free_pages)
            if source.raw_os_error() == Some(libc::ENOMEM) && free_pages < needed_pages =>
        {
            MmapRegionError::HugePagePool {
                needed_pages,
                free_pages,
                page_size,
                source,
            }
        }
        // Some other limit, or the pool cannot be looked at: the errno is all there is to say.
        _ => MmapRegionError::Mmap(source),
    }
}

/// Returns how many pages of the pool are neither in use nor promised to a mapping.
fn free_pages(page_size: usize) -> io::Result<usize> {
    let folder = format!("/sys/kernel/mm/hugepages/hugepages-{}kB", page_size >> 10);
    let count = |name| {
        let text = fs::read_to_string(format!("{folder}/{name}"))?;
        text.trim().parse::<usize>().map_err(io::Error::other)
    };
    Ok(count("free_hugepages")?.saturating_sub(count("resv_hugepages")?))
}

fn default_page_size() -> io::Result<usize> {
    let text = fs::read_to_string("/proc/meminfo")?;
    text.lines()
        .find_map(|line| {
            line.strip_prefix("Hugepagesize:")?
                .trim()
                .strip_suffix("kB")
        })
        .and_then(|size| size.trim().parse::<usize>().ok()?.checked_mul(1024))
        .filter(|size| size.is_power_of_two())
        .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "no huge pages in /proc/meminfo"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_name_the_page_size_by_its_logarithm() {
        let table = [
            (libc::MAP_HUGE_2MB, 1 << 21),
            (libc::MAP_HUGE_16MB, 1 << 24),
            (libc::MAP_HUGE_1GB, 1 << 30),
            (libc::MAP_HUGE_16GB, 1 << 34),
        ];
        for (bits, size) in table {
            assert_eq!(
                page_size_from_flags(libc::MAP_HUGETLB | bits).unwrap(),
                size
            );
        }
    }

    #[test]
    fn the_default_page_size_is_used_when_the_flags_name_none() {
        match default_page_size() {
            Ok(size) => assert_eq!(page_size_from_flags(libc::MAP_HUGETLB).unwrap(), size),
            Err(error) => println!("skipped: {error}"),
        }
    }

    #[test]
    fn whole_huge_pages_only() {
        assert!(check_multiple(4 << 20, 2 << 20).is_ok());
        assert!(matches!(
            check_multiple((4 << 20) + 1, 2 << 20),
            Err(MmapRegionError::SizeNotMultipleOfHugePage { .. })
        ));
    }

    #[test]
    fn other_causes_than_the_pool_keep_their_errno() {
        let denied = io::Error::from_raw_os_error(libc::EACCES);
        let error = explain(MmapRegionError::Mmap(denied), 1 << 40, 1 << 21);
        assert!(
            matches!(error, MmapRegionError::Mmap(e) if e.raw_os_error() == Some(libc::EACCES))
        );
        assert!(matches!(
            explain(MmapRegionError::MapFixed, 1, 1),
            MmapRegionError::MapFixed
        ));
    }
}
