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

/// Changes that each of the two threads makes, of each kind.
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
            let add = |_| told(subject.fetch_add::<W>(1, at(), SEQ)).map(drop);
            let exchange = |_| {
                let mut seen = sum()?;
                while let Err(found) = told(subject.compare_exchange(seen, seen + 1, at(), SEQ, SEQ))? {
                    seen = found;
                }
                Ok(())
            };
            // Each thread has a bit of its own, which must be as the thread left it.
            let bits = |thread| {
                let bit: W = if thread == 0 { 1 } else { 2 };
                let own = |what, before: Result<W, T::E>, was_set: bool| {
                    expect_eq(what, told(before)? & bit != 0, was_set)
                };
                own("a thread's own bit before fetch_or", subject.fetch_or(bit, at(), SEQ), false)?;
                own("a thread's own bit before fetch_xor", subject.fetch_xor(bit, at(), SEQ), true)?;
                own("a thread's own bit before fetch_xor", subject.fetch_xor(bit, at(), SEQ), false)?;
                own("a thread's own bit before fetch_and", subject.fetch_and(!bit, at(), SEQ), true)
            };
            let all = W::from_le_bytes(array(&u64::from(2 * CHANGES).to_le_bytes()));
            put(0)
                .and_then(|()| together(&add))
                .and_then(|()| expect_eq("the sum of all fetch_add", sum()?, all))
                .and_then(|()| put(0))
                .and_then(|()| together(&exchange))
                .and_then(|()| expect_eq("the count of all compare_exchange that stored", sum()?, all))
                .and_then(|()| put(0))
                .and_then(|()| together(&bits))
                .and_then(|()| expect_eq("the bits that all were cleared", sum()?, 0))
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

/// Makes two threads, each with its number, change something again and again, beginning at the same time.
fn together(change: &(impl Fn(usize) -> Result<(), String> + Sync)) -> Result<(), String> {
    let start = Barrier::new(2);
    thread::scope(|scope| {
        let threads = [0, 1].map(|number| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                (0..CHANGES).try_for_each(|_| change(number))
            })
        });
        let ended = threads.map(|thread| {
            let ended = thread.join();
            ended.unwrap_or_else(|_| Err("a change panicked, expected it to return".into()))
        });
        ended.into_iter().collect()
    })
}
