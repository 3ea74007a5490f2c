// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The virtual machine's process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::initramfs::Parts;

pub(crate) const MEMORY_MIB: usize = 256;
const TIME_LIMIT: Duration = Duration::from_secs(240);

/// Ends the process if the test ends before it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Boots a guest on the disk behind `socket` and returns its console's lines when it has switched itself off.
pub(crate) fn run(
    parts: &Parts,
    initramfs: &Path,
    socket: &Path,
    memory_options: &str,
) -> Vec<String> {
    let mut command = Command::new(&parts.qemu);
    command
        .args(["-accel", "tcg", "-machine", "pc,memory-backend=ram"])
        .args(["-m", &format!("{MEMORY_MIB}M")])
        .arg("-object")
        .arg(format!(
            "memory-backend-memfd,id=ram,size={MEMORY_MIB}M,share=on{memory_options}"
        ))
        .args(["-nodefaults", "-no-user-config", "-no-reboot"])
        .args(["-display", "none", "-serial", "stdio"])
        .arg("-kernel")
        .arg(&parts.kernel)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", "console=ttyS0 panic=-1 loglevel=4"])
        .arg("-chardev")
        .arg(format!("socket,id=disk,path={}", socket.display()))
        .args(["-device", "vhost-user-blk-pci,chardev=disk"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut running = Running(command.spawn().unwrap());
    let console = BufReader::new(running.0.stdout.take().unwrap());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in console.split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(line).is_err() {
                break;
            }
        }
    });

    let deadline = Instant::now() + TIME_LIMIT;
    let mut lines = Vec::new();
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(rest) {
            Ok(line) => {
                println!("  | {line}");
                lines.push(line);
            }
            // The console is closed: the machine is off.
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("the guest did not end in {TIME_LIMIT:?}"),
        }
    }
    let status = running.0.wait().unwrap();
    assert!(status.success(), "{status}");
    lines
}
