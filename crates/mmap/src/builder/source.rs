// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where a region's memory comes from, as the caller has said it so far.

use guest_memory_core::FileOffset;

use crate::backing::{Prepared, anonymous, file, hugetlb, memfd};
use crate::error::MmapRegionError;
use crate::{Backing, BackingKind, HugePageSize, Seals};

/// Name of the memory file behind huge pages when the caller gives none.
const HUGE_PAGES_NAME: &str = "guest-memory";

/// What the caller said about where the memory comes from; contradictions are found when it is built.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// In a box, since most regions have none, and a builder is moved at each step.
    pub(super) backing: Option<Box<Backing>>,
    pub(super) file_offset: Option<FileOffset>,
    pub(super) must_grow_file: bool,
    pub(super) required_seals: Option<Seals>,
    pub(super) memfd_name: Option<String>,
    pub(super) huge_pages: Option<HugePageSize>,
    pub(super) raw_pointer: Option<RawPointer>,
}

/// Memory that somebody else mapped.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawPointer {
    pub(super) start: *mut u8,
    pub(super) is_owned: bool,
}

impl Source {
    /// Checks that there is one source, and that the rest goes with it.
    pub(super) fn check(&self, flags: Option<i32>) -> Result<(), MmapRegionError> {
        let raw = ("a raw pointer", self.raw_pointer.is_some());
        let file = ("a file", self.file_offset.is_some());
        let memfd = ("a memfd", self.memfd_name.is_some());
        let huge_pages = ("huge pages", self.huge_pages.is_some());
        let backing = ("a backing", self.backing.is_some());
        let flags = ("flags of mmap", flags.is_some());
        let no_file = ("no given file", self.file_offset.is_none());
        let growth = ("growth of the file", self.must_grow_file);
        let seals = ("seals of the file", self.required_seals.is_some());
        let exclusive = [
            (raw, file),
            (raw, memfd),
            (raw, huge_pages),
            (raw, backing),
            (file, memfd),
            (file, huge_pages),
            (file, backing),
            (backing, memfd),
            (backing, huge_pages),
            (backing, flags),
            (no_file, growth),
            (no_file, seals),
        ];
        for ((first, has_first), (second, has_second)) in exclusive {
            if has_first && has_second {
                return Err(MmapRegionError::ConflictingOptions { first, second });
            }
        }
        Ok(())
    }

    /// Prepares the one source that there is.
    pub(super) fn prepare(
        self,
        size: usize,
        flags: Option<i32>,
        prot: i32,
    ) -> Result<Prepared, MmapRegionError> {
        if let Some(backing) = self.backing {
            return backing.prepare(size, prot);
        }
        if let Some(file_offset) = self.file_offset {
            if let Some(seals) = self.required_seals {
                seals.check(file_offset.file())?;
            }
            if self.must_grow_file {
                file::grow(&file_offset, size)?;
            }
            return file::prepare(file_offset, size, flags, prot);
        }
        let seals = Seals::ALL;
        let (name, huge_pages) = (self.memfd_name, self.huge_pages);
        let file_offset = match (name, huge_pages) {
            (name, Some(page_size)) => {
                let name = name.as_deref().unwrap_or(HUGE_PAGES_NAME);
                hugetlb::create(name, size, page_size, seals)?
            }
            (Some(name), None) => memfd::create(&name, size, None, seals)?,
            (None, None) => return anonymous::prepare(size, flags),
        };
        Ok(file::prepare(file_offset, size, flags, prot)?.of_kind(BackingKind::Memfd))
    }
}
