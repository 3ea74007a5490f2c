// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A region under test, and what is known of its memory.
#![expect(unsafe_code, reason = "others write to the memory by its address")]

use std::any::Any;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use guest_memory_bitmap::{AtomicBitmap, Bitmap};
use guest_memory_core::{Bytes, GuestMemoryRegion, MemoryRegionAddress};
use guest_memory_mmap::{BackingKind, DiscardMethod, GuestRegionMmap, MmapRegion, Sharing};
use guest_memory_volatile::VolatileMemory;
use tempfile::TempDir;

use crate::pages::{self, PAGE};
use crate::pool::{Pool, Turn};

/// What is tested.
pub(crate) type Region = GuestRegionMmap<AtomicBitmap>;

/// Why a test cannot run.
#[derive(Clone, Debug)]
pub(crate) struct Skip {
    pub(crate) reason: String,
    /// Whether the machine really lacks something, and has not only failed to give it.
    pub(crate) is_excused: bool,
}

impl Skip {
    /// The machine has no such thing.
    pub(crate) fn lacking(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            is_excused: true,
        }
    }

    /// The machine did not give what it may have.
    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            is_excused: false,
        }
    }
}

/// What tests of one backing share.
pub(crate) enum Ground {
    /// Pages of the system's pool, with our turn.
    Pool(Pool),
    /// Our turn alone.
    Turn(Turn),
}

impl Ground {
    pub(crate) fn turn(&self) -> &Turn {
        match self {
            Self::Pool(pool) => pool.turn(),
            Self::Turn(turn) => turn,
        }
    }

    /// Counts the pages of the pool that are not used, be they promised to somebody or not.
    pub(crate) fn unused_pages(&self) -> Option<usize> {
        match self {
            Self::Pool(pool) => Some(pool.free_pages().expect("the pool")),
            Self::Turn(_) => None,
        }
    }

    /// Counts the pages of the pool that are neither used nor promised.
    pub(crate) fn free_pages(&self) -> Option<usize> {
        match self {
            Self::Pool(pool) => Some(pool.free().expect("the pool")),
            Self::Turn(_) => None,
        }
    }
}

/// A region under test and what must come of it.
pub(crate) struct Subject {
    pub(crate) region: Region,
    pub(crate) expected: Expected,
    /// Dropped after the region: what it stands on.
    pub(crate) _keeper: Box<dyn Any>,
}

/// What must come of a region.
pub(crate) struct Expected {
    pub(crate) kind: BackingKind,
    pub(crate) sharing: Sharing,
    /// Size of its pages, in bytes.
    pub(crate) page_size: usize,
    /// What each byte is to begin with.
    pub(crate) first_content: u8,
    pub(crate) others: Others,
    pub(crate) discard: Discard,
    /// Whether guard pages stand around it; else memory of the test's does, which can be written.
    pub(crate) has_guard_pages: bool,
}

/// Who else has the memory.
pub(crate) enum Others {
    /// Who maps the region's file.
    Mapping,
    /// Who writes to the file of which the region is a private mapping.
    Writer(File),
    /// Who has the pointer.
    Pointer,
}

/// What becomes of memory that is discarded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Discard {
    /// It reads as zero.
    Zero(DiscardMethod),
    /// The same, and the file loses blocks.
    ZeroAndBlocks(DiscardMethod),
    /// It reads as its file again.
    FileContent,
    /// Nothing: the memory is somebody else's, or a device's.
    Refused,
}

impl Subject {
    pub(crate) fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.region.size());
        self.region.as_ptr().wrapping_add(offset)
    }

    /// Returns offsets of eight bytes at both ends, and of some over the end of a page, aligned and not.
    pub(crate) fn places(&self) -> [usize; 4] {
        let size = self.region.size();
        [0, size / 2 - 3, size / 2 + PAGE + 8, size - 8]
    }

    pub(crate) fn read(&self, offset: usize) -> u64 {
        let at = MemoryRegionAddress(offset as u64);
        self.region.read_obj(at).expect("a value of the region's")
    }

    pub(crate) fn write(&self, offset: usize, value: u64) {
        let at = MemoryRegionAddress(offset as u64);
        self.region
            .write_obj(value, at)
            .expect("a place in the region");
    }

    /// Says what eight bytes of the first content are.
    pub(crate) fn first_value(&self) -> u64 {
        u64::from_ne_bytes([self.expected.first_content; 8])
    }

    /// Reads what somebody else has.
    pub(crate) fn others_read(&self, offset: usize) -> u64 {
        match &self.expected.others {
            Others::Mapping => self
                .map_again()
                .get_slice(offset, 8)
                .expect("a slice")
                .read_obj(0)
                .expect("a value"),
            Others::Writer(file) => {
                let mut bytes = [0; 8];
                file.read_exact_at(&mut bytes, offset as u64)
                    .expect("a value of the file's");
                u64::from_ne_bytes(bytes)
            }
            Others::Pointer => {
                assert!(offset + 8 <= self.region.size());
                // SAFETY: the region maps these bytes readable while it is borrowed.
                unsafe { pages::read(self.at(offset)) }
            }
        }
    }

    /// Writes for somebody else.
    pub(crate) fn others_write(&self, offset: usize, value: u64) {
        match &self.expected.others {
            Others::Mapping => self
                .map_again()
                .get_slice(offset, 8)
                .expect("a slice")
                .write_obj(value, 0)
                .expect("a place"),
            Others::Writer(file) => file
                .write_all_at(&value.to_ne_bytes(), offset as u64)
                .expect("a place in the file"),
            Others::Pointer => {
                assert!(offset + 8 <= self.region.size());
                // SAFETY: the region maps these bytes writable while it is borrowed, and no test holds a reference to them.
                unsafe { pages::write(self.at(offset), value) };
            }
        }
    }

    /// Maps the file of the region once more.
    fn map_again(&self) -> MmapRegion {
        let file = self.region.file_offset().expect("a file").clone();
        MmapRegion::from_file(file, self.region.size()).expect("another mapping")
    }

    /// Writes to each page, and returns what is written there.
    pub(crate) fn fill(&self) -> u64 {
        let value = 0x7777_7777_7777_7777;
        for page in (0..self.region.size()).step_by(self.expected.page_size) {
            self.write(page, value);
        }
        value
    }

    /// Lists the pages that are dirty, by their numbers.
    pub(crate) fn dirty_pages(&self) -> Vec<usize> {
        let bitmap = GuestMemoryRegion::bitmap(&self.region);
        let pages = 0..self.region.size() / PAGE;
        pages.filter(|page| bitmap.dirty_at(page * PAGE)).collect()
    }

    /// Asks the page table about a part.
    pub(crate) fn page_table(&self, range: Range<usize>) -> pages::PageTable {
        pages::page_table(self.at(range.start), range.len())
    }

    /// Counts what of a part is in memory.
    pub(crate) fn in_memory(&self, range: Range<usize>) -> usize {
        pages::in_memory(self.at(range.start), range.len())
    }

    /// Counts the blocks of the file that the region is of.
    pub(crate) fn blocks(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let file = self.region.file_offset().expect("a file").file();
        file.sync_all().expect("a file in sync");
        file.metadata().expect("metadata").blocks()
    }
}

/// What a subject that stands on nothing else keeps.
pub(crate) fn nothing() -> Box<dyn Any> {
    Box::new(())
}

/// What a subject in a folder keeps.
pub(crate) fn folder(folder: TempDir) -> Box<dyn Any> {
    Box::new(folder)
}
