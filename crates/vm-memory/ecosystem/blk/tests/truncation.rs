// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A front end takes the memory away that it shares: the device, guarded, lives on.
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

use std::env;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use blk::{DirtyLog, RamDisk};
use front_end::{
    DISK_LEN_BYTES, Direction, FrontEnd, LOW_LEN_BYTES, MEMORY_LEN_BYTES, SLOTS, Workload,
};
use session::Session;
use vhost::VhostBackend;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const PATIENCE: Duration = Duration::from_secs(20);
const IO_ERROR: u8 = 1;
/// Tells a process of this program which part of its memory to take from an unguarded device.
const UNGUARDED: &str = "BLK_TEST_UNGUARDED";

#[test]
fn a_guarded_device_outlives_all_of_its_memory() {
    for direction in [Direction::Read, Direction::Write] {
        blk::guard_faults().unwrap();
        let mut machine = Machine::start(direction);
        machine.take_all_memory();
        assert!(!machine.session.server.is_finished());
        machine.give_memory_back();
        machine.stop();
    }
}

#[test]
fn a_guarded_device_answers_requests_whose_data_is_gone_with_errors() {
    for direction in [Direction::Read, Direction::Write] {
        blk::guard_faults().unwrap();
        let mut machine = Machine::start(direction);
        machine.take_data();
        machine.wait_for(2);
        assert_eq!(machine.front_end.statuses().unwrap(), [IO_ERROR; SLOTS]);
        machine.give_memory_back();
        machine.stop();
    }
}

#[test]
fn an_unguarded_device_ends_by_sigbus() {
    match env::var(UNGUARDED).as_deref() {
        Ok("all") => return Machine::start(Direction::Read).take_all_memory(),
        Ok(_) => {
            let machine = Machine::start(Direction::Read);
            machine.take_data();
            return machine.wait_for(2);
        }
        Err(_) => {}
    }
    for part in ["all", "data"] {
        let output = Command::new(env::current_exe().unwrap())
            .args(["an_unguarded_device_ends_by_sigbus", "--exact"])
            .env(UNGUARDED, part)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let signal = output.status.signal();
        assert_eq!(signal, Some(libc::SIGBUS), "{part}: {said}");
    }
}

/// A front end and a device behind a socket, which has answered one batch of requests.
struct Machine {
    front_end: FrontEnd,
    workload: Workload,
    session: Session<DirtyLog>,
    kick: EventFd,
    call: EventFd,
}

impl Machine {
    fn start(direction: Direction) -> Self {
        let workload = Workload {
            request_len_bytes: 4096,
            direction,
        };
        let disk = RamDisk::new(usize::try_from(DISK_LEN_BYTES).unwrap());
        let front_end = FrontEnd::new(&workload).unwrap();
        front_end.reset().unwrap();
        let mut session = Session::start(&front_end, disk).unwrap();
        let (kick, call) = (event(), event());
        session::start_queue(&mut session.connection, &front_end, &kick, &call).unwrap();
        let machine = Self {
            front_end,
            workload,
            session,
            kick,
            call,
        };
        machine.run_first_batch();
        machine
    }

    fn run_first_batch(&self) {
        self.front_end.publish(1).unwrap();
        self.kick.write(1).unwrap();
        self.wait_for(1);
        self.front_end.check_statuses().unwrap();
    }

    /// Makes a batch available, takes everything away and waits until the device has seen that.
    fn take_all_memory(&self) {
        self.front_end.publish(2).unwrap();
        self.front_end.file().set_len(0).unwrap();
        // From here on this process's own mapping must not be touched either.
        self.kick_until_handled();
    }

    /// Makes a batch available and takes the data's part of memory away, while rings, headers and statuses stay.
    fn take_data(&self) {
        self.front_end.publish(2).unwrap();
        self.front_end.file().set_len(LOW_LEN_BYTES).unwrap();
        self.kick.write(1).unwrap();
    }

    /// Sets the memory and the queue up anew, has a batch answered.
    fn give_memory_back(&mut self) {
        self.session.connection.get_vring_base(0).unwrap();
        self.front_end.file().set_len(MEMORY_LEN_BYTES).unwrap();
        self.front_end.lay_out(&self.workload).unwrap();
        self.front_end.reset().unwrap();
        (self.kick, self.call) = (event(), event());
        let connection = &mut self.session.connection;
        connection
            .set_mem_table(&self.front_end.memory_table())
            .unwrap();
        session::start_queue(connection, &self.front_end, &self.kick, &self.call).unwrap();
        self.run_first_batch();
    }

    /// Returns when the device has been through the queue after the first kick of this call.
    fn kick_until_handled(&self) {
        // An event of this weight stands alone: the next finds room when the device has taken it. So the third one finds
        // room when the device is at the second, and that is when it is done with the first.
        for _ in 0..3 {
            wait_until("the device takes no kick", || {
                match self.kick.write(u64::MAX - 1) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => false,
                    written => written.map(|()| true).unwrap(),
                }
            });
        }
    }

    fn wait_for(&self, batch: usize) {
        wait_until("the device does not answer", || {
            self.front_end.is_answered(batch).unwrap()
        });
    }

    fn stop(self) {
        drop(self.session.connection);
        self.session.server.join().unwrap().unwrap();
    }
}

fn event() -> EventFd {
    EventFd::new(EFD_NONBLOCK).unwrap()
}

fn wait_until(otherwise: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{otherwise}");
        thread::sleep(Duration::from_millis(1));
    }
}
