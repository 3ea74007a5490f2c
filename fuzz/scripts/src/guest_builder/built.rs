// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Whether memory is what was described.

use guest_memory_bitmap::{AtomicBitmap, Bitmap};
use guest_memory_core::{
    Address, Bytes, GuestAddress, GuestMemory, GuestMemoryRegion, MemoryRegionAddress,
};
use guest_memory_mmap::{
    Backing, BackingKind, GuestMemoryMmap, GuestRegionMmap, Need, Outcome, PolicyKind, Protection,
    RegionSpec,
};

/// Checks each region against its description, and writes the first and the last byte of each that can be written.
pub(super) fn check(
    memory: &GuestMemoryMmap<AtomicBitmap>,
    regions: &[RegionSpec],
    report: &mut impl FnMut(&'static str, bool),
) {
    assert_eq!(memory.num_regions(), regions.len());
    for spec in regions {
        let region = memory.find_region(spec.start()).expect("a region is there");
        assert_eq!(region.start_addr(), spec.start());
        assert_eq!(region.size(), spec.size());
        assert_eq!(region.label(), Some(spec.label()));
        assert_eq!(region.kind(), spec.kind());
        assert_eq!(region.protection(0, spec.size()), spec.protection());
        if let Some(alignment) = spec.alignment() {
            assert_eq!(region.as_ptr().addr() % alignment.bytes(), 0, "{alignment}");
        }
        let (kind, name) = kind(spec.backing());
        assert_eq!(region.backing(), kind);
        assert_eq!(
            region.file_offset().is_some(),
            kind != BackingKind::Anonymous
        );
        report(name, true);
        report("required policy", check_policies(region, spec));
        let is_written = check_bytes(memory, region, spec);
        report("write", is_written);
    }
}

fn kind(backing: &Backing) -> (BackingKind, &'static str) {
    match backing {
        Backing::Anonymous { .. } => (BackingKind::Anonymous, "build anonymous"),
        Backing::Memfd { .. } => (BackingKind::Memfd, "build memfd"),
        Backing::File { .. } => (BackingKind::File, "build file"),
        Backing::Shm { .. } => (BackingKind::Shm, "build shm"),
        other => panic!("a script has no {other:?} that can be built"),
    }
}

/// Checks that the report has what was asked for; tells whether something was required.
fn check_policies(region: &GuestRegionMmap<AtomicBitmap>, spec: &RegionSpec) -> bool {
    let report = region.policies();
    let mut has_required = false;
    for kind in PolicyKind::ALL {
        let outcome = report.outcome(kind);
        match spec.policies().need(kind) {
            None => assert_eq!(outcome, &Outcome::NotAsked, "{kind}"),
            Some(Need::Wished) => assert_ne!(outcome, &Outcome::NotAsked, "{kind}"),
            Some(Need::Required) => {
                assert_eq!(outcome, &Outcome::Applied, "{kind}");
                has_required = true;
            }
        }
    }
    has_required
}

/// Checks that the ends of a region, and nothing beside them, can be reached as its protection says; tells whether they were
/// written.
fn check_bytes(
    memory: &GuestMemoryMmap<AtomicBitmap>,
    region: &GuestRegionMmap<AtomicBitmap>,
    spec: &RegionSpec,
) -> bool {
    let last = spec.size() - 1;
    for offset in [0, last] {
        let address = spec.start().unchecked_add(offset as u64);
        let is_readable = spec.protection() != Protection::NoAccess;
        let is_writable = spec.protection() == Protection::ReadWrite;
        let old: Option<u8> = memory.read_obj(address).ok();
        assert_eq!(old.is_some(), is_readable, "read at {address:?}");
        let new = !old.unwrap_or(0);
        let was_dirty = region.bitmap().dirty_at(offset);
        let written = memory.write_obj(new, address);
        assert_eq!(written.is_ok(), is_writable, "write at {address:?}");
        // A page of both ends is dirty from the first on.
        assert_eq!(region.bitmap().dirty_at(offset), was_dirty || is_writable);
        if is_readable {
            let now: u8 = memory.read_obj(address).expect("as before");
            assert_eq!(Some(now), if is_writable { Some(new) } else { old });
        }
    }
    let behind = MemoryRegionAddress(spec.size() as u64);
    assert!(region.read_obj::<u8>(behind).is_err(), "a byte behind");
    if let Some(address) = spec.start().checked_add(spec.size() as u64) {
        assert_eq!(
            memory.read_obj::<u8>(address).is_ok(),
            is_readable(memory, address),
            "the address behind"
        );
    }
    spec.protection() == Protection::ReadWrite
}

fn is_readable(memory: &GuestMemoryMmap<AtomicBitmap>, address: GuestAddress) -> bool {
    memory
        .find_region(address)
        .is_some_and(|region| region.protection(0, 1) != Protection::NoAccess)
}
