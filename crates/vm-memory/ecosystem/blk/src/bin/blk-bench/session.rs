// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon behind a socket, and a front end that connects to it.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use blk::{Device, Disk, Tracking};
use tempfile::TempDir;
use vhost::VhostBackend;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost_user_backend::VhostUserDaemon;
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use crate::front_end::FrontEnd;

/// The bit of the virtio features that allows to negotiate the protocol's own.
const PROTOCOL_FEATURES: u64 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
/// The bit that says that the device has to mark what it writes.
const LOG_ALL: u64 = VhostUserVirtioFeatures::LOG_ALL.bits();
const SOCKET_WAIT: Duration = Duration::from_secs(10);

/// Runs a daemon that takes one connection on `path`; its thread ends with the connection.
///
/// The daemon fills in `memory`, which starts empty.
pub(crate) fn listen<B: Tracking>(
    path: &Path,
    disk: impl Disk + 'static,
    memory: GuestMemoryAtomic<GuestMemoryMmap<B>>,
) -> Result<JoinHandle<Result<(), String>>, Box<dyn Error>> {
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

/// A daemon and the connection to it.
pub(crate) struct Session<B: Tracking> {
    pub(crate) memory: GuestMemoryAtomic<GuestMemoryMmap<B>>,
    pub(crate) connection: Frontend,
    pub(crate) server: JoinHandle<Result<(), String>>,
    _directory: TempDir,
}

impl<B: Tracking> Session<B> {
    /// Runs a daemon and connects to it; its queue is not started.
    pub(crate) fn start(
        front_end: &FrontEnd,
        disk: impl Disk + 'static,
    ) -> Result<Self, Box<dyn Error>> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("disk.sock");
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let server = listen(&path, disk, memory.clone())?;
        let connection = connect(front_end, &path)?;
        Ok(Self {
            memory,
            connection,
            server,
            _directory: directory,
        })
    }

    /// Ends the connection, which ends the daemon.
    pub(crate) fn stop(self) -> Result<(), Box<dyn Error>> {
        drop(self.connection);
        let end = self.server.join();
        Ok(end.map_err(|_| "the device's thread panicked")??)
    }
}

/// Connects and sets up the memory, and the log if the device takes one.
pub(crate) fn connect(front_end: &FrontEnd, path: &Path) -> Result<Frontend, Box<dyn Error>> {
    let mut connection = Frontend::connect(path, 1)?;
    connection.set_owner()?;
    let offered = connection.get_features()?;
    connection.set_features(offered & (1 << VIRTIO_F_VERSION_1 | PROTOCOL_FEATURES | LOG_ALL))?;
    let wanted = VhostUserProtocolFeatures::CONFIG | VhostUserProtocolFeatures::LOG_SHMFD;
    let agreed = connection.get_protocol_features()? & wanted;
    connection.set_protocol_features(agreed)?;
    connection.set_mem_table(&front_end.memory_table())?;
    if agreed.contains(VhostUserProtocolFeatures::LOG_SHMFD) {
        connection.set_log_base(0, Some(front_end.log_region()))?;
    }
    // The answer comes when all this is done.
    connection.get_features()?;
    Ok(connection)
}

/// Tells a device that knows the memory where the rings are, and starts the queue.
pub(crate) fn start_queue(
    connection: &mut Frontend,
    front_end: &FrontEnd,
    kick: &EventFd,
    call: &EventFd,
) -> Result<(), Box<dyn Error>> {
    let addresses = front_end.ring_addresses();
    connection.set_vring_num(0, addresses.queue_size)?;
    connection.set_vring_base(0, 0)?;
    connection.set_vring_addr(0, &addresses)?;
    connection.set_vring_call(0, call)?;
    connection.set_vring_kick(0, kick)?;
    connection.set_vring_enable(0, true)?;
    Ok(())
}
