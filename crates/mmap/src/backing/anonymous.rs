// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Fresh zeroed memory without a file.

use super::{Prepared, base_page_size, hugetlb};
use crate::error::MmapRegionError;
use crate::{BackingKind, HugePageSize, Sharing};

/// Private memory for which no swap is set aside: a guest rarely touches all it is given.
const DEFAULT_FLAGS: i32 = libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_NORESERVE;

/// Returns the flags for memory of the given kind. Huge pages are reserved: they are scarce.
pub(crate) fn flags(sharing: Sharing, huge_pages: Option<HugePageSize>) -> i32 {
    let pages = match huge_pages {
        None => libc::MAP_NORESERVE,
        Some(page_size) => libc::MAP_HUGETLB | page_size.mmap_flag(),
    };
    libc::MAP_ANONYMOUS | sharing.flag() | pages
}

/// Prepares anonymous memory. The caller's flags may ask for huge pages.
pub(crate) fn prepare(size: usize, flags: Option<i32>) -> Result<Prepared, MmapRegionError> {
    let flags = flags.unwrap_or(DEFAULT_FLAGS);
    if flags & libc::MAP_ANONYMOUS == 0 {
        return Err(MmapRegionError::ConflictingOptions {
            first: "memory without a file",
            second: "flags without MAP_ANONYMOUS",
        });
    }
    let huge_page_size = match flags & libc::MAP_HUGETLB {
        0 => None,
        _ => {
            let page_size = hugetlb::page_size_from_flags(flags)?;
            hugetlb::check_supported(page_size)?;
            hugetlb::check_multiple(size, page_size)?;
            Some(page_size)
        }
    };
    Ok(Prepared {
        flags,
        file: None,
        huge_page_size,
        kind: BackingKind::Anonymous,
        page_size: huge_page_size.map_or_else(base_page_size, Ok)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_default_to_private_unreserved_memory() {
        let prepared = prepare(1, None).unwrap();
        assert_eq!(prepared.flags, DEFAULT_FLAGS);
        assert_eq!(prepared.huge_page_size, None);
    }

    #[test]
    fn huge_pages_by_flag_need_whole_huge_pages() {
        let flags = DEFAULT_FLAGS | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB;
        let prepared = prepare(4 << 20, Some(flags)).unwrap();
        assert_eq!(prepared.huge_page_size, Some(2 << 20));
        let error = prepare(3 << 20, Some(flags)).unwrap_err();
        assert!(matches!(
            error,
            MmapRegionError::SizeNotMultipleOfHugePage {
                size: 0x30_0000,
                huge_page_size: 0x20_0000
            }
        ));
    }

    #[test]
    fn flags_without_map_anonymous_are_refused() {
        let error = prepare(4096, Some(libc::MAP_PRIVATE)).unwrap_err();
        assert!(matches!(error, MmapRegionError::ConflictingOptions { .. }));
    }
}
