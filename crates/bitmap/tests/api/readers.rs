// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Several readers of one log against one set of numbers each.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use guest_memory_bitmap::{AtomicBitmap, DirtyLog, DirtyPages, Reader, Readers};
use proptest::prelude::*;

const PAGES: usize = 5000;

fn log() -> AtomicBitmap {
    AtomicBitmap::new(PAGES, NonZeroUsize::MIN)
}

#[derive(Clone, Debug)]
enum Operation {
    Mark(usize, usize),
    Join,
    Leave(usize),
    Harvest(usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (0..PAGES, prop_oneof![4 => 0..3_usize, 1 => 0..PAGES])
            .prop_map(|(first, count)| Operation::Mark(first, count)),
        2 => Just(Operation::Join),
        1 => any::<usize>().prop_map(Operation::Leave),
        4 => any::<usize>().prop_map(Operation::Harvest),
    ]
}

proptest! {
    #[test]
    fn each_reader_sees_each_page_once_per_epoch_of_its_own(script in prop::collection::vec(operation(), 0..60)) {
        let log = log();
        let readers = Readers::new(&log);
        let mut seated: Vec<(Reader<_>, BTreeSet<usize>, DirtyPages)> = Vec::new();
        for operation in script {
            match operation {
                Operation::Mark(first, count) => {
                    log.set_addr_range(first, count);
                    for (_, unseen, _) in &mut seated {
                        unseen.extend(first..(first + count).min(PAGES));
                    }
                }
                Operation::Join => seated.push((readers.join(), BTreeSet::new(), DirtyPages::default())),
                Operation::Leave(which) if !seated.is_empty() => drop(seated.remove(which % seated.len())),
                Operation::Harvest(which) if !seated.is_empty() => {
                    let count = seated.len();
                    let (reader, unseen, pages) = &mut seated[which % count];
                    reader.harvest_into(pages);
                    prop_assert!(pages.pages().eq(unseen.iter().copied()), "{pages:?}");
                    unseen.clear();
                }
                Operation::Leave(_) | Operation::Harvest(_) => {}
            }
        }
        for (mut reader, unseen, _) in seated {
            prop_assert!(reader.harvest().pages().eq(unseen));
        }
    }
}

#[test]
fn the_first_reader_switches_tracking_on_and_the_last_one_off() {
    let log = log();
    log.stop_tracking();
    let readers = Readers::new(&log);
    assert!(!log.is_tracking());
    for _ in 0..2 {
        let (one, two) = (readers.join(), readers.join());
        assert!(log.is_tracking());
        drop(one);
        assert!(log.is_tracking());
        drop(two);
        assert!(!log.is_tracking());
    }
    // Who tracked before goes on.
    log.start_tracking();
    drop(readers.join());
    assert!(log.is_tracking());
}

#[test]
fn a_log_that_grew_keeps_what_was_not_seen() {
    /// A log that can be exchanged for a larger one.
    struct Growing(std::sync::Mutex<AtomicBitmap>);
    impl DirtyLog for Growing {
        type Pages = DirtyPages;
        fn start_tracking(&self) {}
        fn stop_tracking(&self) {}
        fn is_tracking(&self) -> bool {
            true
        }
        fn empty_pages(&self) -> DirtyPages {
            self.0.lock().unwrap().empty_pages()
        }
        fn harvest_into(&self, pages: &mut DirtyPages) {
            self.0.lock().unwrap().harvest_into(pages);
        }
    }

    let readers = Readers::new(Growing(log().into()));
    let mut slow = readers.join();
    let mut fast = readers.clone().join();
    let set = |page| readers.log().0.lock().unwrap().set_bit(page);
    set(1);
    assert!(fast.harvest().pages().eq([1]));
    readers.log().0.lock().unwrap().enlarge(PAGES);
    set(2 * PAGES - 1);
    assert!(fast.harvest().pages().eq([2 * PAGES - 1]));
    assert!(slow.harvest().pages().eq([1, 2 * PAGES - 1]));
}

#[test]
fn after_a_panic_in_a_harvest_no_reader_goes_on_as_if_nothing_was_lost() {
    struct Failing(AtomicBitmap, AtomicBool);
    impl DirtyLog for Failing {
        type Pages = DirtyPages;
        fn start_tracking(&self) {
            self.0.start_tracking();
        }
        fn stop_tracking(&self) {
            self.0.stop_tracking();
        }
        fn is_tracking(&self) -> bool {
            self.0.is_tracking()
        }
        fn empty_pages(&self) -> DirtyPages {
            self.0.empty_pages()
        }
        fn harvest_into(&self, pages: &mut DirtyPages) {
            self.0.harvest_into(pages);
            assert!(!self.1.load(Ordering::Relaxed), "the barrier is refused");
        }
    }

    let readers = Readers::new(Failing(log(), AtomicBool::new(false)));
    let (mut one, mut two) = (readers.join(), readers.join());
    readers.log().1.store(true, Ordering::Relaxed);
    assert!(catch_unwind(AssertUnwindSafe(|| one.harvest())).is_err());
    readers.log().1.store(false, Ordering::Relaxed);
    assert!(catch_unwind(AssertUnwindSafe(|| two.harvest())).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| readers.join())).is_err());
}

#[test]
fn readers_in_threads_each_copy_everything_while_a_writer_runs() {
    const ROUNDS: u64 = 30;
    let readers = Readers::new(Arc::new(log()));
    let memory: Arc<Vec<AtomicU64>> = Arc::new((0..PAGES).map(|_| AtomicU64::new(0)).collect());
    let done = Arc::new(AtomicBool::new(false));
    let copies: Vec<_> = (0..3)
        .map(|_| {
            let mut reader = readers.join();
            let (memory, done) = (memory.clone(), done.clone());
            thread::spawn(move || {
                let mut copy = vec![0; PAGES];
                loop {
                    let is_last = done.load(Ordering::Acquire);
                    for page in reader.harvest().pages() {
                        copy[page] = memory[page].load(Ordering::Relaxed);
                    }
                    if is_last {
                        break copy;
                    }
                }
            })
        })
        .collect();
    for value in 1..=ROUNDS {
        for (page, place) in memory.iter().enumerate() {
            place.store(value, Ordering::Relaxed);
            readers.log().set_bit(page);
        }
    }
    done.store(true, Ordering::Release);
    for copy in copies {
        assert_eq!(copy.join().unwrap(), vec![ROUNDS; PAGES]);
    }
}
