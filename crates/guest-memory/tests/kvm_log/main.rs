// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a guest and threads of the host write is what is harvested: KVM's log of each slot, or its dirty ring, goes into the
//! library's log, page by page where it belongs.
//!
//! Each region has two slots, which meet in the middle of a word of its bitmap. While guest and threads write, the
//! memory is harvested and copied again and again.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
// A helper that cannot go on is as good as a failed assertion.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use guest_memory::bitmap::{AtomicBitmap, GuestDirtyPages, MemoryLog, MemorySlot, MemorySlots};
use guest_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap};

mod machine;
mod ring;
mod simulated;
#[path = "../user_mode/mod.rs"]
mod user_mode;

use machine::Machine;
use ring::Ring;

const PAGE_BYTES: u64 = 4096;
const PAGE_SIZE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// Page tables, program and list of the guest; nobody asks what is written here.
const BOOT: (GuestAddress, usize) = (GuestAddress(0), 0x1_0000);
/// The regions in question, and where in each the second slot starts.
const REGIONS: [(GuestAddress, usize, u64); 2] = [
    (GuestAddress(0x20_0000), 0x60_0000, 100 * PAGE_BYTES),
    (GuestAddress(0x100_0000), 0x20_0000, 333 * PAGE_BYTES),
];
const ROUNDS: u64 = 8;
/// Where in a page the guest writes.
const GUEST_WORD: u64 = 0x40;

type Memory = GuestMemoryMmap<AtomicBitmap>;
type Log<'a> = MemoryLog<&'a Memory>;

fn memory() -> Memory {
    let regions = REGIONS.map(|(start, len, _)| (start, len));
    Memory::from_ranges(&[BOOT, regions[0], regions[1]]).unwrap()
}

/// Returns the slots, whose numbers count from 1.
fn slots() -> MemorySlots {
    let halves = REGIONS.iter().flat_map(|&(start, len, boundary)| {
        let end = start.0 + len as u64;
        [start.0..start.0 + boundary, start.0 + boundary..end]
    });
    let mut slots = MemorySlots::default();
    for (number, range) in (1..).zip(halves) {
        let slot = MemorySlot {
            start: GuestAddress(range.start),
            len_bytes: range.end - range.start,
            page_size: PAGE_SIZE,
        };
        slots.insert(number, slot);
    }
    slots
}

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns some pages of the regions, and always those at the ends of the slots.
    fn pages(&mut self, one_in: u64) -> Vec<u64> {
        let slots = slots();
        let all = slots.iter().flat_map(|(_, slot)| {
            let last = slot.len_bytes / PAGE_BYTES - 1;
            (0..=last)
                .map(move |page| (slot.start.0 + page * PAGE_BYTES, page == 0 || page == last))
        });
        all.filter(|&(_, is_at_end)| self.next().is_multiple_of(one_in) || is_at_end)
            .map(|(page, _)| page)
            .collect()
    }
}

/// Returns the pages of a harvest, which are in ascending ranges that do not touch.
fn pages_of(dirty: &GuestDirtyPages) -> BTreeSet<u64> {
    let ranges: Vec<_> = dirty
        .ranges()
        .map(|(start, len)| start.0..start.0 + len)
        .collect();
    for pair in ranges.windows(2) {
        assert!(pair[0].end < pair[1].start, "{ranges:x?}");
    }
    let pages: BTreeSet<u64> = ranges
        .into_iter()
        .flat_map(|range| range.step_by(PAGE_SIZE.get()))
        .collect();
    assert_eq!(pages.len(), dirty.count());
    pages
}

/// Writes to pages by the library, one in five times across a boundary; returns what is dirty then.
fn write_by_host(memory: &Memory, pages: &[u64], thread: u64, value: u64) -> BTreeSet<u64> {
    let mut written = BTreeSet::new();
    for (index, &page) in pages.iter().enumerate() {
        written.insert(page);
        let next = page + PAGE_BYTES;
        if index % 5 == 0 && memory.address_in_range(GuestAddress(next)) {
            let at = GuestAddress(next - 4 - thread);
            memory
                .write_slice(&value.to_le_bytes().repeat(2), at)
                .unwrap();
            written.insert(next);
        } else {
            let at = GuestAddress(page + 0x100 * (1 + thread));
            memory.write_obj(value, at).unwrap();
        }
    }
    written
}

/// Copies the harvested ranges to the second memory.
fn copy(from: &Memory, to: &Memory, dirty: &GuestDirtyPages) {
    let mut buffer = Vec::new();
    for (start, len_bytes) in dirty.ranges() {
        buffer.resize(usize::try_from(len_bytes).unwrap(), 0);
        from.read_slice(&mut buffer, start).unwrap();
        to.write_slice(&buffer, start).unwrap();
    }
}

fn assert_same_content(one: &Memory, other: &Memory) {
    for (start, len, _) in REGIONS {
        let [mut expected, mut found] = [vec![0; len], vec![0; len]];
        one.read_slice(&mut expected, start).unwrap();
        other.read_slice(&mut found, start).unwrap();
        let wrong: Vec<usize> = (0..len / PAGE_SIZE)
            .filter(|page| {
                let range = page * PAGE_SIZE.get()..(page + 1) * PAGE_SIZE.get();
                expected[range.clone()] != found[range]
            })
            .collect();
        assert!(wrong.is_empty(), "pages of {start:x?} differ: {wrong:?}");
    }
}

/// What is known of a run.
#[derive(Debug, Default)]
struct Tally {
    harvests: usize,
    /// Pages in all harvests, one that was in several counted each time.
    harvested: usize,
    /// Pages written by the guest, by the host and by both.
    by_guest: usize,
    by_host: usize,
    by_both: usize,
}

/// Lets the guest and two threads write in rounds and checks that the harvests of each round hold what they wrote.
///
/// `guest` writes a value to [`GUEST_WORD`] of each page of a list, `merge` moves what the hypervisor has logged to
/// the library's log. In the first round nothing is harvested before the guest is done.
fn check_rounds(
    memory: &Memory,
    log: &Log<'_>,
    mut guest: impl FnMut(&[u64], u64) + Send,
    merge: impl Fn(),
) -> Tally {
    let shadow = self::memory();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut tally = Tally::default();
    // What the guest's set-up has marked.
    merge();
    log.harvest();
    for round in 1..=ROUNDS {
        let value = 0x0101_0101_0101_0101 * round;
        let one_in = if round == 1 { 2 } else { 1 << (round % 4 + 1) };
        let guest_pages = numbers.pages(one_in);
        let host_pages = [numbers.pages(4 + round), numbers.pages(4 + round)];
        let by_host = Mutex::new(BTreeSet::new());
        let left = AtomicUsize::new(3);
        let mut found = BTreeSet::new();
        let mut harvest = || {
            merge();
            let dirty = log.harvest();
            copy(memory, &shadow, &dirty);
            tally.harvests += 1;
            tally.harvested += dirty.count();
            found.extend(
                pages_of(&dirty)
                    .into_iter()
                    .filter(|&page| page >= BOOT.1 as u64),
            );
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _end = CountDown(&left);
                guest(&guest_pages, value);
            });
            for (thread, pages) in (0..).zip(&host_pages) {
                let (left, by_host) = (&left, &by_host);
                scope.spawn(move || {
                    let _end = CountDown(left);
                    let mut written = write_by_host(memory, pages, thread, value + thread);
                    by_host.lock().unwrap().append(&mut written);
                });
            }
            while left.load(Ordering::Acquire) > 0 {
                if round > 1 {
                    harvest();
                }
                std::thread::yield_now();
            }
        });
        harvest();
        let by_guest: BTreeSet<u64> = guest_pages.into_iter().collect();
        let by_host = by_host.into_inner().unwrap();
        let expected = &by_guest | &by_host;
        let missing: Vec<_> = expected.difference(&found).collect();
        let surplus: Vec<_> = found.difference(&expected).collect();
        assert!(
            missing.is_empty() && surplus.is_empty(),
            "round {round}: missing {missing:x?}, too many {surplus:x?}"
        );
        tally.by_guest += by_guest.len();
        tally.by_host += by_host.len();
        tally.by_both += (&by_guest & &by_host).len();
        for &page in &by_guest {
            let word = GuestAddress(page + GUEST_WORD);
            assert_eq!(memory.read_obj::<u64>(word).unwrap(), value, "{page:#x}");
        }
        assert_same_content(memory, &shadow);
    }
    assert!(log.harvest().is_empty());
    tally
}

struct CountDown<'a>(&'a AtomicUsize);

impl Drop for CountDown<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

#[test]
fn logs_of_two_slots_per_region_hold_what_the_guest_wrote() {
    let memory = memory();
    let slots = slots();
    let mut machine = match Machine::new(&memory, &slots, None) {
        Ok(machine) => machine,
        Err(reason) => {
            println!("skipped: {reason}");
            return;
        }
    };
    let log = Log::new(&memory);
    let (vcpu, vm) = machine.parts();
    let merge = || {
        for (number, slot) in slots.iter() {
            let size = usize::try_from(slot.len_bytes).unwrap();
            let words = vm.get_dirty_log(number, size).unwrap();
            log.merge_words(slot, words).unwrap();
        }
    };
    let guest = |pages: &[u64], value| vcpu.write(&memory, pages, value, || panic!("no ring"));
    println!("logs: {:?}", check_rounds(&memory, &log, guest, merge));
}

#[test]
fn a_dirty_ring_holds_what_the_guest_wrote() {
    let memory = memory();
    let slots = slots();
    let mut machine = match Machine::new(&memory, &slots, Some(ring::LEAST_BYTES)) {
        Ok(machine) => machine,
        Err(reason) => {
            println!("skipped: {reason}; the other test of a ring fills one itself");
            return;
        }
    };
    let log = Log::new(&memory);
    let mapping = machine.map_ring();
    let ring = Mutex::new(Ring::new(mapping.entries()));
    let (vcpu, vm) = machine.parts();
    let merge = || {
        let mut ring = ring.lock().unwrap();
        let count = ring.collect(|number, page| {
            log.merge_page(slots.get(number).unwrap(), page).unwrap();
        });
        // From here on KVM logs another write to these pages, which are copied after this.
        assert_eq!(machine::reset_rings(vm), count);
    };
    let mut full_count = 0;
    let guest = |pages: &[u64], value| {
        vcpu.write(&memory, pages, value, || {
            full_count += 1;
            merge();
        });
    };
    let tally = check_rounds(&memory, &log, guest, merge);
    let len = mapping.entries().len();
    println!("ring of {len} entries, full {full_count} times: {tally:?}");
    assert!(full_count > 0);
}

#[test]
fn a_ring_that_this_test_fills_holds_what_was_written() {
    let memory = memory();
    let slots = slots();
    let log = Log::new(&memory);
    let entries = ring::empty_entries(256);
    let mut producer = simulated::Producer::new(&memory, &slots, &entries);
    let ring = Mutex::new(Ring::new(&entries));
    let merge = || {
        let mut ring = ring.lock().unwrap();
        ring.collect(|number, page| {
            log.merge_page(slots.get(number).unwrap(), page).unwrap();
        });
        simulated::reset(&entries);
    };
    let guest = |pages: &[u64], value| producer.write(pages, value, merge);
    println!("own ring: {:?}", check_rounds(&memory, &log, guest, merge));
}
