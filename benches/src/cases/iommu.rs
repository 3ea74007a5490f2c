// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory behind an IOMMU.

use std::sync::RwLock;

use crate::buffer::Buffer;
use crate::measure::{Limit, Runner};
use crate::pair::Pair;
use crate::{behind_iommu, compare, ours, pair, places, theirs};

/// Mappings in the table, each of 4 KiB.
const MAPPING_COUNT: u64 = 1000;

/// Bytes of the memory.
const LEN: usize = 4 << 20;

/// Places per table.
const PLACE_COUNT: usize = 8192;

/// Accesses that are mapped.
pub(super) fn hits(runner: &mut Runner) {
    let memory = pair!([iommu::memory](LEN, MAPPING_COUNT));
    let direct = ours::access::memory::<()>(&[(0, LEN)]);
    let shared = behind_iommu::memory(LEN, MAPPING_COUNT);
    let mut device = behind_iommu::Device::new(shared.clone());
    let anywhere = places::random(PLACE_COUNT, MAPPING_COUNT * 4096, 8);
    let ring = places::random(PLACE_COUNT, 4096, 8);
    for (name, places) in [("", &anywhere), (", one page", &ring)] {
        let limit = |count| ours::access::read_obj::<u64, ()>(&direct, places, count);
        compare!(
            runner,
            format!("IOTLB hit, 1,000 mappings: read_obj u64{name}"),
            [iommu::read_obj](memory, places),
            Some(Limit {
                what: "ours, direct",
                run: &mut { limit },
            }),
        );
        runner.compare(
            &format!("IOTLB hit, 1,000 mappings: read_obj u64{name}, SharedIotlb"),
            &mut |count| behind_iommu::read_obj(&shared, places, count),
            &mut |count| theirs::iommu::read_obj(&memory.theirs, places, count),
            Some(Limit {
                what: "ours, direct",
                run: &mut { limit },
            }),
        );
        runner.compare(
            &format!("IOTLB hit, 1,000 mappings: read_obj u64{name}, device's handle"),
            &mut |count| behind_iommu::read_obj(&device.enter(), places, count),
            &mut |count| theirs::iommu::read_obj(&memory.theirs, places, count),
            Some(Limit {
                what: "ours, direct",
                run: &mut { limit },
            }),
        );
    }
    let over_border = places::same(PLACE_COUNT, 4096 - 256);
    let mut ours = Buffer::new(512);
    let mut theirs = Buffer::new(512);
    let name = "IOTLB hit, 1,000 mappings: read_slice 512 B across two";
    runner.compare(
        name,
        &mut |count| ours::iommu::read_slice(&memory.ours, &mut ours, &over_border, count),
        &mut |count| theirs::iommu::read_slice(&memory.theirs, &mut theirs, &over_border, count),
        None,
    );
    runner.compare(
        &format!("{name}, device's handle"),
        &mut |count| behind_iommu::read_slice(&device.enter(), &mut ours, &over_border, count),
        &mut |count| theirs::iommu::read_slice(&memory.theirs, &mut theirs, &over_border, count),
        None,
    );
}

/// Changes of the table.
pub(super) fn changes(runner: &mut Runner) {
    for mapping_count in [1000, 50_000] {
        let tables = pair!([iommu::table](mapping_count));
        let tables = Pair {
            ours: RwLock::new(tables.ours),
            theirs: RwLock::new(tables.theirs),
        };
        let places = places::random(PLACE_COUNT, mapping_count * 4096, 4096);
        compare!(
            runner,
            format!("IOTLB of {mapping_count} mappings: invalidate + map a page"),
            [iommu::remap](tables, &places),
            None,
        );
    }
}
