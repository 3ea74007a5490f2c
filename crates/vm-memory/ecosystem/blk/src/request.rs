// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One descriptor chain taken apart, executed and answered.
//!
//! A request is a header of 16 bytes and the data of a write, which the device reads, then the data of a read and one
//! byte of status, which it writes. How the driver cuts them into descriptors is the driver's choice.

use virtio_bindings::bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_FLUSH,
    VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
};
use virtio_queue::DescriptorChain;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemory};

use crate::disk::{Disk, ID_LEN_BYTES, SECTOR_LEN_BYTES};
use crate::transfer::{self, Buffer};

const HEADER_LEN_BYTES: usize = 16;

/// The buffers of one chain: working space that is kept from request to request.
#[derive(Debug, Default)]
pub struct Buffers {
    /// What the device may read, in order, without empty ones.
    readable: Vec<Buffer>,
    /// What the device may write, in order, without empty ones.
    writable: Vec<Buffer>,
}

/// Why a request fails.
enum Failure {
    /// It is malformed, it leaves the disk, or the storage or the guest's memory refused.
    Io,
    /// The device does not do such things.
    Unsupported,
}

/// Executes the request in `chain` and returns how many bytes it has written into the chain's buffers.
///
/// A request that fails gets a status that says so; of its other bytes the answer claims none. A chain that cannot be
/// answered, because it has no room for a status, is ignored.
pub fn answer<'m, M: GuestMemory>(
    memory: &'m M,
    chain: DescriptorChain<&'m M>,
    disk: &impl Disk,
    buffers: &mut Buffers,
) -> u32 {
    let is_whole = buffers.collect(chain);
    let Some(status_address) = buffers.take_status() else {
        return 0;
    };
    let outcome = if is_whole {
        execute(memory, disk, buffers)
    } else {
        Err(Failure::Io)
    };
    let (status, written_bytes) = match outcome {
        Ok(data_bytes) => (VIRTIO_BLK_S_OK, data_bytes.saturating_add(1)),
        Err(Failure::Io) => (VIRTIO_BLK_S_IOERR, 0),
        Err(Failure::Unsupported) => (VIRTIO_BLK_S_UNSUPP, 0),
    };
    let [status, ..] = status.to_le_bytes();
    match memory.write_obj(status, status_address) {
        Ok(()) => written_bytes,
        Err(_) => 0,
    }
}

/// Executes a request of which the status byte is already taken away; returns the bytes of data written to the guest.
fn execute<M: GuestMemory>(
    memory: &M,
    disk: &impl Disk,
    buffers: &mut Buffers,
) -> Result<u32, Failure> {
    let header = buffers.take_header(memory).ok_or(Failure::Io)?;
    // Little-endian fields: the kind in 4 bytes, 4 that say nothing, the first sector in 8.
    let [k0, k1, k2, k3, _, _, _, _, sector @ ..] = header;
    let sector = u64::from_le_bytes(sector);
    match u32::from_le_bytes([k0, k1, k2, k3]) {
        VIRTIO_BLK_T_IN => {
            let mut from = disk.reader_at(disk_range(disk, sector, &buffers.writable)?);
            transfer::fill(memory, &buffers.writable, &mut from).map_err(|_| Failure::Io)?;
            u32::try_from(total_bytes(&buffers.writable)).map_err(|_| Failure::Io)
        }
        VIRTIO_BLK_T_OUT => {
            let mut to = disk.writer_at(disk_range(disk, sector, &buffers.readable)?);
            transfer::drain(memory, &buffers.readable, &mut to).map_err(|_| Failure::Io)?;
            Ok(0)
        }
        VIRTIO_BLK_T_FLUSH => disk.flush().map(|()| 0).map_err(|_| Failure::Io),
        VIRTIO_BLK_T_GET_ID => write_id(memory, disk.id(), &buffers.writable),
        _ => Err(Failure::Unsupported),
    }
}

fn write_id<M: GuestMemory>(
    memory: &M,
    id: [u8; ID_LEN_BYTES],
    writable: &[Buffer],
) -> Result<u32, Failure> {
    let mut rest = id.as_slice();
    for buffer in writable {
        let (now, later) = rest.split_at(buffer.len_bytes.min(rest.len()));
        memory
            .write_slice(now, buffer.address)
            .map_err(|_| Failure::Io)?;
        rest = later;
    }
    u32::try_from(id.len() - rest.len()).map_err(|_| Failure::Io)
}

/// Returns the disk's offset of `sector` if whole sectors are asked for and all of them exist.
fn disk_range(disk: &impl Disk, sector: u64, data: &[Buffer]) -> Result<u64, Failure> {
    let len_bytes = total_bytes(data);
    let start = sector.checked_mul(SECTOR_LEN_BYTES).ok_or(Failure::Io)?;
    let end = start.checked_add(len_bytes).ok_or(Failure::Io)?;
    if end > disk.len_bytes() || !len_bytes.is_multiple_of(SECTOR_LEN_BYTES) {
        return Err(Failure::Io);
    }
    Ok(start)
}

/// Cannot overflow: at most 65535 lengths of 32 bits.
fn total_bytes(buffers: &[Buffer]) -> u64 {
    buffers.iter().map(|buffer| buffer.len_bytes as u64).sum()
}

impl Buffers {
    /// Takes the descriptors of `chain`; returns whether it came to its end with all readable ones before the writable.
    ///
    /// A loop, a bad index or a table outside memory end the chain early, with a descriptor that names a successor.
    fn collect<M: GuestMemory>(&mut self, chain: DescriptorChain<&M>) -> bool {
        self.readable.clear();
        self.writable.clear();
        let mut is_ordered = true;
        let mut last: Option<Descriptor> = None;
        for descriptor in chain {
            let (of_its_kind, in_order) = if descriptor.is_write_only() {
                (&mut self.writable, true)
            } else {
                (&mut self.readable, self.writable.is_empty())
            };
            is_ordered &= in_order;
            if descriptor.len() > 0 {
                of_its_kind.push(Buffer {
                    address: descriptor.addr(),
                    len_bytes: descriptor.len() as usize,
                });
            }
            last = Some(descriptor);
        }
        is_ordered && last.is_some_and(|descriptor| !descriptor.has_next())
    }

    /// Takes the last writable byte and returns its address.
    fn take_status(&mut self) -> Option<GuestAddress> {
        let last = self.writable.last_mut()?;
        let address = last.address.checked_add(last.len_bytes as u64 - 1)?;
        last.len_bytes -= 1;
        if last.len_bytes == 0 {
            self.writable.pop();
        }
        Some(address)
    }

    /// Takes the first 16 readable bytes.
    fn take_header<M: GuestMemory>(&mut self, memory: &M) -> Option<[u8; HEADER_LEN_BYTES]> {
        let first = self.readable.first_mut()?;
        if first.len_bytes < HEADER_LEN_BYTES {
            return self.take_scattered_header(memory);
        }
        let header = memory.read_obj::<u128>(first.address).ok()?;
        first.cut(HEADER_LEN_BYTES)?;
        if first.len_bytes == 0 {
            self.readable.remove(0);
        }
        Some(header.to_ne_bytes())
    }

    #[cold]
    fn take_scattered_header<M: GuestMemory>(
        &mut self,
        memory: &M,
    ) -> Option<[u8; HEADER_LEN_BYTES]> {
        let mut bytes = [0; HEADER_LEN_BYTES];
        let mut done = 0;
        while done < HEADER_LEN_BYTES {
            let first = self.readable.first_mut()?;
            let count = first.len_bytes.min(HEADER_LEN_BYTES - done);
            let part = bytes.get_mut(done..done + count)?;
            memory.read_slice(part, first.address).ok()?;
            first.cut(count)?;
            if first.len_bytes == 0 {
                self.readable.remove(0);
            }
            done += count;
        }
        Some(bytes)
    }
}
