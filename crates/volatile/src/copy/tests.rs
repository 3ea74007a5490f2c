// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::aligned::Aligned;
use crate::byte_valued::ByteValued;

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
                    )
                }
                .expect("no fault");
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
                    )
                }
                .expect("no fault");
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
fn a_value_of_16_bytes_is_read_and_written_at_every_alignment() {
    let source: [u8; 16] = core::array::from_fn(|index| index.to_le_bytes()[0] ^ 0x5a);
    for guest_at in 0..16 {
        let mut memory = Aligned([u64::MAX; 4]);
        let bytes = ByteValued::as_mut_slice(&mut memory.0);
        let at = bytes[guest_at..].as_mut_ptr();
        // SAFETY: `guest_at + 16 < 32`; a local array that nobody else uses. An array of bytes has no padding.
        unsafe { write(at, source) }.expect("no fault");
        // SAFETY: as above; any bytes are an array of bytes.
        let read_back = unsafe { read::<[u8; 16]>(at) };
        assert_eq!(read_back.expect("no fault"), source, "at {guest_at}");
        let mut model = [0xff; 32];
        model[guest_at..guest_at + 16].copy_from_slice(&source);
        assert_eq!(ByteValued::as_slice(&memory.0), model, "at {guest_at}");
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
        unsafe { guest_to_guest(target, source, len) }.expect("no fault");
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
            unsafe { from_guest(host[1..].as_mut_ptr(), word.as_ptr().cast(), 8) }
                .expect("no fault");
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
                unsafe { guest_to_guest(target, source, len) }.expect("no fault");
                assert!(memory == model, "{from} -> {to}, {len} bytes");
            }
        }
    }
}

/// Lengths around the places where a long copy changes its way.
const LONG: [usize; 9] = [63, 79, 127, 128, 136, 511, 512, 4109, 300_007];

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
                    )
                }
                .expect("no fault");
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
                    )
                }
                .expect("no fault");
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
            // Into a misaligned buffer and an aligned one.
            let host_at = [1, host.as_ptr().addr().wrapping_neg() % 64][round % 2];
            let guest_at = round / 2 % 8;
            let from = byte_at(&words, guest_at);
            // SAFETY: at most 7 and `LEN` bytes are within the words, which are atomics, and the buffer has room.
            unsafe { from_guest(host[host_at..].as_mut_ptr(), from, LEN) }.expect("no fault");
            let first_whole = (8 - guest_at) % 8;
            for bytes in host[host_at + first_whole..host_at + LEN].chunks_exact(8) {
                let is_whole = bytes == [0; 8] || bytes == [0xff; 8];
                assert!(is_whole, "torn word: {bytes:?}");
            }
        }
    });
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
                unsafe { guest_to_guest(to, byte_at(source, shift), LEN) }.expect("no fault");
                for at in (8 - shift..LEN - 8).step_by(8) {
                    let mut bytes = [0u8; 8];
                    // SAFETY: eight bytes within the target; the host's side is a local.
                    unsafe { from_guest(bytes.as_mut_ptr(), to.wrapping_add(at), 8) }
                        .expect("no fault");
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
        let is_watched = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // The copy's first and last word need not be whole.
                    for word in &target[1..WORDS - 1] {
                        let value = word.load(Ordering::Relaxed);
                        let is_whole = value == 0 || value == u64::MAX;
                        assert!(is_whole, "torn target word: {value:#x}");
                    }
                    is_watched.store(true, Ordering::Relaxed);
                }
            });
            let stop_at_end = Stop(&stop);
            let is_over = |round| {
                round >= 10_000 && (is_watched.load(Ordering::Relaxed) || watcher.is_finished())
            };
            for round in (0..).take_while(|&round| !is_over(round)) {
                let value = if round % 2 == 0 { 0 } else { u64::MAX };
                source
                    .iter()
                    .for_each(|word| word.store(value, Ordering::Relaxed));
                let from = byte_at(source, round / 2 % 8);
                let to = byte_at(target, 1 + round / 16 % 7);
                // SAFETY: at most 7 and `LEN` bytes are within both ranges.
                unsafe { guest_to_guest(to, from, LEN) }.expect("no fault");
            }
            drop(stop_at_end);
            watcher.join().expect("the watcher saw no torn word");
        });
    }
}

#[test]
fn a_fill_writes_its_bytes_and_no_other() {
    for len in (0..40).chain([63, 64, 1000, 1023, 1024, 1033, 5000]) {
        for at in 0..10 {
            let mut target = vec![0xee_u8; len + 32];
            let mut model = target.clone();
            model[at..at + len].fill(0x5a);
            // SAFETY: `at + len` is within the vector, which nobody else uses.
            unsafe { fill(target[at..].as_mut_ptr(), 0x5a, len) }.expect("no fault");
            assert!(target == model, "{len} bytes at {at}");
        }
    }
}

#[test]
fn zeroes_are_told_from_a_single_other_byte_wherever_it_is() {
    for len in [0, 1, 7, 8, 9, 63, 64, 65, 130, 200] {
        for at in 0..9 {
            let mut memory = vec![0xff_u8; len + 32];
            memory[at..at + len].fill(0);
            // SAFETY: `at + len` is within the vector, which nobody else uses.
            let zero = unsafe { is_zero(memory[at..].as_ptr(), len) };
            assert!(zero.expect("no fault"), "{len} bytes at {at}");
            for other in at..at + len {
                memory[other] = 1;
                // SAFETY: as above.
                let zero = unsafe { is_zero(memory[at..].as_ptr(), len) };
                assert!(!zero.expect("no fault"), "{len} bytes at {at}, {other} set");
                memory[other] = 0;
            }
        }
    }
}

/// Runs every operation of a word and compares it with arithmetic.
macro_rules! word_operations {
    ($name:ident, $word:ty) => {
        #[test]
        fn $name() {
            let mut cells = Aligned([0x1122_3344_5566_7788; 3]);
            let around = cells.0;
            let at = cells.0[1..].as_mut_ptr().cast::<u8>();
            let first = <$word>::MAX / 3;
            // SAFETY: for all below: aligned, within the array, which nobody else uses.
            unsafe { <$word as Word>::store(at, first) }.expect("no fault");
            // SAFETY: as above.
            let seen = unsafe { <$word as Word>::load(at) }.expect("no fault");
            assert_eq!(seen, first);
            // SAFETY: as above.
            unsafe { <$word as Word>::store_release(at, 5) }.expect("no fault");
            // SAFETY: as above.
            let seen = unsafe { <$word as Word>::load_ordered(at) }.expect("no fault");
            assert_eq!(seen, 5);
            // SAFETY: as above.
            let before = unsafe { <$word as Word>::swap(at, <$word>::MAX) }.expect("no fault");
            assert_eq!(before, 5);
            // SAFETY: as above.
            let before = unsafe { <$word as Word>::fetch_add(at, 8) }.expect("no fault");
            assert_eq!(before, <$word>::MAX);
            // SAFETY: as above.
            let before = unsafe { <$word as Word>::fetch_and(at, 0b110) }.expect("no fault");
            assert_eq!(before, 7);
            // SAFETY: as above.
            let before = unsafe { <$word as Word>::fetch_or(at, 0b1001) }.expect("no fault");
            assert_eq!(before, 0b110);
            // SAFETY: as above.
            let before = unsafe { <$word as Word>::fetch_xor(at, 0b101) }.expect("no fault");
            assert_eq!(before, 0b1111);
            // SAFETY: as above.
            let before = unsafe { <$word as Word>::compare_exchange(at, 1, 2) }.expect("no fault");
            assert_eq!(before, 0b1010);
            // SAFETY: as above.
            let before = unsafe { <$word as Word>::compare_exchange(at, 10, first) };
            assert_eq!(before.expect("no fault"), 0b1010);
            // SAFETY: as above.
            let seen = unsafe { <$word as Word>::load(at) }.expect("no fault");
            assert_eq!(seen, first);
            let rest = size_of::<$word>();
            assert_eq!(
                cells.0[1].to_ne_bytes()[rest..],
                around[1].to_ne_bytes()[rest..]
            );
            assert_eq!((cells.0[0], cells.0[2]), (around[0], around[2]));
        }
    };
}
word_operations!(a_byte_has_every_operation, u8);
word_operations!(two_bytes_have_every_operation, u16);
word_operations!(four_bytes_have_every_operation, u32);
word_operations!(eight_bytes_have_every_operation, u64);
