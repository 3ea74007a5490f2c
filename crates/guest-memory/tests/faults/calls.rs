// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Every call that touches guest bytes, as tables.

use std::io::Cursor;
use std::sync::atomic::Ordering::{Relaxed, Release, SeqCst};

use guest_memory::bitmap::{AtomicBitmap, BS};
use guest_memory::{
    Bytes, BytesExt, GuestAddress, GuestMemoryError, GuestMemoryResult, VolatileMemoryError,
    VolatileMemoryResult, VolatileSlice,
};

use crate::mapping::Memory;

pub(crate) type Slice<'a> = VolatileSlice<'a, BS<'a, AtomicBitmap>>;

/// A call by guest address.
pub(crate) struct AddressCall {
    pub(crate) name: &'static str,
    /// How many bytes it touches.
    pub(crate) len: usize,
    /// What its address must be a multiple of.
    pub(crate) alignment: usize,
    pub(crate) run: fn(&Memory, GuestAddress) -> GuestMemoryResult<()>,
}

impl AddressCall {
    /// Says whether it is one transfer of a stream, which ends with a short count where it comes to a page.
    pub(crate) fn is_one_transfer(&self) -> bool {
        ["read_volatile_from", "write_volatile_to"]
            .iter()
            .any(|form| self.name.starts_with(form))
    }
}

/// A call on a slice of just the bytes that it touches.
pub(crate) struct SliceCall {
    pub(crate) name: &'static str,
    pub(crate) len: usize,
    pub(crate) alignment: usize,
    pub(crate) run: fn(&Slice<'_>) -> VolatileMemoryResult<()>,
}

macro_rules! table {
    ($type:ident: $($name:literal, $len:expr, $alignment:expr => $run:expr;)+) => {
        &[$($type {
            name: $name,
            len: $len,
            alignment: $alignment,
            run: |memory, at| $run(memory, at).map(drop),
        }),+]
    };
    (on $type:ident: $($name:literal, $len:expr, $alignment:expr => $run:expr;)+) => {
        &[$($type {
            name: $name,
            len: $len,
            alignment: $alignment,
            run: |slice| $run(slice).map(drop),
        }),+]
    };
}

type M<'a> = &'a Memory;
type A = GuestAddress;
type S<'a, 'b> = &'a Slice<'b>;

/// Calls by guest address that do not read from memory into a stream.
const BY_ADDRESS: &[AddressCall] = table! { AddressCall:
    "write", 64, 1 => |m: M<'_>, a: A| m.write(&[1; 64], a);
    "write of 700 bytes", 700, 1 => |m: M<'_>, a: A| m.write(&[1; 700], a);
    "read", 64, 1 => |m: M<'_>, a: A| m.read(&mut [0; 64], a);
    "read of 700 bytes", 700, 1 => |m: M<'_>, a: A| m.read(&mut [0; 700], a);
    "write_slice", 24, 1 => |m: M<'_>, a: A| m.write_slice(&[2; 24], a);
    "write_slice of 4500 bytes", 4500, 1 => |m: M<'_>, a: A| m.write_slice(&[2; 4500], a);
    "read_slice", 24, 1 => |m: M<'_>, a: A| m.read_slice(&mut [0; 24], a);
    "read_slice of 4500 bytes", 4500, 1 => |m: M<'_>, a: A| m.read_slice(&mut [0; 4500], a);
    "write_obj::<u8>", 1, 1 => |m: M<'_>, a: A| m.write_obj(3u8, a);
    "write_obj::<u16>", 2, 1 => |m: M<'_>, a: A| m.write_obj(3u16, a);
    "write_obj::<u32>", 4, 1 => |m: M<'_>, a: A| m.write_obj(3u32, a);
    "write_obj::<u64>", 8, 1 => |m: M<'_>, a: A| m.write_obj(3u64, a);
    "write_obj::<u128>", 16, 1 => |m: M<'_>, a: A| m.write_obj(3u128, a);
    "read_obj::<u8>", 1, 1 => |m: M<'_>, a: A| m.read_obj::<u8>(a);
    "read_obj::<u16>", 2, 1 => |m: M<'_>, a: A| m.read_obj::<u16>(a);
    "read_obj::<u32>", 4, 1 => |m: M<'_>, a: A| m.read_obj::<u32>(a);
    "read_obj::<u64>", 8, 1 => |m: M<'_>, a: A| m.read_obj::<u64>(a);
    "read_obj::<u128>", 16, 1 => |m: M<'_>, a: A| m.read_obj::<u128>(a);
    "store u8", 1, 1 => |m: M<'_>, a: A| m.store(4u8, a, Relaxed);
    "store u16", 2, 2 => |m: M<'_>, a: A| m.store(4u16, a, Release);
    "store u32", 4, 4 => |m: M<'_>, a: A| m.store(4u32, a, SeqCst);
    "store u64", 8, 8 => |m: M<'_>, a: A| m.store(4u64, a, SeqCst);
    "load u8", 1, 1 => |m: M<'_>, a: A| m.load::<u8>(a, Relaxed);
    "load u16", 2, 2 => |m: M<'_>, a: A| m.load::<u16>(a, Relaxed);
    "load u32", 4, 4 => |m: M<'_>, a: A| m.load::<u32>(a, SeqCst);
    "load u64", 8, 8 => |m: M<'_>, a: A| m.load::<u64>(a, SeqCst);
    "swap u8", 1, 1 => |m: M<'_>, a: A| m.swap(4u8, a, SeqCst);
    "compare_exchange u32", 4, 4 => |m: M<'_>, a: A| m.compare_exchange(0u32, 4, a, SeqCst, SeqCst);
    "fetch_add u64", 8, 8 => |m: M<'_>, a: A| m.fetch_add(4u64, a, Relaxed);
    "fetch_and u16", 2, 2 => |m: M<'_>, a: A| m.fetch_and(4u16, a, SeqCst);
    "fetch_or i32", 4, 4 => |m: M<'_>, a: A| m.fetch_or(4i32, a, SeqCst);
    "fetch_xor i64", 8, 8 => |m: M<'_>, a: A| m.fetch_xor(4i64, a, SeqCst);
    "load_le u16", 2, 2 => |m: M<'_>, a: A| m.load_le::<u16>(a, Relaxed);
    "store_le u32", 4, 4 => |m: M<'_>, a: A| m.store_le(4u32, a, Release);
    "fill", 200, 1 => |m: M<'_>, a: A| m.fill(0, a, 200);
    "fill of 3000 bytes", 3000, 1 => |m: M<'_>, a: A| m.fill(6, a, 3000);
    "zero", 33, 1 => |m: M<'_>, a: A| m.zero(a, 33);
    "read_volatile_from bytes", 300, 1 =>
        |m: M<'_>, a: A| m.read_volatile_from(a, &mut &[5u8; 300][..], 300);
    "read_exact_volatile_from bytes", 300, 1 =>
        |m: M<'_>, a: A| m.read_exact_volatile_from(a, &mut &[5u8; 300][..], 300);
    "read_volatile_from a cursor", 300, 1 =>
        |m: M<'_>, a: A| m.read_volatile_from(a, &mut Cursor::new([5u8; 300]), 300);
    "read_exact_volatile_from a cursor", 300, 1 =>
        |m: M<'_>, a: A| m.read_exact_volatile_from(a, &mut Cursor::new([5u8; 300]), 300);
};

/// Calls by guest address that read from memory into a stream.
const INTO_STREAMS: &[AddressCall] = table! { AddressCall:
    "write_volatile_to bytes", 300, 1 =>
        |m: M<'_>, a: A| m.write_volatile_to(a, &mut &mut [0u8; 300][..], 300);
    "write_all_volatile_to bytes", 300, 1 =>
        |m: M<'_>, a: A| m.write_all_volatile_to(a, &mut &mut [0u8; 300][..], 300);
    "write_volatile_to a vector", 300, 1 =>
        |m: M<'_>, a: A| m.write_volatile_to(a, &mut Vec::new(), 300);
    "write_all_volatile_to a vector", 300, 1 =>
        |m: M<'_>, a: A| m.write_all_volatile_to(a, &mut Vec::new(), 300);
    "write_volatile_to a cursor", 300, 1 =>
        |m: M<'_>, a: A| m.write_volatile_to(a, &mut Cursor::new(&mut [0u8; 300][..]), 300);
    "write_all_volatile_to a cursor on a vector", 300, 1 =>
        |m: M<'_>, a: A| m.write_all_volatile_to(a, &mut Cursor::new(Vec::new()), 300);
};

/// Returns the calls by guest address.
pub(crate) fn by_address() -> impl Iterator<Item = &'static AddressCall> {
    BY_ADDRESS.iter().chain(INTO_STREAMS)
}

/// Calls on a slice.
pub(crate) const ON_SLICE: &[SliceCall] = table! { on SliceCall:
    "try_copy_to", 200, 1 => |s: S<'_, '_>| s.try_copy_to(&mut [0u8; 200]);
    "try_copy_from", 200, 1 => |s: S<'_, '_>| s.try_copy_from(&[6u8; 200]);
    "fill", 200, 1 => |s: S<'_, '_>| s.fill(0);
    "fill of 3000 bytes", 3000, 1 => |s: S<'_, '_>| s.fill(0);
    "zero", 33, 1 => |s: S<'_, '_>| s.zero();
    "try_copy_to_volatile_slice as source", 900, 1 => |s: S<'_, '_>| {
        let mut target = [0u8; 900];
        s.try_copy_to_volatile_slice(VolatileSlice::from(&mut target[..]))
    };
    "try_copy_to_volatile_slice as target", 900, 1 => |s: S<'_, '_>| {
        let mut source = [7u8; 900];
        VolatileSlice::from(&mut source[..]).try_copy_to_volatile_slice(*s)
    };
    "write_slice", 50, 1 => |s: S<'_, '_>| s.write_slice(&[1; 50], 0);
    "read_slice", 50, 1 => |s: S<'_, '_>| s.read_slice(&mut [0; 50], 0);
    "write_obj", 16, 1 => |s: S<'_, '_>| s.write_obj(1u128, 0);
    "read_obj", 16, 1 => |s: S<'_, '_>| s.read_obj::<u128>(0);
    "store", 8, 8 => |s: S<'_, '_>| s.store(1u64, 0, Release);
    "load", 8, 8 => |s: S<'_, '_>| s.load::<u64>(0, Relaxed);
    "swap u8", 1, 1 => |s: S<'_, '_>| s.swap(1u8, 0, SeqCst);
    "swap u64", 8, 8 => |s: S<'_, '_>| s.swap(1u64, 0, SeqCst);
    "compare_exchange u16", 2, 2 => |s: S<'_, '_>| s.compare_exchange(0u16, 1, 0, SeqCst, SeqCst);
    "compare_exchange u64", 8, 8 => |s: S<'_, '_>| s.compare_exchange(0u64, 1, 0, SeqCst, SeqCst);
    "fetch_add", 4, 4 => |s: S<'_, '_>| s.fetch_add(1u32, 0, SeqCst);
    "fetch_and", 8, 8 => |s: S<'_, '_>| s.fetch_and(1u64, 0, SeqCst);
    "fetch_or", 2, 2 => |s: S<'_, '_>| s.fetch_or(1u16, 0, SeqCst);
    "fetch_xor", 1, 1 => |s: S<'_, '_>| s.fetch_xor(1u8, 0, SeqCst);
};

/// Calls on a slice that end early at a byte that is not zero, so it must be all zero before.
pub(crate) const SEARCHES: &[SliceCall] = table! { on SliceCall:
    "is_zero", 200, 1 => |s: S<'_, '_>| s.is_zero();
    "is_zero of 5000 bytes", 5000, 1 => |s: S<'_, '_>| s.is_zero();
};

/// Returns address, count and kind of a fault; panics at anything else.
#[track_caller]
pub(crate) fn fault(
    name: &str,
    result: GuestMemoryResult<()>,
) -> (u64, usize, guest_memory::FaultKind) {
    match result {
        Err(GuestMemoryError::Fault {
            address,
            completed,
            kind,
        }) => (address.0, completed, kind),
        other => panic!("{name}: {other:?}"),
    }
}

/// As [`fault`], with an offset for the address.
#[track_caller]
pub(crate) fn slice_fault(
    name: &str,
    result: VolatileMemoryResult<()>,
) -> (usize, usize, guest_memory::FaultKind) {
    match result {
        Err(VolatileMemoryError::Fault {
            addr,
            completed,
            kind,
        }) => (addr, completed, kind),
        other => panic!("{name}: {other:?}"),
    }
}
