// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Every atomic operation for every integer: values, marks, refusals, threads.

use core::fmt::Debug;
use core::num::NonZeroUsize;
use std::thread;

use guest_memory_bitmap::{AtomicBitmap, Bitmap, RefSlice};

use super::*;
use crate::aligned::Aligned;
use crate::byte_valued::ByteValued;

const ORDERS: [Ordering; 5] = [
    Ordering::Relaxed,
    Ordering::Acquire,
    Ordering::Release,
    Ordering::AcqRel,
    Ordering::SeqCst,
];

const SEQ: Ordering = Ordering::SeqCst;

/// Bytes of the memory under test; values lie in the middle.
const LEN: usize = 32;

const AT: usize = 16;

/// What surrounds the value.
const AROUND: u8 = 0xa5;

/// Memory that is tracked byte by byte.
struct Tracked {
    words: Aligned<{ LEN / 8 }>,
    bitmap: AtomicBitmap,
}

impl Tracked {
    fn new() -> Self {
        Self {
            words: Aligned([u64::from_ne_bytes([AROUND; 8]); LEN / 8]),
            bitmap: AtomicBitmap::new(LEN, NonZeroUsize::MIN),
        }
    }

    /// Makes such memory with a value in the middle.
    fn of<T: AtomicAccess>(value: T) -> Self {
        let mut memory = Self::new();
        let bytes = VolatileSlice::from(ByteValued::as_mut_slice(&mut memory.words.0));
        bytes.write_obj(value, AT).expect("fits");
        memory
    }

    fn slice(&mut self) -> VolatileSlice<'_, RefSlice<'_, AtomicBitmap>> {
        let base = self.words.0.as_mut_ptr().cast();
        // SAFETY: the words are exclusively borrowed for as long as the slice.
        unsafe { VolatileSlice::with_bitmap(base, LEN, self.bitmap.slice_at(0), None) }
    }
}

/// Runs `change` on a value of `before` and checks what it returns, leaves behind and marks.
fn changes<T: AtomicAccess + PartialEq + Debug>(
    what: &str,
    before: T,
    after: T,
    change: impl Fn(&VolatileSlice<'_, RefSlice<'_, AtomicBitmap>>) -> Result<T>,
) {
    let mut memory = Tracked::of(before);
    let slice = memory.slice();
    assert_eq!(change(&slice).expect(what), before, "{what}: returned");
    assert_eq!(
        slice.read_obj::<T>(AT).expect("fits"),
        after,
        "{what}: left"
    );
    for offset in 0..LEN {
        let is_value = (AT..AT + size_of::<T>()).contains(&offset);
        let is_marked = slice.bitmap().dirty_at(offset);
        assert_eq!(is_marked, is_value, "{what}: mark at {offset}");
        let byte = slice.read_obj::<u8>(offset).expect("fits");
        assert!(is_value || byte == AROUND, "{what}: byte at {offset}");
    }
}

macro_rules! for_each_integer {
    ($check:ident) => {
        $check!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize)
    };
}

/// Values at the ends and in the middle of a type.
macro_rules! values {
    ($integer:ty) => {
        [
            0,
            1,
            2,
            <$integer>::MAX,
            <$integer>::MIN,
            <$integer>::MAX / 3,
            !(<$integer>::MAX / 3),
            <$integer>::MAX ^ 0x55,
        ]
    };
}

macro_rules! read_modify_writes {
    ($($integer:ty)*) => {$(
        for before in values!($integer) {
            for val in values!($integer) {
                for order in ORDERS {
                    let name = concat!("of ", stringify!($integer));
                    let what = |op| format!("{op} {name}: {before} {val} {order:?}");
                    changes(&what("swap"), before, val, |slice| slice.swap(val, AT, order));
                    let sum = before.wrapping_add(val);
                    changes(&what("add"), before, sum, |slice| slice.fetch_add(val, AT, order));
                    changes(&what("and"), before, before & val, |slice| slice.fetch_and(val, AT, order));
                    changes(&what("or"), before, before | val, |slice| slice.fetch_or(val, AT, order));
                    changes(&what("xor"), before, before ^ val, |slice| slice.fetch_xor(val, AT, order));
                }
            }
        }
    )*};
}

#[test]
fn a_read_modify_write_returns_the_old_value_leaves_the_new_and_marks_it_alone() {
    for_each_integer!(read_modify_writes);
}

macro_rules! stores_and_loads {
    ($($integer:ty)*) => {$(
        for value in values!($integer) {
            for order in [Ordering::Relaxed, Ordering::Release, SEQ] {
                let what = format!("store of {value} {order:?}");
                changes(&what, 0, value, |slice| slice.store(value, AT, order).map(|()| 0));
            }
            for order in [Ordering::Relaxed, Ordering::Acquire, SEQ] {
                let mut memory = Tracked::of(value);
                let slice = memory.slice();
                assert_eq!(slice.load::<$integer>(AT, order).expect("fits"), value);
                assert!((0..LEN).all(|offset| !slice.bitmap().dirty_at(offset)));
            }
        }
    )*};
}

#[test]
fn a_store_marks_its_value_and_a_load_nothing() {
    for_each_integer!(stores_and_loads);
}

macro_rules! exchanges {
    ($($integer:ty)*) => {$(
        for before in values!($integer) {
            for new in values!($integer) {
                for success in ORDERS {
                    for failure in [Ordering::Relaxed, Ordering::Acquire, SEQ] {
                        changes("exchange", before, new, |slice| {
                            let found = slice.compare_exchange(before, new, AT, success, failure)?;
                            Ok(found.expect("the value is the expected one"))
                        });
                    }
                }
                // Differs in the lowest bit, and in the highest.
                for current in [before ^ 1, before ^ <$integer>::MIN ^ (<$integer>::MAX / 2 + 1)] {
                    if current == before {
                        continue;
                    }
                    let mut memory = Tracked::of(before);
                    let slice = memory.slice();
                    let found = slice.compare_exchange(current, new, AT, SEQ, SEQ);
                    assert_eq!(found.expect("fits"), Err(before));
                    assert_eq!(slice.read_obj::<$integer>(AT).expect("fits"), before);
                    assert!((0..LEN).all(|offset| !slice.bitmap().dirty_at(offset)));
                }
            }
        }
    )*};
}

#[test]
fn an_exchange_stores_and_marks_if_the_value_is_the_expected_one() {
    for_each_integer!(exchanges);
}

/// Calls every operation on a `T` at `addr` and gives each error to `check`.
fn each_error<T: AtomicAccess + Default + Debug, B: BitmapSlice>(
    slice: &VolatileSlice<'_, B>,
    addr: usize,
    with_load: bool,
    check: impl Fn(Error) -> bool,
) {
    let zero = T::default;
    let mut results = vec![
        slice.store(zero(), addr, SEQ),
        slice
            .compare_exchange(zero(), zero(), addr, SEQ, SEQ)
            .map(drop),
        slice.swap(zero(), addr, SEQ).map(drop),
        slice.fetch_add(zero(), addr, SEQ).map(drop),
        slice.fetch_and(zero(), addr, SEQ).map(drop),
        slice.fetch_or(zero(), addr, SEQ).map(drop),
        slice.fetch_xor(zero(), addr, SEQ).map(drop),
    ];
    if with_load {
        results.push(slice.load::<T>(addr, SEQ).map(drop));
    }
    for (index, result) in results.into_iter().enumerate() {
        let error = result.expect_err("refused");
        let message = format!("operation {index} at {addr:#x}: {error:?}");
        assert!(check(error), "{message}");
    }
}

macro_rules! refusals {
    ($($integer:ty)*) => {$(
        let size = size_of::<$integer>();
        let mut memory = Tracked::new();
        let slice = memory.slice();
        for addr in (AT + 1)..(AT + size) {
            each_error::<$integer, _>(&slice, addr, true, |error| {
                matches!(error, Error::Misaligned { alignment, .. } if alignment == size)
            });
        }
        for addr in (LEN - size + 1)..=(LEN + size) {
            each_error::<$integer, _>(&slice, addr, true, |error| {
                matches!(error, Error::OutOfBounds { addr: end } if end == addr + size)
            });
        }
        each_error::<$integer, _>(&slice, usize::MAX - size + 1, true, |error| {
            matches!(error, Error::Overflow { .. })
        });
        each_error::<$integer, _>(&slice, usize::MAX, true, |error| {
            matches!(error, Error::Overflow { .. })
        });
        let rom = slice.clone().into_read_only();
        each_error::<$integer, _>(&rom, AT, false, |error| {
            matches!(error, Error::ReadOnly { addr: AT })
        });
        assert!(rom.load::<$integer>(AT, SEQ).is_ok());
        assert!((0..LEN).all(|offset| !slice.bitmap().dirty_at(offset)));
        assert!((0..LEN).all(|offset| slice.read_obj::<u8>(offset).expect("fits") == AROUND));
    )*};
}

#[test]
fn a_value_that_is_misaligned_or_outside_or_read_only_is_refused_and_nothing_changes() {
    for_each_integer!(refusals);
}

fn word(run: impl FnOnce(VolatileSlice<'_>)) {
    let mut words = Aligned([0; 2]);
    run(VolatileSlice::from(ByteValued::as_mut_slice(&mut words.0)));
}

#[test]
#[should_panic(expected = "a store does not acquire")]
fn a_store_that_acquires_panics() {
    word(|slice| drop(slice.store(1u32, 0, Ordering::Acquire)));
}

#[test]
#[should_panic(expected = "a store does not acquire")]
fn a_store_that_acquires_and_releases_panics() {
    word(|slice| drop(slice.store(1u8, 0, Ordering::AcqRel)));
}

#[test]
#[should_panic(expected = "a load does not release")]
fn a_load_that_releases_panics() {
    word(|slice| drop(slice.load::<u64>(0, Ordering::Release)));
}

#[test]
#[should_panic(expected = "a load does not release")]
fn a_load_that_acquires_and_releases_panics() {
    word(|slice| drop(slice.load::<u16>(0, Ordering::AcqRel)));
}

#[test]
#[should_panic(expected = "a failed exchange does not release")]
fn an_exchange_whose_failure_releases_panics() {
    word(|slice| drop(slice.compare_exchange(0u32, 1, 0, SEQ, Ordering::Release)));
}

#[test]
#[should_panic(expected = "a failed exchange does not release")]
fn an_exchange_whose_failure_acquires_and_releases_panics() {
    word(|slice| drop(slice.compare_exchange(0u32, 1, 0, SEQ, Ordering::AcqRel)));
}

const THREADS: usize = 4;
const ROUNDS: usize = if cfg!(miri) { 50 } else { 20_000 };

macro_rules! sums {
    ($($integer:ty)*) => {$(
        word(|slice| {
            thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        for _ in 0..ROUNDS {
                            slice.fetch_add::<$integer>(3, 8, Ordering::Relaxed).expect("fits");
                        }
                    });
                }
            });
            let mut expected: $integer = 0;
            for _ in 0..THREADS * ROUNDS {
                expected = expected.wrapping_add(3);
            }
            assert_eq!(slice.load::<$integer>(8, SEQ).expect("fits"), expected);
            let neighbours = slice.read_obj::<u64>(0).expect("fits");
            assert_eq!(neighbours, 0);
        });
    )*};
}

#[test]
fn no_addition_of_several_threads_is_lost() {
    for_each_integer!(sums);
}

#[test]
fn bits_of_one_word_change_independently_of_each_other() {
    word(|slice| {
        let slice = &slice;
        thread::scope(|scope| {
            for thread in 0..THREADS {
                scope.spawn(move || {
                    let bit = 1u8 << thread;
                    for round in 0..ROUNDS {
                        let before = slice.fetch_xor(bit, 3, SEQ).expect("fits");
                        assert_eq!(before & bit != 0, round % 2 == 1);
                        assert_eq!(
                            slice.fetch_or(bit, 3, SEQ).expect("fits") & bit != 0,
                            round % 2 == 0
                        );
                        if round % 2 == 1 {
                            slice.fetch_and(!bit, 3, SEQ).expect("fits");
                        }
                    }
                });
            }
        });
    });
}

#[test]
fn an_exchange_is_a_lock() {
    word(|slice| {
        let slice = &slice;
        let rounds = ROUNDS / 10;
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(move || {
                    for _ in 0..rounds {
                        while slice
                            .compare_exchange(0u32, 1, 4, Ordering::Acquire, Ordering::Relaxed)
                            .expect("fits")
                            .is_err()
                        {
                            thread::yield_now();
                        }
                        // Not atomic as a whole: the lock makes it so.
                        let count = slice.load::<u64>(8, Ordering::Relaxed).expect("fits");
                        slice.store(count + 1, 8, Ordering::Relaxed).expect("fits");
                        slice.store(0u32, 4, Ordering::Release).expect("fits");
                    }
                });
            }
        });
        let total = slice.load::<u64>(8, SEQ).expect("fits");
        assert_eq!(total, (THREADS * rounds) as u64);
    });
}
