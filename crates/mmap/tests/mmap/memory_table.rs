// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The table of a memory map.

use guest_memory_bitmap::AtomicBitmap;
use guest_memory_core::{Bytes, GuestAddress, GuestMemoryRegion};
use guest_memory_mmap::{
    Backing, CoreDump, GuestMemoryBuilder, GuestMemoryMmap, MemoryTable, Need, NumaNode,
    NumaPolicy, PageMerging, Policies, Protection, RegionKind, RegionSpec, Seals, Sharing,
};

use crate::files::BIG_PAGE;

/// Reads the node that all pages of these tests are on, as the kernel has one or none.
fn node() -> &'static str {
    match std::fs::exists("/proc/self/numa_maps").expect("an answer") {
        true => "0",
        false => "-",
    }
}

#[test]
fn a_table_shows_regions_holes_and_what_became_of_them() {
    let ram = Backing::Memfd {
        name: "table".to_owned(),
        seals: Seals::ALL,
        huge_pages: None,
    };
    let policies = Policies::new()
        .with_numa(NumaPolicy::Bind(NumaNode(0).into()), Need::Required)
        .with_page_merging(PageMerging::Merge, Need::Wished)
        .with_core_dump(CoreDump::Exclude, Need::Wished);
    let memory: GuestMemoryMmap<AtomicBitmap> = GuestMemoryBuilder::new()
        .with_region(
            RegionSpec::new("ram", GuestAddress(0), 1 << 20)
                .with_backing(ram)
                .with_policies(policies),
        )
        .with_region(
            RegionSpec::new("bios", GuestAddress(1 << 32), BIG_PAGE)
                .with_kind(RegionKind::Rom)
                .with_protection(Protection::ReadOnly),
        )
        .build()
        .unwrap();
    // Over the end of a page, and one more.
    memory.write_obj(1u64, GuestAddress(0x1ffc)).unwrap();
    memory.write_obj(1u64, GuestAddress(0x8000)).unwrap();
    let table =
        MemoryTable::new(&memory).with_column("slot", |region| match region.start_addr().0 {
            0 => "3".to_owned(),
            _ => "none".to_owned(),
        });
    let node = node();
    let expected = format!(
        "\
range                             size      kind    label  backing             page   node  protection  policies                                              dirty   resident  slot
[0x000000000000, 0x000000100000)  1 MiB     RAM     ram    memfd               4 KiB  {node}     read-write  NUMA bind:0, (page merging merge), core dump exclude  12 KiB  12 KiB    3
[0x000000100000, 0x000100000000)  4095 MiB  (hole)  -      -                   -      -     -           -                                                     -       -         -
[0x000100000000, 0x000100010000)  64 KiB    ROM     bios   anonymous, private  4 KiB  -     read        -                                                     0 B     0 B       none"
    );
    assert_eq!(table.to_string(), expected);
}

#[test]
fn a_table_without_marks_and_names_says_so() {
    let ranges = [
        (GuestAddress(0x1000), BIG_PAGE),
        (GuestAddress(0x1_1000), BIG_PAGE),
    ];
    let memory = GuestMemoryMmap::<()>::from_ranges(&ranges).unwrap();
    let text = MemoryTable::new(&memory).to_string();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect();
    let titles = [
        "range",
        "size",
        "kind",
        "label",
        "backing",
        "page",
        "node",
        "protection",
        "policies",
        "dirty",
        "resident",
    ];
    assert_eq!(rows[0], titles);
    let hole = [
        "[0x000000000000, 0x000000001000)",
        "4 KiB",
        "(hole)",
        "-",
        "-",
        "-",
        "-",
        "-",
        "-",
        "-",
        "-",
    ];
    assert_eq!(rows[1], hole);
    for (row, range) in rows[2..].iter().zip([
        "[0x000000001000, 0x000000011000)",
        "[0x000000011000, 0x000000021000)",
    ]) {
        let expected = [range, "64 KiB", "RAM", "-", "anonymous, private", "4 KiB"];
        assert_eq!(row[..6], expected);
        assert_eq!(row[7..], ["read-write", "-", "-", "0 B"]);
    }
    assert_eq!(rows.len(), 4);
}

#[test]
fn a_private_file_and_populated_memory_show_in_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ram");
    std::fs::write(&path, vec![1; BIG_PAGE]).unwrap();
    let backing = Backing::File {
        path,
        offset: 0,
        sharing: Sharing::Private,
        grow: false,
    };
    let threads = std::num::NonZeroUsize::MIN;
    let policies =
        Policies::new().with_population(guest_memory_mmap::Population { threads }, Need::Required);
    let spec = RegionSpec::new("disk", GuestAddress(0), BIG_PAGE)
        .with_backing(backing)
        .with_policies(policies);
    let memory: GuestMemoryMmap<AtomicBitmap> =
        GuestMemoryBuilder::new().with_region(spec).build().unwrap();
    let text = MemoryTable::new(&memory).to_string();
    let row = text.lines().nth(1).unwrap();
    assert!(row.contains("  file, private  "), "{text}");
    assert!(
        row.ends_with("population by 1 thread  0 B    64 KiB"),
        "{text}"
    );
}
