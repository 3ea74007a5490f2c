// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest's memory from a description: what its plan says, what it finds, and what is left of a guest that fails.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use guest_memory_bitmap::AtomicBitmap;
use guest_memory_core::{Bytes, GuestAddress, GuestMemory, GuestMemoryRegion};
use guest_memory_mmap::{
    Alignment, Backing, BackingKind, CoreDump, GuestMemoryBuildError, GuestMemoryBuilder,
    GuestMemoryMmap, HugePageSize, MmapRegionError, Need, NumaNode, NumaPolicy, Policies,
    Population, Protection, RegionKind, RegionSpec, Seals, Sharing, ShmObject,
    TransparentHugePages,
};

use crate::files::BIG_PAGE;
use crate::lifetime::{descriptors_of, mappings_of};
use crate::pool::{TWO_MIB, pool_or_skip};

fn spec(label: &str, start: u64, size: usize) -> RegionSpec {
    RegionSpec::new(label, GuestAddress(start), size)
}

fn guest(regions: impl IntoIterator<Item = RegionSpec>) -> GuestMemoryBuilder {
    let builder = GuestMemoryBuilder::new();
    regions
        .into_iter()
        .fold(builder, GuestMemoryBuilder::with_region)
}

fn memfd(name: &str, huge_pages: Option<HugePageSize>) -> Backing {
    Backing::Memfd {
        name: name.to_owned(),
        seals: Seals::ALL,
        huge_pages,
    }
}

fn file(path: &Path, offset: u64, sharing: Sharing, grow: bool) -> Backing {
    Backing::File {
        path: path.to_owned(),
        offset,
        sharing,
        grow,
    }
}

fn shm(name: &str, object: ShmObject) -> Backing {
    Backing::Shm {
        name: name.to_owned(),
        object,
    }
}

/// Checks that the plan of a guest finds exactly this, and that it is not built then.
#[track_caller]
fn assert_problems(regions: impl IntoIterator<Item = RegionSpec>, expected: &[[&str; 4]]) {
    let guest = guest(regions);
    let plan = guest.plan();
    let found: Vec<[&str; 4]> = plan
        .problems()
        .iter()
        .map(|problem| {
            [
                problem.region.as_str(),
                problem.field,
                problem.value.as_str(),
                problem.valid.as_str(),
            ]
        })
        .collect();
    assert_eq!(found, expected);
    let lines: Vec<String> = expected
        .iter()
        .map(|[region, field, value, valid]| format!("region {region:?}: {field} {value}: {valid}"))
        .collect();
    for line in &lines {
        assert!(plan.to_string().contains(&format!("\nproblem: {line}\n")));
    }
    let error = guest.build::<()>().expect_err("problems");
    assert!(
        matches!(&error, GuestMemoryBuildError::Problems(problems) if problems == plan.problems())
    );
    assert_eq!(error.to_string(), lines.join("; "));
}

#[test]
fn a_plan_says_what_will_be_done_in_order() {
    let _pool = pool_or_skip!(TWO_MIB, 3);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nvdimm");
    let threads = NonZeroUsize::new(2).unwrap();
    let bind = NumaPolicy::Bind(NumaNode(0).into());
    let guest = guest([
        spec("nvdimm0", 8 << 30, 1 << 20)
            .with_kind(RegionKind::Persistent)
            .with_backing(file(&path, 0x1000, Sharing::Shared, true)),
        spec("low", 0, 4 << 20)
            .with_backing(memfd("ram", Some(HugePageSize::TwoMiB)))
            .with_policies(
                Policies::new()
                    .with_population(Population { threads }, Need::Required)
                    .with_core_dump(CoreDump::Exclude, Need::Wished)
                    .with_numa(bind, Need::Required),
            ),
        spec("high", 4 << 30, 2 << 20).with_backing(Backing::Anonymous {
            sharing: Sharing::Shared,
            huge_pages: Some(HugePageSize::TwoMiB),
        }),
        spec("firmware", 0xfff0_0000, 0x3000)
            .with_kind(RegionKind::Rom)
            .with_protection(Protection::ReadOnly)
            .without_guard_pages(),
        spec("ivshmem", 9 << 30, 4096)
            .with_backing(shm("/guest-memory-plan", ShmObject::CreateUnlinked)),
    ]);
    let plan = guest.plan();
    let expected = format!(
        "low       map 4 MiB for [0x0, 0x400000) from a memory file \"ram\" sealed against shrink, grow, seal, huge pages of \
         2 MiB, read-write, between guard pages\n\
         low       NUMA: bind:0 (required)\n\
         low       core dump: exclude (wished)\n\
         low       population: by 2 threads (required)\n\
         firmware  map 12 KiB for [0xfff00000, 0xfff03000) from private anonymous memory, read\n\
         high      map 2 MiB for [0x100000000, 0x100200000) from shared anonymous memory, huge pages of 2 MiB, read-write, \
         between guard pages\n\
         nvdimm0   map 1 MiB for [0x200000000, 0x200100000) from {} at 0x1000, shared, read-write, between guard pages\n\
         ivshmem   map 4 KiB for [0x240000000, 0x240001000) from the shared memory object \"/guest-memory-plan\", read-write, \
         between guard pages\n\
         in all 7184 KiB, 3 huge pages of 2 MiB\n",
        path.display()
    );
    assert_eq!(plan.to_string(), expected);
    assert!(plan.problems().is_empty());
    assert_eq!(plan.huge_pages(TWO_MIB), 3);
    assert_eq!(plan.huge_pages(1 << 30), 0);
    assert_eq!(plan.steps().len(), 8);
    assert_eq!(plan.steps()[1].region, "low");
    assert_eq!(plan.steps()[1].action, "NUMA: bind:0 (required)");
    assert!(!path.exists(), "a plan changes nothing");

    let memory: GuestMemoryMmap = guest.build().unwrap();
    let sizes: Vec<_> = memory
        .iter()
        .map(|region| (region.label().unwrap(), region.len()))
        .collect();
    let expected = [
        ("low", 4 << 20),
        ("firmware", 0x3000),
        ("high", 2 << 20),
        ("nvdimm0", 1 << 20),
        ("ivshmem", 4096),
    ];
    assert_eq!(sizes, expected);
    assert_eq!(fs::metadata(path).unwrap().len(), 0x1000 + (1 << 20));
}

#[test]
fn a_plan_without_regions_is_empty_and_builds_nothing() {
    let plan = guest([]).plan();
    assert_eq!(plan.to_string(), "in all 0 B\n");
    assert!(matches!(
        guest([]).build::<()>(),
        Err(GuestMemoryBuildError::Collection(_))
    ));
}

#[test]
fn places_and_labels_that_do_not_fit_are_found() {
    assert_problems(
        [spec("none", 0, 0)],
        &[["none", "size", "0", "at least 1 byte"]],
    );
    assert_problems(
        [spec("top", u64::MAX - 4095, 8192)],
        &[["top", "size", "8192", "at most 4096 bytes from there on"]],
    );
    let largest = isize::MAX.unsigned_abs();
    assert_problems(
        [spec("half", 0, largest + 1)],
        &[[
            "half",
            "size",
            &(largest + 1).to_string(),
            &format!("at most {largest} bytes"),
        ]],
    );
    assert_problems(
        [spec("b", 0x800, 0x1000), spec("a", 0, 0x1000)],
        &[["b", "start", "0x800", "\"a\" takes all up to 0x1000"]],
    );
    assert_problems(
        [
            spec("large", 0, 0x10000),
            spec("in it", 0x1000, 0x1000),
            spec("at its end", 0xf000, 0x2000),
        ],
        &[
            [
                "in it",
                "start",
                "0x1000",
                "\"large\" takes all up to 0x10000",
            ],
            [
                "at its end",
                "start",
                "0xf000",
                "\"large\" takes all up to 0x10000",
            ],
        ],
    );
    assert_problems(
        [
            spec("top", u64::MAX - 4095, 4096),
            spec("over", u64::MAX - 8191, 8192),
        ],
        &[[
            "top",
            "start",
            "0xfffffffffffff000",
            "\"over\" takes all up to the end",
        ]],
    );
    assert_problems(
        [spec("twin", 0, 4096), spec("twin", 4096, 4096)],
        &[[
            "twin",
            "label",
            "\"twin\"",
            "another region has it; it must be its own",
        ]],
    );
    // Next to each other, up to the last address, is fine.
    let fits = guest([
        spec("a", 0, 4096),
        spec("b", 4096, 4096),
        spec("top", u64::MAX - 4095, 4096),
    ]);
    assert_eq!(fits.build::<()>().unwrap().num_regions(), 3);
}

#[test]
fn nodes_that_do_not_exist_are_found_if_they_are_required() {
    let online = fs::read_to_string("/sys/devices/system/node/online").unwrap();
    let on_node = |need| {
        let bind = NumaPolicy::Bind(NumaNode(900).into());
        [spec("ram", 0, 4096).with_policies(Policies::new().with_numa(bind, need))]
    };
    let valid = format!("nodes 900 do not exist; online are {}", online.trim_end());
    assert_problems(
        on_node(Need::Required),
        &[["ram", "NUMA policy", "bind:900", &valid]],
    );
    assert!(guest(on_node(Need::Wished)).plan().problems().is_empty());
}

#[test]
fn files_that_do_not_fit_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ram");
    let named = path.display().to_string();
    let backed = |backing, size| [spec("disk", 0, size).with_backing(backing)];
    let shared = |offset, grow| file(&path, offset, Sharing::Shared, grow);
    let no_file = "(No such file or directory (os error 2))";
    assert_problems(
        backed(shared(0, false), 4096),
        &[[
            "disk",
            "path",
            &named,
            &format!("a file that can be read and written {no_file}"),
        ]],
    );
    assert_problems(
        backed(file(&path, 0, Sharing::Private, false), 4096),
        &[[
            "disk",
            "path",
            &named,
            &format!("a file that can be read {no_file}"),
        ]],
    );
    fs::write(&path, [0; 8192]).unwrap();
    assert_problems(
        backed(shared(4096, false), 8192),
        &[[
            "disk",
            "size",
            "8192",
            &format!("at most 4096 bytes from there to the end of {named}, unless it may grow"),
        ]],
    );
    assert_problems(
        backed(shared(100, false), 4096),
        &[["disk", "offset", "100", "a multiple of 4096 bytes"]],
    );
    let last = i64::MAX.unsigned_abs() - 4095;
    assert_problems(
        backed(shared(last, true), 4096),
        &[[
            "disk",
            "offset",
            &last.to_string(),
            &format!("at most {} bytes less the size", i64::MAX),
        ]],
    );
    assert!(
        guest(backed(shared(4096, true), 8192))
            .plan()
            .problems()
            .is_empty()
    );
    assert_eq!(
        fs::metadata(&path).unwrap().len(),
        8192,
        "a plan changes nothing"
    );

    let directory = folder.path().to_owned();
    let value = directory.display().to_string();
    assert_problems(
        backed(Backing::HugetlbFile { directory }, TWO_MIB),
        &[["disk", "directory", &value, "a directory on hugetlbfs"]],
    );
    let dax = Backing::Dax {
        path: folder.path().join("dax0.0"),
        offset: 0,
    };
    let value = folder.path().join("dax0.0").display().to_string();
    assert_problems(
        backed(dax, TWO_MIB),
        &[["disk", "path", &value, "a device of memory, /dev/dax*"]],
    );
}

#[test]
fn names_that_cannot_be_had_are_found() {
    let backed = |backing| [spec("shared", 0, 4096).with_backing(backing)];
    for name in ["n".repeat(250), "a\0b".to_owned()] {
        let value = format!("{name:?}");
        assert_problems(
            backed(memfd(&name, None)),
            &[["shared", "name", &value, "at most 249 bytes without a zero"]],
        );
    }
    guest(backed(memfd(&"n".repeat(249), None)))
        .build::<()>()
        .unwrap();

    let long = format!("/{}", "n".repeat(255));
    for name in ["", "/", "no-slash", "/two/slashes", "/nul\0", &long] {
        let value = format!("{name:?}");
        let valid = "a slash and at most 254 further bytes, neither slash nor zero";
        for object in [ShmObject::Open, ShmObject::Create] {
            assert_problems(
                backed(shm(name, object)),
                &[["shared", "name", &value, valid]],
            );
        }
    }
    let name = format!("/guest-memory-plan-{}", std::process::id());
    let value = format!("{name:?}");
    assert_problems(
        backed(shm(&name, ShmObject::Open)),
        &[["shared", "name", &value, "an object that exists"]],
    );
    let made = guest(backed(shm(&name, ShmObject::Create)))
        .build::<()>()
        .unwrap();
    for object in [ShmObject::Create, ShmObject::CreateUnlinked] {
        assert_problems(
            backed(shm(&name, object)),
            &[["shared", "name", &value, "a name that nobody has yet"]],
        );
    }
    let opened = guest(backed(shm(&name, ShmObject::Open))).build::<()>();
    fs::remove_file(format!("/dev/shm{name}")).unwrap();
    made.write_obj(7u8, GuestAddress(9)).unwrap();
    assert_eq!(opened.unwrap().read_obj::<u8>(GuestAddress(9)).unwrap(), 7);
}

#[test]
fn huge_pages_that_do_not_fit_are_found_for_all_regions_together() {
    let pool = pool_or_skip!(TWO_MIB, 4);
    let huge = |label, start, size| {
        spec(label, start, size).with_backing(memfd(label, Some(HugePageSize::TwoMiB)))
    };
    assert_problems(
        [huge("ram", 0, TWO_MIB + 4096)],
        &[["ram", "size", "2101248", "a multiple of 2097152 bytes"]],
    );
    // Each would fit alone.
    let free = pool.free().unwrap();
    let pages = free - 1;
    let value = format!("of {pages} huge pages of 2 MiB");
    let twice = || {
        [
            huge("low", 0, pages * TWO_MIB),
            huge("high", 1 << 40, pages * TWO_MIB),
        ]
    };
    assert_problems(
        twice(),
        &[["high", "backing", &value, "the pool has 1 left for it"]],
    );
    for region in twice() {
        drop(guest([region]).build::<()>().unwrap());
    }
    assert_eq!(pool.free().unwrap(), free);
}

#[test]
fn a_guest_that_fails_is_undone() {
    let pool = pool_or_skip!(TWO_MIB, 2);
    let free = pool.free().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kept");
    // Not found by the plan: what the memory is shows when it is there.
    let refused =
        Policies::new().with_transparent_huge_pages(TransparentHugePages::Never, Need::Required);
    let guest = guest([spec("first", 0, 2 * TWO_MIB)
        .with_backing(memfd("undone-first", Some(HugePageSize::TwoMiB)))
        .with_policies(refused.clone())]);
    assert!(guest.plan().problems().is_empty());
    let error = guest.build::<()>().unwrap_err();
    assert_eq!(error.to_string(), "cannot build the region \"first\"");
    assert_eq!(pool.free().unwrap(), free);

    let huge = |label, start, name| {
        spec(label, start, TWO_MIB).with_backing(memfd(name, Some(HugePageSize::TwoMiB)))
    };
    let guest = guest_of_four(
        &path,
        huge("last", 4 << 30, "undone-last").with_policies(refused),
    );
    assert!(guest.plan().problems().is_empty());
    let error = guest.build::<()>().unwrap_err();
    let GuestMemoryBuildError::Region { region, source } = &error else {
        panic!("unexpected {error:?}")
    };
    assert_eq!(region, "last");
    assert!(matches!(**source, MmapRegionError::Policy(_)), "{source:?}");
    for name in ["undone-first", "undone-small", "undone-last"] {
        assert_eq!((mappings_of(name), descriptors_of(name)), (0, 0), "{name}");
    }
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    assert!(!maps.contains(path.to_str().unwrap()));
    assert_eq!(pool.free().unwrap(), free);
    assert!(path.exists(), "a file that was made under a name stays");
}

/// A guest of all kinds of memory, of which the last region comes last.
fn guest_of_four(path: &Path, last: RegionSpec) -> GuestMemoryBuilder {
    guest([
        last,
        spec("first", 0, TWO_MIB).with_backing(memfd("undone-first", Some(HugePageSize::TwoMiB))),
        spec("second", 1 << 30, BIG_PAGE).with_backing(memfd("undone-small", None)),
        spec("third", 2 << 30, BIG_PAGE).with_backing(file(path, 0, Sharing::Shared, true)),
    ])
}

#[test]
fn regions_are_what_their_descriptions_say() {
    let memory: GuestMemoryMmap<AtomicBitmap> = guest([
        spec("window", 1 << 30, BIG_PAGE)
            .with_kind(RegionKind::DeviceWindow)
            .with_protection(Protection::NoAccess)
            .with_backing(memfd("window", None))
            .with_alignment(Alignment::TWO_MIB),
        spec("rom", 0x1_0000, BIG_PAGE)
            .with_kind(RegionKind::Rom)
            .with_protection(Protection::ReadOnly),
        spec("ram", 0, BIG_PAGE).with_changeable_protection(),
    ])
    .build()
    .unwrap();
    let found: Vec<_> = memory
        .iter()
        .map(|region| {
            let protection = region.protection(0, BIG_PAGE);
            (
                region.label().unwrap(),
                region.kind(),
                protection,
                region.backing(),
            )
        })
        .collect();
    let expected = [
        (
            "ram",
            RegionKind::Ram,
            Protection::ReadWrite,
            BackingKind::Anonymous,
        ),
        (
            "rom",
            RegionKind::Rom,
            Protection::ReadOnly,
            BackingKind::Anonymous,
        ),
        (
            "window",
            RegionKind::DeviceWindow,
            Protection::NoAccess,
            BackingKind::Memfd,
        ),
    ];
    assert_eq!(found, expected);
    memory.write_obj(5u8, GuestAddress(0)).unwrap();
    assert!(memory.write_obj(5u8, GuestAddress(0x1_0000)).is_err());
    assert_eq!(memory.read_obj::<u8>(GuestAddress(0x1_0000)).unwrap(), 0);
    assert!(memory.read_obj::<u8>(GuestAddress(1 << 30)).is_err());
    let window = memory.find_region(GuestAddress(1 << 30)).unwrap();
    assert!(window.as_ptr().addr().is_multiple_of(TWO_MIB));

    let ram = memory.find_region(GuestAddress(0)).unwrap();
    change_to_read_only(ram);
    assert!(memory.write_obj(6u8, GuestAddress(0)).is_err());
    assert_eq!(memory.read_obj::<u8>(GuestAddress(0)).unwrap(), 5);
}

#[expect(unsafe_code, reason = "takes access away from a region in use")]
fn change_to_read_only(region: &guest_memory_mmap::GuestRegionMmap<AtomicBitmap>) {
    // SAFETY: no window is open.
    unsafe { region.protect(0, region.size(), Protection::ReadOnly) }.expect("whole pages");
}
