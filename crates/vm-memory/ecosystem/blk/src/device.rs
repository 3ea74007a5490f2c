// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The queues' thread, the features and the configuration space.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackend, VringT};
use virtio_bindings::bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_SEG_MAX,
};
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::{
    VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC,
};
use vm_memory::{
    GuestAddressSpace, GuestMemoryAtomic, GuestMemoryBackend, GuestMemoryMmap, GuestRegionMmap,
};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{
    EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier,
};

use crate::disk::{Disk, SECTOR_LEN_BYTES};
use crate::request::Buffers;
use crate::serve::serve;
use crate::tracking::Tracking;
use crate::vring::Vring;

const QUEUE_SIZE: u16 = 256;
/// The device marks every page that it writes.
const LOG_ALL: u64 = VhostUserVirtioFeatures::LOG_ALL.bits();
/// What the driver should make requests a multiple of.
const BLOCK_LEN_BYTES: u32 = 512;
/// A header and a status come with the data of a request.
const SEGMENTS_MAX: u32 = QUEUE_SIZE as u32 - 2;

/// A block device with one queue, whose memory is tracked by `B`.
pub struct Device<B: Tracking, D> {
    memory: GuestMemoryAtomic<GuestMemoryMmap<B>>,
    disk: D,
    has_event_idx: AtomicBool,
    /// The map in force, to find its log when there is a new one.
    known: Mutex<Arc<GuestMemoryMmap<B>>>,
}

impl<B: Tracking, D: Disk> Device<B, D> {
    /// Creates a device on the memory that its daemon will fill in: give the daemon a clone of `memory`.
    pub fn new(memory: GuestMemoryAtomic<GuestMemoryMmap<B>>, disk: D) -> Self {
        Self {
            known: Mutex::new(memory.memory().into_inner()),
            memory,
            disk,
            has_event_idx: AtomicBool::new(false),
        }
    }

    /// Returns the disk.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// Answers what is available until nothing more is, then tells the driver if it wants to know.
    fn serve_vring(
        &self,
        vring: &Vring<GuestMemoryAtomic<GuestMemoryMmap<B>>>,
    ) -> Result<(), virtio_queue::Error> {
        let memory = self.memory.memory();
        let mut buffers = Buffers::default();
        let mut state = vring.get_mut();
        let has_event_idx = self.has_event_idx.load(Ordering::Relaxed);
        let mut count = 0;
        loop {
            if has_event_idx {
                state.disable_notification()?;
            }
            count += serve(state.get_queue_mut(), &*memory, &self.disk, &mut buffers)?;
            if !has_event_idx || !state.enable_notification()? {
                break;
            }
        }
        if count > 0 && state.needs_notification()? {
            // A front end that does not take the signal loses it.
            drop(state.signal_used_queue());
        }
        Ok(())
    }
}

impl<B: Tracking, D> fmt::Debug for Device<B, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").finish_non_exhaustive()
    }
}

impl<B, D> VhostUserBackend for Device<B, D>
where
    B: Tracking,
    D: Disk,
{
    type Bitmap = B;
    type Vring = Vring<GuestMemoryAtomic<GuestMemoryMmap<B>>>;

    fn num_queues(&self) -> usize {
        1
    }

    fn max_queue_size(&self) -> usize {
        usize::from(QUEUE_SIZE)
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_F_VERSION_1
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | 1 << VIRTIO_BLK_F_FLUSH
            | 1 << VIRTIO_BLK_F_SEG_MAX
            | 1 << VIRTIO_BLK_F_BLK_SIZE
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
            | if B::TAKES_LOG { LOG_ALL } else { 0 }
    }

    fn acked_features(&self, features: u64) {
        // The end of a migration: the log comes before this feature is set, and goes after it is cleared.
        if features & LOG_ALL == 0 {
            for region in self.memory.memory().iter() {
                bitmap(region).detach();
            }
        }
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        let mut features = VhostUserProtocolFeatures::CONFIG;
        features.set(VhostUserProtocolFeatures::LOG_SHMFD, B::TAKES_LOG);
        features
    }

    fn set_event_idx(&self, enabled: bool) {
        self.has_event_idx.store(enabled, Ordering::Relaxed);
    }

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let config = configuration_space(&self.disk);
        (0..size)
            .map(|index| {
                let place = offset.checked_add(index).map(|place| place as usize);
                place
                    .and_then(|place| config.get(place).copied())
                    .unwrap_or(0)
            })
            .collect()
    }

    fn update_memory(&self, memory: GuestMemoryAtomic<GuestMemoryMmap<B>>) -> io::Result<()> {
        // The daemon has swapped the map that this device shares with it. The front end sends its log anew only when a
        // longer one is needed.
        let memory = memory.memory().into_inner();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *known, Arc::clone(&memory));
        for other in before.iter() {
            for region in memory.iter() {
                bitmap(region).follow(region, bitmap(other))?;
            }
        }
        Ok(())
    }

    fn exit_event(&self, _thread_index: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::NONBLOCK).ok()
    }

    fn handle_event(
        &self,
        device_event: u16,
        _events: EventSet,
        vrings: &[Self::Vring],
        _thread_index: usize,
    ) -> io::Result<()> {
        if let Some(vring) = vrings.get(usize::from(device_event)) {
            // Rings that are not where the driver said: an error here would end the thread for what a guest did.
            drop(self.serve_vring(vring));
        }
        Ok(())
    }
}

/// Returns the bitmap of the mapping itself, not a slice of it.
fn bitmap<B: Tracking>(region: &GuestRegionMmap<B>) -> &B {
    (**region).bitmap()
}

/// The beginning of `struct virtio_blk_config`; the rest of it is zeros.
fn configuration_space(disk: &impl Disk) -> [u8; 24] {
    let sectors = disk.len_bytes() / SECTOR_LEN_BYTES;
    let mut config = [0; 24];
    config[0..8].copy_from_slice(&sectors.to_le_bytes());
    config[12..16].copy_from_slice(&SEGMENTS_MAX.to_le_bytes());
    config[20..24].copy_from_slice(&BLOCK_LEN_BYTES.to_le_bytes());
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DirtyLog, RamDisk, SharedLog};

    fn tracked_device<B: Tracking>() -> Device<B, RamDisk> {
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        Device::new(memory, RamDisk::new(1 << 20))
    }

    fn device() -> Device<(), RamDisk> {
        tracked_device()
    }

    #[test]
    fn a_log_is_taken_if_the_bitmap_takes_one() {
        fn takes_log<B: Tracking>() -> [bool; 2] {
            let device = tracked_device::<B>();
            let protocol_features = device.protocol_features();
            [
                device.features() & LOG_ALL != 0,
                protocol_features.contains(VhostUserProtocolFeatures::LOG_SHMFD),
            ]
        }
        assert_eq!(takes_log::<()>(), [false; 2]);
        assert_eq!(takes_log::<DirtyLog>(), [false; 2]);
        assert_eq!(takes_log::<SharedLog>(), [true; 2]);
    }

    #[test]
    fn the_configuration_begins_with_the_capacity_in_sectors() {
        assert_eq!(device().get_config(0, 8), 2048_u64.to_le_bytes());
    }

    #[test]
    fn the_configuration_is_as_long_as_asked_for_and_zero_behind_its_end() {
        assert_eq!(device().get_config(0, 60).len(), 60);
        assert_eq!(device().get_config(24, 36), [0; 36]);
        assert_eq!(device().get_config(u32::MAX, 4), [0; 4]);
    }
}
