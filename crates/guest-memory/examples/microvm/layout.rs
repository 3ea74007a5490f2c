// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The guest's memory map: what lies where, and the table that shows it.
//!
//! ```text
//! 0                       RAM, as much as fits below 3 GiB
//! 3 GiB                   a memory module that can be unplugged (built-in guest only)
//!                         a hole for devices
//! 4 GiB - image size      the firmware image, read-only
//! 4 GiB                   the rest of the RAM
//! ```

use std::num::NonZeroUsize;
use std::sync::Arc;

use guest_memory::bitmap::{AtomicBitmap, DirtyPages, GuestDirtyPages};
use guest_memory::{
    GuestAddress, GuestMemoryAtomic, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
    HugePageSize, MmapRegion, MmapRegionBuilder, RegionKind, VolatileMemory,
};

use crate::failure::{Failure, with_causes};
use crate::options::Backing;

/// Size of a page of guest memory in bytes, as KVM's dirty log counts.
pub(crate) const PAGE_BYTES: u64 = PAGE_LEN as u64;
/// The same, where the host counts.
pub(crate) const PAGE_LEN: usize = 4096;
/// The same as a size.
pub(crate) const PAGE_SIZE: NonZeroUsize = NonZeroUsize::new(PAGE_LEN).unwrap();
/// Where RAM has to make room for devices and the firmware.
pub(crate) const LOW_RAM_END: u64 = 3 << 30;
/// Where the firmware ends and the rest of the RAM starts.
pub(crate) const FOUR_GIB: u64 = 4 << 30;
/// Where the memory module is plugged.
pub(crate) const MODULE_START: u64 = LOW_RAM_END;
/// Size of the memory module in bytes: one huge page.
pub(crate) const MODULE_BYTES: usize = 2 << 20;
/// The largest firmware image in bytes: below it lie the interrupt controllers.
pub(crate) const LARGEST_IMAGE_BYTES: u64 = 16 << 20;

/// A mapped region with its dirty bitmap, whose pages are the host's: on this architecture those of KVM's log.
pub(crate) type Region = GuestRegionMmap<AtomicBitmap>;
/// A memory map.
pub(crate) type Memory = GuestMemoryMmap<AtomicBitmap>;
/// The memory map that vCPU, devices and the monitor share.
pub(crate) type SharedMemory = GuestMemoryAtomic<Memory>;

/// One region with what the table says about it.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    pub(crate) backing: &'static str,
    pub(crate) region: Arc<Region>,
}

/// All regions of a machine, ascending.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    rooms: Vec<Room>,
}

impl Layout {
    /// Maps RAM, the firmware image and, if asked for, the memory module.
    pub(crate) fn new(
        ram_bytes: u64,
        backing: Backing,
        image: &[u8],
        has_module: bool,
    ) -> Result<Self, Failure> {
        let low_bytes = ram_bytes.min(LOW_RAM_END);
        let mut rooms = vec![ram_room("low", backing, 0, low_bytes)?];
        if has_module {
            rooms.push(ram_room(
                "module",
                backing,
                MODULE_START,
                MODULE_BYTES as u64,
            )?);
        }
        rooms.push(image_room(image)?);
        if ram_bytes > low_bytes {
            rooms.push(ram_room("high", backing, FOUR_GIB, ram_bytes - low_bytes)?);
        }
        Ok(Layout { rooms })
    }

    /// Returns the rooms, ascending.
    pub(crate) fn rooms(&self) -> &[Room] {
        &self.rooms
    }

    /// Returns the memory map of all regions.
    pub(crate) fn memory(&self) -> Result<SharedMemory, Failure> {
        let regions = self
            .rooms
            .iter()
            .map(|room| Arc::clone(&room.region))
            .collect();
        let memory = Memory::from_arc_regions(regions)
            .map_err(|error| Failure::setup(format!("the memory map: {}", with_causes(&error))))?;
        Ok(SharedMemory::new(memory))
    }

    /// Returns a set of dirty pages that has none of all these regions.
    pub(crate) fn no_pages(&self) -> GuestDirtyPages {
        let regions = self.rooms.iter().map(|room| &room.region);
        let none = |region: &Arc<Region>| (region.start_addr(), no_pages(region.size()));
        GuestDirtyPages::from_regions(regions.map(none))
    }

    /// Returns the pages that hold the given addresses.
    pub(crate) fn pages_at(&self, addresses: impl IntoIterator<Item = u64>) -> GuestDirtyPages {
        let mut pages = self.no_pages();
        addresses
            .into_iter()
            .for_each(|address| pages.insert_range(GuestAddress(address), 1));
        pages
    }

    /// Returns the table of regions and holes, one line each; `slot_of` gives a region's KVM slot.
    pub(crate) fn table(&self, slot_of: impl Fn(&Region) -> Option<u32>) -> Vec<String> {
        let mut lines = vec![format!(
            "  {:<33} {:>11}  {:<6} {:<8} {:<9} {:<10} {}",
            "range", "size", "kind", "label", "backing", "protection", "KVM slot"
        )];
        let mut end = 0;
        for room in &self.rooms {
            let start = room.region.start_addr().0;
            if start > end {
                lines.push(row(end, start - end, ["(hole)", "-", "-", "-", "-"]));
            }
            let slot =
                slot_of(&room.region).map_or_else(|| "none".to_owned(), |slot| slot.to_string());
            let protection = if is_read_only(&room.region) {
                "read"
            } else {
                "read-write"
            };
            let kind = room.region.kind().to_string();
            let label = room.region.label().unwrap_or("-");
            let cells = [&kind, label, room.backing, protection, &slot];
            lines.push(row(start, room.region.len(), cells));
            end = start + room.region.len();
        }
        lines
    }
}

/// Returns a set of dirty pages that has none of `len_bytes` bytes.
pub(crate) fn no_pages(len_bytes: usize) -> DirtyPages {
    DirtyPages::new(len_bytes, PAGE_SIZE).expect("the size of a page is a power of two")
}

/// Returns whether the host has mapped a region read-only.
pub(crate) fn is_read_only(region: &Region) -> bool {
    region.prot() & libc::PROT_WRITE == 0
}

/// Formats a number of bytes in the largest unit that divides it.
pub(crate) fn size_text(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 1 << shift && bytes.trailing_zeros() >= shift {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} B")
}

fn row(start: u64, bytes: u64, cells: [&str; 5]) -> String {
    let range = format!("[{start:#014x}, {:#014x})", start + bytes);
    let size = size_text(bytes);
    let [kind, label, backing, protection, slot] = cells;
    format!("  {range:<33} {size:>11}  {kind:<6} {label:<8} {backing:<9} {protection:<10} {slot}")
}

/// Maps writable memory.
fn ram_room(
    label: &'static str,
    backing: Backing,
    start: u64,
    bytes: u64,
) -> Result<Room, Failure> {
    let size = usize::try_from(bytes).map_err(|_| {
        Failure::setup(format!(
            "{bytes} bytes do not fit in this host's address space"
        ))
    })?;
    let builder = MmapRegionBuilder::new(size);
    let builder = match backing {
        Backing::Anonymous => builder,
        Backing::Memfd => builder.with_memfd("guest-ram"),
        Backing::Hugetlb => builder.with_huge_pages(HugePageSize::TwoMiB),
    };
    let mapping = builder.build().map_err(|error| {
        Failure::setup(format!(
            "cannot map {} of {} memory: {}",
            size_text(bytes),
            backing.name(),
            with_causes(&error)
        ))
    })?;
    room(RegionKind::Ram, label, backing.name(), mapping, start)
}

/// Maps the firmware image read-only so that it ends at 4 GiB.
fn image_room(image: &[u8]) -> Result<Room, Failure> {
    let mapping = map_read_only(image)
        .map_err(|error| Failure::setup(format!("cannot map the image: {error}")))?;
    let start = FOUR_GIB - image.len() as u64;
    room(RegionKind::Rom, "firmware", "memfd", mapping, start)
}

/// Puts an image into a memory file and maps that file so that nobody here can write to it.
fn map_read_only(image: &[u8]) -> Result<MmapRegion<AtomicBitmap>, String> {
    let builder = || MmapRegionBuilder::<AtomicBitmap>::new(image.len());
    let writable = builder()
        .with_memfd("firmware")
        .build()
        .map_err(|error| with_causes(&error))?;
    let content = writable.as_volatile_slice();
    content
        .write_slice(image, 0)
        .map_err(|error| with_causes(&error))?;
    let file = writable
        .file_offset()
        .ok_or("the memory file is gone")?
        .clone();
    builder()
        .with_file_offset(file)
        .with_mmap_prot(libc::PROT_READ)
        .build()
        .map_err(|error| with_causes(&error))
}

/// Puts a mapping at its guest address.
fn room(
    kind: RegionKind,
    label: &'static str,
    backing: &'static str,
    mapping: MmapRegion<AtomicBitmap>,
    start: u64,
) -> Result<Room, Failure> {
    let region = Region::new(mapping, GuestAddress(start)).ok_or_else(|| {
        Failure::setup(format!(
            "{label} at {start:#x} reaches past the last guest address"
        ))
    })?;
    Ok(Room {
        backing,
        region: Arc::new(region.with_kind(kind).with_label(label)),
    })
}
