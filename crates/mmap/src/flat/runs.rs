// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The parts of a flat memory that can be accessed, as few as possible: neighbouring regions are one.
#![expect(unsafe_code, reason = "hands out slices of mappings")]

use std::hint::cold_path;
use std::ptr::NonNull;

use guest_memory_bitmap::{BS, Bitmap};
use guest_memory_core::{GuestAddress, GuestMemoryRegion, Permissions};
use guest_memory_volatile::VolatileSlice;

use super::board::Board;
use crate::mapping::MAX_SIZE;
use crate::{GuestRegionMmap, Protection};

/// Regions side by side with the same protection, as offsets from the memory's start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Run {
    pub(super) start: usize,
    pub(super) len_bytes: usize,
    pub(super) is_read_only: bool,
}

impl Run {
    /// Returns how many bytes the run has from an offset on; not 0.
    #[inline(always)]
    fn room_at(&self, offset: usize) -> Option<usize> {
        // Below the start the difference wraps to something larger than any run.
        let in_run = offset.wrapping_sub(self.start);
        (in_run < self.len_bytes).then(|| self.len_bytes.wrapping_sub(in_run))
    }

    /// Returns the offset behind the last byte.
    pub(super) fn end(&self) -> usize {
        // Does not saturate: a run is within the memory.
        self.start.saturating_add(self.len_bytes)
    }
}

/// All runs of a memory. What can be accessed in no run is up to the regions.
///
/// # Invariants
///
/// 1. While the regions live that this was made of, the bytes of each run, from `start` on, are a
///    [valid guest range](guest_memory_volatile#valid-guest-range), writable unless the run is read-only. All runs lie in one
///    range of addresses of at most `isize::MAX` bytes.
/// 2. `runs` is sorted and free of overlap; `board` was made of it. `main` is one of them, or has no bytes.
#[derive(Clone, Debug)]
pub(super) struct Runs {
    start: NonNull<u8>,
    base: u64,
    /// The longest run. A guest has most of its memory there, so it is looked at first.
    main: Run,
    runs: Box<[Run]>,
    board: Board,
}

/// Where an address was found.
#[derive(Clone, Copy)]
struct Found {
    /// From the memory's start.
    offset: usize,
    /// Bytes from there to the end of the run, not 0.
    room: usize,
    is_read_only: bool,
}

impl Found {
    /// Notes the place, if the run may be accessed so.
    #[inline(always)]
    fn new(offset: usize, room: usize, run: Run, access: Permissions) -> Option<Self> {
        let is_read_only = run.is_read_only;
        (!is_read_only || !access.has_write()).then_some(Self {
            offset,
            room,
            is_read_only,
        })
    }
}

impl Runs {
    /// Finds the runs of regions by ascending address, in memory that has guest address `base` at `start`.
    pub(super) fn new<'a, B: Bitmap + 'a>(
        start: NonNull<u8>,
        base: GuestAddress,
        regions: impl Iterator<Item = &'a GuestRegionMmap<B>>,
    ) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        for region in regions {
            // A protection that may change is looked up for each access, by the region.
            let protection = match region.fixed_protection() {
                Some(protection) if protection.is_readable() => protection,
                _ => continue,
            };
            let Some(offset) = offset_of(region, start, base) else {
                continue;
            };
            let run = Run {
                start: offset,
                len_bytes: region.size(),
                is_read_only: protection == Protection::ReadOnly,
            };
            match runs.last_mut() {
                Some(last) if last.end() == run.start && last.is_read_only == run.is_read_only => {
                    last.len_bytes = last.len_bytes.saturating_add(run.len_bytes);
                }
                _ => runs.push(run),
            }
        }
        let nothing = Run {
            start: 0,
            len_bytes: 0,
            is_read_only: false,
        };
        let longest = runs.iter().rev().max_by_key(|run| run.len_bytes);
        Self {
            start,
            base: base.0,
            main: longest.copied().unwrap_or(nothing),
            board: Board::new(&runs),
            runs: runs.into(),
        }
    }

    /// Returns the host address of the memory's start.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Returns the offset of an address from the memory's start.
    #[inline(always)]
    pub(super) fn offset(&self, addr: GuestAddress) -> Option<usize> {
        // Below the base the difference wraps to something behind every memory.
        usize::try_from(addr.0.wrapping_sub(self.base)).ok()
    }

    /// Returns the slice that is `[addr, addr + count)`, if that is in one run and may be accessed so.
    ///
    /// # Safety
    ///
    /// The regions that this was made of must live for `'a`.
    #[inline(always)]
    pub(super) unsafe fn whole<'a, B: Bitmap>(
        &self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
        bitmap: &'a B,
    ) -> Option<VolatileSlice<'a, BS<'a, B>>> {
        let found = self.find(addr, access)?;
        if count > found.room {
            return None;
        }
        // SAFETY: as just checked; the caller keeps the regions.
        Some(unsafe { self.slice(found, count, bitmap) })
    }

    /// Returns a slice of the start of `[addr, addr + count)`, as long as the run has, not empty.
    ///
    /// # Safety
    ///
    /// The regions that this was made of must live for `'a`.
    #[inline(always)]
    pub(super) unsafe fn first<'a, B: Bitmap>(
        &self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
        bitmap: &'a B,
    ) -> Option<VolatileSlice<'a, BS<'a, B>>> {
        let found = self.find(addr, access)?;
        let count = count.min(found.room);
        // SAFETY: at most the room; the caller keeps the regions.
        (count > 0).then(|| unsafe { self.slice(found, count, bitmap) })
    }

    #[inline(always)]
    fn find(&self, addr: GuestAddress, access: Permissions) -> Option<Found> {
        let offset = self.offset(addr)?;
        // By value, here and below: what is read once need not be read again.
        let main = self.main;
        if let Some(room) = main.room_at(offset) {
            return Found::new(offset, room, main, access);
        }
        cold_path();
        let run = *self.board.find(&self.runs, offset)?;
        Found::new(offset, run.room_at(offset)?, run, access)
    }

    /// # Safety
    ///
    /// `count` must be at most the room where it was found, and the regions that this was made of must live for `'a`.
    #[inline(always)]
    unsafe fn slice<'a, B: Bitmap>(
        &self,
        found: Found,
        count: usize,
        bitmap: &'a B,
    ) -> VolatileSlice<'a, BS<'a, B>> {
        // Lets the compiler see that the slice's length, which has a flag in its top bit, is `count`.
        // SAFETY: by invariant 1 a run is at most `isize::MAX` bytes, and the caller keeps `count` within one.
        unsafe { std::hint::assert_unchecked(count <= MAX_SIZE) };
        // SAFETY: by invariant 1 the offset is within a range of addresses of at most `isize::MAX` bytes from `start` on.
        let start = unsafe { self.start.as_ptr().add(found.offset) };
        let bitmap = bitmap.slice_at(found.offset);
        // SAFETY: the range is part of a run, which is a valid guest range for `'a` since the regions live that long; if it
        // is not writable, the slice is made read-only before anyone sees it.
        let slice = unsafe { VolatileSlice::with_bitmap(start, count, bitmap, None) };
        if found.is_read_only {
            slice.into_read_only()
        } else {
            slice
        }
    }
}

/// Returns the offset of a region from the memory's start, if it is where its address says.
fn offset_of<B: Bitmap>(
    region: &GuestRegionMmap<B>,
    start: NonNull<u8>,
    base: GuestAddress,
) -> Option<usize> {
    let offset = usize::try_from(region.start_addr().0.checked_sub(base.0)?).ok()?;
    let host_offset = region.as_ptr().addr().checked_sub(start.as_ptr().addr())?;
    (offset == host_offset).then_some(offset)
}

// SAFETY: runs are an address and numbers; using them is unsafe and bound to the regions' life.
unsafe impl Send for Runs {}
// SAFETY: through a shared reference the fields are only read.
unsafe impl Sync for Runs {}
