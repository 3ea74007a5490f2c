// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The swappable map, guests that come and go, regions that are plugged and unplugged.

use guest_memory::bitmap::AtomicBitmap as OurBitmap;
use guest_memory::{GuestAddress, GuestAddressSpace, GuestMemory, GuestMemoryAtomic};
use vm_memory::bitmap::AtomicBitmap as TheirBitmap;

use super::{MEMORY_LEN, lookup};
use crate::bare_mappings::map_and_unmap;
use crate::copies::PLACE_COUNT;
use crate::life::Part;
use crate::measure::{Limit, Runner};
use crate::pair::Pair;
use crate::{compare, device, failed, ours, pair, places, theirs};

type OurMap = GuestMemoryAtomic<guest_memory::GuestMemoryMmap<()>>;
type TheirMap = vm_memory::GuestMemoryAtomic<vm_memory::GuestMemoryMmap<()>>;

/// Accesses through the map of the moment.
pub(super) fn swappable(runner: &mut Runner) {
    let memory = Pair {
        ours: ours::access::swappable(ours::access::memory(&[(0, MEMORY_LEN)])),
        theirs: theirs::access::swappable(theirs::access::memory(&[(0, MEMORY_LEN)])),
    };
    let direct = ours::access::memory::<()>(&[(0, MEMORY_LEN)]);
    let places = places::random(PLACE_COUNT, 4096, 16);
    compare!(
        runner,
        "GuestMemoryAtomic: memory()",
        [access::load_map](memory),
        None,
    );
    compare!(
        runner,
        "GuestMemoryAtomic: memory() + read_obj u64",
        [access::read_obj_by_map::<u64>](memory, &places),
        Some(Limit {
            what: "ours, direct",
            run: &mut |count| ours::access::read_obj::<u64, ()>(&direct, &places, count),
        }),
    );
    let mut reader = memory.ours.reader();
    runner.compare(
        "reader of a device thread: memory()",
        &mut |count| device::load_map_by_reader(&mut reader, count),
        &mut |count| theirs::access::load_map(&memory.theirs, count),
        None,
    );
    runner.compare(
        "reader of a device thread + read_obj u64",
        &mut |count| device::read_obj_by_reader::<u64>(&mut reader, &places, count),
        &mut |count| theirs::access::read_obj_by_map::<u64>(&memory.theirs, &places, count),
        Some(Limit {
            what: "ours, direct",
            run: &mut |count| ours::access::read_obj::<u64, ()>(&direct, &places, count),
        }),
    );
    let held: Vec<_> = (0..64)
        .map(|_| {
            (
                memory.ours.memory(),
                theirs::access::hold_map(&memory.theirs),
            )
        })
        .collect();
    runner.compare(
        "reader + read_obj u64 while the thread has 64 guards",
        &mut |count| device::read_obj_by_reader::<u64>(&mut reader, &places, count),
        &mut |count| theirs::access::read_obj_by_map::<u64>(&memory.theirs, &places, count),
        None,
    );
    drop(held);
    windows(runner, &memory.ours, &memory.theirs, &places);
}

/// Accesses to a range that was looked up once; `vm-memory` looks it up again each time.
fn windows(runner: &mut Runner, memory: &OurMap, theirs: &TheirMap, places: &[u64]) {
    let map = memory.memory();
    let new_window = || memory.window(GuestAddress(0), MEMORY_LEN);
    let (Ok(mut window), Ok(slice)) = (new_window(), map.get_slice(GuestAddress(0), MEMORY_LEN))
    else {
        failed()
    };
    runner.compare(
        "window over map changes: read_obj u64",
        &mut |count| device::read_obj_by_window::<u64>(&mut window, places, count),
        &mut |count| theirs::access::read_obj_by_map::<u64>(theirs, places, count),
        Some(Limit {
            what: "ours, slice of one map",
            run: &mut |count| device::read_obj_by_slice::<u64>(&slice, places, count),
        }),
    );
    runner.compare(
        "window over map changes: slice() + read_obj u64",
        &mut |count| device::read_obj_by_window_slice::<u64>(&mut window, places, count),
        &mut |count| theirs::access::read_obj_by_map::<u64>(theirs, places, count),
        Some(Limit {
            what: "ours, slice of one map",
            run: &mut |count| device::read_obj_by_slice::<u64>(&slice, places, count),
        }),
    );
}

/// Tracked guests of 128 MiB, and one of many regions.
pub(super) fn guests(runner: &mut Runner) {
    const LEN: usize = 128 << 20;
    let one = [(0, LEN)];
    for (name, part) in [("build", Part::Build), ("drop", Part::Drop)] {
        runner.compare(
            &format!("{name} a tracked guest of 128 MiB"),
            &mut |count| ours::map::guest::<OurBitmap>(&one, 16, part, count),
            &mut |count| theirs::map::guest::<TheirBitmap>(&one, 16, part, count),
            Some(Limit {
                what: "the system call",
                run: &mut |count| map_and_unmap(LEN, 16, part, count),
            }),
        );
    }
    let many = lookup::ranges(4096);
    for (name, part) in [("build", Part::Build), ("drop", Part::Drop)] {
        runner.compare(
            &format!("{name} a guest of 4096 regions of 4 KiB"),
            &mut |count| ours::map::guest::<()>(&many, 1, part, count),
            &mut |count| theirs::map::guest::<()>(&many, 1, part, count),
            None,
        );
    }
}

/// One more region in the middle of many.
pub(super) fn plugging(runner: &mut Runner) {
    for region_count in [64, 4096] {
        let memory = pair!([access::memory::<()>](&lookup::ranges(region_count)));
        let hole = lookup::hole(region_count / 2);
        let region = pair!([map::region](hole));
        runner.compare(
            &format!("plug and unplug among {region_count} regions"),
            &mut |count| ours::map::plug_and_unplug(&memory.ours, &region.ours, count),
            &mut |count| theirs::map::plug_and_unplug(&memory.theirs, &region.theirs, count),
            None,
        );
    }
}
