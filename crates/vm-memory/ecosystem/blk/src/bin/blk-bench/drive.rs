// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Two ways to drive the device, and the clocks.

use std::error::Error;
use std::time::{Duration, Instant};

use blk::request::Buffers;
use blk::{Disk, RamDisk, Tracking, serve};
use rustix::time::{ClockId, clock_gettime};
use vm_memory::GuestAddressSpace;
use vmm_sys_util::eventfd::EventFd;

use crate::front_end::{FrontEnd, SLOTS};
use crate::session::{self, Session};

#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

/// Calls the device's queue code for each batch; a tenth of the batches more come first and are not timed.
pub(crate) fn inline<B: Tracking>(
    front_end: &FrontEnd,
    disk: &impl Disk,
    batch_count: usize,
) -> Result<Figures, Box<dyn Error>> {
    // A daemon sets up the memory and the log in it, and then waits.
    let session = Session::<B>::start(front_end, RamDisk::new(0))?;
    let memory = session.memory.memory();
    let mut queue = front_end.queue()?;
    let mut buffers = Buffers::default();
    let mut figures = Figures::default();
    let warm_up_count = batch_count / 10 + 1;
    front_end.reset()?;
    for batch in 1..=warm_up_count + batch_count {
        front_end.publish(batch)?;
        let cpu = cpu_time(ClockId::ThreadCPUTime);
        let start = Instant::now();
        let count = serve(&mut queue, &*memory, disk, &mut buffers)?;
        let wall = start.elapsed();
        let cpu = cpu_time(ClockId::ThreadCPUTime) - cpu;
        if count != SLOTS {
            return Err("a batch was not answered".into());
        }
        if batch > warm_up_count {
            figures.wall += wall;
            figures.cpu += cpu;
        }
    }
    front_end.check_statuses()?;
    drop(memory);
    session.stop()?;
    Ok(figures)
}

/// Runs the daemon and sends it batches through events.
pub(crate) fn socket<B: Tracking>(
    front_end: &FrontEnd,
    disk: impl Disk + 'static,
    batch_count: usize,
) -> Result<Figures, Box<dyn Error>> {
    front_end.reset()?;
    let mut session = Session::<B>::start(front_end, disk)?;
    let (kick, call) = (EventFd::new(0)?, EventFd::new(0)?);
    session::start_queue(&mut session.connection, front_end, &kick, &call)?;
    let run = |batches: std::ops::RangeInclusive<usize>| -> Result<(), Box<dyn Error>> {
        for batch in batches {
            front_end.publish(batch)?;
            kick.write(1)?;
            while !front_end.is_answered(batch)? {
                call.read()?;
            }
        }
        Ok(())
    };
    let warm_up_count = batch_count / 10 + 1;
    run(1..=warm_up_count)?;
    let cpu = others_cpu_time();
    let start = Instant::now();
    run(warm_up_count + 1..=warm_up_count + batch_count)?;
    let figures = Figures {
        wall: start.elapsed(),
        cpu: others_cpu_time() - cpu,
    };
    front_end.check_statuses()?;
    session.stop()?;
    Ok(figures)
}

/// CPU time of every thread of this process but the calling one.
fn others_cpu_time() -> Duration {
    cpu_time(ClockId::ProcessCPUTime).saturating_sub(cpu_time(ClockId::ThreadCPUTime))
}

fn cpu_time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::try_from(time).unwrap_or_default()
}
