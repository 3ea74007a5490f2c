// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A page whose memory is broken, as an uncorrectable error leaves it: what accesses to it say.
#![expect(unsafe_code, reason = "has the kernel break a page")]

use std::env;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::atomic::Ordering;

use guest_memory::FaultKind::{Poisoned, System};
use guest_memory::bitmap::AtomicBitmap;
use guest_memory::mmap::{Prefault, PrefaultError, PrefaultReason};
use guest_memory::{
    Backing, Bytes, BytesExt, FaultKind, GuestAddress, GuestMemory, GuestMemoryError,
    GuestMemoryMmap, GuestMemoryRegion, GuestMemoryResult, GuestRegionCollection, GuestRegionMmap,
    MmapRegion, MmapRegionBuilder, fault as guard,
};

type Memory = GuestMemoryMmap<AtomicBitmap>;

/// The machine loses the pages until it is started again, so that a virtual machine must be meant to run these tests.
const CONSENT: &str = "GUEST_MEMORY_BREAKS_PAGES";
const PAGE: usize = 4096;
const PAGES: usize = 8;
const START: GuestAddress = GuestAddress(0x10_0000);
/// The page that is broken.
const BROKEN: GuestAddress = GuestAddress(START.0 + 3 * PAGE as u64);

fn before_it(bytes: usize) -> GuestAddress {
    GuestAddress(BROKEN.0 - bytes as u64)
}

/// Makes guest memory full of sevens and breaks a page of it, or says what is missing.
fn broken(backing: Backing) -> Result<Memory, String> {
    if env::var_os(CONSENT).is_none() {
        return Err(format!(
            "breaks pages for good, which {CONSENT}=1 consents to"
        ));
    }
    let region = MmapRegionBuilder::new(PAGES * PAGE).with_backing(backing);
    let region = GuestRegionMmap::new(region.build().unwrap(), START).unwrap();
    assert_eq!(region.page_size(), PAGE);
    let memory: Memory = GuestRegionCollection::from_regions(vec![region]).unwrap();
    memory.fill(7, START, PAGES * PAGE).unwrap();
    harvest(&memory);
    let page = memory.get_host_address(BROKEN).unwrap();
    // SAFETY: a page of the region above; what it held is not needed, and nothing refers to it.
    let done = unsafe { libc::madvise(page.cast(), PAGE, libc::MADV_HWPOISON) };
    if done != 0 {
        return Err(format!(
            "the kernel breaks no page: {}",
            std::io::Error::last_os_error()
        ));
    }
    guard::install().unwrap();
    Ok(memory)
}

macro_rules! broken_or_skip {
    ($backing:expr) => {
        match broken($backing) {
            Ok(memory) => memory,
            Err(reason) => {
                println!("skipped: {reason}");
                return;
            }
        }
    };
}

/// Returns the offsets of the pages that were written.
fn harvest(memory: &Memory) -> Vec<usize> {
    let region = memory.iter().next().unwrap();
    GuestMemoryRegion::bitmap(region)
        .harvest()
        .pages()
        .collect()
}

fn memory_file() -> Backing {
    Backing::Memfd {
        name: "broken".into(),
        seals: Default::default(),
        huge_pages: None,
    }
}

/// Returns address, count and kind of a fault; panics at anything else.
#[track_caller]
fn fault<T: std::fmt::Debug>(result: GuestMemoryResult<T>) -> (GuestAddress, usize, FaultKind) {
    match result {
        Err(GuestMemoryError::Fault {
            address,
            completed,
            kind,
        }) => (address, completed, kind),
        other => panic!("{other:?}"),
    }
}

/// The other pages work as before.
fn check_others(memory: &Memory) {
    for page in (0..PAGES).filter(|page| *page != 3) {
        let address = GuestAddress(START.0 + (page * PAGE) as u64);
        assert_eq!(memory.read_obj::<u8>(address).unwrap(), 7);
    }
}

fn accesses_are_faults_of_that_kind(backing: Backing) -> Result<(), String> {
    let memory = broken(backing)?;
    let at = GuestAddress(BROKEN.0 + 0x128);
    assert_eq!(fault(memory.read_obj::<u64>(at)), (at, 0, Poisoned));
    assert_eq!(fault(memory.read_obj::<u8>(BROKEN)), (BROKEN, 0, Poisoned));
    let order = Ordering::Relaxed;
    assert_eq!(fault(memory.load::<u32>(at, order)), (at, 0, Poisoned));
    assert_eq!(fault(memory.write_obj(1u64, at)), (at, 0, Poisoned));
    assert_eq!(fault(memory.store(1u32, at, order)), (at, 0, Poisoned));
    assert_eq!(fault(memory.fetch_add(1u32, at, order)), (at, 0, Poisoned));
    assert_eq!(fault(memory.fill(0, at, 100)), (at, 0, Poisoned));
    let message = memory.read_obj::<u8>(at).unwrap_err().to_string();
    assert!(message.contains("the page's memory is broken"), "{message}");
    check_others(&memory);
    Ok(())
}

#[test]
fn accesses_to_a_broken_page_are_faults_and_the_process_lives() {
    crate::machine::skip_without!(accesses_are_faults_of_that_kind(Backing::default()));
}

#[test]
fn accesses_to_a_broken_page_of_a_memory_file_are_faults() {
    crate::machine::skip_without!(accesses_are_faults_of_that_kind(memory_file()));
}

#[test]
fn a_copy_that_ends_in_a_broken_page_says_how_many_bytes_came() {
    let memory = broken_or_skip!(Backing::default());
    for before in [1, 8, 100, PAGE, 2 * PAGE + 5] {
        let mut bytes = vec![0; before + 1000];
        let told = fault(memory.read_slice(&mut bytes, before_it(before)));
        assert_eq!(told, (BROKEN, before, Poisoned));
        assert!(bytes[..before].iter().all(|byte| *byte == 7));
        assert!(bytes[before..].iter().all(|byte| *byte == 0));
    }
    assert!(harvest(&memory).is_empty());
    let told = fault(memory.write_slice(&[9; 1000], before_it(10)));
    assert_eq!(told, (BROKEN, 10, Poisoned));
    assert_eq!(harvest(&memory), [2]);
    let mut bytes = [0; 11];
    memory.read_slice(&mut bytes, before_it(11)).unwrap();
    assert_eq!(bytes, [7, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9]);
}

#[test]
fn a_stream_to_a_file_ends_before_a_broken_page() {
    let memory = broken_or_skip!(Backing::default());
    let mut file: File = tempfile::tempfile().unwrap();
    let told = fault(memory.write_all_volatile_to(before_it(600), &mut file, 1000));
    assert_eq!(told, (BROKEN, 600, System));
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, [7; 600]);
}

#[test]
fn prefault_of_a_broken_page_is_an_error_that_says_so() {
    let memory = broken_or_skip!(Backing::default());
    let region = memory.iter().next().unwrap();
    let error = region.prefault(&Prefault::new()).unwrap_err();
    let message = error.to_string();
    let PrefaultError::Populate {
        offset,
        length,
        done,
        reason,
        ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!((offset, length, done), (3 * PAGE, PAGE, 3 * PAGE));
    assert_eq!(reason, PrefaultReason::HardwareError);
    assert_eq!(
        message,
        "cannot populate 4096 bytes at offset 0x3000 of region 0: the page's memory is broken (12288 bytes done of 32768)"
    );
    check_others(&memory);
}

#[test]
fn discarding_a_broken_page_brings_a_new_one() {
    let memory = broken_or_skip!(Backing::default());
    let region = memory.iter().next().unwrap();
    region.discard(3 * PAGE, PAGE).unwrap();
    assert_eq!(harvest(&memory), [3]);
    assert_eq!(memory.read_obj::<u8>(BROKEN).unwrap(), 0);
    memory.write_obj(8u8, BROKEN).unwrap();
    assert_eq!(memory.read_obj::<u8>(BROKEN).unwrap(), 8);
    region.prefault(&Prefault::new()).unwrap();
    check_others(&memory);
}

/// A hole in the file takes the page out of the file; each process notes by itself that its page is broken.
#[test]
fn discarding_a_broken_page_of_a_memory_file_brings_a_new_one_to_other_mappings() {
    let memory = broken_or_skip!(memory_file());
    let region = memory.iter().next().unwrap();
    let map_again = || {
        let region = MmapRegion::from_file(region.file_offset().unwrap().clone(), PAGES * PAGE);
        let region = GuestRegionMmap::new(region.unwrap(), START).unwrap();
        Memory::from_regions(vec![region]).unwrap()
    };
    // The kernel remembers it in the file, so that a new mapping has it as well.
    let before = map_again();
    assert_eq!(fault(before.read_obj::<u8>(BROKEN)).1, 0);
    region.discard(3 * PAGE, PAGE).unwrap();
    assert_eq!(harvest(&memory), [3]);
    let after = map_again();
    assert_eq!(after.read_obj::<u8>(BROKEN).unwrap(), 0);
    after.write_obj(8u8, BROKEN).unwrap();

    let page = memory.get_host_address(BROKEN).unwrap();
    // SAFETY: a page of the memory file, which keeps what it holds; nothing refers to it.
    let done = unsafe { libc::madvise(page.cast(), PAGE, libc::MADV_DONTNEED) };
    assert_eq!(done, 0);
    assert_eq!(memory.read_obj::<u8>(BROKEN).unwrap(), 8);
    check_others(&memory);
}
