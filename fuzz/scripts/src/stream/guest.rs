// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The guest memory that streams go into and come from, and its naive twin: bytes and pages of each region.

use std::cell::Cell;
use std::num::NonZeroUsize;

use guest_memory_bitmap::{AtomicBitmap, Bitmap, RefSlice};
use guest_memory_core::{GuestAddress, GuestMemory, GuestMemoryRegion, VolatileSlice};
use guest_memory_mmap::{GuestMemoryMmap, GuestRegionMmap, MmapRegionBuilder};

use super::outcome::Obstacle;
use crate::pages::Pages;
use crate::pattern::pattern;

/// Lengths in bytes of the regions that stand one after the other from `CHAIN_START` on: more than a stream is given at
/// once.
const CHAIN: [usize; 22] = [
    1, 3, 8, 2, 5, 13, 4, 7, 1, 16, 3, 2, 9, 6, 1, 8, 4, 24, 5, 2, 11, 3,
];

const CHAIN_START: u64 = 0x1001;

/// Starts and lengths in bytes of the other regions, and whether they are read-only: one between two that are not, one
/// first, one that ends at 2^64.
const OTHERS: [(u64, usize, bool); 6] = [
    (0x2000, 48, false),
    (0x2030, 40, true),
    (0x2058, 32, false),
    (0x3000, 24, true),
    (0x3018, 16, false),
    (u64::MAX - 0x3f, 0x40, false),
];

/// Page size of the dirty bitmaps in bytes: small, so that small regions have many pages.
const PAGE_SIZE: NonZeroUsize = NonZeroUsize::new(4).expect("4 is not zero");

/// One region's twin.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) start: u64,
    bytes: Vec<u8>,
    dirty: Pages,
    pub(super) is_read_only: bool,
}

/// A part of a region: its number, the offset in it and the length in bytes.
pub(super) type Piece = (usize, usize, usize);

/// How far an access gets.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    pub(super) pieces: Vec<Piece>,
    /// Bytes of the pieces together.
    pub(super) reach: usize,
    /// What the next byte is, if it is wanted.
    pub(super) obstacle: Option<Obstacle>,
}

/// The naive twin of the memory.
#[derive(Debug)]
pub(super) struct Twin {
    pub(super) spans: Vec<Span>,
}

impl Stretch {
    pub(super) fn push(&mut self, piece: Piece) {
        self.pieces.push(piece);
        self.reach += piece.2;
    }
}

impl Span {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    fn end(&self) -> u128 {
        u128::from(self.start) + self.bytes.len() as u128
    }
}

impl Twin {
    /// Makes the twin of a clean memory.
    fn new() -> Self {
        let span = |(number, (start, len, is_read_only))| Span {
            start,
            bytes: content(number, len),
            dirty: Pages::new(len, PAGE_SIZE.get()),
            is_read_only,
        };
        Self {
            spans: ranges().enumerate().map(span).collect(),
        }
    }

    /// Finds what `[addr, addr + count)` is made of, up to the first byte that is not there or must not be written.
    pub(super) fn stretch(&self, addr: u64, count: usize, is_written: bool) -> Stretch {
        let mut stretch = Stretch::default();
        while stretch.reach < count {
            let next = u128::from(addr) + stretch.reach as u128;
            let holds = |span: &&Span| (u128::from(span.start)..span.end()).contains(&next);
            let Some((number, span)) = self.spans.iter().enumerate().find(|(_, span)| holds(span))
            else {
                stretch.obstacle = Some(Obstacle::Hole(addr));
                break;
            };
            if is_written && span.is_read_only {
                stretch.obstacle = Some(Obstacle::ReadOnly);
                break;
            }
            let offset = usize::try_from(next - u128::from(span.start)).expect("it holds it");
            let len = (span.len() - offset).min(count - stretch.reach);
            stretch.push((number, offset, len));
        }
        stretch
    }

    /// As [`stretch`](Self::stretch), of an access to one region.
    pub(super) fn stretch_in(
        &self,
        region: usize,
        offset: usize,
        count: usize,
        is_written: bool,
    ) -> Stretch {
        let span = &self.spans[region];
        let mut stretch = Stretch::default();
        match span.len().checked_sub(offset) {
            Some(room) if room > 0 && is_written && span.is_read_only => {
                stretch.obstacle = Some(Obstacle::ReadOnly);
            }
            Some(room) if room >= count => stretch.push((region, offset, count)),
            room => {
                let addr = span.start.wrapping_add(offset as u64);
                stretch.obstacle = Some(Obstacle::Hole(addr));
                if let Some(room @ 1..) = room {
                    stretch.push((region, offset, room));
                }
            }
        }
        stretch
    }

    /// Puts bytes into pieces, one after the other, and marks them.
    pub(super) fn put(&mut self, pieces: &[Piece], data: &[u8]) {
        let mut rest = data;
        for &(number, offset, len) in pieces {
            let (here, after) = rest.split_at(len.min(rest.len()));
            let span = &mut self.spans[number];
            span.bytes[offset..][..here.len()].copy_from_slice(here);
            let start = offset as u128;
            span.dirty
                .set_bytes(start..start + here.len() as u128, true);
            rest = after;
        }
        assert!(rest.is_empty(), "more went through than there is room for");
    }

    /// Returns the first bytes of pieces.
    ///
    /// # Panics
    ///
    /// When there are fewer.
    pub(super) fn take(&self, pieces: &[Piece], len: usize) -> Vec<u8> {
        let mut data = Vec::new();
        for &(number, offset, len) in pieces {
            data.extend_from_slice(&self.spans[number].bytes[offset..][..len]);
        }
        assert!(len <= data.len(), "more went through than there is");
        data.truncate(len);
        data
    }
}

fn ranges() -> impl Iterator<Item = (u64, usize, bool)> {
    let chain = CHAIN.into_iter().scan(CHAIN_START, |next, len| {
        let start = *next;
        *next += len as u64;
        Some((start, len, false))
    });
    chain.chain(OTHERS)
}

/// What a region holds before a script.
fn content(number: usize, len: usize) -> Vec<u8> {
    pattern(number.to_le_bytes()[0].wrapping_mul(29), len)
}

/// The memory under test.
pub(super) struct Guest {
    pub(super) memory: GuestMemoryMmap<AtomicBitmap>,
}

thread_local! {
    /// Kept between scripts: mapping it anew for each would cost more than the script.
    static GUEST: Cell<Option<Guest>> = const { Cell::new(None) };
}

impl Guest {
    /// Runs a script on the memory as it is before any.
    pub(super) fn with(script: impl FnOnce(&Self, &mut Twin)) {
        // After a panic there is none to take: what the failed script left behind is not used again.
        let guest = GUEST.take().unwrap_or_else(Self::new);
        let mut twin = Twin::new();
        guest.compare(&twin);
        script(&guest, &mut twin);
        guest.clear(&twin);
        GUEST.set(Some(guest));
    }

    pub(super) fn region(&self, number: usize) -> &GuestRegionMmap<AtomicBitmap> {
        self.memory
            .iter()
            .nth(number)
            .expect("a region of the twin")
    }

    /// Returns a part of a region, which has it.
    pub(super) fn slice(
        &self,
        region: usize,
        offset: usize,
        len: usize,
    ) -> VolatileSlice<'_, RefSlice<'_, AtomicBitmap>> {
        let whole = self.region(region).as_volatile_slice();
        let part = whole.expect("a mapped region").subslice(offset, len);
        part.expect("a part of it")
    }

    /// Compares the memory with its twin.
    ///
    /// # Panics
    ///
    /// When they differ.
    pub(super) fn compare(&self, twin: &Twin) {
        for (region, span) in self.memory.iter().zip(&twin.spans) {
            let mut bytes = vec![0; span.len()];
            let slice = region.as_volatile_slice().expect("a mapped region");
            slice.copy_to(&mut bytes);
            assert_eq!(bytes, span.bytes, "the bytes of {:#x}", span.start);
            let bitmap = GuestMemoryRegion::bitmap(region);
            for offset in 0..span.len() {
                let (found, expected) = (bitmap.dirty_at(offset), span.dirty.contains_byte(offset));
                assert_eq!(
                    found, expected,
                    "offset {offset} of {:#x} dirty",
                    span.start
                );
            }
        }
    }

    fn new() -> Self {
        let regions = ranges()
            .enumerate()
            .map(|(number, (start, len, is_read_only))| {
                let bitmap = AtomicBitmap::new(len, PAGE_SIZE);
                let mut builder = MmapRegionBuilder::new_with_bitmap(len, bitmap);
                if is_read_only {
                    builder = read_only(builder, &content(number, len));
                }
                let mapping = builder.build().expect("a few bytes can be mapped");
                GuestRegionMmap::new(mapping, GuestAddress(start)).expect("it ends by 2^64")
            });
        let guest = Self {
            memory: GuestMemoryMmap::from_regions(regions.collect()).expect("sorted and apart"),
        };
        for (number, region) in guest.memory.iter().enumerate() {
            let slice = region.as_volatile_slice().expect("a mapped region");
            slice.copy_from(&content(number, slice.len()));
            GuestMemoryRegion::bitmap(region).reset();
        }
        guest
    }

    /// Makes the memory what it is before a script, given what it holds now.
    fn clear(&self, twin: &Twin) {
        for (number, (region, span)) in self.memory.iter().zip(&twin.spans).enumerate() {
            if !span.dirty.is_empty() {
                let slice = region.as_volatile_slice().expect("a mapped region");
                slice.copy_from(&content(number, span.len()));
                GuestMemoryRegion::bitmap(region).reset();
            }
        }
    }
}

/// Makes a region read-only, over a file that somebody else wrote.
fn read_only(
    builder: MmapRegionBuilder<AtomicBitmap>,
    content: &[u8],
) -> MmapRegionBuilder<AtomicBitmap> {
    let writer = MmapRegionBuilder::<()>::new(content.len()).with_memfd("rom");
    let writer = writer.build().expect("a few bytes can be mapped");
    let file = writer.file_offset().expect("a memory file").clone();
    let writer = GuestRegionMmap::new(writer, GuestAddress(0)).expect("it ends by 2^64");
    let slice = writer.as_volatile_slice().expect("a mapped region");
    slice.copy_from(content);
    builder
        .with_file_offset(file)
        .with_mmap_prot(libc::PROT_READ)
}
