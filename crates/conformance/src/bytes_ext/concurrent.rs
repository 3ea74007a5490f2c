// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Read-modify-writes of two threads on one value.

use std::fmt::Debug;
use std::sync::Barrier;
use std::thread;

use guest_memory_core::BytesExt;

use super::SEQ;
use crate::access::{array, with_type};
use crate::bytes::Width;
use crate::config::{Config, expect_eq};

/// Changes that each of the two threads makes, of each kind; an even number.
const CHANGES: u16 = 1500;

/// Where the value lies: aligned to eight, with memory before it.
const OFFSET: u64 = 24;

/// Checks that no read-modify-write is lost where two threads change one value; `make` and `address` are those of
/// [`check`](super::check), and of `config` only the granule is used.
///
/// # Panics
///
/// As [`check`](super::check). What is looked for shows itself by chance: a change may be lost in a run that passes, but one that
/// was found lost was.
///
/// # Examples
///
/// ```
/// use guest_memory_conformance::{Config, bytes_ext};
/// use guest_memory_core::{GuestAddress, MemoryRegionAddress};
/// use guest_memory_mmap::GuestRegionMmap;
///
/// bytes_ext::check_concurrent(
///     Config::default(),
///     |len| GuestRegionMmap::<()>::from_range(GuestAddress(0), len, None).expect("mapped memory"),
///     MemoryRegionAddress,
/// );
/// ```
pub fn check_concurrent<A, T>(
    config: Config,
    make: impl Fn(usize) -> T,
    address: impl Fn(u64) -> A + Sync,
) where
    T: BytesExt<A> + Sync,
    T::E: Debug,
{
    let subject = make(config.round_up(64));
    let at = || address(OFFSET);
    for width in [Width::Two, Width::Four, Width::Eight] {
        let told = with_type!(width, W => {
            let put = |value: W| told(subject.store(value, at(), SEQ));
            let sum = || told(subject.load::<W>(at(), SEQ));
            let add = |_, _| told(subject.fetch_add::<W>(1, at(), SEQ)).map(drop);
            let exchange = |_, _| {
                let mut seen = sum()?;
                while let Err(found) = told(subject.compare_exchange(seen, seen + 1, at(), SEQ, SEQ))? {
                    seen = found;
                }
                Ok(())
            };
            // Each thread has a bit of its own, which must be as the thread left it: set after an odd number of changes.
            let bit_of = |thread| -> W { if thread == 0 { 1 } else { 2 } };
            let own = |what, before: Result<W, T::E>, thread, change: u16| {
                expect_eq(what, told(before)? & bit_of(thread) != 0, change % 2 == 1)
            };
            let toggle = |thread, change| {
                let before = subject.fetch_xor(bit_of(thread), at(), SEQ);
                own("a thread's own bit before fetch_xor", before, thread, change)
            };
            let set_and_clear = |thread, change| {
                let before = if change % 2 == 0 {
                    subject.fetch_or(bit_of(thread), at(), SEQ)
                } else {
                    subject.fetch_and(!bit_of(thread), at(), SEQ)
                };
                own("a thread's own bit before fetch_or or fetch_and", before, thread, change)
            };
            let all = W::from_le_bytes(array(&u64::from(2 * CHANGES).to_le_bytes()));
            put(0)
                .and_then(|()| together(&add))
                .and_then(|()| expect_eq("the sum of all fetch_add", sum()?, all))
                .and_then(|()| put(0))
                .and_then(|()| together(&exchange))
                .and_then(|()| expect_eq("the count of all compare_exchange that stored", sum()?, all))
                .and_then(|()| put(0))
                .and_then(|()| together(&toggle))
                .and_then(|()| expect_eq("the bits after an even number of fetch_xor", sum()?, 0))
                .and_then(|()| together(&set_and_clear))
                .and_then(|()| expect_eq("the bits that fetch_and cleared", sum()?, 0))
        });
        if let Err(reason) = told {
            panic!(
                "bytes_ext conformance: {} bytes that two threads change: {reason}",
                width.size()
            );
        }
    }
}

fn told<V, E: Debug>(result: Result<V, E>) -> Result<V, String> {
    result.map_err(|error| format!("returned {error:?}, expected it to succeed"))
}

/// Makes two threads change something again and again, beginning at the same time; each change is given the thread's number and
/// its own.
fn together(change: &(impl Fn(usize, u16) -> Result<(), String> + Sync)) -> Result<(), String> {
    let start = Barrier::new(2);
    thread::scope(|scope| {
        let threads = [0, 1].map(|number| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                (0..CHANGES).try_for_each(|which| {
                    if which % 16 == 0 {
                        // Where one processor runs both, the other one comes between two changes as well as into one.
                        thread::yield_now();
                    }
                    change(number, which)
                })
            })
        });
        let ended = threads.map(|thread| {
            let ended = thread.join();
            ended.unwrap_or_else(|_| Err("a change panicked, expected it to return".into()))
        });
        ended.into_iter().collect()
    })
}
