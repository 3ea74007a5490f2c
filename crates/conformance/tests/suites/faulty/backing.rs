// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Backings.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use guest_memory_bitmap::{AtomicBitmap, BS, Bitmap, DirtyPages};
use guest_memory_conformance::backing::{self, Backing};
use guest_memory_conformance::kept;
use guest_memory_core::FileOffset;
use guest_memory_mmap::{MmapRegion, MmapRegionBuilder, Protection, Sharing};
use guest_memory_volatile::{VolatileMemory, VolatileMemoryError, VolatileSlice};

/// Alignment that the backing promises, in bytes.
const PAGE: usize = 4096;

/// What is wrong with a backing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BackingFault {
    LengthIsRoundedUp,
    LengthIsOneLess,
    IsNotZeroed,
    IsDirty,
    IsTheSameTwice,
    IsNotAligned,
    HalvesAreApart,
    IsCopiedWhenAsked,
    FileOffsetIsOff,
    FileOffsetIsIgnored,
    FileToldIsAnother,
    SharedIsPrivate,
    PrivateIsShared,
    ReadOnlyCanBeWritten,
    IsLeaked,
}

impl BackingFault {
    /// Each fault and a word that the report has to hold.
    pub(crate) const ALL: [(Self, &str); 15] = [
        (Self::LengthIsRoundedUp, "the length"),
        (Self::LengthIsOneLess, "the length"),
        (Self::IsNotZeroed, "new memory"),
        (Self::IsDirty, "dirty_at of new memory"),
        (Self::IsTheSameTwice, "two memories"),
        (Self::IsNotAligned, "expected a multiple of"),
        (Self::HalvesAreApart, "the host address"),
        (Self::IsCopiedWhenAsked, "the host address"),
        (Self::FileOffsetIsOff, "memory of a file"),
        (Self::FileOffsetIsIgnored, "memory of a file"),
        (
            Self::FileToldIsAnother,
            "where the memory starts in its file",
        ),
        (
            Self::SharedIsPrivate,
            "the file after a write to the memory",
        ),
        (
            Self::PrivateIsShared,
            "the file after a write to memory that is not shared",
        ),
        (Self::ReadOnlyCanBeWritten, "is_read_only"),
        (Self::IsLeaked, "expected it to be given back"),
    ];
}

type Region = MmapRegion<AtomicBitmap>;

/// A backing with a fault, of files that are shared or not.
#[derive(Debug)]
pub(crate) struct FaultyBacking {
    sharing: Sharing,
    fault: Option<BackingFault>,
    first: Mutex<Option<Arc<Region>>>,
}

impl FaultyBacking {
    pub(crate) fn new(fault: Option<BackingFault>, sharing: Sharing) -> Self {
        Self {
            sharing,
            fault,
            first: Mutex::new(None),
        }
    }

    fn has(&self, fault: BackingFault) -> bool {
        self.fault == Some(fault)
    }

    fn memory(&self, region: Arc<Region>, len: usize) -> FaultyMapping {
        let has_other =
            self.has(BackingFault::HalvesAreApart) || self.has(BackingFault::IsCopiedWhenAsked);
        let other = has_other.then(|| new_region(len));
        if self.has(BackingFault::IsLeaked) {
            kept(Arc::clone(&region));
        }
        FaultyMapping {
            region,
            other,
            asked: AtomicUsize::new(0),
            len,
            fault: self.fault,
        }
    }
}

fn new_region(len: usize) -> Region {
    Region::new(len).expect("mapped memory")
}

impl Backing for FaultyBacking {
    type Memory = FaultyMapping;

    fn map(&self, len: usize) -> FaultyMapping {
        let region = match self.fault {
            Some(BackingFault::IsTheSameTwice) => {
                let mut first = self.first.lock().expect("no panic while it was locked");
                let is_other = |first: &mut Arc<Region>| first.size() != len;
                if first.as_mut().is_none_or(is_other) {
                    *first = Some(Arc::new(new_region(len)));
                }
                let region = first.clone().expect("stored above");
                // As new as the caller asks for: only two at once show it.
                region
                    .as_volatile_slice()
                    .zero()
                    .expect("it can be written");
                region.bitmap().harvest_into(&mut DirtyPages::default());
                region
            }
            Some(BackingFault::IsNotAligned) => Arc::new(new_region(len + 64)),
            _ => Arc::new(new_region(len)),
        };
        let last = VolatileMemory::len(&*region) - 1;
        match self.fault {
            Some(BackingFault::IsNotZeroed) => {
                let slice = region.as_volatile_slice();
                // Not marked: what was there before the memory was made.
                let before = slice.replace_bitmap(());
                before.write_obj(1u8, last).expect("it can be written");
            }
            Some(BackingFault::IsDirty) => region.bitmap().mark_dirty(last, 1),
            _ => {}
        }
        let len = match self.fault {
            Some(BackingFault::LengthIsRoundedUp) => len.next_multiple_of(PAGE),
            Some(BackingFault::LengthIsOneLess) => len - 1,
            _ => len,
        };
        let region = match self.fault {
            Some(BackingFault::LengthIsRoundedUp) => Arc::new(new_region(len)),
            _ => region,
        };
        self.memory(region, len)
    }

    fn alignment(&self) -> usize {
        PAGE
    }

    fn file_offset(&self, memory: &FaultyMapping) -> Option<FileOffset> {
        let file = memory.region.file_offset()?;
        if self.has(BackingFault::FileToldIsAnother) {
            let more = file.start() + PAGE as u64;
            return Some(FileOffset::from_arc(Arc::clone(file.arc()), more));
        }
        Some(file.clone())
    }

    fn map_file(&self, file: FileOffset, len: usize) -> Option<FaultyMapping> {
        let start = match self.fault {
            Some(BackingFault::FileOffsetIsOff) => file.start().saturating_sub(PAGE as u64),
            Some(BackingFault::FileOffsetIsIgnored) => 0,
            _ => file.start(),
        };
        let sharing = match self.fault {
            Some(BackingFault::SharedIsPrivate) => Sharing::Private,
            Some(BackingFault::PrivateIsShared) => Sharing::Shared,
            _ => self.sharing,
        };
        let region = MmapRegionBuilder::<AtomicBitmap>::new(len)
            .with_file_offset(FileOffset::from_arc(Arc::clone(file.arc()), start))
            .with_mmap_flags(sharing.flag())
            .build()
            .expect("mapped memory");
        Some(self.memory(Arc::new(region), len))
    }

    fn is_shared(&self) -> bool {
        self.sharing == Sharing::Shared
    }

    fn map_read_only(&self, len: usize) -> Option<FaultyMapping> {
        if self.has(BackingFault::ReadOnlyCanBeWritten) {
            return Some(self.map(len));
        }
        let region = MmapRegionBuilder::<AtomicBitmap>::new(len)
            .with_protection(Protection::ReadOnly)
            .build()
            .expect("mapped memory");
        Some(self.memory(Arc::new(region), len))
    }

    fn is_mapped(&self, range: Range<usize>) -> Option<bool> {
        backing::is_mapped(range)
    }
}

/// Memory with a fault.
#[derive(Debug)]
pub(crate) struct FaultyMapping {
    region: Arc<Region>,
    /// Where other bytes than the first ones are.
    other: Option<Region>,
    /// How many windows were asked for.
    asked: AtomicUsize,
    len: usize,
    fault: Option<BackingFault>,
}

impl VolatileMemory for FaultyMapping {
    type B = AtomicBitmap;

    fn len(&self) -> usize {
        self.len
    }

    fn get_slice(
        &self,
        offset: usize,
        count: usize,
    ) -> Result<VolatileSlice<'_, BS<'_, AtomicBitmap>>, VolatileMemoryError> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        match (self.fault, &self.other) {
            (Some(BackingFault::HalvesAreApart), Some(other))
                if offset > 0 && offset == self.len / 2 =>
            {
                other.get_slice(offset, count)
            }
            (Some(BackingFault::IsCopiedWhenAsked), Some(other)) if asked % 3 == 2 => {
                other.get_slice(offset, count)
            }
            (Some(BackingFault::IsNotAligned), _) => {
                let rest = self.region.get_slice(64, self.len)?;
                rest.subslice(offset, count)
            }
            _ => self.region.get_slice(offset, count),
        }
    }
}
