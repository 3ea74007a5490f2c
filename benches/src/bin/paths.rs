// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The hot paths, each in a function of its own, to count their instructions and to read their assembly.
//!
//! `paths CASE COUNT` takes one path so often. The case `empty` calls a function that does nothing.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use guest_memory::bitmap::AtomicBitmap;
use guest_memory::{Bytes, FlatGuestMemory, GuestAddress, GuestMemoryMmap};
use guest_memory_benches::descriptor::Descriptor;
use guest_memory_benches::{failed, flat_memory, ours};

type Plain = GuestMemoryMmap<()>;
type Tracked = GuestMemoryMmap<AtomicBitmap>;
type Flat = FlatGuestMemory<()>;

/// Bytes of the memory, which is one region.
const MEMORY_LEN: usize = 64 << 10;

/// Where the accesses go: the start of a cache line in a page that is dirty.
const PLACE: GuestAddress = GuestAddress(0x1040);

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
    let buffer = [1; 64];
    match case.as_str() {
        "empty" => take(count, &plain, empty),
        "read_obj_u32" => take(count, &plain, read_obj_u32),
        "write_obj_u32" => take(count, &plain, |memory, at| write_obj_u32(memory, at, 1)),
        "read_obj_descriptor" => take(count, &plain, read_obj_descriptor),
        "load_u64" => take(count, &plain, load_u64),
        "write_slice_64" => take(count, &plain, |memory, at| {
            write_slice_64(memory, at, black_box(&buffer));
        }),
        "tracked_write_obj_u64" => take(count, &tracked, |memory, at| {
            tracked_write_obj_u64(memory, at, 1);
        }),
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
fn take<M, T>(count: u64, memory: &M, path: impl Fn(&M, GuestAddress) -> T) {
    for _ in 0..count {
        black_box(path(black_box(memory), black_box(PLACE)));
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
fn write_slice_64(memory: &Plain, at: GuestAddress, bytes: &[u8; 64]) {
    memory.write_slice(bytes, at).unwrap_or_else(|_| failed());
}

#[inline(never)]
fn tracked_write_obj_u64(memory: &Tracked, at: GuestAddress, value: u64) {
    memory.write_obj(value, at).unwrap_or_else(|_| failed());
}

#[inline(never)]
fn flat_read_obj_u32(memory: &Flat, at: GuestAddress) -> u32 {
    memory.read_obj(at).unwrap_or_else(|_| failed())
}

#[inline(never)]
fn flat_write_obj_u32(memory: &Flat, at: GuestAddress, value: u32) {
    memory.write_obj(value, at).unwrap_or_else(|_| failed());
}
