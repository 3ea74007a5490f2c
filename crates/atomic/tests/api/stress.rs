// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Readers on every processor while memory is plugged, unplugged and given back under them.
//!
//! Each region is filled with a stamp of its own; stamps of one place grow. So every access tells whether it came to the
//! right memory, at a time when that was in the map: it sees a stamp of its place, not an older one than those whose
//! unplug had returned before it began. Memory that was given back is closed to all access (`PROT_NONE`) and stays where it is, so that
//! no later mapping takes its place: an access to it would be a SIGSEGV.
#![expect(unsafe_code, reason = "closes memory that was given back")]

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use guest_memory_atomic::{
    GuestMemoryAtomic, HotplugChange, HotplugListener, HotplugMemory, WindowError,
};
use guest_memory_core::{
    Bytes, BytesExt, GuestAddress, GuestAddressSpace, GuestMemory, GuestMemoryRegion,
    MemoryRegionAddress,
};
use guest_memory_mmap::{GuestMemoryMmap, GuestRegionMmap};

type Region = GuestRegionMmap<()>;
type Memory = GuestMemoryAtomic<GuestMemoryMmap<()>>;

const LEN: usize = 0x4000;
const WORDS: usize = LEN / 8;
const PLACES: usize = 24;
const CHANGES: usize = 1000;
fn address(place: usize) -> GuestAddress {
    GuestAddress((place as u64 + 1) << 20)
}

/// A stamp tells its place and which region of this place it is, the first being number 1.
fn stamp(place: usize, number: u64) -> u64 {
    (place as u64) << 32 | number
}

fn stamped(place: usize, number: u64) -> Region {
    let region = Region::from_range(address(place), LEN, None).unwrap();
    fill(&region, stamp(place, number));
    region
}

fn fill(region: &Region, value: u64) {
    for word in 0..WORDS {
        let addr = MemoryRegionAddress(word as u64 * 8);
        region.write_obj(value, addr).unwrap();
    }
}

/// Makes each further access to the region's memory a SIGSEGV.
fn close(region: &Region) {
    // SAFETY: the pages are those of the region, which is the caller's alone by now; whoever accesses them nevertheless is
    // what the test is to find.
    let result = unsafe { libc::mprotect(region.as_ptr().cast(), LEN, libc::PROT_NONE) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// The slots of a hypervisor that refuses now and then.
#[derive(Default)]
struct Slots {
    table: BTreeMap<u64, u64>,
    is_full: bool,
}

impl HotplugListener<Region> for Slots {
    fn prepare(
        &mut self,
        change: &HotplugChange<'_, Region>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        if self.is_full {
            return Err("full".into());
        }
        if change.is_plug() {
            self.table.insert(change.start_addr().0, change.len());
        }
        Ok(())
    }

    fn commit(&mut self, change: &HotplugChange<'_, Region>) {
        if change.is_unplug() {
            self.table.remove(&change.start_addr().0);
        }
    }

    fn rollback(&mut self, change: &HotplugChange<'_, Region>) {
        if change.is_plug() {
            self.table.remove(&change.start_addr().0);
        }
    }
}

/// What readers and the writer share.
struct Stage {
    memory: Memory,
    /// The number of the last region of each place whose unplug has returned.
    gone: Vec<AtomicU64>,
    is_over: AtomicBool,
    accesses: AtomicU64,
}

impl Stage {
    fn check(&self, place: usize, gone_before: u64, word: u64) {
        assert_eq!(word >> 32, place as u64, "{word:#x} at place {place}");
        let number = word & 0xffff_ffff;
        assert!(number > gone_before, "{number} of place {place} was gone");
        self.accesses.fetch_add(1, Ordering::Relaxed);
    }

    /// Accesses random words by all kinds of handles until the writer is done.
    fn read(&self, mut dice: Dice) {
        let mut reader = self.memory.reader();
        let mut windows: Vec<_> = (0..PLACES).map(|_| None).collect();
        while !self.is_over.load(Ordering::Relaxed) {
            let (place, offset) = (dice.roll(PLACES), dice.roll(WORDS) * 8);
            let gone_before = self.gone[place].load(Ordering::Acquire);
            let addr = GuestAddress(address(place).0 + offset as u64);
            match dice.roll(4) {
                0 => {
                    if let Ok(word) = self.memory.memory().read_obj::<u64>(addr) {
                        self.check(place, gone_before, word);
                    }
                }
                1 => {
                    let map = reader.memory();
                    if let Ok(word) = map.read_obj::<u64>(addr) {
                        self.check(place, gone_before, word);
                        // A borrowed map stays, so the word can be written back, and read again.
                        map.write_obj(word, addr).unwrap();
                        assert_eq!(map.read_obj::<u64>(addr).unwrap(), word);
                    }
                }
                _ => {
                    let window = &mut windows[place];
                    let Some(open) = window else {
                        *window = self.memory.window(address(place), LEN).ok();
                        continue;
                    };
                    match open.read_obj::<u64>(offset) {
                        Ok(word) => self.check(place, gone_before, word),
                        Err(WindowError::Stale { .. }) => *window = None,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            if dice.roll(64) == 0 {
                // As before a sleep.
                reader.release();
                for window in windows.iter_mut().flatten() {
                    window.is_stale();
                }
            }
        }
    }
}

#[test]
fn no_access_meets_memory_that_is_unplugged_or_unmapped() {
    let first = Region::from_range(GuestAddress(0), LEN, None).unwrap();
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::from_regions(vec![first]).unwrap());
    let hotplug = HotplugMemory::new(memory.clone());
    let slots = Arc::new(Mutex::new(Slots::default()));
    hotplug.add_listener(Arc::clone(&slots)).unwrap();
    let stage = Stage {
        memory,
        gone: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
        is_over: AtomicBool::new(false),
        accesses: AtomicU64::new(0),
    };
    let reader_count = thread::available_parallelism()
        .map_or(2, usize::from)
        .max(2);
    thread::scope(|scope| {
        for number in 0..reader_count {
            let stage = &stage;
            scope.spawn(move || stage.read(Dice(number as u64 + 77)));
        }
        // However this ends, the readers must.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            write(&hotplug, &slots, &stage);
        }));
        stage.is_over.store(true, Ordering::Relaxed);
        done.unwrap();
    });
    let accesses = stage.accesses.into_inner();
    println!("{reader_count} readers, {accesses} accesses to memory that was there");
    assert!(accesses > 0);
}

/// Plugs and unplugs at random places; what the map and the slots have is kept in a model.
fn write(hotplug: &HotplugMemory<Region>, slots: &Mutex<Slots>, stage: &Stage) {
    let mut dice = Dice(4711);
    let mut next_number = [1; PLACES];
    let mut is_plugged = [false; PLACES];
    let mut change_count = 0;
    let mut given_back = Vec::new();
    while change_count < CHANGES {
        let place = dice.roll(PLACES);
        let is_full = dice.roll(5) == 0;
        slots.lock().unwrap().is_full = is_full;
        if is_plugged[place] {
            match hotplug.unplug(address(place), LEN as u64) {
                Ok(region) => {
                    assert!(!is_full);
                    stage.gone[place].store(next_number[place], Ordering::Release);
                    next_number[place] += 1;
                    is_plugged[place] = false;
                    let region = hotplug
                        .reclaim(region, Duration::from_secs(60))
                        .expect("readers let go");
                    close(&region);
                    given_back.push(region);
                    change_count += 1;
                }
                Err(_) => assert!(is_full),
            }
        } else {
            let region = stamped(place, next_number[place]);
            match hotplug.plug(region) {
                Ok(()) => {
                    assert!(!is_full);
                    is_plugged[place] = true;
                    change_count += 1;
                }
                Err(_) => assert!(is_full),
            }
        }
        let map = stage.memory.memory();
        let in_map: Vec<u64> = map.iter().map(|region| region.start_addr().0).collect();
        let in_slots: Vec<u64> = slots.lock().unwrap().table.keys().copied().collect();
        let in_model = (0..PLACES)
            .filter(|&place| is_plugged[place])
            .map(|place| address(place).0);
        let in_model: Vec<u64> = std::iter::once(0).chain(in_model).collect();
        assert_eq!(in_map, in_model);
        assert_eq!(in_slots, in_model);
    }
    assert!(BytesExt::is_zero(&*stage.memory.memory(), GuestAddress(0), LEN).unwrap());
}
