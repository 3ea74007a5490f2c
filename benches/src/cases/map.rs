// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The swappable map, guests that come and go, regions that are plugged and unplugged.

use guest_memory::bitmap::AtomicBitmap as OurBitmap;
use vm_memory::bitmap::AtomicBitmap as TheirBitmap;

use super::{MEMORY_LEN, lookup};
use crate::bare_mappings::map_and_unmap;
use crate::copies::PLACE_COUNT;
use crate::life::Part;
use crate::measure::{Limit, Runner};
use crate::pair::Pair;
use crate::{compare, ours, pair, places, theirs};

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
