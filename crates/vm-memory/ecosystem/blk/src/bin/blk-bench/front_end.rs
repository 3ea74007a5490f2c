// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The driver's side: rings and requests in shared memory, laid out once and made available again and again.

use std::error::Error;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

use vhost::{VhostUserDirtyLogRegion, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::bindings::virtio_blk::{VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT};
use virtio_bindings::bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

/// Requests in flight, and made available at once.
pub(crate) const SLOTS: usize = 64;
pub(crate) const DISK_LEN_BYTES: u64 = 16 << 20;

const QUEUE_SIZE: u16 = 256;
const DESCRIPTOR_TABLE: u64 = 0x1000;
const AVAILABLE_RING: u64 = 0x3000;
const USED_RING: u64 = 0x4000;
const HEADERS: u64 = 0x8000;
const STATUSES: u64 = 0xa000;
/// Rings and headers lie low, data above 4 GiB, as in a machine.
pub(crate) const LOW_LEN_BYTES: u64 = 1 << 20;
const HIGH: u64 = 1 << 32;
const HIGH_LEN_BYTES: u64 = 16 << 20;
pub(crate) const MEMORY_LEN_BYTES: u64 = LOW_LEN_BYTES + HIGH_LEN_BYTES;
/// One bit for each page up to the end of the high memory.
pub(crate) const LOG_LEN_BYTES: u64 = (HIGH + HIGH_LEN_BYTES) / 4096 / 8;
/// What the front end says its own addresses are: guest addresses and this.
const OWN_ADDRESSES: u64 = 1 << 40;

#[derive(Clone, Copy)]
pub(crate) enum Direction {
    Read,
    Write,
}

impl Direction {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

pub(crate) struct Workload {
    pub(crate) request_len_bytes: u32,
    pub(crate) direction: Direction,
}

pub(crate) struct FrontEnd {
    file: File,
    memory: GuestMemoryMmap<()>,
    log: File,
}

impl FrontEnd {
    pub(crate) fn new(workload: &Workload) -> Result<Self, Box<dyn Error>> {
        let file = memfd::MemfdOptions::new().create("guest")?.into_file();
        file.set_len(MEMORY_LEN_BYTES)?;
        let memory = map(&file)?;
        let log = memfd::MemfdOptions::new().create("log")?.into_file();
        log.set_len(LOG_LEN_BYTES)?;
        let front_end = Self { file, memory, log };
        front_end.lay_out(workload)?;
        Ok(front_end)
    }

    /// Returns the file that all of the guest's memory is in, the low part first.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Writes the requests and the ring that names them.
    pub(crate) fn lay_out(&self, workload: &Workload) -> Result<(), Box<dyn Error>> {
        for slot in 0..SLOTS {
            self.write_request(slot, workload)?;
        }
        for entry in 0..u64::from(QUEUE_SIZE) {
            let head = u16::try_from(entry % SLOTS as u64 * 3)?;
            let address = GuestAddress(AVAILABLE_RING + 4 + 2 * entry);
            self.memory.write_obj(head.to_le(), address)?;
        }
        Ok(())
    }

    /// Begins anew: nothing is available, nothing used, no request answered.
    pub(crate) fn reset(&self) -> Result<(), Box<dyn Error>> {
        self.memory.write_obj(0_u32, GuestAddress(AVAILABLE_RING))?;
        self.memory.write_obj(0_u32, GuestAddress(USED_RING))?;
        self.memory
            .write_slice(&[0xff; SLOTS], GuestAddress(STATUSES))?;
        Ok(())
    }

    /// Makes every request available once more; `batch` counts from 1.
    pub(crate) fn publish(&self, batch: usize) -> Result<(), Box<dyn Error>> {
        let address = GuestAddress(AVAILABLE_RING + 2);
        Ok(self
            .memory
            .store(index_after(batch), address, Ordering::Release)?)
    }

    /// Says whether every request of `batch` has been answered.
    pub(crate) fn is_answered(&self, batch: usize) -> Result<bool, Box<dyn Error>> {
        let index: u16 = self
            .memory
            .load(GuestAddress(USED_RING + 2), Ordering::Acquire)?;
        Ok(index == index_after(batch))
    }

    /// Returns the status of each request.
    pub(crate) fn statuses(&self) -> Result<[u8; SLOTS], Box<dyn Error>> {
        let mut statuses = [0xff; SLOTS];
        self.memory
            .read_slice(&mut statuses, GuestAddress(STATUSES))?;
        Ok(statuses)
    }

    /// Fails if a request failed: figures of a device that refuses its work mean nothing.
    pub(crate) fn check_statuses(&self) -> Result<(), Box<dyn Error>> {
        if self.statuses()? == [0; SLOTS] {
            Ok(())
        } else {
            Err("a request failed".into())
        }
    }

    /// Returns the queue as the device has to know it.
    pub(crate) fn queue(&self) -> Result<Queue, Box<dyn Error>> {
        let mut queue = Queue::new(QUEUE_SIZE)?;
        queue.try_set_size(QUEUE_SIZE)?;
        queue.try_set_desc_table_address(GuestAddress(DESCRIPTOR_TABLE))?;
        queue.try_set_avail_ring_address(GuestAddress(AVAILABLE_RING))?;
        queue.try_set_used_ring_address(GuestAddress(USED_RING))?;
        queue.set_ready(true);
        Ok(queue)
    }

    /// Returns the queue as it is told over the socket.
    pub(crate) fn ring_addresses(&self) -> VringConfigData {
        VringConfigData {
            queue_max_size: QUEUE_SIZE,
            queue_size: QUEUE_SIZE,
            flags: 0,
            desc_table_addr: OWN_ADDRESSES + DESCRIPTOR_TABLE,
            used_ring_addr: OWN_ADDRESSES + USED_RING,
            avail_ring_addr: OWN_ADDRESSES + AVAILABLE_RING,
            log_addr: None,
        }
    }

    /// Returns the memory as it is told over the socket.
    pub(crate) fn memory_table(&self) -> [VhostUserMemoryRegionInfo; 2] {
        [(0, LOW_LEN_BYTES, 0), (HIGH, HIGH_LEN_BYTES, LOW_LEN_BYTES)].map(
            |(guest_phys_addr, memory_size, mmap_offset)| VhostUserMemoryRegionInfo {
                guest_phys_addr,
                memory_size,
                userspace_addr: OWN_ADDRESSES + guest_phys_addr,
                mmap_offset,
                mmap_handle: self.file().as_raw_fd(),
            },
        )
    }

    /// Returns the log for the pages that the device writes, as it is told over the socket.
    pub(crate) fn log_region(&self) -> VhostUserDirtyLogRegion {
        VhostUserDirtyLogRegion {
            mmap_size: LOG_LEN_BYTES,
            mmap_offset: 0,
            mmap_handle: self.log.as_raw_fd(),
        }
    }

    /// Lays out a request of three descriptors: header, data, status.
    fn write_request(&self, slot: usize, workload: &Workload) -> Result<(), Box<dyn Error>> {
        let len_bytes = workload.request_len_bytes;
        let at = slot as u64;
        let (kind, data_flags) = match workload.direction {
            Direction::Read => (VIRTIO_BLK_T_IN, VRING_DESC_F_WRITE),
            Direction::Write => (VIRTIO_BLK_T_OUT, 0),
        };
        let sector = at * u64::from(len_bytes) / 512;
        let header = u128::from(sector) << 64 | u128::from(kind);
        let header_at = HEADERS + 16 * at;
        self.memory
            .write_obj(header.to_le(), GuestAddress(header_at))?;
        let data_at = HIGH + at * u64::from(len_bytes);
        let first = slot * 3;
        self.write_descriptor(first, header_at, 16, VRING_DESC_F_NEXT)?;
        self.write_descriptor(
            first + 1,
            data_at,
            len_bytes,
            data_flags | VRING_DESC_F_NEXT,
        )?;
        self.write_descriptor(first + 2, STATUSES + at, 1, VRING_DESC_F_WRITE)
    }

    fn write_descriptor(
        &self,
        index: usize,
        address: u64,
        len_bytes: u32,
        flags: u32,
    ) -> Result<(), Box<dyn Error>> {
        let at = DESCRIPTOR_TABLE + 16 * index as u64;
        let next = u16::try_from(index + 1)?;
        self.memory.write_obj(address.to_le(), GuestAddress(at))?;
        self.memory
            .write_obj(len_bytes.to_le(), GuestAddress(at + 8))?;
        self.memory
            .write_obj(u16::try_from(flags)?.to_le(), GuestAddress(at + 12))?;
        self.memory.write_obj(next.to_le(), GuestAddress(at + 14))?;
        Ok(())
    }
}

/// The ring's index when `batch` batches have been through it; it wraps.
fn index_after(batch: usize) -> u16 {
    let [low, high, ..] = (batch * SLOTS).to_le_bytes();
    u16::from_le_bytes([low, high])
}

fn map(file: &File) -> Result<GuestMemoryMmap<()>, Box<dyn Error>> {
    let part = |offset| Ok::<_, std::io::Error>(Some(FileOffset::new(file.try_clone()?, offset)));
    let low_len_bytes = usize::try_from(LOW_LEN_BYTES)?;
    let high_len_bytes = usize::try_from(HIGH_LEN_BYTES)?;
    Ok(GuestMemoryMmap::from_ranges_with_files([
        (GuestAddress(0), low_len_bytes, part(0)?),
        (GuestAddress(HIGH), high_len_bytes, part(LOW_LEN_BYTES)?),
    ])?)
}
