// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The rows of the matrix: how each backing is made, and what must come of it.
#![expect(unsafe_code, reason = "hands over memory that the test mapped")]

use std::any::Any;
use std::fs::{self, File};
use std::path::Path;

use guest_memory_bitmap::AtomicBitmap;
use guest_memory_core::{FileOffset, GuestAddress};
use guest_memory_mmap::{
    Backing, BackingKind, DiscardMethod, HugePageSize, MmapRegionBuilder, Need, NumaNode,
    NumaPolicy, Policies, Seals, Sharing, ShmObject,
};

use crate::foreign::{Pages, memory_file};
use crate::guest_memfd;
use crate::mount::Mount;
use crate::pages::PAGE;
use crate::pool::TWO_MIB;
use crate::subject::{Discard, Expected, Others, Region, Skip, Subject, folder, nothing};

const ONE_GIB: usize = 1 << 30;
/// Size of regions of ordinary pages, in bytes.
const SMALL: usize = 1 << 20;
/// What the bytes of files are that are there before the region.
const CONTENT: u8 = 0x5a;
/// In the environment: a device of memory that a test may write to.
const DAX_DEVICE: &str = "GUEST_MEMORY_TEST_DAX";

/// A row of the matrix.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// Size of the pool's pages that it needs, in bytes, and how many.
    pub(crate) pool: Option<(usize, usize)>,
    pub(crate) make: fn() -> Result<Subject, Skip>,
}

/// Two pages for the region, and two for the copies of a forked child.
const SMALL_POOL: Option<(usize, usize)> = Some((TWO_MIB, 4));

pub(crate) const ROWS: &[Row] = &[
    row("anonymous private", None, || anonymous(Sharing::Private)),
    row("anonymous shared", None, || anonymous(Sharing::Shared)),
    row("memfd", None, memfd),
    row("memfd, 2 MiB pages", SMALL_POOL, || {
        huge_memfd(HugePageSize::TwoMiB, 2 * TWO_MIB)
    }),
    row("memfd, 1 GiB pages", Some((ONE_GIB, 1)), || {
        huge_memfd(HugePageSize::OneGiB, ONE_GIB)
    }),
    row("anonymous private, 2 MiB pages", SMALL_POOL, || {
        huge_anonymous(Sharing::Private)
    }),
    row("anonymous shared, 2 MiB pages", SMALL_POOL, || {
        huge_anonymous(Sharing::Shared)
    }),
    row("file on a hugetlbfs mount", SMALL_POOL, hugetlbfs),
    row("file shared", None, || file(Sharing::Shared)),
    row("file private", None, || file(Sharing::Private)),
    row("shared memory object", None, shm),
    row("memfd of somebody else", None, given),
    row("external memory", None, external),
    row("external memory, owned", None, external_owned),
    row("guest_memfd beside the region", None, beside_guest_memfd),
    row("guest_memfd mapped", None, mapped_guest_memfd),
    row("memory on NUMA node 1", None, on_node_1),
    row("dax device", None, dax),
];

const fn row(
    name: &'static str,
    pool: Option<(usize, usize)>,
    make: fn() -> Result<Subject, Skip>,
) -> Row {
    Row { name, pool, make }
}

/// What most backings have in common: zeroes, and a file that others map.
const ORDINARY: Expected = Expected {
    kind: BackingKind::Memfd,
    sharing: Sharing::Shared,
    page_size: PAGE,
    first_content: 0,
    others: Others::Mapping,
    discard: Discard::ZeroAndBlocks(DiscardMethod::PunchHole),
    has_guard_pages: true,
};

fn builder(size: usize) -> MmapRegionBuilder<AtomicBitmap> {
    MmapRegionBuilder::new(size)
}

fn subject(
    builder: MmapRegionBuilder<AtomicBitmap>,
    expected: Expected,
    keeper: Box<dyn Any>,
) -> Subject {
    let mapping = builder.build().expect("a region");
    let region = Region::new(mapping, GuestAddress(4 << 30)).expect("a place for it");
    Subject {
        region,
        expected,
        _keeper: keeper,
    }
}

fn backed(backing: Backing, size: usize, expected: Expected) -> Subject {
    subject(builder(size).with_backing(backing), expected, nothing())
}

fn anonymous(sharing: Sharing) -> Result<Subject, Skip> {
    let backing = Backing::Anonymous {
        sharing,
        huge_pages: None,
    };
    Ok(backed(backing, SMALL, without_a_file(sharing, PAGE)))
}

fn huge_anonymous(sharing: Sharing) -> Result<Subject, Skip> {
    let backing = Backing::Anonymous {
        sharing,
        huge_pages: Some(HugePageSize::TwoMiB),
    };
    Ok(backed(
        backing,
        2 * TWO_MIB,
        without_a_file(sharing, TWO_MIB),
    ))
}

fn without_a_file(sharing: Sharing, page_size: usize) -> Expected {
    let method = match sharing {
        Sharing::Private => DiscardMethod::DontNeed,
        Sharing::Shared => DiscardMethod::Remove,
    };
    Expected {
        kind: BackingKind::Anonymous,
        sharing,
        page_size,
        others: Others::Pointer,
        discard: Discard::Zero(method),
        ..ORDINARY
    }
}

fn memfd() -> Result<Subject, Skip> {
    let backing = Backing::Memfd {
        name: "matrix".to_owned(),
        seals: Seals::ALL,
        huge_pages: None,
    };
    Ok(backed(backing, SMALL, ORDINARY))
}

fn huge_memfd(page_size: HugePageSize, size: usize) -> Result<Subject, Skip> {
    let backing = Backing::Memfd {
        name: "matrix".to_owned(),
        seals: Seals::ALL,
        huge_pages: Some(page_size),
    };
    let expected = Expected {
        page_size: page_size.size_bytes(),
        ..ORDINARY
    };
    Ok(backed(backing, size, expected))
}

fn hugetlbfs() -> Result<Subject, Skip> {
    let mount = Mount::new()
        .map_err(|error| Skip::refused(format!("cannot mount a hugetlbfs: {error}")))?;
    let backing = Backing::HugetlbFile {
        directory: mount.path().to_owned(),
    };
    let expected = Expected {
        kind: BackingKind::HugetlbFile,
        page_size: TWO_MIB,
        ..ORDINARY
    };
    let builder = builder(2 * TWO_MIB).with_backing(backing);
    Ok(subject(builder, expected, Box::new(mount)))
}

fn file(sharing: Sharing) -> Result<Subject, Skip> {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("ram");
    fs::write(&path, vec![CONTENT; SMALL]).expect("a file");
    let (others, discard) = match sharing {
        Sharing::Shared => (Others::Mapping, ORDINARY.discard),
        Sharing::Private => {
            let writer = File::options().read(true).write(true).open(&path);
            (
                Others::Writer(writer.expect("the file")),
                Discard::FileContent,
            )
        }
    };
    let backing = Backing::File {
        path,
        offset: 0,
        sharing,
        grow: false,
    };
    let expected = Expected {
        kind: BackingKind::File,
        sharing,
        first_content: CONTENT,
        others,
        discard,
        ..ORDINARY
    };
    let builder = builder(SMALL).with_backing(backing);
    Ok(subject(builder, expected, folder(place)))
}

fn shm() -> Result<Subject, Skip> {
    let backing = Backing::Shm {
        name: format!("/guest-memory-matrix-{}", std::process::id()),
        object: ShmObject::CreateUnlinked,
    };
    let expected = Expected {
        kind: BackingKind::Shm,
        ..ORDINARY
    };
    Ok(backed(backing, SMALL, expected))
}

fn given() -> Result<Subject, Skip> {
    let start = 16 * PAGE;
    let file = FileOffset::new(memory_file(start + SMALL), start as u64);
    let expected = Expected {
        kind: BackingKind::File,
        ..ORDINARY
    };
    let builder = builder(SMALL).with_file_offset(file);
    Ok(subject(builder, expected, nothing()))
}

fn external() -> Result<Subject, Skip> {
    let pages = Pages::map(SMALL + 2 * PAGE, libc::MAP_SHARED);
    let builder = builder(SMALL).with_mmap_flags(libc::MAP_ANONYMOUS | libc::MAP_SHARED);
    // SAFETY: mapped readable and writable, with a page of ours on either side, until the subject has dropped its region.
    let builder = unsafe { builder.with_raw_mmap_pointer(pages.at(PAGE)) };
    let expected = Expected {
        kind: BackingKind::External,
        discard: Discard::Refused,
        has_guard_pages: false,
        ..without_a_file(Sharing::Shared, PAGE)
    };
    Ok(subject(builder, expected, Box::new(pages)))
}

fn external_owned() -> Result<Subject, Skip> {
    let pages = Pages::map(SMALL + 2 * PAGE, libc::MAP_PRIVATE);
    let builder = builder(SMALL).with_mmap_flags(libc::MAP_ANONYMOUS | libc::MAP_PRIVATE);
    // SAFETY: mapped readable and writable; what is between the ends is left to the region.
    let builder = unsafe { builder.with_owned_mmap_pointer(pages.at(PAGE)) };
    let expected = Expected {
        kind: BackingKind::External,
        has_guard_pages: false,
        // The library does not know what it is.
        discard: Discard::Refused,
        ..without_a_file(Sharing::Private, PAGE)
    };
    Ok(subject(builder, expected, Box::new(pages.into_ends())))
}

fn beside_guest_memfd() -> Result<Subject, Skip> {
    let file = guest_memfd::unmappable(SMALL)?;
    let Subject {
        region,
        expected,
        _keeper,
    } = memfd()?;
    let region = region
        .with_guest_memfd(FileOffset::new(file, 0))
        .expect("a file as long as the region");
    assert!(region.guest_memfd().is_some());
    Ok(Subject {
        region,
        expected,
        _keeper,
    })
}

fn mapped_guest_memfd() -> Result<Subject, Skip> {
    let file = FileOffset::new(guest_memfd::mappable(SMALL)?, 0);
    let expected = Expected {
        kind: BackingKind::File,
        // Its file system counts no blocks.
        discard: Discard::Zero(DiscardMethod::PunchHole),
        ..ORDINARY
    };
    let builder = builder(SMALL).with_file_offset(file);
    Ok(subject(builder, expected, nothing()))
}

fn on_node_1() -> Result<Subject, Skip> {
    if !Path::new("/sys/devices/system/node/node1").exists() {
        return Err(Skip::lacking("this machine has no NUMA node 1"));
    }
    let bound = NumaPolicy::Bind(NumaNode(1).into());
    let builder = builder(SMALL).with_policies(Policies::new().with_numa(bound, Need::Required));
    let expected = without_a_file(Sharing::Private, PAGE);
    Ok(subject(builder, expected, nothing()))
}

fn dax() -> Result<Subject, Skip> {
    let Some(path) = std::env::var_os(DAX_DEVICE) else {
        let reason = format!("{DAX_DEVICE} names no device, /dev/dax*, that may be overwritten");
        return Err(Skip::lacking(reason));
    };
    let backing = Backing::Dax {
        path: path.into(),
        offset: 0,
    };
    let mapping = builder(2 * TWO_MIB).with_backing(backing.clone()).build();
    let page_size = mapping.expect("a region of the device").page_size();
    let expected = Expected {
        kind: BackingKind::Dax,
        page_size,
        others: Others::Pointer,
        discard: Discard::Refused,
        ..ORDINARY
    };
    Ok(backed(backing, 2 * page_size, expected))
}
