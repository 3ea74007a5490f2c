// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Plugging and unplugging with listeners: all or nothing, whatever step fails.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use guest_memory_atomic::{
    ChangeKind, GuestMemoryAtomic, HotplugChange, HotplugError, HotplugListener, HotplugMemory,
};
use guest_memory_core::{GuestAddress, GuestAddressSpace, GuestMemory, GuestMemoryRegion};
use guest_memory_mmap::{GuestMemoryMmap, GuestRegionMmap};

type Region = GuestRegionMmap<()>;
type Memory = GuestMemoryAtomic<GuestMemoryMmap<()>>;
type Table = BTreeMap<u64, u64>;

const PAGE: u64 = 0x1000;
const PAGE_LEN: usize = 0x1000;
const LISTENERS: usize = 4;

fn region(page: u64) -> Arc<Region> {
    Arc::new(Region::from_range(GuestAddress(page * PAGE), PAGE_LEN, None).unwrap())
}

fn map(pages: &[u64]) -> GuestMemoryMmap<()> {
    GuestMemoryMmap::from_arc_regions(pages.iter().copied().map(region).collect()).unwrap()
}

fn table(map: &GuestMemoryMmap<()>) -> Table {
    map.iter()
        .map(|region| (region.start_addr().0, region.len()))
        .collect()
}

/// What a listener is to do wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    Refuses,
    PanicsToPrepare,
    PanicsToCommit,
    PanicsToRollBack,
}

/// The calls that all listeners got, in order.
type Log = Arc<Mutex<String>>;

/// A table of slots, as a hypervisor has one.
struct Slots {
    name: char,
    table: Table,
    flaw: Option<Flaw>,
    log: Log,
    /// To see which map is in force at each call.
    memory: Memory,
}

impl Slots {
    fn note(&self, call: char) {
        let region_count = self.memory.memory().num_regions();
        let mut log = self.log.lock().unwrap();
        write!(log, "{}{call}{region_count} ", self.name).unwrap();
    }

    fn enter(&mut self, region: &Region) {
        let (start, len) = (region.start_addr().0, region.len());
        assert_eq!(self.table.insert(start, len), None);
    }

    fn remove(&mut self, region: &Region) {
        let (start, len) = (region.start_addr().0, region.len());
        assert_eq!(self.table.remove(&start), Some(len));
    }
}

impl HotplugListener<Region> for Slots {
    fn prepare(
        &mut self,
        change: &HotplugChange<'_, Region>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.note('p');
        match self.flaw {
            Some(Flaw::Refuses) => return Err("the table is full".into()),
            Some(Flaw::PanicsToPrepare) => panic!("to prepare"),
            _ => {}
        }
        match change.kind() {
            ChangeKind::Plug => self.enter(change.region()),
            ChangeKind::Unplug => self.remove(change.region()),
        }
        Ok(())
    }

    fn commit(&mut self, change: &HotplugChange<'_, Region>) {
        self.note('c');
        assert!(table(change.after()) == self.table);
        if self.flaw == Some(Flaw::PanicsToCommit) {
            panic!("to commit");
        }
    }

    fn rollback(&mut self, change: &HotplugChange<'_, Region>) {
        self.note('r');
        match change.kind() {
            ChangeKind::Plug => self.remove(change.region()),
            ChangeKind::Unplug => self.enter(change.region()),
        }
        assert!(table(change.before()) == self.table);
        if self.flaw == Some(Flaw::PanicsToRollBack) {
            panic!("to roll back");
        }
    }

    fn name(&self) -> String {
        format!("table {}", self.name)
    }
}

/// A memory of pages 0 and 2, with listeners named by letters.
struct Machine {
    hotplug: HotplugMemory<Region>,
    slots: Vec<Arc<Mutex<Slots>>>,
    log: Log,
}

impl Machine {
    fn new() -> Self {
        let memory = GuestMemoryAtomic::new(map(&[0, 2]));
        let hotplug = HotplugMemory::new(memory.clone());
        let log = Log::default();
        let slots: Vec<_> = ('a'..)
            .take(LISTENERS)
            .map(|name| {
                let slots = Slots {
                    name,
                    table: Table::new(),
                    flaw: None,
                    log: Arc::clone(&log),
                    memory: memory.clone(),
                };
                Arc::new(Mutex::new(slots))
            })
            .collect();
        for slots in &slots {
            hotplug.add_listener(Arc::clone(slots)).unwrap();
        }
        log.lock().unwrap().clear();
        Self {
            hotplug,
            slots,
            log,
        }
    }

    fn with_flaw(flaw: Flaw, number: usize) -> Self {
        let machine = Self::new();
        machine.slots[number].lock().unwrap().flaw = Some(flaw);
        machine
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().trim_end().to_owned()
    }

    /// Checks that map and tables all have exactly these pages.
    fn assert_pages(&self, pages: &[u64]) {
        let expected: Table = pages.iter().map(|&page| (page * PAGE, PAGE)).collect();
        assert_eq!(table(&self.hotplug.memory().memory()), expected);
        for slots in &self.slots {
            let slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
            assert_eq!(slots.table, expected, "of {}", slots.name);
        }
    }

    fn change(&self, kind: ChangeKind) -> Result<(), HotplugError> {
        match kind {
            ChangeKind::Plug => self.hotplug.plug(region(1)),
            ChangeKind::Unplug => self.hotplug.unplug(GuestAddress(2 * PAGE), PAGE).map(drop),
        }
    }
}

#[test]
fn a_plug_prepares_all_then_swaps_then_commits_all() {
    let machine = Machine::new();
    machine.change(ChangeKind::Plug).unwrap();
    machine.assert_pages(&[0, 1, 2]);
    assert_eq!(machine.log(), "ap2 bp2 cp2 dp2 ac3 bc3 cc3 dc3");
}

#[test]
fn an_unplug_goes_through_the_listeners_in_reverse() {
    let machine = Machine::new();
    machine.change(ChangeKind::Unplug).unwrap();
    machine.assert_pages(&[0]);
    assert_eq!(machine.log(), "dp2 cp2 bp2 ap2 dc1 cc1 bc1 ac1");
}

#[test]
fn a_refusal_at_any_step_rolls_back_those_before_in_reverse() {
    for (number, plug_log, unplug_log) in [
        (0, "ap2", "dp2 cp2 bp2 ap2 br2 cr2 dr2"),
        (1, "ap2 bp2 ar2", "dp2 cp2 bp2 cr2 dr2"),
        (2, "ap2 bp2 cp2 br2 ar2", "dp2 cp2 dr2"),
        (3, "ap2 bp2 cp2 dp2 cr2 br2 ar2", "dp2"),
    ] {
        for (kind, expected) in [
            (ChangeKind::Plug, plug_log),
            (ChangeKind::Unplug, unplug_log),
        ] {
            let machine = Machine::with_flaw(Flaw::Refuses, number);
            let generation = machine.hotplug.memory().generation();
            let error = machine.change(kind).unwrap_err();
            machine.assert_pages(&[0, 2]);
            assert_eq!(machine.hotplug.memory().generation(), generation);
            assert_eq!(machine.log(), expected);
            let name = machine.slots[number].lock().unwrap().name;
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("table {name} refused to {kind} 4096 bytes"))
            );
            assert_eq!(error.source().unwrap().to_string(), "the table is full");

            // When it lets it pass, all is well.
            machine.slots[number].lock().unwrap().flaw = None;
            machine.change(kind).unwrap();
        }
    }
}

#[test]
fn a_panic_to_prepare_is_a_refusal_and_goes_on() {
    for number in 0..LISTENERS {
        for kind in [ChangeKind::Plug, ChangeKind::Unplug] {
            let machine = Machine::with_flaw(Flaw::PanicsToPrepare, number);
            let thrown = panic::catch_unwind(AssertUnwindSafe(|| machine.change(kind)));
            let message = *thrown.unwrap_err().downcast::<&str>().unwrap();
            assert_eq!(message, "to prepare");
            machine.assert_pages(&[0, 2]);
            // Nothing stays locked or poisoned but the listener's own lock.
            drop(machine.hotplug.memory().lock().unwrap());
            let mut slots = machine.slots[number]
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            slots.flaw = None;
            drop(slots);
            machine.change(kind).unwrap();
        }
    }
}

#[test]
fn a_panic_to_commit_keeps_nobody_else_from_it() {
    for number in 0..LISTENERS {
        for (kind, pages) in [
            (ChangeKind::Plug, [0, 1, 2].as_slice()),
            (ChangeKind::Unplug, &[0]),
        ] {
            let machine = Machine::with_flaw(Flaw::PanicsToCommit, number);
            let thrown = panic::catch_unwind(AssertUnwindSafe(|| machine.change(kind)));
            assert!(thrown.is_err());
            machine.assert_pages(pages);
            assert_eq!(machine.log().matches('c').count(), LISTENERS + 2);
        }
    }
}

#[test]
fn a_panic_to_roll_back_keeps_nobody_else_from_it() {
    for number in 0..LISTENERS - 1 {
        let machine = Machine::with_flaw(Flaw::PanicsToRollBack, number);
        machine.slots[LISTENERS - 1].lock().unwrap().flaw = Some(Flaw::Refuses);
        let thrown = panic::catch_unwind(AssertUnwindSafe(|| machine.change(ChangeKind::Plug)));
        assert!(thrown.is_err());
        machine.assert_pages(&[0, 2]);
        assert!(machine.log().ends_with("cr2 br2 ar2"));
    }
}

#[test]
fn what_the_map_cannot_do_is_asked_of_nobody() {
    let machine = Machine::new();
    let overlap = machine.hotplug.plug(region(2)).unwrap_err();
    assert!(matches!(
        overlap,
        HotplugError::Map {
            kind: ChangeKind::Plug,
            start: GuestAddress(0x2000),
            len: 0x1000,
            ..
        }
    ));
    assert_eq!(overlap.to_string(), "cannot plug 4096 bytes at gpa 0x2000");
    assert_eq!(
        overlap.source().unwrap().to_string(),
        "memory regions overlap"
    );
    for (start, len) in [(1, PAGE), (2, PAGE - 1), (2, 2 * PAGE), (0, 3 * PAGE)] {
        let missing = machine.hotplug.unplug(GuestAddress(start * PAGE), len);
        assert!(matches!(
            missing,
            Err(HotplugError::Map {
                kind: ChangeKind::Unplug,
                ..
            })
        ));
    }
    machine.assert_pages(&[0, 2]);
    assert_eq!(machine.log(), "");
}

#[test]
fn a_listener_that_refuses_a_region_that_is_there_is_not_added() {
    /// Takes a number of regions.
    struct Limited(usize);

    impl HotplugListener<Region> for Limited {
        fn prepare(
            &mut self,
            _change: &HotplugChange<'_, Region>,
        ) -> Result<(), Box<dyn Error + Send + Sync>> {
            self.0 = self.0.checked_sub(1).ok_or("no slot left")?;
            Ok(())
        }

        fn commit(&mut self, _change: &HotplugChange<'_, Region>) {}

        fn rollback(&mut self, _change: &HotplugChange<'_, Region>) {
            self.0 += 1;
        }
    }

    let machine = Machine::new();
    let limited = Arc::new(Mutex::new(Limited(1)));
    let error = machine
        .hotplug
        .add_listener(Arc::clone(&limited))
        .unwrap_err();
    assert!(
        error.to_string().contains("Limited refused to plug"),
        "{error}"
    );
    assert_eq!(limited.lock().unwrap().0, 1);
    machine.change(ChangeKind::Plug).unwrap();

    limited.lock().unwrap().0 = 3;
    machine.hotplug.add_listener(Arc::clone(&limited)).unwrap();
    assert_eq!(limited.lock().unwrap().0, 0);
    assert!(machine.hotplug.plug(region(7)).is_err());
    machine.assert_pages(&[0, 1, 2]);
}

#[test]
fn a_listener_that_was_removed_is_not_asked() {
    let machine = Machine::new();
    let extra = Arc::clone(&machine.slots[1]);
    extra.lock().unwrap().table.clear();
    let id = machine.hotplug.add_listener(Arc::clone(&extra)).unwrap();
    assert!(machine.hotplug.remove_listener(id));
    assert!(!machine.hotplug.remove_listener(id));
    machine.log.lock().unwrap().clear();
    machine.change(ChangeKind::Plug).unwrap();
    machine.assert_pages(&[0, 1, 2]);
    assert_eq!(machine.log(), "ap2 bp2 cp2 dp2 ac3 bc3 cc3 dc3");
}

#[test]
fn an_unplugged_region_is_the_one_that_was_plugged() {
    let hotplug = HotplugMemory::new(GuestMemoryAtomic::new(map(&[0])));
    let plugged = region(9);
    hotplug.clone().plug(Arc::clone(&plugged)).unwrap();
    let unplugged = hotplug.unplug(GuestAddress(9 * PAGE), PAGE).unwrap();
    assert!(Arc::ptr_eq(&plugged, &unplugged));
}

#[test]
fn a_region_is_reclaimed_when_nobody_else_has_it() {
    let hotplug = HotplugMemory::new(GuestMemoryAtomic::new(map(&[0, 3])));
    let memory = hotplug.memory();
    let guard = memory.memory();
    let mut reader = memory.reader();
    reader.memory();
    let mut window = memory.window(GuestAddress(3 * PAGE), 16).unwrap();
    let region = hotplug.unplug(GuestAddress(3 * PAGE), PAGE).unwrap();

    // One map, which guard and reader share, and the window.
    let in_use = hotplug.reclaim(region, Duration::ZERO).unwrap_err();
    assert_eq!(
        in_use.to_string(),
        "memory of 4096 bytes at gpa 0x3000 is still in use by 2 others"
    );
    drop(guard);
    reader.memory();
    let moment = Duration::from_millis(3);
    let in_use = hotplug.reclaim(in_use.into_region(), moment).unwrap_err();
    assert_eq!(in_use.holder_count(), 1);
    assert!(window.is_stale());
    let region = hotplug
        .reclaim(in_use.into_region(), Duration::MAX)
        .unwrap();
    assert_eq!(region.start_addr(), GuestAddress(3 * PAGE));
}

#[test]
fn a_reclaim_wakes_the_threads_that_sleep_on_a_region() {
    let hotplug = HotplugMemory::new(GuestMemoryAtomic::new(map(&[0, 3])));
    let memory = hotplug.memory();
    let mut window = memory.window(GuestAddress(3 * PAGE), 16).unwrap();
    let (kick, kicked) = std::sync::mpsc::channel();
    let hook = memory.on_release_request(move || kick.send(()).unwrap());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while kicked.recv().is_ok() {
                window.is_stale();
            }
        });
        let region = hotplug.unplug(GuestAddress(3 * PAGE), PAGE).unwrap();
        hotplug.reclaim(region, Duration::MAX).unwrap();
        drop(hook);
    });
}
