// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Each backing that can be named as data holds data, says what it is, and refuses what it cannot be.
#![expect(unsafe_code, reason = "asks for seals and takes over mapped memory")]

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use guest_memory_core::{FileOffset, GuestAddress};
use guest_memory_mmap::{
    Backing, BackingKind, GuestRegionMmap, HugePageSize, MmapRegion, MmapRegionBuilder,
    MmapRegionError, Need, NumaNodes, NumaPolicy, Policies, Seals, Sharing, ShmObject,
};
use guest_memory_volatile::VolatileMemory;

use crate::backings::assert_round_trip;
use crate::files::{BIG_PAGE, errno, file_of};
use crate::mount::Mount;
use crate::pool::{TWO_MIB, pool_or_skip};

const ALL: i32 = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;

fn build(backing: Backing, size: usize) -> Result<MmapRegion, MmapRegionError> {
    MmapRegionBuilder::new(size).with_backing(backing).build()
}

fn memfd(name: &str, seals: Seals, huge_pages: Option<HugePageSize>) -> Backing {
    Backing::Memfd {
        name: name.to_owned(),
        seals,
        huge_pages,
    }
}

fn file(path: &Path, sharing: Sharing, grow: bool) -> Backing {
    Backing::File {
        path: path.to_owned(),
        offset: 0,
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

fn seals_of(region: &MmapRegion) -> i32 {
    let file = region.file_offset().expect("a file").file();
    // SAFETY: asks a question about an open descriptor.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) }
}

#[test]
fn anonymous_memory_is_private_or_shared() {
    for sharing in [Sharing::Private, Sharing::Shared] {
        let backing = Backing::Anonymous {
            sharing,
            huge_pages: None,
        };
        let region = build(backing, BIG_PAGE).unwrap();
        assert_round_trip(&region);
        assert_eq!(
            (region.backing(), region.sharing()),
            (BackingKind::Anonymous, sharing)
        );
        assert_eq!(region.page_size(), 4096);
    }
    assert_eq!(
        build(Backing::default(), 4096).unwrap().sharing(),
        Sharing::Private
    );
}

#[test]
fn a_memory_file_has_the_seals_that_were_asked_for() {
    let shrink_only = Seals {
        shrink: true,
        ..Seals::NONE
    };
    for (seals, bits) in [
        (Seals::default(), ALL),
        (Seals::NONE, 0),
        (shrink_only, libc::F_SEAL_SHRINK),
    ] {
        let region = build(memfd("seals", seals, None), BIG_PAGE).unwrap();
        assert_round_trip(&region);
        assert_eq!(region.backing(), BackingKind::Memfd);
        assert_eq!(seals_of(&region), bits);
        let file = region.file_offset().unwrap().file();
        for (len_bytes, is_refused) in [(2 * BIG_PAGE, seals.grow), (BIG_PAGE, seals.shrink)] {
            let resized = file.set_len(len_bytes as u64);
            // The first leaves the file as it is where it is refused, so that the second changes nothing.
            if is_refused && len_bytes > BIG_PAGE {
                assert_eq!(resized.unwrap_err().raw_os_error(), Some(libc::EPERM));
            }
        }
        if seals.shrink {
            let error = file.set_len(0).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        }
    }
    let region: MmapRegion = MmapRegionBuilder::new(BIG_PAGE)
        .with_memfd("default")
        .build()
        .unwrap();
    assert_eq!(seals_of(&region), ALL);
}

#[test]
fn a_given_memory_file_must_have_the_seals_that_are_required() {
    let open = build(memfd("open", Seals::NONE, None), BIG_PAGE).unwrap();
    let sealed = build(memfd("sealed", Seals::ALL, None), BIG_PAGE).unwrap();
    let given = |region: &MmapRegion| {
        let file = region.file_offset().unwrap().clone();
        MmapRegionBuilder::<()>::new(BIG_PAGE).with_file_offset(file)
    };
    let shrink = Seals {
        shrink: true,
        ..Seals::NONE
    };
    given(&sealed)
        .with_required_seals(Seals::ALL)
        .build()
        .unwrap();
    let error = given(&open)
        .with_required_seals(shrink)
        .build()
        .unwrap_err();
    assert_eq!(error.to_string(), "the file to map lacks seals: shrink");
    // An ordinary file has none at all.
    let ordinary = FileOffset::new(file_of(BIG_PAGE as u64), 0);
    let builder = MmapRegionBuilder::<()>::new(BIG_PAGE).with_file_offset(ordinary);
    let error = builder.with_required_seals(shrink).build().unwrap_err();
    assert!(matches!(error, MmapRegionError::SealsMissing { missing } if missing == shrink));
}

#[test]
fn a_given_file_grows_if_asked_and_a_sealed_one_says_why_not() {
    let file = file_of(100);
    let builder = |file: &File| {
        let file = FileOffset::new(file.try_clone().unwrap(), 4096);
        MmapRegionBuilder::<()>::new(BIG_PAGE).with_file_offset(file)
    };
    assert!(matches!(
        builder(&file).build().unwrap_err(),
        MmapRegionError::MappingPastEof { file_len: 100, .. }
    ));
    let region = builder(&file).with_file_growth().build().unwrap();
    assert_round_trip(&region);
    assert_eq!(file.metadata().unwrap().len(), 4096 + BIG_PAGE as u64);

    let sealed = build(memfd("full", Seals::ALL, None), BIG_PAGE).unwrap();
    let sealed = sealed.file_offset().unwrap().file();
    let error = builder(sealed).with_file_growth().build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot extend the file from 65536 to 69632 bytes; seals of the file: shrink, grow, seal"
    );
    assert_eq!(errno(&error), Some(libc::EPERM));
}

#[test]
fn a_file_by_path_is_made_extended_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ram");
    let error = build(file(&path, Sharing::Shared, false), BIG_PAGE).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot open {}", path.display()));
    assert_eq!(errno(&error), Some(libc::ENOENT));

    let region = build(file(&path, Sharing::Shared, true), BIG_PAGE).unwrap();
    assert_round_trip(&region);
    assert_eq!(
        (region.backing(), region.sharing()),
        (BackingKind::File, Sharing::Shared)
    );
    drop(region);
    assert_eq!(fs::metadata(&path).unwrap().len(), BIG_PAGE as u64);

    // What was written is there, also for a private mapping, whose writes stay away from the file.
    let region = build(file(&path, Sharing::Private, false), BIG_PAGE).unwrap();
    let slice = region.as_volatile_slice();
    assert_eq!(slice.read_obj::<u64>(0).unwrap(), 0x0123_4567_89ab_cdef);
    slice.write_obj(0u64, 0).unwrap();
    let mut word = [0; 8];
    File::open(&path)
        .unwrap()
        .read_exact_at(&mut word, 0)
        .unwrap();
    assert_eq!(u64::from_ne_bytes(word), 0x0123_4567_89ab_cdef);

    let error = build(file(&path, Sharing::Shared, false), 2 * BIG_PAGE).unwrap_err();
    assert!(matches!(error, MmapRegionError::MappingPastEof { .. }));
    let unaligned = Backing::File {
        path,
        offset: 100,
        sharing: Sharing::Shared,
        grow: true,
    };
    let error = build(unaligned, BIG_PAGE).unwrap_err();
    assert!(matches!(
        error,
        MmapRegionError::UnalignedFileOffset {
            file_offset: 100,
            ..
        }
    ));
}

#[test]
fn a_shared_memory_object_keeps_its_name_if_asked() {
    let name = format!("/guest-memory-object-{}", std::process::id());
    let path = format!("/dev/shm{name}");
    let error = build(shm(&name, ShmObject::Open), BIG_PAGE).unwrap_err();
    assert_eq!(errno(&error), Some(libc::ENOENT));
    assert!(error.to_string().contains(&name));

    let unlinked = build(shm(&name, ShmObject::CreateUnlinked), BIG_PAGE).unwrap();
    assert_round_trip(&unlinked);
    assert_eq!(
        (unlinked.backing(), unlinked.sharing()),
        (BackingKind::Shm, Sharing::Shared)
    );
    assert!(!Path::new(&path).exists());

    let kept = build(shm(&name, ShmObject::Create), BIG_PAGE).unwrap();
    let error = build(shm(&name, ShmObject::Create), BIG_PAGE).unwrap_err();
    assert_eq!(errno(&error), Some(libc::EEXIST));
    let peer = build(shm(&name, ShmObject::Open), BIG_PAGE).unwrap();
    kept.as_volatile_slice().write_obj(42u32, 64).unwrap();
    assert_eq!(peer.as_volatile_slice().read_obj::<u32>(64).unwrap(), 42);
    assert!(kept.fds_overlap(&peer) && !kept.fds_overlap(&unlinked));
    let error = build(shm(&name, ShmObject::Open), 2 * BIG_PAGE).unwrap_err();
    assert!(matches!(error, MmapRegionError::MappingPastEof { .. }));
    fs::remove_file(path).unwrap();

    let long = format!("/{}", "n".repeat(255));
    for bad in ["", "/", "no-slash", "/two/slashes", "/nul\0", long.as_str()] {
        let error = build(shm(bad, ShmObject::Create), BIG_PAGE).unwrap_err();
        assert!(
            matches!(
                error,
                MmapRegionError::SharedMemory {
                    operation: "use the name of",
                    ..
                }
            ),
            "{bad:?}: {error:?}"
        );
    }
}

#[test]
fn huge_pages_come_in_every_form() {
    let pool = pool_or_skip!(TWO_MIB, 4);
    let before = pool.free().unwrap();
    let pages = Some(HugePageSize::TwoMiB);
    for (backing, kind) in [
        (
            Backing::Anonymous {
                sharing: Sharing::Private,
                huge_pages: pages,
            },
            BackingKind::Anonymous,
        ),
        (
            Backing::Anonymous {
                sharing: Sharing::Shared,
                huge_pages: pages,
            },
            BackingKind::Anonymous,
        ),
        (memfd("huge", Seals::ALL, pages), BackingKind::Memfd),
    ] {
        let region = build(backing.clone(), 2 * TWO_MIB).unwrap();
        assert_eq!(pool.free().unwrap(), before - 2, "reserved when built");
        assert_round_trip(&region);
        assert_eq!(region.backing(), kind);
        assert_eq!(region.page_size(), TWO_MIB);
        assert_eq!(region.is_hugetlbfs(), Some(true));
        if kind == BackingKind::Memfd {
            assert_eq!(seals_of(&region), ALL);
        }
        drop(region);
        assert_eq!(pool.free().unwrap(), before);
        let error = build(backing.clone(), TWO_MIB + 4096).unwrap_err();
        assert!(matches!(
            error,
            MmapRegionError::SizeNotMultipleOfHugePage { .. }
        ));
        let error = build(backing, (before + 1) * TWO_MIB).unwrap_err();
        assert!(
            matches!(error, MmapRegionError::HugePagePool { .. }),
            "{error:?}"
        );
        assert_eq!(pool.free().unwrap(), before);
    }
}

#[test]
fn pages_of_one_gibibyte_come_in_every_form() {
    const ONE_GIB: usize = 1 << 30;
    let _pool = pool_or_skip!(ONE_GIB, 1);
    let pages = Some(HugePageSize::OneGiB);
    let anonymous = |sharing| Backing::Anonymous {
        sharing,
        huge_pages: pages,
    };
    for backing in [
        anonymous(Sharing::Private),
        anonymous(Sharing::Shared),
        memfd("huge", Seals::ALL, pages),
    ] {
        let region = build(backing, ONE_GIB).unwrap();
        assert_round_trip(&region);
        assert_eq!(region.page_size(), ONE_GIB);
        assert!(region.as_ptr().addr().is_multiple_of(ONE_GIB));
    }
}

#[test]
fn a_mounted_hugetlbfs_lends_its_pages() {
    let pool = pool_or_skip!(TWO_MIB, 2);
    let mount = match Mount::new() {
        Ok(mount) => mount,
        Err(error) => {
            println!("skipped: cannot mount a hugetlbfs: {error}");
            return;
        }
    };
    let backing = || Backing::HugetlbFile {
        directory: mount.path().to_owned(),
    };
    let before = pool.free().unwrap();
    let region = build(backing(), 2 * TWO_MIB).unwrap();
    assert_eq!(pool.free().unwrap(), before - 2);
    assert_round_trip(&region);
    assert_eq!(
        (region.backing(), region.page_size()),
        (BackingKind::HugetlbFile, TWO_MIB)
    );
    assert_eq!(
        fs::read_dir(mount.path()).unwrap().count(),
        0,
        "the file has no name"
    );
    drop(region);
    assert_eq!(pool.free().unwrap(), before);
    let error = build(backing(), 4096).unwrap_err();
    assert!(matches!(
        error,
        MmapRegionError::SizeNotMultipleOfHugePage { .. }
    ));
    let error = build(backing(), (before + 1) * TWO_MIB).unwrap_err();
    assert!(matches!(error, MmapRegionError::HugePagePool { .. }));

    // A file there that has a name.
    let path = mount.path().join("named");
    let region = build(file(&path, Sharing::Private, true), TWO_MIB).unwrap();
    assert_eq!(
        (region.page_size(), region.sharing()),
        (TWO_MIB, Sharing::Private)
    );
    assert_round_trip(&region);
}

#[test]
fn a_directory_elsewhere_is_no_hugetlbfs() {
    let folder = tempfile::tempdir().unwrap();
    let backing = Backing::HugetlbFile {
        directory: folder.path().to_owned(),
    };
    let error = build(backing, TWO_MIB).unwrap_err();
    assert!(matches!(error, MmapRegionError::NotHugetlbfs { .. }));
    let backing = Backing::HugetlbFile {
        directory: folder.path().join("missing"),
    };
    let error = build(backing, TWO_MIB).unwrap_err();
    assert_eq!(errno(&error), Some(libc::ENOENT));
}

// It asks for more than 32 bits can say.
#[cfg(target_pointer_width = "64")]
#[test]
fn huge_pages_of_a_size_that_the_system_lacks_are_refused_with_those_it_has() {
    let flags = libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_HUGETLB | libc::MAP_HUGE_16GB;
    let builder = MmapRegionBuilder::<()>::new(1 << 34).with_mmap_flags(flags);
    let error = builder.build().unwrap_err();
    let MmapRegionError::HugePagesUnsupported {
        page_size,
        supported,
    } = error
    else {
        panic!("unexpected {error:?}");
    };
    assert_eq!(page_size, 1 << 34);
    assert!(supported.is_sorted() && !supported.contains(&page_size));
}

#[test]
fn a_descriptor_without_reading_cannot_be_mapped() {
    let named = tempfile::NamedTempFile::new().unwrap();
    named.as_file().set_len(4096).unwrap();
    let write_only = File::options().write(true).open(named.path()).unwrap();
    let error = MmapRegion::<()>::from_file(FileOffset::new(write_only, 0), 4096).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the file to map was not opened for reading"
    );
}

#[test]
fn memory_that_is_taken_over_is_unmapped() {
    // SAFETY: no fixed address.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            BIG_PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(start, libc::MAP_FAILED);
    let is_mapped = || {
        // SAFETY: asks whether pages are mapped; changes nothing.
        let status = unsafe { libc::msync(start, BIG_PAGE, libc::MS_ASYNC) };
        status == 0
    };
    let builder = |bitmap: guest_memory_bitmap::AtomicBitmap| {
        let builder = MmapRegionBuilder::new_with_bitmap(BIG_PAGE, bitmap);
        // SAFETY: mapped above with this protection and left to the region if one is built.
        unsafe { builder.with_owned_mmap_pointer(start.cast()) }
    };
    let page = std::num::NonZeroUsize::new(4096).unwrap();
    let too_short = guest_memory_bitmap::AtomicBitmap::new(4096, page);
    let error = builder(too_short).build().unwrap_err();
    assert!(matches!(error, MmapRegionError::BitmapTooShort { .. }));
    assert!(is_mapped(), "the caller's if it could not be built");
    let nowhere = NumaPolicy::Bind(NumaNodes::default());
    let bitmap = guest_memory_bitmap::AtomicBitmap::new(BIG_PAGE, page);
    let refused = builder(bitmap).with_policies(Policies::new().with_numa(nowhere, Need::Required));
    let error = refused.build().unwrap_err();
    assert!(matches!(error, MmapRegionError::Policy(_)));
    assert!(is_mapped(), "nor if a policy does not hold");
    let bitmap = guest_memory_bitmap::AtomicBitmap::new(BIG_PAGE, page);
    let region = builder(bitmap).build().unwrap();
    assert!(region.owned());
    assert_eq!(region.backing(), BackingKind::External);
    region.as_volatile_slice().write_obj(3u8, 5).unwrap();
    drop(region);
    assert!(!is_mapped());
}

#[test]
fn options_that_contradict_a_backing_are_refused() {
    let backed = || MmapRegionBuilder::<()>::new(4096).with_backing(Backing::default());
    let file = FileOffset::new(file_of(4096), 0);
    for builder in [
        backed().with_memfd("x"),
        backed().with_huge_pages(HugePageSize::TwoMiB),
        backed().with_mmap_flags(libc::MAP_SHARED),
        backed().with_file_offset(file),
        backed().with_file_growth(),
        backed().with_required_seals(Seals::ALL),
    ] {
        let error = builder.build().unwrap_err();
        assert!(
            matches!(error, MmapRegionError::ConflictingOptions { .. }),
            "{error:?}"
        );
    }
}

#[test]
fn a_hypervisors_file_is_kept_beside_the_region() {
    let region = || {
        let mapping = MmapRegion::<()>::new(BIG_PAGE).unwrap();
        GuestRegionMmap::new(mapping, GuestAddress(0)).unwrap()
    };
    assert!(region().guest_memfd().is_none());
    let size = BIG_PAGE as u64;
    let file = FileOffset::new(file_of(2 * size), size);
    let with_file = region().with_guest_memfd(file).unwrap();
    assert_eq!(with_file.guest_memfd().unwrap().start(), size);
    for (len_bytes, start) in [(size - 1, 0), (size, 4096), (size, !4095)] {
        let file = FileOffset::new(file_of(len_bytes), start);
        let error = region().with_guest_memfd(file).unwrap_err();
        assert!(matches!(
            error,
            MmapRegionError::MappingPastEof { .. } | MmapRegionError::InvalidOffsetLength
        ));
    }
    let unaligned = FileOffset::new(file_of(2 * size), 7);
    assert!(matches!(
        region().with_guest_memfd(unaligned).unwrap_err(),
        MmapRegionError::UnalignedFileOffset { file_offset: 7, .. }
    ));
}
