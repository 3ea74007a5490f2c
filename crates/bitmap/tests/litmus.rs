// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A litmus test on real processors: does a writer that leaves a set bit alone lose writes?
//!
//! Two threads, each on a processor of its own, race over many pairs of cache lines, one with data and one with a
//! bit that is set. The writer stores data and then marks; the harvester takes the bit and then reads the data. A
//! pair where the old data was read and no bit is left is a lost write.
//!
//! The shortcut without a barrier, written by hand here, loses some on every processor that has a store buffer;
//! it shows that the test can see what it looks for. The bitmap itself, in both orderings, must lose none.
//!
//! The threads run through the pairs freely, or together: the harvester says before each pair that it is there, and both
//! go on after pauses of random length. A barrier that interrupts the other processor takes so long that
//! threads which run freely are soon far apart.
//!
//! A normal run takes about two seconds; `LITMUS_ROUNDS` asks for so many rounds of every form.
#![cfg(all(target_os = "linux", not(loom), not(miri)))]
#![expect(unsafe_code, reason = "asks for processors and pins threads to them")]
// A helper that cannot go on is as good as a failed assertion.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::hint;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, compiler_fence};
use std::thread;
use std::time::{Duration, Instant};

use guest_memory_bitmap::{AtomicBitmap, DirtyPages, MarkOrdering};

const PAIRS: usize = 128;
/// For each form and pace.
const DEFAULT_TIME: Duration = Duration::from_millis(350);

/// Only one litmus at a time: the threads of two would share the processors.
static PROCESSORS: Mutex<()> = Mutex::new(());

/// One page's mark, in one of the forms compared.
trait Mark: Sync {
    /// Marks after data was stored.
    fn mark(&self);
    /// Takes the mark; what is read after it is to be as new as the mark.
    fn take(&self, scratch: &mut DirtyPages);
    fn is_marked(&self) -> bool;
}

/// The shortcut alone: the bit is loaded, and set only if it is clear.
#[derive(Default)]
struct Shortcut(AtomicU64);

impl Mark for Shortcut {
    fn mark(&self) {
        compiler_fence(Ordering::SeqCst);
        if self.0.load(Ordering::Relaxed) == 0 {
            self.0.fetch_or(1, Ordering::AcqRel);
        }
    }

    fn take(&self, _scratch: &mut DirtyPages) {
        self.0.swap(0, Ordering::AcqRel);
    }

    fn is_marked(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }
}

/// The real thing, for one page.
impl Mark for AtomicBitmap {
    fn mark(&self) {
        self.set_bit(0);
    }

    fn take(&self, scratch: &mut DirtyPages) {
        self.harvest_into(scratch);
    }

    fn is_marked(&self) -> bool {
        self.is_bit_set(0)
    }
}

/// Apart by more than what a processor fetches at once.
#[repr(align(256))]
struct Apart<T>(T);

struct Pair<M> {
    data: Apart<AtomicU64>,
    bit: Apart<M>,
    copied: Apart<AtomicU64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Freely,
    Together,
}

#[derive(Debug, Default)]
struct Count {
    writes: usize,
    /// Writes after the copy was made.
    copied_old: usize,
    lost: usize,
}

#[test]
fn shortcut_without_a_barrier_loses_writes_on_real_processors() {
    let Some(count) = run("shortcut without a barrier", Shortcut::default) else {
        return;
    };
    if count.lost == 0 {
        println!(
            "unable: this machine does not show the loss, so the other forms' zeroes prove nothing"
        );
    }
}

#[test]
fn asymmetric_marks_lose_nothing_on_real_processors() {
    if bitmap(None).mark_ordering() != MarkOrdering::Asymmetric {
        println!("skipped: this system has no barrier for all threads of a process");
        return;
    }
    let count = run("asymmetric", || bitmap(Some(MarkOrdering::Asymmetric)));
    assert_eq!(count.unwrap_or_default().lost, 0);
}

#[test]
fn symmetric_marks_lose_nothing_on_real_processors() {
    let count = run("symmetric", || bitmap(Some(MarkOrdering::Symmetric)));
    assert_eq!(count.unwrap_or_default().lost, 0);
}

fn bitmap(ordering: Option<MarkOrdering>) -> AtomicBitmap {
    let page_size = NonZeroUsize::new(4096).unwrap();
    let bitmap = AtomicBitmap::new(4096, page_size);
    match ordering {
        Some(ordering) => bitmap.with_ordering(ordering).unwrap(),
        None => bitmap,
    }
}

/// Runs the litmus; `None`, after it said why, where there are not two processors.
fn run<M: Mark>(form: &str, new_mark: impl Fn() -> M) -> Option<Count> {
    let _alone = PROCESSORS.lock().unwrap_or_else(|error| error.into_inner());
    let processors = usable_processors();
    let &[first, second, ..] = processors.as_slice() else {
        println!("skipped: {form}: takes two processors, there is {processors:?}");
        return None;
    };
    let pairs: Vec<_> = (0..PAIRS)
        .map(|_| Pair {
            data: Apart(AtomicU64::new(0)),
            bit: Apart(new_mark()),
            copied: Apart(AtomicU64::new(0)),
        })
        .collect();
    let mut sum = Count::default();
    for pace in [Pace::Freely, Pace::Together] {
        let start_line = StartLine::default();
        for pair in &pairs {
            pair.data.0.store(0, Ordering::Relaxed);
        }
        let count = thread::scope(|scope| {
            scope.spawn(|| write(&pairs, &start_line, pace, second));
            let harvester = scope.spawn(|| harvest(&pairs, &start_line, pace, first));
            harvester.join().unwrap()
        });
        println!("{form}, {pace:?}: {count:?}");
        sum.writes += count.writes;
        sum.copied_old += count.copied_old;
        sum.lost += count.lost;
    }
    Some(sum)
}

fn write<M: Mark>(pairs: &[Pair<M>], start_line: &StartLine, pace: Pace, processor: usize) {
    pin_to(processor);
    let mut random = 1_u64;
    for round in 1.. {
        // Warm: the bits are in this processor's cache.
        assert!(
            pairs
                .iter()
                .all(|pair| round == 1 || pair.bit.0.is_marked())
        );
        if !start_line.wait(2 * round - 1) {
            return;
        }
        for (index, pair) in pairs.iter().enumerate() {
            if pace == Pace::Together {
                start_line.follow(round * PAIRS + index);
                pause(&mut random);
            }
            pair.data.0.store(round as u64, Ordering::Relaxed);
            pair.bit.0.mark();
        }
        start_line.wait(2 * round);
        // The harvester counts and sets all bits again.
        start_line.wait_until_ready(round);
    }
}

fn harvest<M: Mark>(
    pairs: &[Pair<M>],
    start_line: &StartLine,
    pace: Pace,
    processor: usize,
) -> Count {
    pin_to(processor);
    let mut random = 2_u64;
    let rounds = std::env::var("LITMUS_ROUNDS").ok().map(|rounds| {
        let rounds: usize = rounds.parse().expect("LITMUS_ROUNDS is a number");
        rounds
    });
    let mut scratch = DirtyPages::default();
    let mut count = Count::default();
    let begin = Instant::now();
    pairs.iter().for_each(|pair| pair.bit.0.mark());
    for round in 1.. {
        // Warm: the data are in this processor's cache, where a store has to fetch them from.
        for pair in pairs {
            assert_eq!(pair.data.0.load(Ordering::Relaxed), round as u64 - 1);
        }
        let is_over = match rounds {
            Some(rounds) => round > rounds,
            None => begin.elapsed() > DEFAULT_TIME,
        };
        if is_over {
            start_line.stop();
        }
        if !start_line.wait(2 * round - 1) {
            return count;
        }
        for (index, pair) in pairs.iter().enumerate() {
            start_line.lead(round * PAIRS + index);
            if pace == Pace::Together {
                pause(&mut random);
            }
            pair.bit.0.take(&mut scratch);
            let seen = pair.data.0.load(Ordering::Relaxed);
            pair.copied.0.store(seen, Ordering::Relaxed);
        }
        start_line.wait(2 * round);
        for pair in pairs {
            let is_old = pair.copied.0.load(Ordering::Relaxed) != round as u64;
            let is_marked = pair.bit.0.is_marked();
            count.writes += 1;
            count.copied_old += usize::from(is_old);
            count.lost += usize::from(is_old && !is_marked);
            pair.bit.0.mark();
        }
        start_line.ready(round);
    }
    unreachable!("rounds end before numbers do");
}

/// Where two threads wait for each other, spinning, so that they leave at the same moment.
#[derive(Default)]
struct StartLine {
    arrived: Apart<AtomicUsize>,
    ready: Apart<AtomicUsize>,
    place: Apart<AtomicUsize>,
    stopped: Apart<AtomicUsize>,
}

impl<T: Default> Default for Apart<T> {
    fn default() -> Self {
        Self(T::default())
    }
}

impl StartLine {
    /// Waits for the other thread, for the `time`-th time, counted from 1; tells whether to go on.
    fn wait(&self, time: usize) -> bool {
        self.arrived.0.fetch_add(1, Ordering::AcqRel);
        spin_until(|| self.arrived.0.load(Ordering::Acquire) >= 2 * time);
        self.stopped.0.load(Ordering::Acquire) == 0
    }

    fn ready(&self, round: usize) {
        self.ready.0.store(round, Ordering::Release);
    }

    fn wait_until_ready(&self, round: usize) {
        spin_until(|| self.ready.0.load(Ordering::Acquire) >= round);
    }

    /// Says where the harvester is.
    fn lead(&self, place: usize) {
        self.place.0.store(place, Ordering::Release);
    }

    /// Waits until the harvester is there.
    fn follow(&self, place: usize) {
        spin_until(|| self.place.0.load(Ordering::Acquire) >= place);
    }

    fn stop(&self) {
        self.stopped.0.store(1, Ordering::Release);
    }
}

fn spin_until(condition: impl Fn() -> bool) {
    let mut spins = 0_u32;
    while !condition() {
        spins += 1;
        if spins.is_multiple_of(10_000) {
            // The other one may wait for a processor that somebody else uses.
            thread::yield_now();
        }
        hint::spin_loop();
    }
}

/// Waits for up to some microseconds, mostly much less: every length from nothing on is as frequent as twice of it.
fn pause(random: &mut u64) {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let longest = 1 << (*random % 10);
    for _ in 0..(*random >> 32) % longest {
        hint::spin_loop();
    }
}

fn usable_processors() -> Vec<usize> {
    // SAFETY: all-zero bytes are a valid `cpu_set_t`, an array of integers.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let size = std::mem::size_of::<libc::cpu_set_t>();
    // SAFETY: `set` is a set of `size` bytes to be written to; 0 is the calling thread.
    let result = unsafe { libc::sched_getaffinity(0, size, &raw mut set) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    (0..8 * size)
        // SAFETY: the number is below the number of bits in the set.
        .filter(|&processor| unsafe { libc::CPU_ISSET(processor, &set) })
        .collect()
}

fn pin_to(processor: usize) {
    // SAFETY: all-zero bytes are a valid `cpu_set_t`, an array of integers.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the processor was found in such a set.
    unsafe { libc::CPU_SET(processor, &mut set) };
    let size = std::mem::size_of::<libc::cpu_set_t>();
    // SAFETY: `set` is a set of `size` bytes to be read; 0 is the calling thread.
    let result = unsafe { libc::sched_setaffinity(0, size, &raw const set) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
