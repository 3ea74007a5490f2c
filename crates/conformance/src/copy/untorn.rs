// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Aligned words under a writer.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use guest_memory_core::Bytes;

use super::Buffer;
use crate::config::Config;

/// Looks of the reader, for each length and alignment.
const LOOKS: usize = 3000;

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
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut buffer = Buffer::new(len + buffer_offset);
            let part = &mut buffer.bytes()[buffer_offset..][..len];
            let mut value = 0u8;
            // Relaxed: it only ends the race.
            while !is_over.load(Ordering::Relaxed) {
                value = value.wrapping_add(1);
                part.fill(value);
                subject
                    .write_slice(part, address(OFFSET as u64))
                    .map_err(|error| {
                        format!("the write returned {error:?}, expected it to succeed")
                    })?;
            }
            Ok(())
        });
        let read = || {
            let mut buffer = Buffer::new(len + buffer_offset);
            let part = &mut buffer.bytes()[buffer_offset..][..len];
            for _ in 0..LOOKS {
                subject
                    .read_slice(part, address(OFFSET as u64))
                    .map_err(|error| {
                        format!("the read returned {error:?}, expected it to succeed")
                    })?;
                for whole in part.chunks_exact(word) {
                    if whole.iter().any(|&byte| byte != whole[0]) {
                        return Err(format!(
                            "an aligned word of {word} bytes is {whole:02x?}, expected equal bytes: it was torn"
                        ));
                    }
                }
            }
            Ok(())
        };
        let reader = read();
        is_over.store(true, Ordering::Relaxed);
        let writer = writer.join();
        reader
            .and(writer.unwrap_or_else(|_| Err("the write panicked, expected it to return".into())))
    })
}
