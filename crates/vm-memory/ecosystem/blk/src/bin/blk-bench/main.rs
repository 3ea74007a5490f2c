// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Measures the block device without a guest: a front end fills the rings, the device answers.
//!
//! Each line of the output is one case: how the device is driven, where its disk is, the bytes of a request, what it
//! does, whether memory is tracked, requests per second, and nanoseconds of the device's CPU time per request.
//!
//! Memory is tracked not at all (`off`), in a bitmap of the device's `own`, or in the front end's `log`, as in a migration.
//!
//! * `inline`: the device's queue code is called by the thread that filled the rings; only that call is timed. No other
//!   thread takes part, so these figures are the steady ones.
//! * `socket`: the whole daemon behind a vhost-user socket, woken by an event for every batch of requests and waking the
//!   front end by another. The CPU time is that of every thread but the front end's.
//!
//! `blk-compare` runs this program on two libraries in turn.

mod drive;
mod front_end;
mod session;

use std::error::Error;

use blk::{DirtyLog, FileDisk, RamDisk, SharedLog, Tracking};
use front_end::{DISK_LEN_BYTES, Direction, FrontEnd, Workload};

/// Bytes of a request and batches of such requests; the smallest requests show what one costs beside its data.
const WORKLOADS: [(u32, usize); 3] = [(512, 2000), (4 << 10, 1500), (128 << 10, 100)];

fn main() -> Result<(), Box<dyn Error>> {
    for (request_len_bytes, batch_count) in WORKLOADS {
        for direction in [Direction::Read, Direction::Write] {
            let workload = Workload {
                request_len_bytes,
                direction,
            };
            let front_end = FrontEnd::new(&workload)?;
            let case = Case {
                workload: &workload,
                front_end: &front_end,
                batch_count,
            };
            case.inline::<SharedLog>("log")?;
            case.inline::<DirtyLog>("own")?;
            case.inline::<()>("off")?;
            case.socket::<SharedLog>("log")?;
            case.socket::<DirtyLog>("own")?;
            case.socket::<()>("off")?;
        }
    }
    Ok(())
}

struct Case<'a> {
    workload: &'a Workload,
    front_end: &'a FrontEnd,
    batch_count: usize,
}

impl Case<'_> {
    fn inline<B: Tracking>(&self, tracking: &str) -> Result<(), Box<dyn Error>> {
        let ram = RamDisk::new(usize::try_from(DISK_LEN_BYTES)?);
        let figures = drive::inline::<B>(self.front_end, &ram, self.batch_count)?;
        self.report("inline", "ram", tracking, &figures);
        let figures = drive::inline::<B>(self.front_end, &file_disk()?, self.batch_count)?;
        self.report("inline", "file", tracking, &figures);
        Ok(())
    }

    fn socket<B: Tracking>(&self, tracking: &str) -> Result<(), Box<dyn Error>> {
        let figures = drive::socket::<B>(self.front_end, file_disk()?, self.batch_count)?;
        self.report("socket", "file", tracking, &figures);
        Ok(())
    }

    fn report(&self, driven: &str, disk: &str, tracking: &str, figures: &drive::Figures) {
        let requests = (self.batch_count * front_end::SLOTS) as f64;
        println!(
            "{driven}\t{disk}\t{}\t{}\t{tracking}\t{:.0}\t{:.1}",
            self.workload.request_len_bytes,
            self.workload.direction.name(),
            requests / figures.wall.as_secs_f64(),
            figures.cpu.as_secs_f64() * 1e9 / requests,
        );
    }
}

/// A disk in a memory file: the system calls of a file without a medium that would dominate them.
fn file_disk() -> Result<FileDisk, Box<dyn Error>> {
    let file = memfd::MemfdOptions::new().create("disk")?.into_file();
    file.set_len(DISK_LEN_BYTES)?;
    Ok(FileDisk::new(file, "bench")?)
}
