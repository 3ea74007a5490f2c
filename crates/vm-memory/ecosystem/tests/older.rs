// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Consumers of `vm-memory` 0.17, whose last version is itself 0.18 under other names.

use std::any::TypeId;

use virtio_queue_0_17::mock::MockSplitQueue;
use virtio_queue_0_17::{Queue, QueueT};
use virtio_queue_ser::QueueStateSer;
use vm_memory_0_17::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, GuestMemoryRegion};

#[test]
fn the_types_of_0_17_are_this_repositorys() {
    let old = TypeId::of::<GuestMemoryMmap<vm_memory_0_17::bitmap::AtomicBitmap>>();
    assert_eq!(
        old,
        TypeId::of::<vm_memory::GuestMemoryMmap<vm_memory::bitmap::AtomicBitmap>>()
    );
    let old = TypeId::of::<vm_memory_0_17::VolatileSlice<'static>>();
    assert_eq!(old, TypeId::of::<vm_memory::VolatileSlice<'static>>());
}

#[test]
fn code_for_0_17_runs() {
    let ranges = [(GuestAddress(0), 0x1000), (GuestAddress(0x1000), 0x1000)];
    let memory = GuestMemoryMmap::<()>::from_ranges(&ranges).unwrap();
    memory.write_slice(&[7; 16], GuestAddress(0xff8)).unwrap();
    assert_eq!(
        memory.read_obj::<u64>(GuestAddress(0x1000)).unwrap(),
        0x0707_0707_0707_0707
    );
    // In 0.17 `GuestMemory` is the trait with the regions.
    assert_eq!(
        memory
            .find_region(GuestAddress(0x1000))
            .unwrap()
            .start_addr(),
        GuestAddress(0x1000)
    );
    assert_eq!(memory.num_regions(), 2);
}

#[test]
fn a_queue_is_saved_and_restored() {
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x10_000)]).unwrap();
    let mut mock = MockSplitQueue::new(&memory, 16);
    mock.add_chain(3).unwrap();
    let mut queue: Queue = mock.create_queue().unwrap();
    assert_eq!(queue.pop_descriptor_chain(&memory).unwrap().count(), 3);

    let saved = QueueStateSer::from(&queue.state());
    let mut restored = Queue::try_from(virtio_queue_0_17::QueueState::from(&saved)).unwrap();
    assert_eq!(restored.next_avail(), 1);
    mock.add_chain(2).unwrap();
    assert_eq!(restored.pop_descriptor_chain(&memory).unwrap().count(), 2);
    assert!(restored.pop_descriptor_chain(&memory).is_none());
}
