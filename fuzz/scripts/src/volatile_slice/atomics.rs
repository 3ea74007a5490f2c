// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Atomic access by offset, through a window on the value, and by reference.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use arbitrary::Arbitrary;
use guest_memory_volatile::{AtomicAccess, AtomicInteger, LittleEndian, VolatileMemory};

use super::number::Number;
use super::types::{value, with_atomic};
use super::window::{Flaw, Kind, Twin, Window, settle, unless};

/// An atomic access as the fuzzer makes it.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct Atomic {
    addr: Number,
    /// Which integer it is.
    of: u8,
    order: Order,
    /// Whether the methods of a window on the value are called, not those of the slice.
    is_by_window: bool,
    call: Call,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Call {
    Load,
    Store(u64),
    CompareExchange {
        /// What is there if `None`.
        current: Option<u64>,
        new: u64,
    },
    Modify(Change, u64),
    /// Stores through a reference to an atomic.
    ByReference(u64),
    LoadLe,
    StoreLe(u64),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Change {
    Swap,
    Add,
    And,
    Or,
    Xor,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Order {
    Relaxed,
    Half,
    Full,
}

impl Order {
    fn of_load(self) -> Ordering {
        match self {
            Order::Relaxed => Ordering::Relaxed,
            Order::Half => Ordering::Acquire,
            Order::Full => Ordering::SeqCst,
        }
    }

    fn of_store(self) -> Ordering {
        match self {
            Order::Relaxed => Ordering::Relaxed,
            Order::Half => Ordering::Release,
            Order::Full => Ordering::SeqCst,
        }
    }

    fn of_both(self) -> Ordering {
        match self {
            Order::Relaxed => Ordering::Relaxed,
            Order::Half => Ordering::AcqRel,
            Order::Full => Ordering::SeqCst,
        }
    }
}

impl Change {
    fn apply(self, before: u64, with: u64) -> u64 {
        match self {
            Change::Swap => with,
            Change::Add => before.wrapping_add(with),
            Change::And => before & with,
            Change::Or => before | with,
            Change::Xor => before ^ with,
        }
    }
}

/// An integer as the lower bytes of a wide one.
trait Integer: AtomicAccess + PartialEq + Debug {
    fn cut(wide: u64) -> Self;
    fn wide(self) -> u64;
}

macro_rules! integers {
    ($($integer:ty)*) => {$(
        impl Integer for $integer {
            fn cut(wide: u64) -> Self {
                let bytes = wide.to_le_bytes();
                Self::from_le_bytes(std::array::from_fn(|index| bytes[index]))
            }

            fn wide(self) -> u64 {
                self.into()
            }
        }
    )*};
}

integers! { u8 u16 u32 u64 }

impl Atomic {
    /// Runs the access; returns its name and whether it succeeded.
    pub(super) fn run(self, window: &Window<'_>, twin: &mut Twin) -> (&'static str, bool) {
        let addr = self.addr.of(window);
        match (self.call, self.of % 3) {
            (Call::LoadLe | Call::StoreLe(_), 0) => self.run_le::<u16>(window, addr, twin),
            (Call::LoadLe | Call::StoreLe(_), 1) => self.run_le::<u32>(window, addr, twin),
            (Call::LoadLe | Call::StoreLe(_), _) => self.run_le::<u64>(window, addr, twin),
            _ if self.is_by_window => {
                with_atomic!(self.of, T, A => self.run_by_window::<T, A>(window, addr, twin))
            }
            _ => with_atomic!(self.of, T, A => self.run_by_slice::<T, A>(window, addr, twin)),
        }
    }

    fn run_le<T: Integer + LittleEndian>(
        self,
        window: &Window<'_>,
        addr: usize,
        twin: &mut Twin,
    ) -> (&'static str, bool) {
        let Cell { reads, writes } = Cell::<T>::of(window, addr, twin);
        let slice = &window.slice;
        if let Call::StoreLe(new) = self.call {
            let new = T::cut(new);
            if writes.is_ok() {
                let bytes = new.wide().to_le_bytes();
                twin.write(window, addr, &bytes[..size_of::<T>()]);
            }
            let found = slice.store_le(new, addr, self.order.of_store());
            return ("store_le", settle(found, writes.map(drop)));
        }
        let swapped = |held: T| {
            let mut bytes = [0; 8];
            bytes[..size_of::<T>()].copy_from_slice(held.as_slice());
            T::cut(u64::from_le_bytes(bytes))
        };
        let found = slice.load_le::<T>(addr, self.order.of_load());
        ("load_le", settle(found, reads.map(swapped)))
    }

    fn run_by_slice<T: Integer, A: AtomicInteger<V = T>>(
        self,
        window: &Window<'_>,
        addr: usize,
        twin: &mut Twin,
    ) -> (&'static str, bool) {
        let Cell { reads, writes } = Cell::<T>::of(window, addr, twin);
        let (slice, order) = (&window.slice, self.order);
        match self.call {
            Call::Load => {
                let found = slice.load::<T>(addr, order.of_load());
                ("load", settle(found, reads))
            }
            Call::Store(new) => {
                let expected = store(window, addr, twin, writes, T::cut(new));
                let found = slice.store(T::cut(new), addr, order.of_store());
                ("store", settle(found, expected.map(drop)))
            }
            Call::CompareExchange { current, new } => {
                let (current, new) = (current_of(current, &writes), T::cut(new));
                let expected = exchange(window, addr, twin, writes, current, new);
                let (success, failure) = (order.of_both(), order.of_load());
                let found = slice.compare_exchange(current, new, addr, success, failure);
                ("compare_exchange", settle(found, expected))
            }
            Call::Modify(change, with) => {
                let expected = modify(window, addr, twin, writes, change, with);
                let (with, order) = (T::cut(with), order.of_both());
                let found = match change {
                    Change::Swap => slice.swap(with, addr, order),
                    Change::Add => slice.fetch_add(with, addr, order),
                    Change::And => slice.fetch_and(with, addr, order),
                    Change::Or => slice.fetch_or(with, addr, order),
                    Change::Xor => slice.fetch_xor(with, addr, order),
                };
                ("read_modify_write", settle(found, expected))
            }
            Call::ByReference(new) => {
                let expected = store(window, addr, twin, writes, T::cut(new));
                let found = slice.get_atomic_ref::<A>(addr).map(|atomic| {
                    let before = atomic.load(order.of_load());
                    atomic.store(T::cut(new), order.of_store());
                    before
                });
                ("get_atomic_ref", settle(found, expected))
            }
            Call::LoadLe | Call::StoreLe(_) => unreachable!("these go another way"),
        }
    }

    fn run_by_window<T: Integer, A: AtomicInteger<V = T>>(
        self,
        window: &Window<'_>,
        addr: usize,
        twin: &mut Twin,
    ) -> (&'static str, bool) {
        let reference = window.slice.get_ref::<T>(addr);
        let flaws = window.flaws(addr, size_of::<T>(), Kind::Read);
        let Ok(reference) = &reference else {
            return (
                "VolatileRef::load_atomic",
                settle(reference.map(drop), unless(flaws)),
            );
        };
        assert_eq!(flaws, [], "get_ref");
        // Errors count from where the value starts.
        let mut window = *window;
        window.narrow(reference.to_slice(), addr, size_of::<T>());
        let window = &window;
        let Cell { reads, writes } = Cell::<T>::of(window, 0, twin);
        let order = self.order;
        match self.call {
            Call::Load => {
                let found = reference.load_atomic(order.of_load());
                ("VolatileRef::load_atomic", settle(found, reads))
            }
            Call::Store(new) => {
                let expected = store(window, 0, twin, writes, T::cut(new));
                let found = reference.store_atomic(T::cut(new), order.of_store());
                let succeeded = settle(found, expected.map(drop));
                ("VolatileRef::store_atomic", succeeded)
            }
            Call::CompareExchange { current, new } => {
                let (current, new) = (current_of(current, &writes), T::cut(new));
                let expected = exchange(window, 0, twin, writes, current, new);
                let (success, failure) = (order.of_both(), order.of_load());
                let found = reference.compare_exchange(current, new, success, failure);
                ("VolatileRef::compare_exchange", settle(found, expected))
            }
            Call::Modify(change, with) => {
                let expected = modify(window, 0, twin, writes, change, with);
                let (with, order) = (T::cut(with), order.of_both());
                let found = match change {
                    Change::Swap => reference.swap(with, order),
                    Change::Add => reference.fetch_add(with, order),
                    Change::And => reference.fetch_and(with, order),
                    Change::Or => reference.fetch_or(with, order),
                    Change::Xor => reference.fetch_xor(with, order),
                };
                ("VolatileRef::read_modify_write", settle(found, expected))
            }
            // There is no such method of a window on a value; that of its slice will do.
            _ => self.run_by_slice::<T, A>(window, 0, twin),
        }
    }
}

/// What an atomic access meets: the value, or why it must fail.
struct Cell<T> {
    reads: Result<T, Vec<Flaw>>,
    writes: Result<T, Vec<Flaw>>,
}

impl<T: Integer> Cell<T> {
    fn of(window: &Window<'_>, addr: usize, twin: &Twin) -> Self {
        let met = |kind| {
            unless(window.atomic_flaws(addr, size_of::<T>(), kind))
                .map(|()| value(twin.read(window, addr, size_of::<T>())))
        };
        Self {
            reads: met(Kind::Read),
            writes: met(Kind::Write),
        }
    }
}

/// Stores a value where one may be written; returns the one before.
fn store<T: Integer>(
    window: &Window<'_>,
    addr: usize,
    twin: &mut Twin,
    writes: Result<T, Vec<Flaw>>,
    new: T,
) -> Result<T, Vec<Flaw>> {
    let before = writes?;
    twin.write(window, addr, new.as_slice());
    Ok(before)
}

fn modify<T: Integer>(
    window: &Window<'_>,
    addr: usize,
    twin: &mut Twin,
    writes: Result<T, Vec<Flaw>>,
    change: Change,
    with: u64,
) -> Result<T, Vec<Flaw>> {
    let before = writes?;
    let new = T::cut(change.apply(before.wide(), with));
    store(window, addr, twin, Ok(before), new)
}

fn exchange<T: Integer>(
    window: &Window<'_>,
    addr: usize,
    twin: &mut Twin,
    writes: Result<T, Vec<Flaw>>,
    current: T,
    new: T,
) -> Result<Result<T, T>, Vec<Flaw>> {
    let before = writes?;
    if before != current {
        return Ok(Err(before));
    }
    store(window, addr, twin, Ok(before), new).map(Ok)
}

/// Returns the value that an exchange looks for.
fn current_of<T: Integer>(current: Option<u64>, held: &Result<T, Vec<Flaw>>) -> T {
    match (current, held) {
        (Some(current), _) => T::cut(current),
        (None, Ok(held)) => *held,
        (None, Err(_)) => T::zeroed(),
    }
}
