// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! An aligned word that somebody else writes all the time is read whole, and one that others read is written whole.
//!
//! The writer is a virtual processor where there is KVM, else a thread.

// A helper that cannot go on is as good as a failed assertion.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use guest_memory::{Bytes, GuestAddress, GuestMemoryMmap};

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[path = "../user_mode/mod.rs"]
mod user_mode;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod vcpu;
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod vcpu {
    //! No virtual processor on this target.

    use guest_memory::{GuestAddress, GuestMemoryMmap};

    #[derive(Debug)]
    pub(crate) struct Vcpu;

    impl Vcpu {
        pub(crate) fn new(_: &GuestMemoryMmap, _: GuestAddress, _: u64) -> Result<Self, String> {
            Err("no virtual processor on this target".to_owned())
        }

        pub(crate) fn run(self) {}
    }
}

/// Stores by the other side.
const STORES: u64 = 100_000_000;
/// Where the word is. What is around it is never written.
const WORD: GuestAddress = GuestAddress(0x4_0218);
const MEMORY_BYTES: usize = 1 << 20;

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).unwrap()
}

/// How often a reader saw what.
#[derive(Debug, Default)]
struct Seen {
    zeroes: u64,
    ones: u64,
    torn: u64,
}

impl Seen {
    fn note(&mut self, word: u64) {
        *match word {
            0 => &mut self.zeroes,
            u64::MAX => &mut self.ones,
            _ => &mut self.torn,
        } += 1;
    }

    /// Says whether both values were seen often enough, or what must not be.
    fn is_enough(&self) -> bool {
        self.torn > 0 || (self.zeroes > 1000 && self.ones > 1000)
    }
}

/// The ways to read the word, each with what it saw.
#[derive(Debug, Default)]
struct Reader {
    object: Seen,
    load: Seen,
    buffers: Seen,
    copies: Seen,
    rounds: usize,
}

impl Reader {
    /// Reads the word once in each way.
    ///
    /// Returns whether each way has seen enough.
    fn read(&mut self, memory: &GuestMemoryMmap) -> bool {
        let round = self.rounds;
        self.rounds += 1;
        self.object.note(memory.read_obj(WORD).unwrap());
        self.load
            .note(memory.load(WORD, Ordering::Acquire).unwrap());

        // A buffer of the host's at each alignment.
        let mut room = [0u8; 24];
        let at = misaligned(&room, round);
        memory.read_slice(&mut room[at..at + 8], WORD).unwrap();
        self.buffers.note(word(&room[at..at + 8]));

        // A longer copy with the word somewhere in it.
        let len = [64, 65, 200, 704][round % 4];
        let before = round / 4 % (len - 8);
        let mut room = [0u8; 704 + 16];
        let at = misaligned(&room, round);
        let target = &mut room[at..at + len];
        memory
            .read_slice(target, GuestAddress(WORD.0 - before as u64))
            .unwrap();
        self.copies.note(word(&target[before..before + 8]));
        self.is_enough()
    }

    fn all(&self) -> [&Seen; 4] {
        [&self.object, &self.load, &self.buffers, &self.copies]
    }

    fn is_enough(&self) -> bool {
        self.all().into_iter().all(Seen::is_enough)
    }

    #[track_caller]
    fn assert_saw_all_untorn(&self) {
        println!("{self:?}");
        assert!(self.is_enough(), "{self:?}");
        assert!(self.all().iter().all(|seen| seen.torn == 0), "{self:?}");
    }
}

/// Returns where in a buffer an address starts that is `round % 8` bytes from an aligned one.
fn misaligned(buffer: &[u8], round: usize) -> usize {
    buffer.as_ptr().addr().wrapping_neg() % 8 + round % 8
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes.try_into().unwrap())
}

/// Calls `reader` until `writer`, in a thread of its own, is done; they start at the same time.
///
/// The writer learns when the reader has said that it saw enough.
fn race(writer: impl FnOnce(&AtomicBool) + Send, mut reader: impl FnMut() -> bool) {
    // A race needs a processor for each side.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let [is_started, is_over, is_enough] = [const { AtomicBool::new(false) }; 3];
    thread::scope(|scope| {
        scope.spawn(|| {
            // Also at a panic, or the reader would go on for ever.
            let _end = SetOnDrop(&is_over);
            is_started.store(true, Ordering::Release);
            writer(&is_enough);
        });
        // The same for the writer.
        let _end = SetOnDrop(&is_enough);
        while !is_started.load(Ordering::Acquire) {
            thread::yield_now();
        }
        while !is_over.load(Ordering::Acquire) {
            if reader() {
                is_enough.store(true, Ordering::Release);
            }
        }
    });
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_word_that_a_guest_stores_is_never_seen_torn() {
    let memory = memory();
    let mut reader = Reader::default();
    // Once is enough, unless the machine has no processor left for the reader.
    for _ in 0..20 {
        match vcpu::Vcpu::new(&memory, WORD, STORES) {
            Ok(vcpu) => race(|_| vcpu.run(), || reader.read(&memory)),
            Err(reason) => {
                println!("skipped: a guest that stores ({reason}); a thread stores instead");
                let stores = |_: &AtomicBool| (0..STORES / 2).for_each(|_| store_both(&memory));
                race(stores, || reader.read(&memory));
            }
        }
        if reader.is_enough() {
            break;
        }
    }
    reader.assert_saw_all_untorn();
    // An even number of stores, of which the first was of zeroes.
    assert_eq!(memory.read_obj::<u64>(WORD).unwrap(), u64::MAX);
}

/// Stores zeroes, then ones.
fn store_both(memory: &GuestMemoryMmap) {
    memory.store(0u64, WORD, Ordering::Relaxed).unwrap();
    memory.store(u64::MAX, WORD, Ordering::Relaxed).unwrap();
}

/// Stores zeroes and ones in turn until the reader has seen enough.
fn store_until(memory: &GuestMemoryMmap, is_enough: &AtomicBool) {
    while !is_enough.load(Ordering::Relaxed) {
        (0..1000).for_each(|_| store_both(memory));
    }
}

/// The buffer has any alignment, and the word is also somewhere in a longer copy.
#[test]
fn a_word_from_a_misaligned_buffer_is_never_seen_torn() {
    let memory = memory();
    let mut seen = Seen::default();
    let mut rounds = 0;
    let writer = |is_enough: &AtomicBool| {
        let rounds = (0usize..).take_while(|_| !is_enough.load(Ordering::Relaxed));
        for round in rounds {
            let value = if round % 2 == 0 { 0 } else { 0xff };
            let len = [8, 8, 8, 64, 65, 200, 704][round % 7];
            let before = if len == 8 { 0 } else { round / 7 % (len - 8) };
            let room = [value; 704 + 16];
            let at = misaligned(&room, round / 2);
            let to = GuestAddress(WORD.0 - before as u64);
            memory.write_slice(&room[at..at + len], to).unwrap();
        }
    };
    race(writer, || {
        seen.note(memory.load(WORD, Ordering::Relaxed).unwrap());
        rounds += 1;
        seen.is_enough() && rounds > 1_000_000
    });
    println!("{seen:?}");
    assert_eq!(seen.torn, 0);
}

#[test]
fn a_word_into_a_misaligned_buffer_is_never_torn() {
    let memory = memory();
    let mut reader = Reader::default();
    let writer = |is_enough: &AtomicBool| store_until(&memory, is_enough);
    race(writer, || reader.read(&memory) && reader.rounds > 500_000);
    reader.assert_saw_all_untorn();
}

/// The tests above would fail if words were moved byte by byte.
#[test]
fn a_word_that_is_read_byte_by_byte_is_seen_torn() {
    let memory = memory();
    let mut seen = Seen::default();
    let mut tries = 0;
    let writer = |is_enough: &AtomicBool| store_until(&memory, is_enough);
    race(writer, || {
        let mut bytes = [0; 8];
        for (index, byte) in bytes.iter_mut().enumerate() {
            let at = GuestAddress(WORD.0 + index as u64);
            *byte = memory.read_obj(at).unwrap();
        }
        seen.note(u64::from_ne_bytes(bytes));
        tries += 1;
        seen.torn > 0 || tries > 50_000_000
    });
    println!("{seen:?}");
    assert!(seen.torn > 0, "{seen:?}");
}
