// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A virtual machine moves to another process, with the device at work until the last moment.
#![expect(clippy::unwrap_used, reason = "tests may unwrap, in helpers too")]

#[path = "migration/forgetful.rs"]
mod forgetful;
#[path = "migration/guest.rs"]
mod guest;
#[path = "migration/machine.rs"]
mod machine;

use std::fs::{self, File};
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use blk::{Device, FileDisk, SharedLog, Tracking};
use forgetful::Forgetful;
use machine::{Machine, wait_until};
use vhost_user_backend::VhostUserDaemon;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

/// One pair of machines at a time: their pace is part of the test.
static ALONE: Mutex<()> = Mutex::new(());

/// Times memory is gone over before a guest is made to move; it may do so before that if it is quiet for a moment.
const PASSES: u64 = 4;

#[test]
fn a_guest_finds_its_memory_and_its_disk_after_each_migration() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    match machine::qemu() {
        Ok(qemu) => migrate::<SharedLog>(&qemu, 5).unwrap(),
        Err(reason) => println!("skipped: {reason}"),
    }
}

/// The test above can fail.
#[test]
fn a_guest_does_not_survive_a_device_that_marks_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    match machine::qemu() {
        Ok(qemu) => println!("{}", migrate::<Forgetful>(&qemu, 3).unwrap_err()),
        Err(reason) => println!("skipped: {reason}"),
    }
}

/// A machine, and a device that it has for itself.
struct Side {
    machine: Machine,
    device: Receiver<Result<(), String>>,
}

impl Side {
    fn start<B: Tracking>(qemu: &Path, image: &Path, name: &str, incoming: Option<&str>) -> Self {
        let socket = image.with_file_name(format!("{name}.sock"));
        let device = serve::<B>(image, &socket);
        let directory = image.parent().unwrap();
        let machine = Machine::start(qemu, directory, &socket, incoming);
        Self { machine, device }
    }

    /// Ends the machine, and the device with it.
    fn end(self) {
        drop(self.machine);
        let end = self.device.recv_timeout(Duration::from_secs(10));
        end.unwrap().unwrap();
    }

    fn said(&self) -> String {
        self.machine.said()
    }

    fn turns(&self) -> usize {
        self.said().matches('.').count()
    }

    /// Waits for `count` more turns of the guest, as long as it sees no difference.
    fn wait_for_turns(&self, count: usize) -> Result<(), String> {
        let goal = self.turns() + count;
        wait_until(|| self.turns() >= goal || self.said().contains(['!', '?']));
        let said = self.said();
        if said.contains(['!', '?']) {
            Err(format!("the guest saw a difference: {said}"))
        } else if self.turns() < goal {
            Err(format!("the guest stopped: {said}"))
        } else {
            Ok(())
        }
    }
}

fn serve<B: Tracking>(image: &Path, socket: &Path) -> Receiver<Result<(), String>> {
    let file = File::options().read(true).write(true).open(image).unwrap();
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::<B>::new());
    let disk = FileDisk::new(file, "moving").unwrap();
    let device = Arc::new(Device::new(memory.clone(), disk));
    let mut daemon = VhostUserDaemon::new("blk".into(), device, memory).unwrap();
    let (ended, end) = mpsc::channel();
    let path = socket.to_owned();
    thread::spawn(move || ended.send(daemon.serve(path).map_err(|error| error.to_string())));
    assert!(wait_until(|| socket.exists()), "no socket");
    end
}

/// Boots a guest, moves it `count` times and compares what it saw with the disk; the error says what is wrong.
fn migrate<B: Tracking>(qemu: &Path, count: usize) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("disk.img");
    fs::write(&image, guest::disk()).unwrap();
    let mut here = Side::start::<B>(qemu, &image, "0", None);
    here.wait_for_turns(2)?;
    for migration in 1..=count {
        let place = format!("unix:{migration}.incoming");
        let there = Side::start::<B>(qemu, &image, &migration.to_string(), Some(&place));
        let started = Instant::now();
        let passes = send(&mut here, &place)?;
        there.wait_for_turns(2)?;
        println!(
            "migration {migration}: {:.1} s, {passes} passes over memory, {} turns before it",
            started.elapsed().as_secs_f64(),
            here.turns(),
        );
        here.end();
        here = there;
    }
    here.machine.type_a_key();
    if !wait_until(|| here.said().contains('\n')) {
        return Err(format!("the guest does not end: {}", here.said()));
    }
    let said = here.said();
    here.end();
    compare(&said, &fs::read(image).unwrap())
}

/// Compares the guest's last words with the disk.
fn compare(said: &str, disk: &[u8]) -> Result<(), String> {
    println!("the guest's last words are {}", said.trim_end());
    if said.contains(['!', '?']) {
        return Err("the guest saw a difference".into());
    }
    let (_, results) = said.trim_end().split_once('S').unwrap();
    let (sum, rounds) = results.split_once('N').unwrap();
    let [sum, rounds] = [sum, rounds].map(|digits| u32::from_str_radix(digits, 16).unwrap());
    println!("the disk's sum is {:08X}", guest::sum(disk));
    for (slot, numbers) in (0..).zip(guest::slots(disk)) {
        let round = guest::round_of(slot, rounds);
        if numbers != guest::numbers(round) {
            return Err(format!("slot {slot} of the disk is not from round {round}"));
        }
    }
    if sum == guest::sum(disk) {
        Ok(())
    } else {
        Err("the guest's sum is another".into())
    }
}

/// Moves the guest; returns how often memory was gone over.
fn send(from: &mut Side, place: &str) -> Result<u64, String> {
    let goal = from.turns() + 2;
    // No end while as much as a page is left, as a rule: the guest makes some turns meanwhile.
    from.machine.ask(
        "migrate-set-parameters",
        "\"downtime-limit\": 1, \"max-bandwidth\": 2000000",
    );
    from.machine
        .ask("migrate", &format!("\"uri\": \"{place}\""));
    wait_until(|| {
        let progress = from.machine.progress();
        !progress.is_under_way() || progress.passes() >= PASSES && from.turns() >= goal
    });
    from.machine.ask(
        "migrate-set-parameters",
        "\"downtime-limit\": 2000, \"max-bandwidth\": 1000000000",
    );
    wait_until(|| !from.machine.progress().is_under_way());
    let end = from.machine.progress();
    if end.is_complete() {
        Ok(end.passes())
    } else {
        Err(format!("the migration failed: {end:?}"))
    }
}
