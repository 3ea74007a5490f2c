// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A virtual machine's process, its serial port and its monitor.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// Finds the program; the error says that it is missing.
pub(crate) fn qemu() -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join("qemu-system-x86_64"))
        .find(|file| file.is_file())
        .ok_or("no program qemu-system-x86_64".into())
}

/// Waits until `is_so` says so; says whether it did in time.
pub(crate) fn wait_until(mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

/// A virtual machine; ends with this.
pub(crate) struct Machine {
    process: Child,
    keyboard: ChildStdin,
    said: Arc<Mutex<String>>,
    monitor: BufReader<UnixStream>,
}

impl Machine {
    /// Starts a machine whose disk is served on `disk`; with `incoming` it waits there for another's state.
    pub(crate) fn start(
        qemu: &Path,
        directory: &Path,
        disk: &Path,
        incoming: Option<&str>,
    ) -> Self {
        let monitor = disk.with_extension("monitor");
        let mut command = Command::new(qemu);
        command
            .current_dir(directory)
            .args(["-accel", "tcg", "-machine", "pc,memory-backend=ram"])
            .args(["-m", "16M", "-object"])
            .arg("memory-backend-memfd,id=ram,size=16M,share=on")
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-serial", "stdio", "-qmp"])
            .arg(format!("unix:{},server=on,wait=off", monitor.display()))
            .arg("-chardev")
            .arg(format!("socket,id=disk,path={}", disk.display()))
            .args(["-device", "vhost-user-blk-pci,chardev=disk"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(place) = incoming {
            command.args(["-incoming", place]);
        }
        let mut process = command.spawn().unwrap();
        let keyboard = process.stdin.take().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let mut serial = process.stdout.take().unwrap();
        thread::spawn({
            let said = Arc::clone(&said);
            move || {
                let mut bytes = [0; 256];
                while let Ok(count @ 1..) = serial.read(&mut bytes) {
                    let text = String::from_utf8_lossy(&bytes[..count]);
                    said.lock().unwrap().push_str(&text);
                }
            }
        });
        let mut connection = None;
        let is_there = wait_until(|| {
            connection = UnixStream::connect(&monitor).ok();
            connection.is_some()
        });
        assert!(is_there, "no monitor");
        let monitor = BufReader::new(connection.unwrap());
        let mut machine = Self {
            process,
            keyboard,
            said,
            monitor,
        };
        machine.ask("qmp_capabilities", "");
        machine
    }

    /// Returns what the guest has said in this machine.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Asks the guest to finish.
    pub(crate) fn type_a_key(&mut self) {
        self.keyboard.write_all(b"q").unwrap();
        self.keyboard.flush().unwrap();
    }

    /// Returns how far a migration from this machine is.
    pub(crate) fn progress(&mut self) -> Progress {
        Progress(self.ask("query-migrate", ""))
    }

    /// Gives the monitor a command with arguments in JSON; returns the line of the answer.
    pub(crate) fn ask(&mut self, command: &str, arguments: &str) -> String {
        let line = format!("{{\"execute\": \"{command}\", \"arguments\": {{{arguments}}}}}\n");
        self.monitor.get_mut().write_all(line.as_bytes()).unwrap();
        loop {
            let mut line = String::new();
            assert_ne!(self.monitor.read_line(&mut line).unwrap(), 0, "no answer");
            assert!(!line.starts_with("{\"error\""), "{command}: {line}");
            if line.starts_with("{\"return\"") {
                return line;
            }
        }
    }
}

/// What the monitor says about a migration.
#[derive(Debug)]
pub(crate) struct Progress(String);

impl Progress {
    pub(crate) fn is_under_way(&self) -> bool {
        ["setup", "active", "device"]
            .iter()
            .any(|status| self.is(status))
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.is("completed")
    }

    /// Returns how often memory was, or is being, gone over.
    pub(crate) fn passes(&self) -> u64 {
        let (_, rest) = self
            .0
            .split_once("\"dirty-sync-count\": ")
            .unwrap_or_default();
        let (digits, _) = rest.split_once(',').unwrap_or_default();
        digits.parse().unwrap_or(0)
    }

    fn is(&self, status: &str) -> bool {
        self.0.contains(&format!("\"status\": \"{status}\""))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
