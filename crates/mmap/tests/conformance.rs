// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Mapped regions and memories in the suites that are open to everyone's.

use std::num::NonZeroUsize;
use std::ops::Range;

use guest_memory_bitmap::{AtomicBitmap, Bitmap};
use guest_memory_conformance::backing::{self, Backing};
use guest_memory_conformance::{
    Config, bytes, bytes_ext, copy, io_memory, mark_order, memory, region, volatile_memory,
};
use guest_memory_core::{
    FileOffset, GuestAddress, GuestMemory, GuestMemoryRegion, MemoryRegionAddress, Permissions,
};
use guest_memory_mmap::{
    FlatGuestMemory, FlatGuestMemoryBuilder, GuestMemoryMmap, GuestRegionMmap, MmapRegion,
    MmapRegionBuilder, Protection, Sharing,
};

/// Page size of a bitmap finer than the system's pages, in bytes.
const FINE_PAGE: NonZeroUsize = NonZeroUsize::new(32).expect("32 is not zero");

/// Multiple of the system's pages on most machines, in bytes.
const PAGE: NonZeroUsize = NonZeroUsize::new(4096).expect("4096 is not zero");

type Tracked = GuestRegionMmap<AtomicBitmap>;

fn anonymous(start: GuestAddress, len: usize) -> Tracked {
    Tracked::from_range(start, len, None).expect("mapped memory")
}

fn memfd(start: GuestAddress, len: usize) -> Tracked {
    let mapping = MmapRegionBuilder::new(len)
        .with_memfd("conformance")
        .build()
        .expect("mapped memory");
    Tracked::new(mapping, start).expect("an end by 2^64")
}

fn of_file(start: GuestAddress, len: usize) -> Tracked {
    let file = tempfile::tempfile().expect("a temporary file");
    file.set_len(len as u64).expect("a longer file");
    Tracked::from_range(start, len, Some(FileOffset::new(file, 0))).expect("mapped memory")
}

fn of_fine_pages(start: GuestAddress, len: usize) -> Tracked {
    let bitmap = AtomicBitmap::new(len, FINE_PAGE);
    let mapping = MmapRegionBuilder::new_with_bitmap(len, bitmap)
        .build()
        .expect("mapped memory");
    Tracked::new(mapping, start).expect("an end by 2^64")
}

#[test]
fn anonymous_region_behaves() {
    region::check(anonymous);
}

#[test]
fn untracked_region_behaves() {
    let make = |start, len| GuestRegionMmap::<()>::from_range(start, len, None).unwrap();
    region::check_with(Config::default().untracked(), make);
}

#[test]
fn region_with_an_optional_bitmap_behaves() {
    let make =
        |start, len| GuestRegionMmap::<Option<AtomicBitmap>>::from_range(start, len, None).unwrap();
    region::check(make);
}

#[test]
fn region_of_fine_dirty_pages_behaves() {
    region::check(of_fine_pages);
}

#[test]
fn memfd_region_behaves() {
    region::check_with(Config::default().cases(64), memfd);
}

#[test]
fn region_of_a_file_behaves() {
    region::check_with(Config::default().cases(64), of_file);
}

/// Makes a region that is mapped with as much access as a device is to have.
fn with_permissions(start: GuestAddress, len: usize, permissions: Permissions) -> Tracked {
    let protection = match permissions {
        Permissions::No => Protection::NoAccess,
        Permissions::Read => Protection::ReadOnly,
        _ => Protection::ReadWrite,
    };
    let mapping = MmapRegionBuilder::new(len)
        .with_protection(protection)
        .build()
        .expect("mapped memory");
    Tracked::new(mapping, start).expect("an end by 2^64")
}

#[test]
fn read_only_region_behaves() {
    region::check_read_only(Config::default(), |start, len| {
        with_permissions(start, len, Permissions::Read)
    });
}

#[test]
fn memory_with_permissions_behaves_for_a_device() {
    let kinds = [Permissions::ReadWrite, Permissions::Read, Permissions::No];
    io_memory::check_with(
        Config::default(),
        &kinds,
        |ranges| {
            let regions = ranges
                .iter()
                .map(|&(start, len, permissions)| with_permissions(start, len, permissions))
                .collect();
            GuestMemoryMmap::from_regions(regions).unwrap()
        },
        |memory, address| {
            let found = memory.to_region_addr(GuestAddress(address));
            found.is_some_and(|(region, offset)| {
                GuestMemoryRegion::bitmap(region).dirty_at(usize::try_from(offset.0).unwrap())
            })
        },
    );
}

#[test]
fn no_read_modify_write_of_two_threads_is_lost() {
    let config = Config::default();
    let region = |len| anonymous(GuestAddress(0), len);
    bytes_ext::check_concurrent(config, region, MemoryRegionAddress);
    let memory =
        |len| GuestMemoryMmap::<AtomicBitmap>::from_ranges(&[(GuestAddress(0), len)]).unwrap();
    bytes_ext::check_concurrent(config, memory, GuestAddress);
    bytes_ext::check_concurrent(config, flat_of_fine_pages, GuestAddress);
}

#[test]
fn memory_of_ranges_behaves() {
    memory::check(|ranges| GuestMemoryMmap::<AtomicBitmap>::from_ranges(ranges).unwrap());
}

#[test]
fn untracked_memory_of_ranges_behaves() {
    memory::check_with(Config::default().untracked(), |ranges| {
        GuestMemoryMmap::<()>::from_ranges(ranges).unwrap()
    });
}

#[test]
fn memory_of_fine_dirty_pages_behaves() {
    memory::check(|ranges| {
        let regions = ranges
            .iter()
            .map(|&(start, len)| of_fine_pages(start, len))
            .collect();
        GuestMemoryMmap::from_regions(regions).unwrap()
    });
}

#[test]
fn memory_of_whole_pages_behaves() {
    let config = Config::default().cases(64).granule(PAGE);
    memory::check_with(config, |ranges| {
        let regions = ranges
            .iter()
            .map(|&(start, len)| memfd(start, len))
            .collect();
        GuestMemoryMmap::from_regions(regions).unwrap()
    });
}

/// Makes a flat memory of `len` bytes from 0 on, as many regions as there are pages.
fn flat<B: Bitmap>(len: usize, bitmap: B) -> FlatGuestMemory<B> {
    let builder = FlatGuestMemoryBuilder::new_with_bitmap(len as u64, bitmap);
    let pages = (0..len).step_by(PAGE.get()).map(|start| {
        let len = PAGE.get().min(len - start);
        (GuestAddress(start as u64), MmapRegionBuilder::new(len))
    });
    let builder = pages.fold(builder, |builder, (start, page)| {
        builder.with_region(start, page)
    });
    builder.build().expect("mapped memory")
}

fn flat_of_fine_pages(len: usize) -> FlatGuestMemory<AtomicBitmap> {
    flat(len, AtomicBitmap::new(len, FINE_PAGE))
}

#[test]
fn flat_memory_behaves() {
    let mark =
        |memory: &FlatGuestMemory<AtomicBitmap>, offset| memory.bitmap().mark_dirty(offset, 1);
    let dirty_at =
        |memory: &FlatGuestMemory<AtomicBitmap>, offset| memory.bitmap().dirty_at(offset);
    let config = Config::default();
    bytes::check_with(config, flat_of_fine_pages, GuestAddress, mark, dirty_at);
    bytes_ext::check_with(config, flat_of_fine_pages, GuestAddress, mark, dirty_at);
}

#[test]
fn untracked_flat_memory_behaves() {
    bytes::check(|len| flat(len, ()), GuestAddress);
    bytes_ext::check(|len| flat(len, ()), GuestAddress);
}

// A process of 32 bits has fewer addresses than the suite asks for.
#[cfg(target_pointer_width = "64")]
#[test]
fn the_regions_of_flat_memories_behave() {
    // Addresses for all that the suite wants below the top, and for what it wants right at it.
    let (low, high) = (1 << 43, 1 << 30);
    let of = |base: u64, span: u64, ranges: &[(GuestAddress, usize)]| {
        let bitmap = AtomicBitmap::new(usize::try_from(span).unwrap(), PAGE);
        let builder = FlatGuestMemoryBuilder::new_with_bitmap(span, bitmap);
        let builder = builder.with_base(GuestAddress(base));
        let ranges = ranges
            .iter()
            .filter(|(start, _)| start.0.wrapping_sub(base) < span);
        let builder = ranges.fold(builder, |builder, &(start, len)| {
            builder.with_region(start, MmapRegionBuilder::new(len))
        });
        builder.build().expect("mapped memory")
    };
    memory::check_with(Config::default().cases(64).granule(PAGE), |ranges| {
        let memories = [
            of(0, low, ranges),
            of(0u64.wrapping_sub(high), high, ranges),
        ];
        // The regions keep what they are made of.
        let regions = memories
            .iter()
            .flat_map(|memory| memory.regions().arc_regions());
        let regions = regions.cloned().collect();
        GuestMemoryMmap::<guest_memory_mmap::PartBitmap<AtomicBitmap>>::from_arc_regions(regions)
            .unwrap()
    });
}

/// The backings of the builder: a step that makes it one, and whether files are shared.
struct OfBuilder {
    step: fn(MmapRegionBuilder<AtomicBitmap>) -> MmapRegionBuilder<AtomicBitmap>,
    sharing: Sharing,
}

impl OfBuilder {
    fn build(&self, builder: MmapRegionBuilder<AtomicBitmap>) -> MmapRegion<AtomicBitmap> {
        (self.step)(builder).build().expect("mapped memory")
    }
}

impl Backing for OfBuilder {
    type Memory = MmapRegion<AtomicBitmap>;

    fn map(&self, len: usize) -> Self::Memory {
        self.build(MmapRegionBuilder::new(len))
    }

    fn alignment(&self) -> usize {
        4096
    }

    fn file_offset(&self, memory: &Self::Memory) -> Option<FileOffset> {
        memory.file_offset().cloned()
    }

    fn map_file(&self, file: FileOffset, len: usize) -> Option<Self::Memory> {
        let builder = MmapRegionBuilder::new(len)
            .with_file_offset(file)
            .with_mmap_flags(self.sharing.flag());
        Some(builder.build().expect("mapped memory"))
    }

    fn is_shared(&self) -> bool {
        self.sharing == Sharing::Shared
    }

    fn map_read_only(&self, len: usize) -> Option<Self::Memory> {
        let builder = MmapRegionBuilder::new(len).with_protection(Protection::ReadOnly);
        Some(self.build(builder))
    }

    fn is_mapped(&self, range: Range<usize>) -> Option<bool> {
        backing::is_mapped(range)
    }
}

#[test]
fn anonymous_memory_is_a_backing() {
    backing::check(|len| MmapRegion::<AtomicBitmap>::new(len).unwrap());
    let (step, sharing) = (|builder| builder, Sharing::Private);
    backing::check(OfBuilder { step, sharing });
}

#[test]
fn memory_file_is_a_backing() {
    backing::check(OfBuilder {
        step: |builder| builder.with_memfd("conformance"),
        sharing: Sharing::Shared,
    });
}

#[test]
fn file_is_a_backing() {
    for sharing in [Sharing::Shared, Sharing::Private] {
        backing::check(OfBuilder {
            step: |builder| {
                let file = tempfile::tempfile().unwrap();
                builder
                    .with_file_offset(FileOffset::new(file, 0))
                    .with_file_growth()
            },
            sharing,
        });
    }
}

#[test]
fn mapping_is_volatile_memory() {
    let config = Config::default().cases(64);
    volatile_memory::check_with(config, |len| MmapRegion::<AtomicBitmap>::new(len).unwrap());
    volatile_memory::check_with(config, |len| {
        MmapRegionBuilder::new_with_bitmap(len, AtomicBitmap::new(len, FINE_PAGE))
            .build()
            .unwrap()
    });
}

#[test]
fn every_copy_moves_its_bytes_and_marks_them() {
    let mark = |region: &Tracked, offset| region.bitmap().mark_dirty(offset, 1);
    let dirty_at = |region: &Tracked, offset| region.bitmap().dirty_at(offset);
    let make = |len| of_fine_pages(GuestAddress(0), len);
    let config = Config::default();
    copy::check_with(config, make, MemoryRegionAddress, mark, dirty_at);
    copy::check_within(
        config,
        make,
        MemoryRegionAddress,
        mark,
        dirty_at,
        |region, from, to, len| {
            let window =
                |at| GuestMemoryRegion::get_slice(region, MemoryRegionAddress(at as u64), len);
            let copied = window(from)?.try_copy_to_volatile_slice(window(to)?);
            Ok(copied?)
        },
    );
}

#[test]
fn no_aligned_word_is_torn() {
    let make = |len| anonymous(GuestAddress(0), len);
    copy::check_untorn(Config::default(), make, MemoryRegionAddress);
}

#[test]
fn every_write_marks_after_its_data() {
    let region = |len, witness| {
        let mapping = MmapRegionBuilder::new_with_bitmap(len, witness)
            .build()
            .unwrap();
        GuestRegionMmap::new(mapping, GuestAddress(0)).unwrap()
    };
    mark_order::check(region, MemoryRegionAddress);
    mark_order::check(
        move |len, witness| GuestMemoryMmap::from_regions(vec![region(len, witness)]).unwrap(),
        GuestAddress,
    );
}
