// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The front end shares a log, swaps it and takes it away while the device works.
#![expect(clippy::unwrap_used, reason = "tests may unwrap, in helpers too")]

#[expect(
    dead_code,
    reason = "the benchmark's front end, which can do more than is needed here"
)]
#[path = "../src/bin/blk-bench/front_end.rs"]
mod front_end;
#[expect(dead_code, reason = "the benchmark's session")]
#[path = "../src/bin/blk-bench/session.rs"]
mod session;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use blk::{RamDisk, SharedLog};
use front_end::{
    DISK_LEN_BYTES, Direction, FrontEnd, LOG_LEN_BYTES, LOW_LEN_BYTES, SLOTS, Workload,
};
use session::Session;
use vhost::{VhostBackend, VhostUserDirtyLogRegion};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// The flag of a ring whose used part is logged.
const RING_LOG: u32 = 1;
const LOG_ALL: u64 = 1 << 26;
const PROTOCOL_FEATURES: u64 = 1 << 30;
const VERSION_1: u64 = 1 << 32;
const PATIENCE: Duration = Duration::from_secs(20);
/// Pages of the used ring and the statuses.
const LOW_PAGES: [usize; 2] = [0x4, 0xa];
/// The first of the pages with data.
const DATA_PAGE: usize = 1 << 20;

#[test]
fn the_log_has_the_pages_that_the_device_wrote_and_no_others() {
    let mut machine = Machine::start(Direction::Read);
    machine.run(1);
    let log = Log::new(LOG_LEN_BYTES);
    machine.give(&log).unwrap();
    assert_eq!(log.pages(), BTreeSet::new());
    machine.run(1);
    let data = DATA_PAGE..DATA_PAGE + SLOTS;
    assert_eq!(log.pages(), LOW_PAGES.into_iter().chain(data).collect());
    machine.stop();
}

#[test]
fn what_the_device_only_reads_is_not_in_the_log() {
    let mut machine = Machine::start(Direction::Write);
    let log = Log::new(LOG_LEN_BYTES);
    machine.give(&log).unwrap();
    machine.run(1);
    assert_eq!(log.pages(), BTreeSet::from(LOW_PAGES));
    machine.stop();
}

#[test]
fn no_mark_is_lost_when_the_log_is_swapped_at_work() {
    let mut machine = Machine::start(Direction::Read);
    let mut old = Log::new(LOG_LEN_BYTES);
    machine.give(&old).unwrap();
    machine.run(1);
    let all = old.pages();
    assert_eq!(all.len(), LOW_PAGES.len() + SLOTS);
    let mut in_both = 0;
    for swap in 1..=100 {
        old.clear();
        // Each log is longer than the one before.
        let new = Log::new(LOG_LEN_BYTES + swap * 8);
        machine.publish();
        // Each time a little later: the thread has to wake up, and then is quick.
        let moment = Instant::now() + Duration::from_micros(swap * 3);
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        machine.give(&new).unwrap();
        let before = old.pages();
        machine.wait();
        let after = new.pages();
        assert_eq!(before.union(&after).copied().collect::<BTreeSet<_>>(), all);
        in_both += usize::from(!before.is_empty() && !after.is_empty());
        // The front end has the old log for itself.
        assert_eq!(old.pages(), before);
        machine.run(1);
        assert_eq!(old.pages(), before);
        assert_eq!(new.pages(), all);
        old = new;
    }
    println!("{in_both} of 100 swaps were in the middle of a batch");
    machine.stop();
}

#[test]
fn a_log_that_does_not_reach_the_end_of_memory_is_refused() {
    let machine = Machine::start(Direction::Read);
    let log = Log::new(LOG_LEN_BYTES - 1);
    // The protocol has no answer that says no: the daemon closes the connection.
    machine.give(&log).unwrap_err();
    machine.session.server.join().unwrap().unwrap_err();
    assert_eq!(log.pages(), BTreeSet::new());
}

#[test]
fn the_end_of_a_migration_ends_the_marks() {
    let mut machine = Machine::start(Direction::Read);
    let log = Log::new(LOG_LEN_BYTES);
    machine.give(&log).unwrap();
    machine.set_features(LOG_ALL);
    machine.run(1);
    assert!(!log.pages().is_empty());
    machine.set_features(0);
    log.clear();
    machine.run(1);
    assert_eq!(log.pages(), BTreeSet::new());
    // There may be another one.
    machine.give(&log).unwrap();
    machine.set_features(LOG_ALL);
    machine.run(1);
    assert_eq!(log.pages().len(), LOW_PAGES.len() + SLOTS);
    machine.stop();
}

/// A front end that begins to log, or stops, says where the rings are once more, with another flag.
#[test]
fn the_queue_goes_on_while_the_front_end_tells_it_to_log() {
    let mut machine = Machine::start(Direction::Read);
    let connection = machine.session.connection.clone();
    let mut addresses = machine.front_end.ring_addresses();
    let is_over = Arc::new(AtomicBool::new(false));
    let telling = thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            while !is_over.load(Ordering::Relaxed) {
                addresses.flags ^= RING_LOG;
                addresses.log_addr = Some(LOW_PAGES[0] as u64 * 4096);
                connection.set_vring_addr(0, &addresses).unwrap();
                // Not faster than the device.
                connection.get_features().unwrap();
            }
        }
    });
    for _ in 0..500 {
        machine.publish();
        machine.wait_for_answer();
    }
    is_over.store(true, Ordering::Relaxed);
    telling.join().unwrap();
    machine.stop();
}

#[test]
fn the_log_stays_when_the_memory_is_told_once_more() {
    let mut machine = Machine::start(Direction::Read);
    let log = Log::new(LOG_LEN_BYTES);
    machine.give(&log).unwrap();
    machine.run(1);
    let table = machine.front_end.memory_table();
    machine.session.connection.set_mem_table(&table).unwrap();
    machine.settle();
    // What was written while the memory changed is not known.
    let low = 0..usize::try_from(LOW_LEN_BYTES / 4096).unwrap();
    let high = DATA_PAGE..usize::try_from(LOG_LEN_BYTES * 8).unwrap();
    assert!(log.pages().into_iter().eq(low.chain(high)));
    log.clear();
    machine.run(1);
    assert_eq!(log.pages().len(), LOW_PAGES.len() + SLOTS);
    machine.stop();
}

/// A file with one bit for each page of the guest.
struct Log(File);

impl Log {
    fn new(len_bytes: u64) -> Self {
        let file = memfd::MemfdOptions::new()
            .create("log")
            .unwrap()
            .into_file();
        file.set_len(len_bytes).unwrap();
        Self(file)
    }

    fn len_bytes(&self) -> usize {
        usize::try_from(self.0.metadata().unwrap().len()).unwrap()
    }

    fn pages(&self) -> BTreeSet<usize> {
        let mut bytes = vec![0; self.len_bytes()];
        self.0.read_exact_at(&mut bytes, 0).unwrap();
        let mut pages = BTreeSet::new();
        for (first, block) in (0..).step_by(8 * 512).zip(bytes.chunks(512)) {
            // Most of it is zeros, and comparing is quick.
            if block != &[0; 512][..block.len()] {
                let marked =
                    (0..8 * block.len()).filter(|bit| block[bit / 8] >> (bit % 8) & 1 == 1);
                pages.extend(marked.map(|bit| first + bit));
            }
        }
        pages
    }

    fn clear(&self) {
        let zeros = vec![0; self.len_bytes()];
        self.0.write_all_at(&zeros, 0).unwrap();
    }
}

/// A front end and a device behind a socket, which has a log from the beginning.
struct Machine {
    front_end: FrontEnd,
    session: Session<SharedLog>,
    kick: EventFd,
    call: EventFd,
    batch: usize,
    features: u64,
}

impl Machine {
    fn start(direction: Direction) -> Self {
        let disk = RamDisk::new(usize::try_from(DISK_LEN_BYTES).unwrap());
        let front_end = FrontEnd::new(&Workload {
            request_len_bytes: 4096,
            direction,
        })
        .unwrap();
        front_end.reset().unwrap();
        let mut session = Session::start(&front_end, disk).unwrap();
        let (kick, call) = (event(), event());
        session::start_queue(&mut session.connection, &front_end, &kick, &call).unwrap();
        Self {
            front_end,
            session,
            kick,
            call,
            batch: 0,
            features: VERSION_1 | PROTOCOL_FEATURES | LOG_ALL,
        }
    }

    /// Changes the features, and waits until that is done.
    fn set_features(&mut self, more: u64) {
        self.features = VERSION_1 | PROTOCOL_FEATURES | more;
        self.settle();
    }

    /// Waits until all messages are handled and the queue's thread holds nothing.
    fn settle(&self) {
        // Changing the features takes the queue's lock.
        self.session.connection.set_features(self.features).unwrap();
        // Messages are handled in turn.
        self.session.connection.get_features().unwrap();
    }

    /// Shares `log`; when this returns, the device has taken it.
    fn give(&self, log: &Log) -> Result<(), String> {
        let region = VhostUserDirtyLogRegion {
            mmap_size: log.len_bytes() as u64,
            mmap_offset: 0,
            mmap_handle: log.0.as_raw_fd(),
        };
        self.session
            .connection
            .set_log_base(0, Some(region))
            .map_err(|error| error.to_string())
    }

    /// Makes one batch of requests available.
    fn publish(&mut self) {
        self.batch += 1;
        self.front_end.publish(self.batch).unwrap();
        self.kick.write(1).unwrap();
    }

    /// Waits until the batch is answered, and the queue's thread has nothing more to do.
    fn wait(&self) {
        self.wait_for_answer();
        self.settle();
    }

    fn wait_for_answer(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.front_end.is_answered(self.batch).unwrap() {
            assert!(Instant::now() < deadline, "no answer");
            drop(self.call.read());
        }
        self.front_end.check_statuses().unwrap();
    }

    fn run(&mut self, batch_count: usize) {
        for _ in 0..batch_count {
            self.publish();
            self.wait();
        }
    }

    fn stop(self) {
        self.session.stop().unwrap();
    }
}

fn event() -> EventFd {
    EventFd::new(EFD_NONBLOCK).unwrap()
}
