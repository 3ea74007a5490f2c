// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A thousand builds and drops of everything, those that fail included, leave the process as it was.
//!
//! One test in a process of its own, so that what is counted is exact.
#![expect(
    unsafe_code,
    reason = "maps memory to hand over, and asks what is mapped"
)]

#[path = "mmap/mount.rs"]
mod mount;
#[expect(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "no child process is made, and nothing is skipped as a whole"
)]
#[path = "mmap/pool.rs"]
mod pool;

use std::fs::{self, File};
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::ptr;

use guest_memory_bitmap::AtomicBitmap;
use guest_memory_core::{FileOffset, GuestAddress};
use guest_memory_mmap::{
    Backing, GuestMemoryBuilder, HugePageSize, MmapRegion, MmapRegionBuilder, MmapRegionError,
    Need, NumaNode, NumaPolicy, Policies, Population, Protection, RegionSpec, Seals, Sharing,
    ShmObject,
};
use guest_memory_volatile::VolatileMemory;

use crate::mount::Mount;
use crate::pool::{Pool, TWO_MIB, Turn};

const ROUNDS: usize = 1000;
const PAGE: usize = 4096;
const SIZE: usize = 16 * PAGE;
const ONE_GIB: usize = 1 << 30;

type Region = MmapRegion<AtomicBitmap>;
type Builder = MmapRegionBuilder<AtomicBitmap>;

/// What this process holds.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Holdings {
    descriptors: usize,
    mappings: usize,
    address_space: String,
}

impl Holdings {
    fn count() -> Self {
        let descriptors = fs::read_dir("/proc/self/fd").expect("descriptors").count();
        let maps = fs::read_to_string("/proc/self/maps").expect("mappings");
        let status = fs::read_to_string("/proc/self/status").expect("a status");
        let size = status.lines().find(|line| line.starts_with("VmSize:"));
        Self {
            descriptors,
            mappings: maps.lines().count(),
            address_space: size.expect("a size").to_owned(),
        }
    }
}

/// Does something a thousand times, after a few that let the allocator settle, and compares before and after.
fn often(name: &str, pool: Option<&Pool>, mut once: impl FnMut()) {
    (0..20).for_each(|_| once());
    // A process that does not wait for its turn may take pages or give them back, but not each time.
    let is_back = (0..3).any(|_| {
        let free_before = pool.map(|pool| pool.free().expect("the pool"));
        let before = Holdings::count();
        (0..ROUNDS).for_each(|_| once());
        assert_eq!(Holdings::count(), before, "{name}");
        pool.map(|pool| pool.free().expect("the pool")) == free_before
    });
    assert!(is_back, "{name}: pages are missing in the pool");
}

/// Says whether the page at an address is mapped.
fn is_mapped(address: *mut u8) -> bool {
    let mut answer = 0u8;
    let page = address.map_addr(|address| address & !(PAGE - 1));
    // SAFETY: asks of a page, and there is room for its answer.
    match unsafe { libc::mincore(page.cast(), PAGE, &raw mut answer) } {
        0 => true,
        _ => {
            let error = io::Error::last_os_error();
            assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
            false
        }
    }
}

/// Drops a region and checks that its addresses are mapped no more.
fn drop_and_look(region: Region) {
    let (start, size) = (region.as_ptr(), region.size());
    let places = [0, size / 2, size - 1].map(|offset| start.wrapping_add(offset));
    for place in places {
        assert!(is_mapped(place));
    }
    drop(region);
    for place in places {
        assert!(!is_mapped(place), "{place:?}");
    }
}

/// Builds and drops a region often; its pages are touched if there are not too many bytes to clear.
fn builds(name: &str, pool: Option<&Pool>, build: impl Fn() -> Builder) {
    often(name, pool, || {
        let region = build()
            .build()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        if region.size() < ONE_GIB && region.protection(0, 1).is_writable() {
            for offset in [0, region.size() - 1] {
                region
                    .as_volatile_slice()
                    .write_obj(1u8, offset)
                    .expect("a place");
            }
        }
        drop_and_look(region);
    });
}

/// Fails to build a region often, each time for the same reason.
fn fails(pool: Option<&Pool>, message: &str, build: impl Fn() -> Builder) {
    often(message, pool, || {
        let Err(error) = build().build() else {
            panic!("built in spite of {message}")
        };
        assert!(error.to_string().contains(message), "{message}: {error}");
        if let MmapRegionError::Policy(error) = error {
            assert!(!is_mapped(ptr::without_provenance_mut(error.address)));
        }
    });
}

fn of(size: usize) -> Builder {
    MmapRegionBuilder::new(size)
}

fn backed(backing: Backing, size: usize) -> Builder {
    of(size).with_backing(backing)
}

fn anonymous(sharing: Sharing, huge_pages: Option<HugePageSize>) -> Backing {
    Backing::Anonymous {
        sharing,
        huge_pages,
    }
}

fn memfd(seals: Seals, huge_pages: Option<HugePageSize>) -> Backing {
    Backing::Memfd {
        name: "leaks".to_owned(),
        seals,
        huge_pages,
    }
}

fn file(path: &Path, offset: u64, sharing: Sharing) -> Backing {
    Backing::File {
        path: path.to_owned(),
        offset,
        sharing,
        grow: false,
    }
}

fn shm(name: &str, object: ShmObject) -> Backing {
    Backing::Shm {
        name: name.to_owned(),
        object,
    }
}

fn short_bitmap() -> AtomicBitmap {
    let page_size = NonZeroUsize::new(PAGE).expect("a page");
    AtomicBitmap::new(PAGE, page_size)
}

/// Policies that no machine can follow.
fn impossible() -> Policies {
    Policies::new().with_numa(NumaPolicy::Bind(NumaNode(900).into()), Need::Required)
}

fn map_foreign() -> *mut u8 {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: no fixed address.
    let start = unsafe { libc::mmap(ptr::null_mut(), SIZE, prot, flags, -1, 0) };
    assert_ne!(start, libc::MAP_FAILED);
    start.cast()
}

fn unmap_foreign(start: *mut u8) {
    // SAFETY: what `map_foreign` mapped, left by all regions.
    assert_eq!(unsafe { libc::munmap(start.cast(), SIZE) }, 0);
}

/// A folder with a file of `SIZE` bytes.
struct Folder {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ram");
        fs::write(&path, vec![0; SIZE]).expect("a file");
        Self {
            _folder: folder,
            path,
        }
    }

    fn open(&self) -> File {
        let file = File::options().read(true).write(true).open(&self.path);
        file.expect("the file")
    }
}

#[test]
fn a_thousand_builds_and_drops_leave_nothing_behind() {
    {
        let _turn = Turn::wait().expect("our turn");
        ordinary_memory_is_built();
        memory_of_somebody_else_is_taken();
        ordinary_memory_is_refused();
        a_guest_is_refused();
    }
    match Pool::with_free(TWO_MIB, 2) {
        Ok(pool) => huge_pages_are_built_and_refused(&pool),
        Err(reason) => println!("skipped in part: {reason}"),
    }
    match Pool::with_free(ONE_GIB, 1) {
        Ok(pool) => pages_of_one_gibibyte_are_built_and_refused(&pool),
        Err(reason) => println!("skipped in part: {reason}"),
    }
}

fn ordinary_memory_is_built() {
    let folder = Folder::new();
    for sharing in [Sharing::Private, Sharing::Shared] {
        builds("anonymous", None, || backed(anonymous(sharing, None), SIZE));
        builds("file", None, || {
            backed(file(&folder.path, 0, sharing), SIZE)
        });
    }
    builds("large", None, || of(3 * TWO_MIB));
    often("guard pages", None, || {
        let region = of(SIZE).build().expect("a region");
        let start = region.as_ptr();
        let guards = [start.wrapping_sub(1), start.wrapping_add(SIZE)];
        assert!(guards.into_iter().all(is_mapped));
        drop_and_look(region);
        assert!(!guards.into_iter().any(is_mapped));
    });
    builds("without guard pages", None, || {
        of(SIZE).without_guard_pages()
    });
    builds("changeable", None, || of(SIZE).with_changeable_protection());
    builds("without access", None, || {
        of(SIZE).with_protection(Protection::NoAccess)
    });
    builds("memfd", None, || backed(memfd(Seals::ALL, None), SIZE));
    let name = format!("/guest-memory-leaks-{}", std::process::id());
    builds("shm", None, || {
        backed(shm(&name, ShmObject::CreateUnlinked), SIZE)
    });
    builds("given", None, || {
        of(SIZE).with_file_offset(FileOffset::new(folder.open(), 0))
    });
    often("protected in parts", None, || {
        let mut region = of(SIZE).build().expect("a region");
        region
            .set_protection(PAGE, PAGE, Protection::ReadOnly)
            .expect("a read-only page");
        region
            .set_protection(3 * PAGE, PAGE, Protection::NoAccess)
            .expect("a page without access");
        drop_and_look(region);
    });
}

fn memory_of_somebody_else_is_taken() {
    often("external", None, || {
        let start = map_foreign();
        // SAFETY: mapped readable and writable until the region is dropped.
        let builder = unsafe { of(SIZE).with_raw_mmap_pointer(start) };
        drop(builder.build().expect("a region"));
        assert!(is_mapped(start));
        unmap_foreign(start);
    });
    often("external, owned", None, || {
        let start = map_foreign();
        // SAFETY: mapped readable and writable, and left to the region.
        let builder = unsafe { of(SIZE).with_owned_mmap_pointer(start) };
        drop(builder.build().expect("a region"));
        assert!(!is_mapped(start) && !is_mapped(start.wrapping_add(SIZE - 1)));
    });
    often("external with a short bitmap", None, || {
        let start = map_foreign();
        let builder = MmapRegionBuilder::new_with_bitmap(SIZE, short_bitmap());
        // SAFETY: mapped readable and writable; the region is refused, so that it stays ours.
        let builder = unsafe { builder.with_owned_mmap_pointer(start) };
        assert!(matches!(
            builder.build(),
            Err(MmapRegionError::BitmapTooShort { .. })
        ));
        assert!(is_mapped(start));
        unmap_foreign(start);
    });
    often("external with a refused policy", None, || {
        let start = map_foreign();
        // SAFETY: mapped readable and writable; the region is refused, so that it stays ours.
        let builder = unsafe { of(SIZE).with_owned_mmap_pointer(start) };
        assert!(matches!(
            builder.with_policies(impossible()).build(),
            Err(MmapRegionError::Policy(_))
        ));
        assert!(is_mapped(start));
        unmap_foreign(start);
    });
}

fn ordinary_memory_is_refused() {
    let folder = Folder::new();
    let shared = |offset| file(&folder.path, offset, Sharing::Shared);
    let given = |size, offset| of(size).with_file_offset(FileOffset::new(folder.open(), offset));
    fails(None, "past the end", || backed(shared(0), 2 * SIZE));
    fails(None, "past the end", || given(2 * SIZE, 0));
    fails(None, "not aligned", || backed(shared(100), PAGE));
    fails(None, "not aligned", || given(PAGE, 100));
    let missing = folder.path.with_file_name("missing");
    fails(None, "cannot open", || {
        backed(file(&missing, 0, Sharing::Shared), SIZE)
    });
    fails(None, "lacks seals", || {
        given(SIZE, 0).with_required_seals(Seals::ALL)
    });
    fails(None, "not opened for writing", || {
        let file = File::open(&folder.path).expect("the file");
        of(SIZE).with_file_offset(FileOffset::new(file, 0))
    });
    fails(None, "not on hugetlbfs", || {
        let directory = missing.parent().expect("a folder").to_owned();
        backed(Backing::HugetlbFile { directory }, SIZE)
    });
    fails(None, "no dax device", || {
        let path = "/dev/zero".into();
        backed(Backing::Dax { path, offset: 0 }, TWO_MIB)
    });
    fails(None, "cannot open the shared memory", || {
        backed(shm("/guest-memory-missing", ShmObject::Open), SIZE)
    });
    fails(None, "cannot use the name", || {
        backed(shm("no-slash", ShmObject::Create), SIZE)
    });
    fails(None, "cannot create the memory file", || {
        of(SIZE).with_memfd("n".repeat(300))
    });
    // With 32 bits there may be room for all that a region can be.
    #[cfg(target_pointer_width = "64")]
    fails(None, "mmap failed", || of(1 << 60));
    fails(None, "mmap failed", || {
        of(isize::MAX as usize).with_memfd("too-long")
    });
    for backing in [
        anonymous(Sharing::Private, None),
        anonymous(Sharing::Shared, None),
        memfd(Seals::ALL, None),
        file(&folder.path, 0, Sharing::Private),
    ] {
        fails(None, "nodes 900 do not exist", || {
            backed(backing.clone(), SIZE).with_policies(impossible())
        });
        fails(None, "dirty bitmap tracks 4096 bytes", || {
            let builder = MmapRegionBuilder::new_with_bitmap(SIZE, short_bitmap());
            builder.with_backing(backing.clone())
        });
    }
    let sealed = backed(memfd(Seals::ALL, None), SIZE)
        .build()
        .expect("a region");
    fails(None, "cannot extend the file", || {
        let file = sealed.file_offset().expect("a file").clone();
        of(2 * SIZE).with_file_offset(file).with_file_growth()
    });
}

/// The first region is there when the second is refused.
fn a_guest_is_refused() {
    let with = |policies| {
        GuestMemoryBuilder::new()
            .with_region(
                RegionSpec::new("first", GuestAddress(0), SIZE)
                    .with_backing(memfd(Seals::ALL, None)),
            )
            .with_region(
                RegionSpec::new("second", GuestAddress(1 << 32), SIZE)
                    .with_backing(memfd(Seals::ALL, None))
                    .with_policies(policies),
            )
    };
    // A name is for memory without a file.
    let name = "leaks".parse().expect("a name");
    let refused = with(Policies::new().with_name(name, Need::Required));
    often("a guest whose second region is refused", None, || {
        let error = refused.build::<AtomicBitmap>().expect_err("a refusal");
        assert!(error.to_string().contains("second"), "{error}");
    });
    let guest = with(Policies::new());
    often("a guest", None, || {
        drop(guest.build::<AtomicBitmap>().expect("a guest"));
    });
}

fn huge_pages_are_built_and_refused(pool: &Pool) {
    let two_mib = Some(HugePageSize::TwoMiB);
    let mount = Mount::new()
        .inspect_err(|error| println!("skipped in part: cannot mount a hugetlbfs: {error}"))
        .ok();
    let on_mount = mount.as_ref().map(|mount| Backing::HugetlbFile {
        directory: mount.path().to_owned(),
    });
    let backings = [
        anonymous(Sharing::Private, two_mib),
        anonymous(Sharing::Shared, two_mib),
        memfd(Seals::ALL, two_mib),
    ];
    let free = pool.free().expect("the pool");
    for backing in backings.into_iter().chain(on_mount) {
        let name = backing.to_string();
        builds(&name, Some(pool), || backed(backing.clone(), 2 * TWO_MIB));
        fails(Some(pool), "free in the pool", || {
            backed(backing.clone(), (free + 1) * TWO_MIB)
        });
        fails(Some(pool), "no multiple of the huge page", || {
            backed(backing.clone(), TWO_MIB + PAGE)
        });
        fails(Some(pool), "nodes 900 do not exist", || {
            backed(backing.clone(), TWO_MIB).with_policies(impossible())
        });
        fails(Some(pool), "dirty bitmap tracks 4096 bytes", || {
            let builder = MmapRegionBuilder::new_with_bitmap(TWO_MIB, short_bitmap());
            builder.with_backing(backing.clone())
        });
    }
    // Pages that are not set aside, of which there are too few when they are populated: all but one are somebody's.
    let free = pool.free().expect("the pool");
    let others = of((free - 1) * TWO_MIB).with_huge_pages(HugePageSize::TwoMiB);
    let _others = others.build().expect("pages of the pool");
    let unreserved = libc::MAP_HUGETLB | libc::MAP_HUGE_2MB | libc::MAP_NORESERVE;
    let threads = NonZeroUsize::MIN;
    let populated = Policies::new().with_population(Population { threads }, Need::Required);
    fails(Some(pool), "1 huge page of 2097152 bytes needed", || {
        of(2 * TWO_MIB)
            .with_mmap_flags(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | unreserved)
            .with_policies(populated.clone())
    });
}

fn pages_of_one_gibibyte_are_built_and_refused(pool: &Pool) {
    let one_gib = Some(HugePageSize::OneGiB);
    let free = pool.free().expect("the pool");
    for backing in [
        anonymous(Sharing::Private, one_gib),
        anonymous(Sharing::Shared, one_gib),
        memfd(Seals::ALL, one_gib),
    ] {
        let name = backing.to_string();
        builds(&name, Some(pool), || backed(backing.clone(), ONE_GIB));
        fails(Some(pool), "free in the pool", || {
            backed(backing.clone(), (free + 1) * ONE_GIB)
        });
    }
}
