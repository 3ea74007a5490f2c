// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Flat memory as the map that is swapped under its readers.
#![cfg(all(feature = "mmap", feature = "atomic"))]

use std::sync::Arc;

use guest_memory::bitmap::{AtomicBitmap, DirtyLog, GuestDirtyPages};
use guest_memory::mmap::FlatMemoryError;
use guest_memory::{
    Bytes, FlatGuestMemory, GuestAddress, GuestAddressSpace, GuestMemoryAtomic, MmapRegionBuilder,
};

const LEN: usize = 1 << 16;
const LOW: GuestAddress = GuestAddress(0);
const HIGH: GuestAddress = GuestAddress(LEN as u64);

#[test]
fn flat_memory_is_plugged_and_unplugged_under_a_reader() {
    let low = FlatGuestMemory::<AtomicBitmap>::builder(1 << 20)
        .with_region(LOW, MmapRegionBuilder::new(LEN))
        .build()
        .unwrap();
    let memory = GuestMemoryAtomic::new(low);
    let mut reader = memory.reader();
    let over_the_seam = GuestAddress(HIGH.0 - 4);
    assert!(reader.memory().write_obj(1u64, over_the_seam).is_err());

    let plug = |map: &FlatGuestMemory<AtomicBitmap>| {
        let more = map.with_region_inserted(HIGH, MmapRegionBuilder::new(LEN))?;
        Ok::<_, FlatMemoryError>((more, ()))
    };
    memory.update(plug).unwrap();
    reader.memory().write_obj(2u64, over_the_seam).unwrap();
    assert_eq!(memory.memory().read_obj::<u64>(over_the_seam).unwrap(), 2);

    let region = memory.update(|map| map.with_region_removed(HIGH)).unwrap();
    assert!(reader.memory().read_obj::<u64>(over_the_seam).is_err());
    // Nobody else has the region, but that is enough for its place not to be free.
    assert_eq!(Arc::strong_count(&region), 1);
    assert!(matches!(
        memory.update(plug),
        Err(FlatMemoryError::StillMapped { .. })
    ));
    drop(region);
    memory.update(plug).unwrap();
    assert_eq!(reader.memory().read_obj::<u32>(HIGH).unwrap(), 0);

    let mut pages = GuestDirtyPages::default();
    memory.memory().harvest_into(&mut pages);
    assert!(pages.contains(over_the_seam));
}
