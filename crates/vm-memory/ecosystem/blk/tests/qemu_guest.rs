// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A Linux guest reads and writes a disk that this process serves; both sides compute the checksums.
#![expect(clippy::unwrap_used, reason = "tests may unwrap, in helpers too")]

#[path = "qemu/huge_pages.rs"]
mod huge_pages;
#[path = "qemu/initramfs.rs"]
mod initramfs;
#[path = "qemu/machine.rs"]
mod machine;
#[path = "qemu/recording.rs"]
mod recording;

use std::fs::{self, File};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use blk::{Device, FileDisk};
use initramfs::Parts;
use machine::MEMORY_MIB;
use recording::{Filled, Memory, Recording};
use vhost_user_backend::VhostUserDaemon;
use vm_memory::{GuestMemoryAtomic, GuestMemoryBackend};

const IMAGE_LEN_BYTES: u64 = 32 << 20;
const PATTERN_OFFSET: u64 = 8 << 20;
const PATTERN_LEN_BYTES: u64 = 2 << 20;
const ID: &str = "on-guest-memory";

/// One guest at a time: they are slow enough.
static ONE_GUEST: Mutex<()> = Mutex::new(());

#[test]
fn a_guest_in_shared_memory_reads_and_writes_the_disk() {
    let _alone = ONE_GUEST.lock().unwrap_or_else(PoisonError::into_inner);
    match Parts::find() {
        Ok(parts) => boot_and_compare(&parts, ""),
        Err(reason) => println!("skipped: {reason}"),
    }
}

#[test]
fn a_guest_in_huge_pages_reads_and_writes_the_disk() {
    let _alone = ONE_GUEST.lock().unwrap_or_else(PoisonError::into_inner);
    let parts = Parts::find();
    match parts.and_then(|parts| Ok((parts, huge_pages::Reserved::new(MEMORY_MIB / 2)?))) {
        Ok((parts, _reserved)) => boot_and_compare(&parts, ",hugetlb=on,hugetlbsize=2M"),
        Err(reason) => println!("skipped: {reason}"),
    }
}

fn boot_and_compare(parts: &Parts, memory_options: &str) {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("disk.img");
    write_image(&image);
    let before = parts.checksum(&image, 0, IMAGE_LEN_BYTES);
    let initramfs = parts.build_initramfs(directory.path());
    let socket = directory.path().join("disk.sock");

    let started = Instant::now();
    let device = serve(&image, &socket, || {
        let lines = machine::run(parts, &initramfs, &socket, memory_options);
        println!("the guest took {:.1} s", started.elapsed().as_secs_f64());
        compare(parts, &image, &before, &lines);
    });
    let filled = device.disk().take();
    assert!(!filled.is_empty());
    filled.iter().for_each(check_dirty_pages);
    let all: usize = filled.iter().map(|filled| filled.pages.len()).sum();
    assert!(
        all as u64 >= IMAGE_LEN_BYTES / 4096,
        "the guest read the whole disk, but only {all} pages were filled"
    );
}

/// Serves `image` on `socket` while `client` runs, and returns the device when the connection is closed.
fn serve(
    image: &Path,
    socket: &Path,
    client: impl FnOnce(),
) -> Arc<Device<blk::DirtyLog, Recording>> {
    blk::guard_faults().unwrap();
    let file = File::options().read(true).write(true).open(image).unwrap();
    let memory = GuestMemoryAtomic::new(Memory::new());
    let disk = Recording::new(FileDisk::new(file, ID).unwrap(), memory.clone());
    let device = Arc::new(Device::new(memory.clone(), disk));
    let mut daemon = VhostUserDaemon::new("blk".into(), Arc::clone(&device), memory).unwrap();
    let (ended, end) = mpsc::channel();
    let path = socket.to_owned();
    thread::spawn(move || ended.send(daemon.serve(path)));
    let deadline = Instant::now() + Duration::from_secs(10);
    while !socket.exists() {
        assert!(Instant::now() < deadline, "no socket");
        thread::sleep(Duration::from_millis(5));
    }
    client();
    end.recv_timeout(Duration::from_secs(10)).unwrap().unwrap();
    device
}

/// Fills the image with numbers that do not repeat.
fn write_image(image: &Path) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let bytes: Vec<u8> = (0..IMAGE_LEN_BYTES / 8)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect();
    fs::write(image, bytes).unwrap();
}

/// Compares what the guest said with what is in the image now.
fn compare(parts: &Parts, image: &Path, before: &str, lines: &[String]) {
    let said = |key: &str| {
        let prefix = format!("guest: {key}=");
        let line = lines.iter().find_map(|line| line.strip_prefix(&prefix));
        line.unwrap_or_else(|| panic!("the guest said no {key}"))
            .to_owned()
    };
    let after = parts.checksum(image, 0, IMAGE_LEN_BYTES);
    let pattern = parts.checksum(image, PATTERN_OFFSET, PATTERN_LEN_BYTES);
    let last_page = parts.checksum(image, IMAGE_LEN_BYTES - 4096, 4096);
    println!("host: before={before}");
    println!("host: pattern={pattern}");
    println!("host: after={after}");
    assert_eq!(said("id"), ID);
    assert_eq!(said("sectors"), (IMAGE_LEN_BYTES / 512).to_string());
    assert_eq!(said("before"), before);
    assert_eq!(said("pattern"), pattern);
    assert_eq!(said("after"), after);
    assert_ne!(before, after);
    assert_eq!(last_page, parts.checksum(image, PATTERN_OFFSET, 4096));
}

/// Every page that the disk has filled is marked, and beside them few: those with rings, statuses and the disk's name.
fn check_dirty_pages(filled: &Filled) {
    let mut dirty = 0;
    let mut total = 0;
    for (index, region) in filled.memory.iter().enumerate() {
        let pages = region.bitmap().pages();
        total += pages.len();
        dirty += (0..pages.len())
            .filter(|&page| pages.is_bit_set(page))
            .count();
        for &(_, page) in filled.pages.iter().filter(|(of, _)| *of == index) {
            assert!(
                pages.is_bit_set(page),
                "page {page} of region {index} was filled, but is clean"
            );
        }
    }
    let beside = dirty - filled.pages.len();
    println!(
        "dirty: {dirty} of {total} pages; {} filled from the disk, {beside} beside them",
        filled.pages.len()
    );
    assert!(beside > 0, "the used ring is written, too");
    assert!(beside <= 256, "{beside} pages are dirty without reason");
}
