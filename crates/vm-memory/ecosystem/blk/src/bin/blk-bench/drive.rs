// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Two ways to drive the device, and the clocks.

use std::error::Error;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use blk::request::Buffers;
use blk::{Device, Disk, serve};
use rustix::time::{ClockId, clock_gettime};
use vhost::VhostBackend;
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost_user_backend::VhostUserDaemon;
use vhost_user_backend::bitmap::BitmapReplace;
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use vm_memory::mmap::NewBitmap;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use crate::front_end::{FrontEnd, SLOTS};

/// The bit of the virtio features that allows to negotiate the protocol's own.
const PROTOCOL_FEATURES: u64 = 1 << 30;
const SOCKET_WAIT: Duration = Duration::from_secs(10);

/// A bitmap, or none, that both ways take.
pub(crate) trait Tracking:
    BitmapReplace + NewBitmap + Clone + Send + Sync + 'static
{
}
impl<B: BitmapReplace + NewBitmap + Clone + Send + Sync + 'static> Tracking for B {}

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
    let memory: GuestMemoryMmap<B> = front_end.map()?;
    let mut queue = front_end.queue()?;
    let mut buffers = Buffers::default();
    let mut figures = Figures::default();
    let warm_up_count = batch_count / 10 + 1;
    front_end.reset()?;
    for batch in 1..=warm_up_count + batch_count {
        front_end.publish(batch)?;
        let cpu = cpu_time(ClockId::ThreadCPUTime);
        let start = Instant::now();
        let count = serve(&mut queue, &memory, disk, &mut buffers)?;
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
    Ok(figures)
}

/// Runs the daemon and sends it batches through events.
pub(crate) fn socket<B: Tracking>(
    front_end: &FrontEnd,
    disk: impl Disk + 'static,
    batch_count: usize,
) -> Result<Figures, Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("disk.sock");
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::<B>::new());
    let device = Arc::new(Device::new(memory.clone(), disk));
    let mut daemon =
        VhostUserDaemon::new("blk".into(), device, memory).map_err(|error| error.to_string())?;
    let server = thread::spawn({
        let path = path.clone();
        move || daemon.serve(path).map_err(|error| error.to_string())
    });
    let deadline = Instant::now() + SOCKET_WAIT;
    while !path.exists() {
        if Instant::now() > deadline {
            return Err("the device does not listen".into());
        }
        thread::sleep(Duration::from_millis(1));
    }

    front_end.reset()?;
    let (kick, call) = (EventFd::new(0)?, EventFd::new(0)?);
    let connection = connect(front_end, &path, &kick, &call)?;
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
    drop(connection);
    server
        .join()
        .map_err(|_| "the device's thread panicked")??;
    Ok(figures)
}

fn connect(
    front_end: &FrontEnd,
    path: &std::path::Path,
    kick: &EventFd,
    call: &EventFd,
) -> Result<Frontend, Box<dyn Error>> {
    let mut connection = Frontend::connect(path, 1)?;
    connection.set_owner()?;
    let offered = connection.get_features()?;
    connection.set_features(offered & (1 << VIRTIO_F_VERSION_1 | PROTOCOL_FEATURES))?;
    let offered = connection.get_protocol_features()?;
    connection.set_protocol_features(offered & VhostUserProtocolFeatures::CONFIG)?;
    connection.set_mem_table(&front_end.memory_table())?;
    let addresses = front_end.ring_addresses();
    connection.set_vring_num(0, addresses.queue_size)?;
    connection.set_vring_base(0, 0)?;
    connection.set_vring_addr(0, &addresses)?;
    connection.set_vring_call(0, call)?;
    connection.set_vring_kick(0, kick)?;
    connection.set_vring_enable(0, true)?;
    Ok(connection)
}

/// CPU time of every thread of this process but the calling one.
fn others_cpu_time() -> Duration {
    cpu_time(ClockId::ProcessCPUTime).saturating_sub(cpu_time(ClockId::ThreadCPUTime))
}

fn cpu_time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::try_from(time).unwrap_or_default()
}
