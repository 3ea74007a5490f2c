// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Streams over many slices allocate nothing and make one system call.
#![cfg(all(feature = "mmap", target_os = "linux"))]
#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests may unwrap as tests do"
)]
#![expect(unsafe_code, reason = "counts allocations")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use guest_memory::bitmap::{
    AtomicBitmap, BS, DirtyLog, GuestDirtyPages, MemoryLog, NewBitmap, Readers,
};
use guest_memory::io::At;
use guest_memory::{
    Bytes, FlatGuestMemory, GuestAddress, GuestMemory, GuestMemoryMmap, GuestMemoryRegion,
    IoMemory, MemoryRegionAddress, MmapRegionBuilder, ReadVolatile, ReadVolatileAt, VolatileSlice,
    WriteVolatile, WriteVolatileAt,
};

/// Counts what the thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

// SAFETY: everything is the system's allocator's; the count beside it neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the same contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the same contract.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the same contract.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Says how often `action` allocates.
fn allocations(action: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    action();
    ALLOCATIONS.get() - before
}

/// Bytes of a segment.
const SEGMENT: usize = 96;

/// Bytes of a region.
const REGION: usize = 4096;

/// Memory of `regions` regions side by side from address 0 on.
fn memory<B: NewBitmap>(regions: usize) -> GuestMemoryMmap<B> {
    let ranges: Vec<_> = (0..regions)
        .map(|index| (GuestAddress((index * REGION) as u64), REGION))
        .collect();
    GuestMemoryMmap::from_ranges(&ranges).unwrap()
}

/// A file of so many bytes, and what is in it.
fn file(len: usize) -> (File, Vec<u8>) {
    let bytes: Vec<u8> = (1..=255).cycle().take(len).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    file.rewind().unwrap();
    (file, bytes)
}

/// Segments in memory of one region or several, every second stretch of it, as a descriptor chain may have them.
fn segments<B: NewBitmap, const N: usize>(
    memory: &GuestMemoryMmap<B>,
) -> [VolatileSlice<'_, BS<'_, B>>; N] {
    let per_region = REGION / (2 * SEGMENT);
    let regions: Vec<_> = memory.iter().collect();
    std::array::from_fn(|index| {
        let offset = (index % per_region * 2 * SEGMENT) as u64;
        regions[index / per_region]
            .get_slice(MemoryRegionAddress(offset), SEGMENT)
            .unwrap()
    })
}

fn segments_allocate_nothing<B: NewBitmap, const N: usize>() {
    let memory = memory::<B>(4);
    let mut segments: [_; N] = segments(&memory);
    let len = N * SEGMENT;
    let (file, bytes) = file(len);
    let (near, far) = UnixStream::pair().unwrap();
    let found = allocations(|| {
        let came = (&file).read_vectored_volatile(&mut segments);
        assert_eq!(came.unwrap(), len);
        let came = file.read_vectored_volatile_at(&mut segments, 0);
        assert_eq!(came.unwrap(), len);
        (&file).rewind().unwrap();
        (&file).read_exact_vectored_volatile(&mut segments).unwrap();
        file.read_exact_vectored_volatile_at(&mut segments, 0)
            .unwrap();
        let went = (&near).write_vectored_volatile(&segments);
        assert_eq!(went.unwrap(), len);
        (&far).read_exact_vectored_volatile(&mut segments).unwrap();
        let went = file.write_vectored_volatile_at(&segments, len as u64);
        assert_eq!(went.unwrap(), len);
        file.write_all_vectored_volatile_at(&segments, 0).unwrap();
        (&file).write_all_vectored_volatile(&segments).unwrap();
    });
    assert_eq!(found, 0, "{N} segments");
    let mut there = vec![0; len];
    for (segment, bytes) in segments.iter().zip(there.chunks_mut(SEGMENT)) {
        segment.read_slice(bytes, 0).unwrap();
    }
    assert_eq!(there, bytes);
}

#[test]
fn the_allocator_counts() {
    let found = allocations(|| drop(std::hint::black_box(Box::new(7u64))));
    assert_eq!(found, 1);
}

#[test]
fn sixteen_and_sixty_four_segments_allocate_nothing() {
    segments_allocate_nothing::<(), 16>();
    segments_allocate_nothing::<(), 64>();
    segments_allocate_nothing::<AtomicBitmap, 16>();
    segments_allocate_nothing::<AtomicBitmap, 64>();
}

fn regions_allocate_nothing<B: NewBitmap>(regions: usize) {
    let memory = memory::<B>(regions);
    let (addr, len) = (GuestAddress(100), regions * REGION - 200);
    let (file, bytes) = file(len);
    let (near, far) = UnixStream::pair().unwrap();
    let found = allocations(|| {
        let came = memory.read_volatile_from(addr, &mut &file, len).unwrap();
        assert_eq!(came, len);
        let mut start = At::new(&file, 0);
        memory
            .read_exact_volatile_from(addr, &mut start, len)
            .unwrap();
        // A part at a time, so that it stops within regions.
        let mut back = 0;
        while back < len {
            let here = GuestAddress(addr.0 + back as u64);
            let part = usize::min(1000, len - back);
            memory
                .write_all_volatile_to(here, &mut &near, part)
                .unwrap();
            back += memory
                .read_volatile_from(here, &mut &far, len - back)
                .unwrap();
        }
    });
    assert_eq!(found, 0, "{regions} regions");
    let mut there = vec![0; len];
    memory.read_slice(&mut there, addr).unwrap();
    assert_eq!(there, bytes);
}

#[test]
fn streams_over_several_regions_allocate_nothing() {
    for regions in [1, 3, 16, 40] {
        regions_allocate_nothing::<()>(regions);
        regions_allocate_nothing::<AtomicBitmap>(regions);
    }
}

#[test]
fn harvests_into_a_set_that_is_used_again_allocate_nothing() {
    let memory = memory::<AtomicBitmap>(3);
    harvests_allocate_nothing(&memory, MemoryLog::new(&memory));
    let builder = FlatGuestMemory::<AtomicBitmap>::builder(4 * REGION as u64);
    let flat = (0..3).fold(builder, |builder, index| {
        let start = GuestAddress(index * REGION as u64);
        builder.with_region(start, MmapRegionBuilder::new(REGION))
    });
    let flat = flat.build().unwrap();
    harvests_allocate_nothing(&flat, &flat);
}

fn harvests_allocate_nothing(memory: &impl IoMemory, log: impl DirtyLog<Pages = GuestDirtyPages>) {
    let readers = Readers::new(log);
    let (mut reader, mut other) = (readers.join(), readers.join());
    let (mut pages, mut unseen) = (GuestDirtyPages::default(), GuestDirtyPages::default());
    let mut round = |value: u8| {
        memory
            .write_obj(value, GuestAddress(REGION as u64))
            .unwrap();
        reader.harvest_into(&mut pages);
        other.harvest_into(&mut unseen);
        assert!(
            pages
                .ranges()
                .eq([(GuestAddress(REGION as u64), REGION as u64)])
        );
        assert_eq!(unseen, pages);
    };
    round(1);
    assert_eq!(allocations(|| round(2)), 0);
}

/// Names the file whose system calls are looked at.
const PROBE: &str = "GUEST_MEMORY_TRACED_FILE";

/// Makes the system calls that the test below looks at.
#[test]
#[ignore = "run under strace by `many_slices_are_one_system_call`"]
fn traced() {
    let path = std::env::var_os(PROBE).expect("run by another test");
    let mut file = File::options().read(true).write(true).open(path).unwrap();
    calls::<()>(&mut file);
    calls::<AtomicBitmap>(&mut file);
}

fn calls<B: NewBitmap>(file: &mut File) {
    let memory = memory::<B>(16);
    let mut many: [_; 64] = segments(&memory);
    let len = 64 * SEGMENT;
    assert_eq!(file.read_vectored_volatile(&mut many).unwrap(), len);
    file.read_exact_vectored_volatile_at(&mut many, 0).unwrap();
    file.write_all_vectored_volatile(&many).unwrap();
    file.write_all_vectored_volatile_at(&many, 0).unwrap();
    let (addr, len) = (GuestAddress(8), 16 * REGION - 16);
    let mut start = At::new(&*file, 0);
    let came = memory.read_volatile_from(addr, &mut start, len).unwrap();
    assert_eq!(came, len);
    memory.write_all_volatile_to(addr, file, len).unwrap();
    memory.read_exact_volatile_from(addr, file, 8).unwrap();
    file.rewind().unwrap();
}

#[test]
fn many_slices_are_one_system_call() {
    let directory = tempfile::tempdir().unwrap();
    let probe = directory.path().join("probe");
    std::fs::write(&probe, vec![1; 20 * REGION]).unwrap();
    let trace = directory.path().join("trace");
    if let Err(reason) = strace(&probe, &trace) {
        println!("skipped: {reason}");
        return;
    }
    let trace = std::fs::read_to_string(&trace).unwrap();
    let of_probe = trace
        .lines()
        .filter(|line| line.contains(&*probe.to_string_lossy()));
    // A line is the thread's number, the call, its arguments.
    let name = |line: &str| {
        let call = line.split_whitespace().nth(1)?;
        Some(call.split('(').next()?.to_owned())
    };
    let calls: Vec<_> = of_probe.filter_map(name).collect();
    let once = [
        "readv", "preadv", "writev", "pwritev", "preadv", "writev", "read",
    ];
    assert_eq!(calls, [once, once].concat(), "{trace}");
}

/// Runs `traced` under strace, or says why that cannot be.
fn strace(probe: &Path, trace: &Path) -> Result<(), String> {
    let calls = "trace=read,readv,pread64,preadv,preadv2,write,writev,pwrite64,pwritev,pwritev2";
    let output = Command::new("strace")
        .args(["-f", "-qq", "-y", "-e", calls, "-o"])
        .arg(trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "traced"])
        .env(PROBE, probe)
        .output()
        .map_err(|error| format!("no strace: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("ptrace") && !output.status.success() {
        return Err(format!("strace may not trace: {said}"));
    }
    let heard = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{heard}");
    Ok(())
}
