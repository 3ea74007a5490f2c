// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The guest's memory map, built from its description: the library's regions, the firmware loaded.

use std::error::Error;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use guest_memory::bitmap::{AtomicBitmap, DirtyPages, GuestDirtyPages};
use guest_memory::mmap::BackingKind;
use guest_memory::{
    Bytes, BytesExt, GuestAddress, GuestMemory, GuestMemoryAtomic, GuestMemoryMmap,
    GuestMemoryRegion, GuestRegionMmap, MemoryRegionAddress, Protection,
};

use crate::description::{self, Which};
use crate::failure::{Failure, with_causes};
use crate::options::Options;
use crate::{prefault, report};

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

/// All regions of a machine.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    memory: Memory,
}

impl Layout {
    /// Maps what the options describe, loads the firmware image, and populates all of it if asked for.
    pub(crate) fn new(options: &Options, image: &[u8], which: Which) -> Result<Self, Failure> {
        let description = description::of_machine(options, image.len(), which)?;
        description::print_plan(&description.plan(), which);
        let memory = description
            .build()
            .map_err(|error| Failure::setup(with_causes(&error)))?;
        clear(&memory)?;
        let memory = load_firmware(memory, image)?;
        report::print_policies(&memory);
        if options.prefault.is_some() {
            prefault::populate(&memory, options.threads(), options.policies.node())?;
        }
        Ok(Layout { memory })
    }

    /// Returns the regions, ascending.
    pub(crate) fn regions(&self) -> impl Iterator<Item = &Arc<Region>> {
        self.memory.arc_regions()
    }

    /// Returns the memory map of all regions, plugged or not.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Returns a set of dirty pages that has none of all these regions.
    pub(crate) fn no_pages(&self) -> GuestDirtyPages {
        let none = |region: &Arc<Region>| (region.start_addr(), no_pages(region.size()));
        GuestDirtyPages::from_regions(self.regions().map(none))
    }

    /// Returns the pages that hold the given addresses.
    pub(crate) fn pages_at(&self, addresses: impl IntoIterator<Item = u64>) -> GuestDirtyPages {
        let mut pages = self.no_pages();
        addresses
            .into_iter()
            .for_each(|address| pages.insert_range(GuestAddress(address), 1));
        pages
    }
}

/// Returns a set of dirty pages that has none of `len_bytes` bytes.
pub(crate) fn no_pages(len_bytes: usize) -> DirtyPages {
    DirtyPages::new(len_bytes, PAGE_SIZE).expect("the size of a page is a power of two")
}

/// Returns whether nobody may write a region.
pub(crate) fn is_read_only(region: &Region) -> bool {
    !region.protection(0, region.size()).is_writable()
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

/// Returns how fast something was, in MiB per second.
pub(crate) fn rate(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64().max(1e-9) / (1 << 20) as f64
}

/// Makes RAM zero where a file holds something from before: a machine that is switched on knows nothing.
fn clear(memory: &Memory) -> Result<(), Failure> {
    let failed = |error: &dyn Error| {
        Failure::setup(format!("cannot clear the memory: {}", with_causes(error)))
    };
    for region in memory
        .iter()
        .filter(|region| region.backing() == BackingKind::File)
    {
        let ranges = region
            .data_ranges(0, region.size())
            .map_err(|error| failed(&error))?;
        for range in ranges {
            let offset = MemoryRegionAddress(range.start as u64);
            region
                .fill(0, offset, range.len())
                .map_err(|error| failed(&error))?;
        }
        region.bitmap().reset();
    }
    Ok(())
}

/// Puts the image at the end of the 4 GiB below which a processor starts, and makes it read-only, for everybody.
fn load_firmware(memory: Memory, image: &[u8]) -> Result<Memory, Failure> {
    let failed = |error: &dyn Error| {
        Failure::setup(format!("cannot load the image: {}", with_causes(error)))
    };
    let start = GuestAddress(FOUR_GIB - image.len() as u64);
    // Nobody else has this memory yet, so that the protection can change.
    let (others, firmware) = memory
        .remove_region(start, image.len() as u64)
        .map_err(|error| failed(&error))?;
    drop(memory);
    let mut firmware = Arc::into_inner(firmware)
        .ok_or_else(|| Failure::setup("cannot load the image: the region is in use"))?;
    firmware
        .write_slice(image, MemoryRegionAddress(0))
        .map_err(|error| failed(&error))?;
    // What is loaded before the guest starts is no news to anybody.
    firmware.bitmap().reset();
    firmware
        .set_protection(0, image.len(), Protection::ReadOnly)
        .map_err(|error| failed(&error))?;
    others
        .insert_region(Arc::new(firmware))
        .map_err(|error| failed(&error))
}
