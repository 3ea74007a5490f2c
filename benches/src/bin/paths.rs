// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The hot paths, each in a function of its own, to count their instructions and to read their assembly.
//!
//! `paths CASE COUNT` takes one path so often. The case `empty` calls a function that does nothing.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use guest_memory::atomic::GuestMemoryReader;
use guest_memory::bitmap::{AtomicBitmap, Bitmap};
use guest_memory::{
    Bytes, FlatGuestMemory, GuestAddress, GuestMemory, GuestMemoryMmap, GuestRegionMmap,
    IommuSession, SharedIotlb, VolatileSlice,
};
use guest_memory_benches::behind_iommu::{self, Device};
use guest_memory_benches::descriptor::Descriptor;
use guest_memory_benches::{failed, flat_memory, ours, places};

type Plain = GuestMemoryMmap<()>;
type Tracked = GuestMemoryMmap<AtomicBitmap>;
type Flat = FlatGuestMemory<()>;
type Reader = GuestMemoryReader<Plain>;
type Session<'a> = IommuSession<'a, Plain, SharedIotlb>;

/// Bytes of the memory, which is one region.
const MEMORY_LEN: usize = 64 << 10;

/// Where the accesses go: the start of a cache line in a page that is dirty.
const PLACE: GuestAddress = GuestAddress(0x1040);

/// Regions where there are many, bytes of each and from one's start to the next one's; and a place in the middle.
const REGION_COUNT: u64 = 512;
const REGION_LEN: usize = 4096;
const STRIDE: u64 = 2 * REGION_LEN as u64;
const PLACE_AMONG_MANY: GuestAddress = GuestAddress(REGION_COUNT / 2 * STRIDE + 0x40);

/// Bytes behind the IOMMU, and mappings of 4 KiB.
const MAPPED_LEN: usize = 64 << 10;
const MAPPING_COUNT: u64 = 16;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(case), Some(Ok(count))) = (arguments.next(), arguments.next().map(|it| it.parse()))
    else {
        eprintln!("usage: paths CASE COUNT");
        return ExitCode::from(2);
    };
    // All always made, so that all cases begin alike.
    let plain: Plain = ours::access::memory(&[(0, MEMORY_LEN)]);
    let tracked: Tracked = ours::access::memory(&[(0, MEMORY_LEN)]);
    let flat: Flat = flat_memory::flat(&[(0, MEMORY_LEN)]);
    let starts = (0..REGION_COUNT).map(|number| number * STRIDE);
    let ranges: Vec<_> = starts.map(|start| (start, REGION_LEN)).collect();
    let many: Plain = ours::access::memory(&ranges);
    let mut reader: Reader = ours::access::swappable(plain.clone()).reader();
    let mut device = Device::new(behind_iommu::memory(MAPPED_LEN, MAPPING_COUNT));
    let log = ours::dirty::bitmap(MEMORY_LEN);
    let window = plain
        .get_slice(GuestAddress(0), MEMORY_LEN)
        .unwrap_or_else(|_| failed());
    let mut buffer = [1; 64];
    match case.as_str() {
        "empty" => take(count, &plain, empty),
        "read_obj_u32" => take(count, &plain, read_obj_u32),
        "write_obj_u32" => take(count, &plain, |memory, at| write_obj_u32(memory, at, 1)),
        "read_obj_descriptor" => take(count, &plain, read_obj_descriptor),
        "load_u64" => take(count, &plain, load_u64),
        "read_slice_64" => take(count, &plain, |memory, at| {
            read_slice_64(memory, at, black_box(&mut buffer));
        }),
        "write_slice_64" => take(count, &plain, |memory, at| {
            write_slice_64(memory, at, black_box(&buffer));
        }),
        "tracked_write_obj_u64" => take(count, &tracked, |memory, at| {
            tracked_write_obj_u64(memory, at, 1);
        }),
        "mark_dirty_page" => take(count, &log, mark_dirty_page),
        "window_load_u16" => take(count, &window, window_load_u16),
        "window_store_u16" => take(count, &window, |window, at| window_store_u16(window, at, 1)),
        "reader_read_obj_u32" => take(count, &(), |(), at| {
            reader_read_obj_u32(black_box(&mut reader), at)
        }),
        "find_region_among_512" => take_at(PLACE_AMONG_MANY, count, &many, find_region_among_512),
        "iommu_hit_read_obj_u64" => take(count, &device.enter(), iommu_hit_read_obj_u64),
        "flat_read_obj_u32" => take(count, &flat, flat_read_obj_u32),
        "flat_write_obj_u32" => take(count, &flat, |memory, at| flat_write_obj_u32(memory, at, 1)),
        _ => {
            eprintln!("paths: no case {case}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Takes a path so often; neither memory nor address is known from the time before.
#[inline(always)]
fn take<'a, M, T>(count: u64, memory: &'a M, path: impl FnMut(&'a M, GuestAddress) -> T) {
    take_at(PLACE, count, memory, path);
}

#[inline(always)]
fn take_at<'a, M, T>(
    place: GuestAddress,
    count: u64,
    memory: &'a M,
    mut path: impl FnMut(&'a M, GuestAddress) -> T,
) {
    for _ in 0..count {
        black_box(path(black_box(memory), black_box(place)));
    }
}

#[inline(never)]
fn empty(_: &Plain, _: GuestAddress) {
    // Keeps the call.
    black_box(());
}

#[inline(never)]
fn read_obj_u32(memory: &Plain, at: GuestAddress) -> u32 {
    memory.read_obj(at).unwrap_or_else(|_| failed())
}

#[inline(never)]
fn write_obj_u32(memory: &Plain, at: GuestAddress, value: u32) {
    memory.write_obj(value, at).unwrap_or_else(|_| failed());
}

#[inline(never)]
fn read_obj_descriptor(memory: &Plain, at: GuestAddress) -> Descriptor {
    memory.read_obj(at).unwrap_or_else(|_| failed())
}

#[inline(never)]
fn load_u64(memory: &Plain, at: GuestAddress) -> u64 {
    memory
        .load(at, Ordering::Acquire)
        .unwrap_or_else(|_| failed())
}

#[inline(never)]
fn read_slice_64(memory: &Plain, at: GuestAddress, bytes: &mut [u8; 64]) {
    memory.read_slice(bytes, at).unwrap_or_else(|_| failed());
}

#[inline(never)]
fn write_slice_64(memory: &Plain, at: GuestAddress, bytes: &[u8; 64]) {
    memory.write_slice(bytes, at).unwrap_or_else(|_| failed());
}

#[inline(never)]
fn tracked_write_obj_u64(memory: &Tracked, at: GuestAddress, value: u64) {
    memory.write_obj(value, at).unwrap_or_else(|_| failed());
}

/// What a tracked write does after its data, where the page is dirty already.
#[inline(never)]
fn mark_dirty_page(log: &AtomicBitmap, at: GuestAddress) {
    log.mark_dirty(places::offset(at.0), 8);
}

/// What a device does to the index of a ring.
#[inline(never)]
fn window_load_u16(window: &VolatileSlice<'_>, at: GuestAddress) -> u16 {
    window
        .load(places::offset(at.0), Ordering::Acquire)
        .unwrap_or_else(|_| failed())
}

#[inline(never)]
fn window_store_u16(window: &VolatileSlice<'_>, at: GuestAddress, value: u16) {
    window
        .store(value, places::offset(at.0), Ordering::Release)
        .unwrap_or_else(|_| failed());
}

#[inline(never)]
fn reader_read_obj_u32(reader: &mut Reader, at: GuestAddress) -> u32 {
    reader.memory().read_obj(at).unwrap_or_else(|_| failed())
}

#[inline(never)]
fn find_region_among_512(memory: &Plain, at: GuestAddress) -> Option<&GuestRegionMmap<()>> {
    memory.find_region(at)
}

#[inline(never)]
fn iommu_hit_read_obj_u64(session: &Session<'_>, at: GuestAddress) -> u64 {
    session.read_obj(at).unwrap_or_else(|_| failed())
}

#[inline(never)]
fn flat_read_obj_u32(memory: &Flat, at: GuestAddress) -> u32 {
    memory.read_obj(at).unwrap_or_else(|_| failed())
}

#[inline(never)]
fn flat_write_obj_u32(memory: &Flat, at: GuestAddress, value: u32) {
    memory.write_obj(value, at).unwrap_or_else(|_| failed());
}
