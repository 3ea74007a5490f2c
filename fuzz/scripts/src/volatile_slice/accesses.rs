// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Bytes and values by offset.

use std::fmt::Debug;
use std::ops::Deref;

use arbitrary::Arbitrary;
use guest_memory_volatile::{ByteValued, VolatileMemory};

use super::number::Number;
use super::types::{FILL, value, with_type};
use super::window::{Flaw, Kind, Twin, Window, settle, unless};
use crate::pattern::pattern;

/// An access as the fuzzer makes it.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Access {
    Write(Number, Buffer),
    Read(Number, Buffer),
    WriteSlice(Number, Buffer),
    ReadSlice(Number, Buffer),
    PokeSlice(Number, Buffer),
    PeekSlice(Number, Buffer),
    /// With a value of the type that the second number stands for.
    Object(Number, u8, OnObject),
}

/// A buffer of our own: how it is aligned, its length and its first byte.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct Buffer {
    skew: u8,
    len: Number,
    first: u8,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum OnObject {
    Write(u8),
    Read,
    Poke(u8),
    Peek,
    /// Through a window on the value.
    Store(u8),
    TryStore(u8),
    Load,
    TryLoad,
}

/// Longer buffers are cut.
const MAX_BUFFER: usize = 5000;

/// Bytes on both sides of a buffer that are watched.
const AROUND: usize = 16;

impl Access {
    /// Runs the access; returns its name and whether it succeeded.
    pub(super) fn run(self, window: &Window<'_>, twin: &mut Twin) -> (&'static str, bool) {
        let slice = &window.slice;
        match self {
            Access::Write(addr, buffer) => {
                let (addr, data) = (addr.of(window), buffer.data(window));
                write_part(twin, window, addr, &data);
                let expected = window.part(addr, data.len(), Kind::Write);
                ("write", settle(slice.write(&data, addr), expected))
            }
            Access::Read(addr, buffer) => {
                let addr = addr.of(window);
                let (found, len) = buffer.fill(window, addr, twin, |buf| slice.read(buf, addr));
                let expected = window.part(addr, len, Kind::Read);
                ("read", settle(found, expected))
            }
            Access::WriteSlice(addr, buffer) => {
                let (addr, data) = (addr.of(window), buffer.data(window));
                write_part(twin, window, addr, &data);
                let expected = window.whole(addr, data.len(), Kind::Write);
                (
                    "write_slice",
                    settle(slice.write_slice(&data, addr), expected),
                )
            }
            Access::ReadSlice(addr, buffer) => {
                let addr = addr.of(window);
                let read = |buf: &mut [u8]| slice.read_slice(buf, addr);
                let (found, len) = buffer.fill(window, addr, twin, read);
                let expected = window.whole(addr, len, Kind::Read);
                ("read_slice", settle(found, expected))
            }
            Access::PokeSlice(addr, buffer) => {
                let (addr, data) = (addr.of(window), buffer.data(window));
                let is_possible = window.flaws(addr, data.len(), Kind::Write).is_empty();
                if is_possible {
                    twin.write(window, addr, &data);
                }
                let found = slice.poke_slice(&data, addr);
                assert_eq!(found, is_possible, "poke_slice");
                ("poke_slice", found)
            }
            Access::PeekSlice(addr, buffer) => {
                let addr = addr.of(window);
                let mut buf = vec![FILL; buffer.len(window)];
                let found = slice.peek_slice(&mut buf, addr);
                let is_possible = window.flaws(addr, buf.len(), Kind::Read).is_empty();
                assert_eq!(found, is_possible, "peek_slice");
                if found {
                    assert_eq!(buf, twin.read(window, addr, buf.len()), "peek_slice");
                }
                ("peek_slice", found)
            }
            Access::Object(addr, of, call) => {
                let addr = addr.of(window);
                let succeeded = with_type!(of, T => object::<T>(window, addr, call, twin));
                (call.name(), succeeded)
            }
        }
    }
}

impl OnObject {
    fn name(self) -> &'static str {
        match self {
            OnObject::Write(_) => "write_obj",
            OnObject::Read => "read_obj",
            OnObject::Poke(_) => "poke",
            OnObject::Peek => "peek",
            OnObject::Store(_) => "VolatileRef::store",
            OnObject::TryStore(_) => "VolatileRef::try_store",
            OnObject::Load => "VolatileRef::load",
            OnObject::TryLoad => "VolatileRef::try_load",
        }
    }
}

impl Buffer {
    fn len(self, window: &Window<'_>) -> usize {
        self.len.of(window).min(MAX_BUFFER)
    }

    fn skew(self) -> usize {
        usize::from(self.skew) % AROUND
    }

    fn data(self, window: &Window<'_>) -> Data {
        let mut store = vec![0; self.skew()];
        store.extend(pattern(self.first, self.len(window)));
        Data {
            store,
            start: self.skew(),
        }
    }

    /// Runs a read that may be cut short into the buffer, and checks what is in it then. Returns what the read said
    /// and the buffer's length.
    fn fill<V>(
        self,
        window: &Window<'_>,
        addr: usize,
        twin: &Twin,
        read: impl FnOnce(&mut [u8]) -> V,
    ) -> (V, usize) {
        let (skew, len) = (self.skew(), self.len(window));
        let mut store = vec![FILL; skew + len + AROUND];
        let found = read(&mut store[skew..][..len]);
        let mut filled = vec![FILL; store.len()];
        let count = window.part(addr, len, Kind::Read).unwrap_or_default();
        filled[skew..][..count].copy_from_slice(twin.read(window, addr, count));
        assert!(store == filled, "{store:02x?} in and around the buffer");
        (found, len)
    }
}

/// What is written, at an alignment of the fuzzer's choice.
struct Data {
    store: Vec<u8>,
    start: usize,
}

impl Deref for Data {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.store[self.start..]
    }
}

/// Writes what there is room for.
fn write_part(twin: &mut Twin, window: &Window<'_>, addr: usize, data: &[u8]) {
    let count = window.part(addr, data.len(), Kind::Write);
    let count = count.unwrap_or_default();
    if count > 0 {
        twin.write(window, addr, &data[..count]);
    }
}

fn object<T: ByteValued + PartialEq + Debug>(
    window: &Window<'_>,
    addr: usize,
    call: OnObject,
    twin: &mut Twin,
) -> bool {
    let (slice, size) = (&window.slice, size_of::<T>());
    // Where there is one, a value is read from it; else that is an error anyway.
    let is_there = window.flaws(addr, size, Kind::Read).is_empty();
    let held = is_there.then(|| value::<T>(twin.read(window, addr, size)));
    let is_writable = window.flaws(addr, size, Kind::Write).is_empty();
    match call {
        OnObject::Write(first) => {
            let data = pattern(first, size);
            write_part(twin, window, addr, &data);
            let found = slice.write_obj(value::<T>(&data), addr);
            let expected = window.whole(addr, size, Kind::Write);
            settle(found, expected)
        }
        OnObject::Read => {
            let expected = window.whole(addr, size, Kind::Read);
            // Without bytes a value is at any offset.
            let held = held.unwrap_or_else(T::zeroed);
            let found = slice.read_obj::<T>(addr);
            settle(found, expected.map(|()| held))
        }
        OnObject::Poke(first) => {
            let data = pattern(first, size);
            if is_writable {
                twin.write(window, addr, &data);
            }
            let found = slice.poke(value::<T>(&data), addr);
            assert_eq!(found, is_writable, "poke");
            found
        }
        OnObject::Peek => {
            let found = slice.peek::<T>(addr);
            assert_eq!(found, held, "peek");
            found.is_some()
        }
        OnObject::Store(first) | OnObject::TryStore(first) => {
            let found = slice.get_ref::<T>(addr);
            let flaws = window.flaws(addr, size, Kind::Read);
            let Ok(reference) = &found else {
                return settle(found.map(drop), unless(flaws));
            };
            assert!(is_there, "get_ref");
            assert_eq!((reference.len(), reference.to_slice().len()), (size, size));
            // The window on the value does not know where it lies in the slice, and an empty one is never written.
            let is_refused = window.is_read_only && size > 0;
            let data = pattern(first, size);
            if !is_refused {
                twin.write(window, addr, &data);
            }
            if let OnObject::Store(_) = call {
                reference.store(value::<T>(&data));
                return !is_refused;
            }
            let stored = reference.try_store(value::<T>(&data));
            let expected = if is_refused {
                Err(vec![Flaw::ReadOnly(0)])
            } else {
                Ok(())
            };
            settle(stored, expected)
        }
        OnObject::Load | OnObject::TryLoad => {
            let found = slice.get_ref::<T>(addr);
            let flaws = window.flaws(addr, size, Kind::Read);
            let (Ok(reference), Some(held)) = (&found, held) else {
                return settle(found.map(drop), unless(flaws));
            };
            if let OnObject::Load = call {
                assert_eq!(reference.load(), held, "load");
                return true;
            }
            settle(reference.try_load(), Ok(held))
        }
    }
}
