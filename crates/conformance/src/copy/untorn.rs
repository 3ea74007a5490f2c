// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Aligned words under a writer: in copies, as objects and as atomics.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use guest_memory_core::Bytes;
use guest_memory_volatile::AtomicAccess;

use super::Buffer;
use crate::access::with_type;
use crate::bytes::Width;
use crate::config::Config;

/// Looks of the reader, for each length and alignment.
const LOOKS: usize = 3000;

/// Writes under these looks, at least.
const WRITES: usize = 300;

/// Where the word lies: aligned to eight, with memory before it.
const OFFSET: usize = 24;

/// Checks that words which one thread writes and another reads are never torn; `make` and `address` are those of
/// [`check`](super::check), and of `config` only the granule is used.
///
/// # Panics
///
/// As [`check`](super::check). What is looked for shows itself by chance: a word may be torn in a run that passes, but one that is
/// seen was torn.
///
/// # Examples
///
/// ```
/// use guest_memory_conformance::{Config, copy};
/// use guest_memory_core::{GuestAddress, MemoryRegionAddress};
/// use guest_memory_mmap::GuestRegionMmap;
///
/// copy::check_untorn(
///     Config::default(),
///     |len| GuestRegionMmap::<()>::from_range(GuestAddress(0), len, None).expect("mapped memory"),
///     MemoryRegionAddress,
/// );
/// ```
pub fn check_untorn<A, T>(
    config: Config,
    make: impl Fn(usize) -> T,
    address: impl Fn(u64) -> A + Sync,
) where
    T: Bytes<A> + Sync,
    T::E: Debug,
{
    for (word, len) in [(2, 2), (4, 4), (8, 8), (8, 64), (8, 200)] {
        for buffer_offset in [0, 1, 3] {
            let subject = make(config.round_up(OFFSET + len + 8));
            let told = race(&subject, &address, len, word, buffer_offset);
            if let Err(reason) = told {
                panic!(
                    "copy conformance: copies of {len} bytes at an aligned place, by way of a buffer at {buffer_offset} \
                     modulo 8: {reason}"
                );
            }
        }
    }
    for way in [Way::Object, Way::Atomic] {
        for width in [Width::Two, Width::Four, Width::Eight] {
            let subject = make(config.round_up(OFFSET + 16));
            let told = with_type!(width, T => values::<A, _, T>(&subject, &address, way));
            if let Err(reason) = told {
                panic!(
                    "copy conformance: {way:?} of {} bytes at an aligned place: {reason}",
                    width.size()
                );
            }
        }
    }
}

/// How one value goes in and out.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// `write_obj` and `read_obj`.
    Object,
    /// `store` and `load`.
    Atomic,
}

/// Writes a value of equal bytes again and again, always another one, and reads meanwhile; each that is read must have equal bytes.
fn values<A, S, T>(
    subject: &S,
    address: &(impl Fn(u64) -> A + Sync),
    way: Way,
) -> Result<(), String>
where
    S: Bytes<A> + Sync,
    S::E: Debug,
    T: AtomicAccess,
{
    let at = || address(OFFSET as u64);
    let put = |byte: u8| {
        let mut value = T::zeroed();
        value.as_mut_slice().fill(byte);
        let put = match way {
            Way::Object => subject.write_obj(value, at()),
            Way::Atomic => subject.store(value, at(), Ordering::Release),
        };
        put.map_err(|error| format!("the write returned {error:?}, expected it to succeed"))
    };
    let look = || {
        let value = match way {
            Way::Object => subject.read_obj::<T>(at()),
            Way::Atomic => subject.load::<T>(at(), Ordering::Acquire),
        };
        let value = value
            .map_err(|error| format!("the read returned {error:?}, expected it to succeed"))?;
        expect_equal(value.as_slice())
    };
    against_writer(put, look)
}

/// Calls `put` with one byte after the other in a thread of its own, and `look` meanwhile, so often that either comes between
/// two steps of the other also where one processor runs both.
fn against_writer(
    mut put: impl FnMut(u8) -> Result<(), String> + Send,
    mut look: impl FnMut() -> Result<(), String>,
) -> Result<(), String> {
    let (is_over, written) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut byte = 0u8;
            // Relaxed, like the count: it only paces the race.
            while !is_over.load(Ordering::Relaxed) {
                byte = byte.wrapping_add(1);
                put(byte)?;
                written.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let over = SetAtEnd(&is_over);
        let has_raced = || written.load(Ordering::Relaxed) >= WRITES || writer.is_finished();
        let mut looks = 0;
        let mut looked = Ok(());
        while looked.is_ok() && (looks < LOOKS || !has_raced()) {
            looked = look();
            looks += 1;
            if looks % 16 == 0 && !has_raced() {
                thread::yield_now();
            }
        }
        drop(over);
        let written = writer.join();
        looked.and(
            written.unwrap_or_else(|_| Err("the write panicked, expected it to return".into())),
        )
    })
}

/// Ends the race when it goes, also by a panic of the reader.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Checks that a word was seen whole.
fn expect_equal(word: &[u8]) -> Result<(), String> {
    if word.iter().all(|&byte| byte == word[0]) {
        return Ok(());
    }
    Err(format!(
        "an aligned word of {} bytes is {word:02x?}, expected equal bytes: it was torn",
        word.len()
    ))
}

/// Writes `len` equal bytes again and again, always others, and reads meanwhile; each word of `word` bytes that is read must have
/// equal bytes.
fn race<A, T>(
    subject: &T,
    address: &(impl Fn(u64) -> A + Sync),
    len: usize,
    word: usize,
    buffer_offset: usize,
) -> Result<(), String>
where
    T: Bytes<A> + Sync,
    T::E: Debug,
{
    let mut outgoing = Buffer::new(len + buffer_offset);
    let put = |byte: u8| {
        let part = &mut outgoing.bytes()[buffer_offset..][..len];
        part.fill(byte);
        let put = subject.write_slice(part, address(OFFSET as u64));
        put.map_err(|error| format!("the write returned {error:?}, expected it to succeed"))
    };
    let mut incoming = Buffer::new(len + buffer_offset);
    let look = || {
        let part = &mut incoming.bytes()[buffer_offset..][..len];
        let read = subject.read_slice(part, address(OFFSET as u64));
        read.map_err(|error| format!("the read returned {error:?}, expected it to succeed"))?;
        part.chunks_exact(word).try_for_each(expect_equal)
    };
    against_writer(put, look)
}
