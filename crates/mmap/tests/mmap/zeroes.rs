// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pages of zeroes are found, all others are not, and the search allocates nothing.
#![expect(unsafe_code, reason = "turns on swapping; takes a raw pointer")]

use std::ffi::CString;
use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::{fs, io};

use guest_memory_bitmap::Bitmap;
use guest_memory_core::FileOffset;
use guest_memory_mmap::{
    HugePageSize, MmapRegion, MmapRegionBuilder, Prefault, Protection, ResidencyError,
};
use guest_memory_volatile::VolatileMemory;
use proptest::prelude::*;

use crate::files::BIG_PAGE;
use crate::pool::{TWO_MIB, pool_or_skip};
use crate::sources::{SOURCES, Source};

const PAGES: usize = 16;
const SIZE: usize = PAGES * BIG_PAGE;

/// What is done to a page before the search.
#[derive(Clone, Copy, Debug)]
enum Page {
    Untouched,
    /// One byte written through the region.
    Written(usize),
    Zeroed,
    /// Its last byte read.
    Read,
    /// A byte written to the file, if there is one.
    InFile(usize),
    /// The same and then zeroes through the region.
    ZeroedOverFile,
}

fn pages() -> impl Strategy<Value = Vec<Page>> {
    let page = prop_oneof![
        3 => Just(Page::Untouched),
        1 => (0..BIG_PAGE).prop_map(Page::Written),
        1 => Just(Page::Zeroed),
        1 => Just(Page::Read),
        1 => (0..BIG_PAGE).prop_map(Page::InFile),
        1 => Just(Page::ZeroedOverFile),
    ];
    proptest::collection::vec(page, PAGES)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_pages_found_are_those_of_zeroes_in_memory_or_file(
        source in proptest::sample::select(&SOURCES[..]), pages in pages(),
        offset in 0..SIZE, length in 0..=SIZE,
    ) {
        let region = source.region(SIZE);
        let file = region.file_offset();
        let mut is_zero = [true; PAGES];
        for (index, page) in pages.iter().enumerate() {
            let at = index * BIG_PAGE;
            let slice = region.get_slice(at, BIG_PAGE).unwrap();
            if let (Page::InFile(byte), Some(file)) = (page, file) {
                file.file().write_all_at(&[1], file.start() + (at + byte) as u64).unwrap();
                is_zero[index] = false;
            }
            match page {
                Page::Written(byte) => {
                    slice.write_obj(1u8, *byte).unwrap();
                    is_zero[index] = false;
                }
                Page::Zeroed => slice.zero().unwrap(),
                Page::Read => prop_assert_eq!(slice.read_obj::<u8>(BIG_PAGE - 1).unwrap(), 0),
                Page::ZeroedOverFile => {
                    if let Some(file) = file {
                        file.file().write_all_at(&[1], file.start() + at as u64).unwrap();
                    }
                    slice.zero().unwrap();
                }
                Page::Untouched | Page::InFile(_) => {}
            }
        }
        let length = length.min(SIZE - offset);
        let resident = region.resident_bytes(0, SIZE).unwrap();
        let found = region.zero_ranges(offset, length).unwrap();
        if !source.is_private_file() && source != Source::SharedFile {
            prop_assert_eq!(region.resident_bytes(0, SIZE).unwrap(), resident, "nothing allocated");
        }
        for pair in found.windows(2) {
            prop_assert!(pair[0].end < pair[1].start, "{:?}", found);
        }
        // Of the model's large pages those wholly in the range, and no byte of others that are not zero.
        for (index, page) in pages.iter().enumerate() {
            let bytes = index * BIG_PAGE..(index + 1) * BIG_PAGE;
            let in_range = offset <= bytes.start && bytes.end <= offset + length;
            let is_found = found.iter().any(|range| range.start <= bytes.start && bytes.end <= range.end);
            // What was never touched of shared memory without a file cannot be told from what was swapped out.
            let is_known = source != Source::SharedAnonymous
                || !matches!(page, Page::Untouched | Page::InFile(_) | Page::Read);
            if in_range && is_known {
                prop_assert_eq!(is_found, is_zero[index], "{:?} {:?}", page, found);
            }
            prop_assert!(!is_found || (in_range && is_zero[index]), "{:?} {:?}", page, found);
        }
    }
}

#[test]
fn a_page_with_one_byte_is_found_out_wherever_it_is() {
    let region = MmapRegion::<()>::new(4 * 4096).unwrap();
    region.prefault(&Prefault::new()).unwrap();
    let slice = region.as_volatile_slice();
    assert_eq!(region.zero_ranges(0, 4 * 4096).unwrap(), vec![0..4 * 4096]);
    for at in [0, 1, 4095, 4096, 2 * 4096 + 2000, 4 * 4096 - 1] {
        slice.write_obj(1u8, at).unwrap();
        let found = region.zero_ranges(0, 4 * 4096).unwrap();
        assert!(!found.iter().any(|range| range.contains(&at)));
        slice.write_obj(0u8, at).unwrap();
    }
    // Whole pages only.
    assert!(region.zero_ranges(1, 4096).unwrap().is_empty());
    assert_eq!(region.zero_ranges(1, 2 * 4096).unwrap().len(), 1);
}

#[test]
fn a_closed_part_is_not_looked_at() {
    let mut region = Source::Anonymous.region(SIZE);
    region
        .set_protection(BIG_PAGE, BIG_PAGE, Protection::NoAccess)
        .unwrap();
    let error = region.zero_ranges(0, SIZE).unwrap_err();
    assert!(matches!(error, ResidencyError::NotReadable));
    let open = region.zero_ranges(2 * BIG_PAGE, BIG_PAGE).unwrap();
    assert_eq!(open, vec![2 * BIG_PAGE..3 * BIG_PAGE]);
}

#[test]
fn of_memory_of_somebody_else_only_what_is_there_is_known() {
    let owner = Source::PrivateFile.region_over_content(SIZE);
    // SAFETY: the owner lives longer, and its memory is read through slices only.
    let region = unsafe {
        MmapRegion::<()>::build_raw(
            owner.as_ptr(),
            SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        )
    }
    .unwrap();
    // The flags are not true: nothing but a look may be trusted.
    assert!(region.zero_ranges(0, SIZE).unwrap().is_empty());
    let zeroes = owner.get_slice(BIG_PAGE, BIG_PAGE).unwrap();
    zeroes.zero().unwrap();
    let found = region.zero_ranges(0, SIZE).unwrap();
    assert_eq!(found, vec![BIG_PAGE..2 * BIG_PAGE]);
}

#[test]
fn a_device_is_not_guessed_about() {
    let device = File::options().read(true).write(true).open("/dev/zero");
    let device = FileOffset::new(device.unwrap(), 0);
    let region = MmapRegion::<()>::from_file(device, SIZE).unwrap();
    assert!(region.zero_ranges(0, SIZE).unwrap().is_empty());
    let slice = region.get_slice(BIG_PAGE, BIG_PAGE).unwrap();
    slice.zero().unwrap();
    assert_eq!(
        region.zero_ranges(0, SIZE).unwrap(),
        vec![BIG_PAGE..2 * BIG_PAGE]
    );
}

#[test]
fn huge_pages_are_searched_without_a_page_of_the_pool() {
    let pool = pool_or_skip!(TWO_MIB, 2);
    let size = (pool.free().unwrap() + 4) * TWO_MIB;
    let flags = libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB;
    let new = || MmapRegionBuilder::<()>::new(size);
    let file = |sharing| {
        new()
            .with_huge_pages(HugePageSize::TwoMiB)
            .with_mmap_flags(sharing | libc::MAP_NORESERVE)
    };
    let anonymous = |sharing| new().with_mmap_flags(flags | sharing | libc::MAP_NORESERVE);
    for (builder, knows_untouched) in [
        (file(libc::MAP_SHARED), true),
        (file(libc::MAP_PRIVATE), true),
        (anonymous(libc::MAP_PRIVATE), true),
        (anonymous(libc::MAP_SHARED), false),
    ] {
        let region = builder.build().unwrap();
        let slice = region.as_volatile_slice();
        slice.write_obj(1u8, 2 * TWO_MIB - 1).unwrap();
        slice.write_obj(0u8, 3 * TWO_MIB).unwrap();
        let free = pool.free_pages().unwrap();
        let found = region.zero_ranges(0, size).unwrap();
        if knows_untouched {
            assert_eq!(found, [0..TWO_MIB, 2 * TWO_MIB..size]);
        } else {
            assert_eq!(found, vec![3 * TWO_MIB..4 * TWO_MIB]);
        }
        assert_eq!(pool.free_pages().unwrap(), free);
        // Those in use go back, but for what is no zero page.
        if region.flags() & libc::MAP_PRIVATE == 0 || region.file_offset().is_none() {
            assert_eq!(region.discard_zero_pages(0, size).unwrap(), TWO_MIB);
            assert_eq!(pool.free_pages().unwrap(), free + 1);
        }
    }
}

#[test]
fn a_huge_page_that_a_peer_wrote_is_no_zero_page() {
    let _pool = pool_or_skip!(TWO_MIB, 2);
    let builder = MmapRegionBuilder::<()>::new(2 * TWO_MIB);
    let region = builder.with_huge_pages(HugePageSize::TwoMiB).build();
    let region = region.unwrap();
    let file = region.file_offset().unwrap().arc().clone();
    let peer = MmapRegion::<()>::from_file(FileOffset::from_arc(file, 0), 2 * TWO_MIB).unwrap();
    let slice = peer.as_volatile_slice();
    slice.write_obj(1u8, 2 * TWO_MIB - 1).unwrap();
    assert_eq!(
        region.zero_ranges(0, 2 * TWO_MIB).unwrap(),
        vec![0..TWO_MIB]
    );
}

/// A file that the system swaps to, as long as this lives.
struct Swap {
    path: CString,
    _folder: tempfile::TempDir,
}

impl Swap {
    fn of(len_bytes: usize) -> Result<Self, String> {
        let text = |error: io::Error| error.to_string();
        let folder = tempfile::tempdir().map_err(text)?;
        let path = folder.path().join("swap");
        // What mkswap writes: a page with the version, the last page and, at its end, a signature.
        let mut head = vec![0; 4096];
        head[1024..1028].copy_from_slice(&1u32.to_ne_bytes());
        let last_page = u32::try_from(len_bytes / 4096 - 1).expect("few pages");
        head[1028..1032].copy_from_slice(&last_page.to_ne_bytes());
        head[4086..].copy_from_slice(b"SWAPSPACE2");
        let mut bytes = vec![0; len_bytes];
        bytes[..4096].copy_from_slice(&head);
        fs::write(&path, bytes).map_err(text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(text)?;
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(text)?;
        let path = CString::new(path.as_os_str().as_encoded_bytes()).expect("no zero in it");
        // SAFETY: the pointer is to a string that ends in a zero.
        match unsafe { libc::swapon(path.as_ptr(), 0) } {
            0 => Ok(Self {
                path,
                _folder: folder,
            }),
            _ => Err(format!("no swapping: {}", io::Error::last_os_error())),
        }
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        // SAFETY: the pointer is to a string that ends in a zero.
        let status = unsafe { libc::swapoff(self.path.as_ptr()) };
        if status != 0 {
            println!("cannot stop swapping: {}", io::Error::last_os_error());
        }
    }
}

const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;

/// Returns what `/proc/self/pagemap` says of the page at an offset.
fn page_table_entry(region: &MmapRegion<impl Bitmap>, offset: usize) -> u64 {
    // SAFETY: takes an integer, returns an integer.
    let page_size = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) });
    let page_size = page_size.expect("a page size");
    let page = (region.as_ptr().addr() + offset) / page_size;
    let mut entry = [0; 8];
    let page_table = File::open("/proc/self/pagemap").expect("the page table");
    let read = page_table.read_exact_at(&mut entry, page as u64 * 8);
    read.expect("an entry");
    u64::from_ne_bytes(entry)
}

#[test]
fn a_page_that_was_swapped_out_is_no_zero_page() {
    let _swap = match Swap::of(16 << 20) {
        Ok(swap) => swap,
        Err(reason) => {
            println!("skipped: {reason}");
            return;
        }
    };
    for source in [
        Source::Anonymous,
        Source::SharedAnonymous,
        Source::MemoryFile,
        Source::PrivateMemoryFile,
    ] {
        let region = source.region(SIZE);
        let used = region.get_slice(BIG_PAGE, BIG_PAGE).unwrap();
        used.fill(1).unwrap();
        // The pages may be on their way to the kernel's lists still, from where it takes them.
        let has_left = (0..100).any(|_| {
            // SAFETY: the range is the region's; its bytes stay as they are.
            let status = unsafe { libc::madvise(region.as_ptr().cast(), SIZE, libc::MADV_PAGEOUT) };
            assert_eq!(status, 0);
            let entry = page_table_entry(&region, BIG_PAGE);
            // Of shared memory the page table does not say where it went.
            let is_swapped = source == Source::SharedAnonymous
                || source == Source::MemoryFile
                || entry & SWAPPED != 0;
            entry & PRESENT == 0 && is_swapped
        });
        assert!(has_left, "{source:?}");
        let found = region.zero_ranges(0, SIZE).unwrap();
        assert!(
            !found.iter().any(|range| range.contains(&BIG_PAGE)),
            "{source:?}: {found:?}"
        );
        if source != Source::SharedAnonymous {
            assert_eq!(found, [0..BIG_PAGE, 2 * BIG_PAGE..SIZE], "{source:?}");
        }
    }
}
