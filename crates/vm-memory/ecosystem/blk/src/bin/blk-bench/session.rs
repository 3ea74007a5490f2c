// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon behind a socket, and a front end that connects to it.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use blk::{Device, Disk};
use vhost::VhostBackend;
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost_user_backend::VhostUserDaemon;
use vhost_user_backend::bitmap::BitmapReplace;
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use vm_memory::mmap::NewBitmap;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use crate::front_end::FrontEnd;

/// The bit of the virtio features that allows to negotiate the protocol's own.
const PROTOCOL_FEATURES: u64 = 1 << 30;
const SOCKET_WAIT: Duration = Duration::from_secs(10);

/// A bitmap, or none, for a daemon's memory.
pub(crate) trait Tracking:
    BitmapReplace + NewBitmap + Clone + Send + Sync + 'static
{
}
impl<B: BitmapReplace + NewBitmap + Clone + Send + Sync + 'static> Tracking for B {}

/// Runs a daemon that takes one connection on `path`; its thread ends with the connection.
pub(crate) fn listen<B: Tracking>(
    path: &Path,
    disk: impl Disk + 'static,
) -> Result<JoinHandle<Result<(), String>>, Box<dyn Error>> {
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::<B>::new());
    let device = Arc::new(Device::new(memory.clone(), disk));
    let mut daemon =
        VhostUserDaemon::new("blk".into(), device, memory).map_err(|error| error.to_string())?;
    let server = thread::spawn({
        let path = path.to_owned();
        move || daemon.serve(path).map_err(|error| error.to_string())
    });
    let deadline = Instant::now() + SOCKET_WAIT;
    while !path.exists() {
        if Instant::now() > deadline {
            return Err("the device does not listen".into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(server)
}

/// Connects and sets up the memory and the queue.
pub(crate) fn connect(
    front_end: &FrontEnd,
    path: &Path,
    kick: &EventFd,
    call: &EventFd,
) -> Result<Frontend, Box<dyn Error>> {
    let mut connection = Frontend::connect(path, 1)?;
    connection.set_owner()?;
    let offered = connection.get_features()?;
    connection.set_features(offered & (1 << VIRTIO_F_VERSION_1 | PROTOCOL_FEATURES))?;
    let offered = connection.get_protocol_features()?;
    connection.set_protocol_features(offered & VhostUserProtocolFeatures::CONFIG)?;
    set_up(&mut connection, front_end, kick, call)?;
    Ok(connection)
}

/// Tells a device whose queue is stopped where the memory and the rings are, and starts the queue.
pub(crate) fn set_up(
    connection: &mut Frontend,
    front_end: &FrontEnd,
    kick: &EventFd,
    call: &EventFd,
) -> Result<(), Box<dyn Error>> {
    connection.set_mem_table(&front_end.memory_table())?;
    let addresses = front_end.ring_addresses();
    connection.set_vring_num(0, addresses.queue_size)?;
    connection.set_vring_base(0, 0)?;
    connection.set_vring_addr(0, &addresses)?;
    connection.set_vring_call(0, call)?;
    connection.set_vring_kick(0, kick)?;
    connection.set_vring_enable(0, true)?;
    Ok(())
}
