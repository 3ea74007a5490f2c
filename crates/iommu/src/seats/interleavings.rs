// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Sessions and waits in all interleavings and all reorderings that the language's memory model allows.
//!
//! Run by `.ci/loom`. The table is a number here: the page that it leads to. loom finds a device in a page that was taken
//! away, because the one who took it writes there without an atomic.

use std::sync::Arc as Shared;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::*;

struct World {
    seats: Seats,
    /// 0 while the page is mapped.
    generation: AtomicU64,
    page: UnsafeCell<u64>,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            seats: Seats::default(),
            generation: AtomicU64::new(0),
            page: UnsafeCell::new(0),
        })
    }

    /// A session of one access, as of an `IommuDevice`.
    fn session(&self, seat: &Seat) {
        self.seats.take(seat);
        if self.generation.load(Ordering::Acquire) == 0 {
            self.page.with(|_| ());
        }
        seat.leave();
    }

    /// A change, as in `SharedIotlb`, and a wait for it.
    fn take_away(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.seats.wait();
        self.page.with_mut(|_| ());
    }
}

fn device(world: &Arc<World>, sessions: usize) -> thread::JoinHandle<()> {
    let world = Arc::clone(world);
    let seat: Shared<Seat> = world.seats.add();
    thread::spawn(move || {
        for _ in 0..sessions {
            world.session(&seat);
        }
        seat.retire();
    })
}

#[test]
fn a_page_is_taken_away_from_no_session() {
    loom::model(|| {
        let world = World::new();
        let device = device(&world, 2);
        world.take_away();
        device.join().unwrap();
    });
}

#[test]
fn a_page_is_taken_away_from_no_session_of_two_devices() {
    // All interleavings of three threads take hours: those with two switches that no thread asked for.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let world = World::new();
        let devices = [device(&world, 1), device(&world, 1)];
        world.take_away();
        for device in devices {
            device.join().unwrap();
        }
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_a_wait_a_page_is_taken_away_from_a_session() {
    loom::model(|| {
        let world = World::new();
        let device = device(&world, 1);
        world.generation.fetch_add(1, Ordering::SeqCst);
        world.page.with_mut(|_| ());
        device.join().unwrap();
    });
}
