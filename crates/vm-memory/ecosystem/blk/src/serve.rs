// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Every chain that a driver has made available.

use virtio_queue::{Error, Queue, QueueT};
use vm_memory::GuestMemory;

use crate::disk::Disk;
use crate::request::{Buffers, answer};

/// Answers the chains available in `queue` and returns how many there were.
///
/// `buffers` is working space: pass the same one again to save its allocation.
///
/// # Errors
///
/// Returns the queue's error when its used ring cannot be written. A queue whose available ring cannot be read has no
/// chains.
pub fn serve<M: GuestMemory>(
    queue: &mut Queue,
    memory: &M,
    disk: &impl Disk,
    buffers: &mut Buffers,
) -> Result<usize, Error> {
    let mut count = 0;
    while let Some(chain) = queue.pop_descriptor_chain(memory) {
        let head = chain.head_index();
        let written_bytes = answer(memory, chain, disk, buffers);
        queue.add_used(memory, head, written_bytes)?;
        count += 1;
    }
    Ok(count)
}
