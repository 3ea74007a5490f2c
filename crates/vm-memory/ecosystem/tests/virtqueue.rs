// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! virtio-queue on this memory, with dirty tracking and with a guest that misbehaves.

use std::io::{Read, Write};
use std::sync::Arc;

use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::{RawDescriptor, split::Descriptor};
use virtio_queue::mock::MockSplitQueue;
use virtio_queue::{Queue, QueueOwnedT, QueueSync, QueueT};
use vm_memory::bitmap::AtomicBitmap;
use vm_memory::{
    Bytes, GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryBackend, GuestMemoryMmap,
    GuestMemoryRegion,
};

const NEXT: u16 = VRING_DESC_F_NEXT as u16;
const WRITE: u16 = VRING_DESC_F_WRITE as u16;
const INDIRECT: u16 = VRING_DESC_F_INDIRECT as u16;

type Memory = GuestMemoryMmap<AtomicBitmap>;

/// 64 KiB for the rings, then buffers in two regions that touch at `SEAM`.
const SEAM: u64 = 0x2_0000;

fn memory() -> Memory {
    let ranges = [(0, 0x1_0000), (0x1_0000, 0x1_0000), (SEAM, 0x1_0000)];
    GuestMemoryMmap::from_ranges(&ranges.map(|(start, len)| (GuestAddress(start), len))).unwrap()
}

fn descriptor(addr: u64, len: u32, flags: u16, next: u16) -> RawDescriptor {
    RawDescriptor::from(Descriptor::new(addr, len, flags, next))
}

/// The pages in `[0, 0x3_0000)` that are dirty.
fn dirty(memory: &Memory) -> Vec<u64> {
    let is_dirty = |page: &u64| {
        let addr = GuestAddress(page * 0x1000);
        let (region, offset) = memory.to_region_addr(addr).unwrap();
        region.bitmap().is_addr_set(offset.0 as usize)
    };
    (0..0x30).filter(is_dirty).collect()
}

fn forget(memory: &Memory) {
    memory.iter().for_each(|region| region.bitmap().reset());
}

#[test]
fn a_direct_chain_is_read_and_written_across_a_seam_of_regions() {
    let memory = memory();
    let mock = MockSplitQueue::new(&memory, 16);
    let request: Vec<u8> = (0..=255).collect();
    memory
        .write_slice(&request, GuestAddress(SEAM - 100))
        .unwrap();
    let chain = [
        descriptor(SEAM - 100, 256, NEXT, 1),
        descriptor(SEAM + 0x3ff0, 32, NEXT | WRITE, 2),
        descriptor(0x1_8000, 8, WRITE, 0),
    ];
    mock.add_desc_chains(&chain, 0).unwrap();
    forget(&memory);

    let mut queue: Queue = mock.create_queue().unwrap();
    assert!(queue.is_valid(&memory));
    let chain = queue.pop_descriptor_chain(&memory).unwrap();
    let head = chain.head_index();
    let mut reader = chain.clone().reader(&memory).unwrap();
    let mut writer = chain.writer(&memory).unwrap();
    assert_eq!(
        (reader.available_bytes(), writer.available_bytes()),
        (256, 40)
    );
    let mut back = Vec::new();
    reader.read_to_end(&mut back).unwrap();
    assert_eq!(back, request);
    assert_eq!(dirty(&memory), [] as [u64; 0], "reads mark nothing");

    writer.write_all(&[0xaa; 32]).unwrap();
    assert_eq!(
        dirty(&memory),
        [0x23, 0x24],
        "the second buffer crosses a page"
    );
    writer.write_obj(u64::from_le_bytes(*b"response")).unwrap();
    assert_eq!(dirty(&memory), [0x18, 0x23, 0x24]);
    assert!(writer.write_obj(0u8).is_err(), "the chain is used up");
    assert_eq!(
        memory.read_obj::<[u8; 8]>(GuestAddress(0x1_8000)).unwrap(),
        *b"response"
    );

    queue.add_used(&memory, head, 40).unwrap();
    assert_eq!(mock.used().idx().load(), 1);
    assert_eq!(
        dirty(&memory)[0],
        mock.used_addr().0 >> 12,
        "the used ring is logged"
    );
}

#[test]
fn an_indirect_chain_is_followed() {
    let memory = memory();
    let mock = MockSplitQueue::new(&memory, 16);
    let table = [
        descriptor(0x1_0000, 4, NEXT, 1),
        descriptor(0x1_1000, 4, NEXT, 2),
        descriptor(0x1_2000, 8, WRITE, 0),
    ];
    for (at, entry) in (0x1_4000..).step_by(16).zip(table) {
        memory.write_obj(entry, GuestAddress(at)).unwrap();
    }
    memory.write_slice(b"ping", GuestAddress(0x1_0000)).unwrap();
    memory.write_slice(b"pong", GuestAddress(0x1_1000)).unwrap();
    mock.add_desc_chains(&[descriptor(0x1_4000, 48, INDIRECT, 0)], 0)
        .unwrap();
    forget(&memory);

    let mut queue: QueueSync = mock.create_queue().unwrap();
    let chain = queue.pop_descriptor_chain(&memory).unwrap();
    let mut text = String::new();
    chain
        .clone()
        .reader(&memory)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "pingpong");
    chain
        .writer(&memory)
        .unwrap()
        .write_all(b"answered")
        .unwrap();
    assert_eq!(
        memory.read_obj::<[u8; 8]>(GuestAddress(0x1_2000)).unwrap(),
        *b"answered"
    );
    assert_eq!(dirty(&memory), [0x12]);
}

#[test]
fn malformed_chains_end_in_errors_and_touch_nothing() {
    // Descriptors, and the number of them that a device may see before it stops.
    let end = SEAM + 0x1_0000;
    let table: [(&str, Vec<RawDescriptor>, usize); 8] = [
        ("unmapped", vec![descriptor(0x8000_0000, 16, WRITE, 0)], 1),
        ("past the end", vec![descriptor(end - 8, 16, WRITE, 0)], 1),
        ("wraps", vec![descriptor(u64::MAX - 3, 16, WRITE, 0)], 1),
        ("loop", vec![descriptor(0x1_0000, 16, NEXT | WRITE, 0)], 16),
        (
            "next outside",
            vec![descriptor(0x1_0000, 16, NEXT | WRITE, 999)],
            1,
        ),
        (
            "table unmapped",
            vec![descriptor(end + 0x1000, 32, INDIRECT, 0)],
            0,
        ),
        (
            "table of odd size",
            vec![descriptor(0x1_4000, 17, INDIRECT, 0)],
            0,
        ),
        (
            "4 GiB in all",
            vec![
                descriptor(0x1_0000, u32::MAX, NEXT | WRITE, 1),
                descriptor(0x1_0000, 16, WRITE, 0),
            ],
            1,
        ),
    ];
    for (name, descriptors, seen) in table {
        let memory = memory();
        let mock = MockSplitQueue::new(&memory, 16);
        mock.add_desc_chains(&descriptors[..1], 0).unwrap();
        for (index, entry) in (1..).zip(&descriptors[1..]) {
            mock.desc_table().store(index, *entry).unwrap();
        }
        forget(&memory);
        let mut queue: Queue = mock.create_queue().unwrap();
        let chain = queue.iter(&memory).unwrap().next().unwrap();
        assert_eq!(chain.clone().count(), seen, "{name}");
        let wants_memory = ["unmapped", "past the end", "wraps", "4 GiB in all"].contains(&name);
        assert_eq!(chain.writer(&memory).is_err(), wants_memory, "{name}");
        assert_eq!(dirty(&memory), [] as [u64; 0], "{name}");
    }
}

#[test]
fn rings_outside_of_memory_make_an_invalid_queue() {
    let memory = memory();
    let mock = MockSplitQueue::new(&memory, 16);
    let good: Queue = mock.create_queue().unwrap();
    assert!(good.is_valid(&memory));
    for outside in [SEAM + 0x1_0000 - 16, 0x8000_0000, !0xfff] {
        let (low, high) = (outside as u32, (outside >> 32) as u32);
        let mut queue: Queue = mock.create_queue().unwrap();
        queue.set_desc_table_address(Some(low), Some(high));
        assert!(!queue.is_valid(&memory), "{outside:#x}");
        let mut queue: Queue = mock.create_queue().unwrap();
        queue.set_used_ring_address(Some(low), Some(high));
        assert!(!queue.is_valid(&memory), "{outside:#x}");
        // The last entry is outside in each case, the first one in all but the first.
        assert!(
            queue.add_used(&memory, 16, 1).is_err(),
            "no such descriptor"
        );
        let first = queue.add_used(&memory, 0, 1);
        assert_eq!(first.is_ok(), outside < SEAM + 0x1_0000, "{outside:#x}");
    }
}

#[test]
fn a_chain_keeps_its_memory_while_the_map_is_swapped() {
    let space = GuestMemoryAtomic::new(memory());
    let before = space.memory();
    let mock = MockSplitQueue::new(&*before, 16);
    mock.add_desc_chains(&[descriptor(0x1_0000, 4, 0, 0)], 0)
        .unwrap();
    before.write_slice(b"kept", GuestAddress(0x1_0000)).unwrap();

    let mut queue: Queue = mock.create_queue().unwrap();
    let chain = queue.pop_descriptor_chain(space.memory()).unwrap();
    // The buffer's region goes away; who holds the old map still has it.
    let (smaller, removed) = before
        .remove_region(GuestAddress(0x1_0000), 0x1_0000)
        .unwrap();
    assert_eq!(removed.start_addr(), GuestAddress(0x1_0000));
    space.lock().unwrap().replace(smaller);
    assert!(space.memory().find_region(GuestAddress(0x1_0000)).is_none());

    let old = Arc::new(chain.memory().clone());
    let mut text = String::new();
    chain
        .reader(&old)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "kept");
    assert!(
        queue.pop_descriptor_chain(space.memory()).is_none(),
        "there was one chain"
    );
}
