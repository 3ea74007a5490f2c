// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;

const LEN: usize = 64;

fn pattern() -> [u8; LEN] {
    core::array::from_fn(|index| index.to_le_bytes()[0] ^ 0x5a)
}

#[test]
fn every_length_and_alignment_arrives_and_nothing_else_changes() {
    for len in 0..=40 {
        for guest_at in 0..16 {
            for host_at in [0, 1, 3, 8] {
                let source = pattern();
                let mut target = [0xee_u8; LEN];
                // SAFETY: `at + len <= 56 < LEN` on both sides; local arrays nobody else uses.
                unsafe {
                    to_guest(
                        target[guest_at..].as_mut_ptr(),
                        source[host_at..].as_ptr(),
                        len,
                    );
                }
                let mut model = [0xee_u8; LEN];
                model[guest_at..guest_at + len].copy_from_slice(&source[host_at..host_at + len]);
                assert_eq!(
                    target, model,
                    "to guest: len {len} guest {guest_at} host {host_at}"
                );

                let mut back = [0xdd_u8; LEN];
                // SAFETY: as above.
                unsafe {
                    from_guest(
                        back[host_at..].as_mut_ptr(),
                        target[guest_at..].as_ptr(),
                        len,
                    );
                }
                let mut model = [0xdd_u8; LEN];
                model[host_at..host_at + len].copy_from_slice(&target[guest_at..guest_at + len]);
                assert_eq!(
                    back, model,
                    "from guest: len {len} guest {guest_at} host {host_at}"
                );
            }
        }
    }
}

#[test]
fn overlapping_guest_ranges_copy_as_if_read_first() {
    const SIZE: usize = 2048;
    for (from, to, len) in [
        (0, 0, SIZE),
        (0, 1, SIZE - 1),
        (1, 0, SIZE - 1),
        (0, 512, 1536),
        (512, 0, 1536),
        (7, 300, 1500),
        (300, 7, 1500),
        (5, 5, 0),
    ] {
        let mut memory: Vec<u8> = (0..SIZE)
            .map(|index| (index % 251).to_le_bytes()[0])
            .collect();
        let mut model = memory.clone();
        model.copy_within(from..from + len, to);
        let base = memory.as_mut_ptr();
        // SAFETY: within the vector.
        let source = unsafe { base.add(from) };
        // SAFETY: within the vector.
        let target = unsafe { base.add(to) };
        // SAFETY: `from + len` and `to + len` are at most SIZE; nobody else uses the vector.
        unsafe { guest_to_guest(target, source, len) };
        assert_eq!(memory, model, "{from} -> {to}, {len} bytes");
    }
}

#[test]
fn aligned_words_are_never_torn_whatever_the_host_alignment() {
    let word = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                word.store(0, Ordering::Relaxed);
                word.store(u64::MAX, Ordering::Relaxed);
            }
        });
        let _stop_at_end = Stop(&stop);
        let mut seen = [0usize; 2];
        for _ in 0..2_000_000 {
            let mut host = [0u8; 16];
            // SAFETY: the guest side is an atomic, which others may write; the host side is a
            // local, odd on purpose.
            unsafe { from_guest(host[1..].as_mut_ptr(), word.as_ptr().cast(), 8) };
            match u64::from_ne_bytes(host[1..9].try_into().expect("eight bytes")) {
                0 => seen[0] += 1,
                u64::MAX => seen[1] += 1,
                torn => panic!("torn word {torn:#x}"),
            }
        }
        assert!(seen[0] + seen[1] == 2_000_000);
    });
}

#[test]
fn guest_ranges_of_any_alignment_and_length_copy_exactly() {
    const SIZE: usize = 2200;
    for from in 0..9 {
        for to in [0, 1, 4, 7, 8, 500, 509, 516] {
            for len in [0, 1, 7, 8, 9, 503, 511, 512, 513, 520, 527, 1024, 1600] {
                let mut memory: Vec<u8> = (0..SIZE)
                    .map(|index| (index % 251).to_le_bytes()[0])
                    .collect();
                let mut model = memory.clone();
                model.copy_within(from..from + len, to);
                let base = memory.as_mut_ptr();
                // SAFETY: within the vector.
                let source = unsafe { base.add(from) };
                // SAFETY: within the vector.
                let target = unsafe { base.add(to) };
                // SAFETY: `from + len` and `to + len` are below SIZE; nobody else uses the vector.
                unsafe { guest_to_guest(target, source, len) };
                assert!(memory == model, "{from} -> {to}, {len} bytes");
            }
        }
    }
}

/// Lengths around the places where a long copy changes its way.
const LONG: [usize; 9] = [63, 79, 2047, 2048, 2120, 4096, 4109, 262_144, 300_007];

#[test]
fn long_copies_arrive_whole_at_every_alignment() {
    let source: Vec<u8> = (0..300_200u32)
        .map(|index| (index % 251).to_le_bytes()[0])
        .collect();
    for len in LONG {
        for guest_at in [0, 1, 4, 8, 15, 16, 40] {
            for host_at in [0, 1, 8, 16, 24, 48] {
                let mut target = vec![0xee_u8; len + 128];
                // SAFETY: `at + len` is within both vectors, which nobody else uses.
                unsafe {
                    to_guest(
                        target[guest_at..].as_mut_ptr(),
                        source[host_at..].as_ptr(),
                        len,
                    );
                }
                assert!(target[guest_at..guest_at + len] == source[host_at..host_at + len]);
                assert!(target[..guest_at].iter().all(|&byte| byte == 0xee));
                assert!(target[guest_at + len..].iter().all(|&byte| byte == 0xee));

                let mut back = vec![0xdd_u8; len + 128];
                // SAFETY: as above.
                unsafe {
                    from_guest(
                        back[host_at..].as_mut_ptr(),
                        source[guest_at..].as_ptr(),
                        len,
                    );
                }
                assert!(back[host_at..host_at + len] == source[guest_at..guest_at + len]);
                assert!(back[..host_at].iter().all(|&byte| byte == 0xdd));
                assert!(back[host_at + len..].iter().all(|&byte| byte == 0xdd));
            }
        }
    }
}

#[test]
fn a_long_copy_tears_no_aligned_word() {
    const LEN: usize = 4096;
    let words: Vec<AtomicU64> = (0..LEN / 8 + 2).map(|_| AtomicU64::new(0)).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for value in [0, u64::MAX] {
                    words
                        .iter()
                        .for_each(|word| word.store(value, Ordering::Relaxed));
                }
            }
        });
        let _stop_at_end = Stop(&stop);
        let mut host = vec![0u8; LEN + 64];
        for round in 0..6_000 {
            // Vectors into a misaligned buffer, the string copy into an aligned one.
            let host_at = [1, host.as_ptr().addr().wrapping_neg() % 64][round % 2];
            let guest_at = round / 2 % 8;
            let from = byte_at(&words, guest_at);
            // SAFETY: at most 7 and `LEN` bytes are within the words, which are atomics, and the buffer has room.
            unsafe { from_guest(host[host_at..].as_mut_ptr(), from, LEN) };
            let first_whole = (8 - guest_at) % 8;
            for bytes in host[host_at + first_whole..host_at + LEN].chunks_exact(8) {
                let is_whole = bytes == [0; 8] || bytes == [0xff; 8];
                assert!(is_whole, "torn word: {bytes:?}");
            }
        }
    });
}

#[test]
fn the_portable_bulk_copies_words() {
    use super::atoms::{FromGuest, ToGuest};
    use super::portable::{BULK_ALIGN, BULK_STEP, copy_bulk};

    let source: Vec<AtomicU64> = (0..64).map(|word| AtomicU64::new(word * 0x0101)).collect();
    assert_eq!(source.as_ptr().addr() % BULK_ALIGN, 0);
    for count in [1, 2, 63, 64] {
        let len = count * BULK_STEP;
        let mut host = vec![0u8; len + 1];
        // SAFETY: `len` bytes are within both; the guest's side is made of atomics and aligned.
        unsafe { copy_bulk::<FromGuest>(host[1..].as_mut_ptr(), byte_at(&source, 0), len) };
        let target: Vec<AtomicU64> = (0..64).map(|_| AtomicU64::new(0)).collect();
        // SAFETY: as above.
        unsafe { copy_bulk::<ToGuest>(byte_at(&target, 0), host[1..].as_ptr(), len) };
        for (number, (from, to)) in source.iter().zip(&target).enumerate() {
            let expected = if number < count {
                from.load(Ordering::Relaxed)
            } else {
                0
            };
            assert_eq!(to.load(Ordering::Relaxed), expected);
        }
    }
}

/// Ends the other thread's loop, also when this one fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Words of two guest ranges in one allocation, so that it is known which comes first.
struct Ranges {
    words: Vec<AtomicU64>,
    is_source_first: bool,
}

/// Words of each range.
const WORDS: usize = 160;

impl Ranges {
    fn new(is_source_first: bool) -> Self {
        let words = (0..2 * WORDS).map(|_| AtomicU64::new(0)).collect();
        Self {
            words,
            is_source_first,
        }
    }

    fn split(&self) -> (&[AtomicU64], &[AtomicU64]) {
        let (low, high) = self.words.split_at(WORDS);
        if self.is_source_first {
            (low, high)
        } else {
            (high, low)
        }
    }
}

/// Returns the address of the byte at `offset`, which must be within the words.
fn byte_at(words: &[AtomicU64], offset: usize) -> *mut u8 {
    assert!(offset < size_of_val(words));
    words.as_ptr().cast_mut().cast::<u8>().wrapping_add(offset)
}

#[test]
fn a_copy_between_guest_ranges_tears_no_aligned_word_of_the_source() {
    const LEN: usize = (WORDS - 1) * 8;
    for is_source_first in [true, false] {
        let ranges = Ranges::new(is_source_first);
        let (source, target) = ranges.split();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // All words flip between two values of equal bytes.
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for value in [0, u64::MAX] {
                        source
                            .iter()
                            .for_each(|word| word.store(value, Ordering::Relaxed));
                    }
                }
            });
            let _stop_at_end = Stop(&stop);
            for round in 0..4_000 {
                // Neither side starts at a word; only words that the copy holds whole are looked at.
                let shift = 1 + round % 7;
                let to = byte_at(target, round % 8);
                // SAFETY: at most 7 and `LEN` bytes are within both ranges, which are atomics that others
                // may write.
                unsafe { guest_to_guest(to, byte_at(source, shift), LEN) };
                for at in (8 - shift..LEN - 8).step_by(8) {
                    let mut bytes = [0u8; 8];
                    // SAFETY: eight bytes within the target; the host's side is a local.
                    unsafe { from_guest(bytes.as_mut_ptr(), to.wrapping_add(at), 8) };
                    let is_whole = bytes == [0; 8] || bytes == [0xff; 8];
                    assert!(is_whole, "torn source word: {bytes:?}");
                }
            }
        });
    }
}

#[test]
fn a_copy_between_guest_ranges_tears_no_aligned_word_of_the_target() {
    const LEN: usize = (WORDS - 1) * 8;
    for is_source_first in [true, false] {
        let ranges = Ranges::new(is_source_first);
        let (source, target) = ranges.split();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut loads = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    // The copy's first and last word need not be whole.
                    for word in &target[1..WORDS - 1] {
                        let value = word.load(Ordering::Relaxed);
                        let is_whole = value == 0 || value == u64::MAX;
                        assert!(is_whole, "torn target word: {value:#x}");
                        loads += 1;
                    }
                }
                loads
            });
            let stop_at_end = Stop(&stop);
            for round in 0..10_000 {
                let value = if round % 2 == 0 { 0 } else { u64::MAX };
                source
                    .iter()
                    .for_each(|word| word.store(value, Ordering::Relaxed));
                let from = byte_at(source, round / 2 % 8);
                let to = byte_at(target, 1 + round / 16 % 7);
                // SAFETY: at most 7 and `LEN` bytes are within both ranges.
                unsafe { guest_to_guest(to, from, LEN) };
            }
            drop(stop_at_end);
            assert!(watcher.join().expect("the watcher saw no torn word") > 0);
        });
    }
}
