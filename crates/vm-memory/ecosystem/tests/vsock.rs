// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! virtio-vsock on this memory.

use virtio_bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::{RawDescriptor, split::Descriptor};
use virtio_queue::mock::MockSplitQueue;
use virtio_queue::{Queue, QueueT};
use virtio_vsock::packet::{PKT_HEADER_SIZE, VsockPacket};
use vm_memory::bitmap::AtomicBitmap;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

const WRITE: u16 = VRING_DESC_F_WRITE as u16;
const HEADER: u64 = 0x1_0000;
const DATA: u64 = 0x1_1000;

fn memory() -> GuestMemoryMmap<AtomicBitmap> {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x2_0000)]).unwrap()
}

fn chain(flags: u16, data: u64, len: u32) -> [RawDescriptor; 2] {
    let header = Descriptor::new(
        HEADER,
        PKT_HEADER_SIZE as u32,
        flags | VRING_DESC_F_NEXT as u16,
        1,
    );
    [header, Descriptor::new(data, len, flags, 0)].map(RawDescriptor::from)
}

#[test]
fn a_packet_to_the_guest_is_written_and_one_from_it_is_read() {
    let memory = memory();
    let mock = MockSplitQueue::new(&memory, 16);
    mock.add_desc_chains(&chain(WRITE, DATA, 64), 0).unwrap();
    let mut queue: Queue = mock.create_queue().unwrap();
    let mut received = queue.pop_descriptor_chain(&memory).unwrap();
    let bitmap = memory.find_region(GuestAddress(0)).unwrap().bitmap();
    bitmap.reset();
    let mut packet = VsockPacket::from_rx_virtq_chain(&memory, &mut received, 4096).unwrap();
    packet.set_header_from_raw(&[0; PKT_HEADER_SIZE]).unwrap();
    packet
        .set_src_cid(2)
        .set_dst_cid(3)
        .set_src_port(1024)
        .set_op(5)
        .set_len(5);
    packet
        .data_slice()
        .unwrap()
        .write_slice(b"hello", 0)
        .unwrap();
    assert!(bitmap.is_addr_set(HEADER as usize) && bitmap.is_addr_set(DATA as usize));
    assert_eq!((0..32).filter(|page| bitmap.is_bit_set(*page)).count(), 2);

    // The same bytes, now as the guest sends them.
    mock.add_desc_chains(&chain(0, DATA, 5), 2).unwrap();
    let mut entries = chain(0, DATA, 5).map(Descriptor::from);
    entries[0].set_next(3);
    mock.desc_table()
        .store(2, RawDescriptor::from(entries[0]))
        .unwrap();
    bitmap.reset();
    let mut sent = queue.pop_descriptor_chain(&memory).unwrap();
    let packet = VsockPacket::from_tx_virtq_chain(&memory, &mut sent, 4096).unwrap();
    assert_eq!(
        (
            packet.src_cid(),
            packet.dst_cid(),
            packet.src_port(),
            packet.op()
        ),
        (2, 3, 1024, 5)
    );
    let mut text = [0; 5];
    packet
        .data_slice()
        .unwrap()
        .read_slice(&mut text, 0)
        .unwrap();
    assert_eq!(&text, b"hello");
    assert!(
        (0..32).all(|page| !bitmap.is_bit_set(page)),
        "reads mark nothing"
    );
}

#[test]
fn a_packet_with_data_outside_of_memory_is_refused() {
    for data in [0x1_ffff, 0x2_0000, u64::MAX - 1] {
        let memory = memory();
        let mock = MockSplitQueue::new(&memory, 16);
        mock.add_desc_chains(&chain(WRITE, data, 64), 0).unwrap();
        let mut queue: Queue = mock.create_queue().unwrap();
        let mut chain = queue.pop_descriptor_chain(&memory).unwrap();
        assert!(
            VsockPacket::from_rx_virtq_chain(&memory, &mut chain, 4096).is_err(),
            "{data:#x}"
        );
    }
}
