// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory of huge pages, taken from the system's pool when it is mapped.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use guest_memory_core::FileOffset;
use memfd::HugetlbSize;

use super::{file, file_by_path, memfd as memory_file};
use crate::error::MmapRegionError;
use crate::interrupted::again;
use crate::{Seals, sys};

/// How many names of files are tried that a process of the same number may have left.
const MOST_NAMES: u32 = 100;
/// Where sysfs has the pools, a folder for each size.
const POOLS: &str = "/sys/kernel/mm/hugepages";

/// Size of the pages of one of the system's pools of huge pages.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum HugePageSize {
    /// 2 MiB.
    #[cfg_attr(feature = "serde", serde(rename = "2MiB"))]
    TwoMiB,
    /// 1 GiB.
    #[cfg_attr(feature = "serde", serde(rename = "1GiB"))]
    OneGiB,
}

impl fmt::Display for HugePageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::TwoMiB => "2 MiB",
            Self::OneGiB => "1 GiB",
        })
    }
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

    /// Returns the flag that asks mmap for pages of this size, beside `MAP_HUGETLB`.
    pub(crate) const fn mmap_flag(self) -> i32 {
        match self {
            Self::TwoMiB => libc::MAP_HUGE_2MB,
            Self::OneGiB => libc::MAP_HUGE_1GB,
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
    seals: Seals,
) -> Result<FileOffset, MmapRegionError> {
    check_supported(page_size.size_bytes())?;
    check_multiple(size, page_size.size_bytes())?;
    memory_file::create(name, size, Some(page_size.for_memfd()), seals)
}

/// Makes a file without a name in a directory on hugetlbfs. The pages are reserved when it is mapped.
pub(crate) fn create_in(directory: &Path, size: usize) -> Result<FileOffset, MmapRegionError> {
    let place = file_by_path::open(directory, File::options().read(true))?;
    let Some(page_size) = page_size_of(&place)? else {
        return Err(MmapRegionError::NotHugetlbfs {
            path: directory.to_owned(),
        });
    };
    check_multiple(size, page_size)?;
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| MmapRegionError::File {
            operation,
            path,
            source,
        }
    };
    // A name that nobody else in this process has; another process may have had the same number.
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let mut tries = 0..MOST_NAMES;
    let (path, file) = loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("guest-memory-{}-{number}", std::process::id()));
        let options = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        match options {
            Ok(file) => break (path, file),
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists && tries.next().is_some() => {}
            Err(error) => return Err(failed("create", &path)(error)),
        }
    };
    fs::remove_file(&path).map_err(failed("unlink", &path))?;
    file.set_len(file::writable_len(size)?)
        .map_err(failed("resize", &path))?;
    Ok(FileOffset::new(file, 0))
}

/// Returns the page size of a file on hugetlbfs, or nothing for a file elsewhere.
pub(crate) fn page_size_of(file: &File) -> Result<Option<usize>, MmapRegionError> {
    let answer = again(|| sys::fstatfs(file.as_fd())).map_err(MmapRegionError::FileMetadata)?;
    // The constant's type and sign differ between C libraries; 32 bits count.
    let difference = i128::from(answer.f_type) ^ i128::from(libc::HUGETLBFS_MAGIC);
    if difference & i128::from(u32::MAX) != 0 {
        return Ok(None);
    }
    // hugetlbfs reports its page as the block.
    match usize::try_from(answer.f_bsize) {
        Ok(size) if size.is_power_of_two() => Ok(Some(size)),
        _ => Err(MmapRegionError::PageSize {
            kind: "huge page",
            source: io::Error::from_raw_os_error(libc::EINVAL),
        }),
    }
}

/// Checks that the system has pages of this size at all, be the pool empty or not.
pub(crate) fn check_supported(page_size: usize) -> Result<(), MmapRegionError> {
    let Ok(folder) = fs::read_dir(POOLS) else {
        // Without sysfs the kernel has the last word.
        return Ok(());
    };
    let mut supported: Vec<usize> = folder
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            let kib = name
                .to_str()?
                .strip_prefix("hugepages-")?
                .strip_suffix("kB")?;
            kib.parse::<usize>().ok()?.checked_mul(1024)
        })
        .collect();
    if supported.contains(&page_size) {
        return Ok(());
    }
    supported.sort_unstable();
    Err(MmapRegionError::HugePagesUnsupported {
        page_size,
        supported,
    })
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
pub(crate) fn free_pages(page_size: usize) -> io::Result<usize> {
    let folder = format!("{POOLS}/hugepages-{}kB", page_size >> 10);
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
            (libc::MAP_HUGE_2MB, 1_u64 << 21),
            (libc::MAP_HUGE_16MB, 1 << 24),
            (libc::MAP_HUGE_1GB, 1 << 30),
            (libc::MAP_HUGE_16GB, 1 << 34),
        ];
        for (bits, size) in table {
            // A page that is larger than the address space is an error.
            assert_eq!(
                page_size_from_flags(libc::MAP_HUGETLB | bits).ok(),
                usize::try_from(size).ok()
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
        let error = explain(MmapRegionError::Mmap(denied), usize::MAX, 1 << 21);
        assert!(
            matches!(error, MmapRegionError::Mmap(e) if e.raw_os_error() == Some(libc::EACCES))
        );
        assert!(matches!(
            explain(MmapRegionError::MapFixed, 1, 1),
            MmapRegionError::MapFixed
        ));
    }
}
