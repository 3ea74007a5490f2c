// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A driver that makes one chain available and looks at the answer.

use blk::request::Buffers;
use blk::{DirtyLog, Disk, RamDisk, serve};
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::mock::MockSplitQueue;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

pub(crate) const MEMORY_LEN_BYTES: usize = 1 << 20;
pub(crate) const DISK_LEN_BYTES: usize = 64 << 10;
pub(crate) const HEADER: u64 = 0x1_0000;
pub(crate) const STATUS: u64 = 0x1_1fff;
pub(crate) const DATA: u64 = 0x2_0000;
/// Where an indirect table is.
const TABLE: u64 = 0x3_0000;
pub(crate) const UNTOUCHED: u8 = 0xa5;

/// Flags of descriptors.
pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// Statuses.
pub(crate) const OK: u8 = 0;
pub(crate) const IO_ERROR: u8 = 1;
pub(crate) const UNSUPPORTED: u8 = 2;

/// Kinds of requests.
pub(crate) const READ: u32 = 0;
pub(crate) const OVERWRITE: u32 = 1;
pub(crate) const FLUSH: u32 = 4;
pub(crate) const GET_ID: u32 = 8;

pub(crate) struct Guest<D = RamDisk> {
    pub(crate) memory: GuestMemoryMmap<DirtyLog>,
    pub(crate) disk: D,
}

impl Guest {
    pub(crate) fn new() -> Self {
        Self::with_disk(RamDisk::new(DISK_LEN_BYTES))
    }
}

impl<D: Disk> Guest<D> {
    pub(crate) fn with_disk(disk: D) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_LEN_BYTES)]).unwrap();
        let guest = Self { memory, disk };
        guest
            .memory
            .write_obj(UNTOUCHED, GuestAddress(STATUS))
            .unwrap();
        guest
    }

    pub(crate) fn header(&self, kind: u32, sector: u64) -> &Self {
        let header = u128::from(sector) << 64 | u128::from(kind);
        self.memory
            .write_obj(header.to_le(), GuestAddress(HEADER))
            .unwrap();
        self
    }

    /// Makes the chain that begins with the first descriptor available; returns the status and the length in the answer.
    pub(crate) fn run(&self, descriptors: &[Descriptor]) -> (u8, u32) {
        let mock = MockSplitQueue::create(&self.memory, GuestAddress(0), 16);
        for (index, descriptor) in (0..).zip(descriptors) {
            mock.desc_table()
                .store(index, RawDescriptor::from(*descriptor))
                .unwrap();
        }
        mock.avail().ring().ref_at(0).unwrap().store(0);
        mock.avail().idx().store(1_u16.to_le());
        let mut queue: Queue = mock.create_queue().unwrap();
        let count = serve(
            &mut queue,
            &self.memory,
            &self.disk,
            &mut Buffers::default(),
        )
        .unwrap();
        assert_eq!((count, queue.next_used()), (1, 1));
        let used = mock.used().ring().ref_at(0).unwrap().load();
        (
            self.memory.read_obj(GuestAddress(STATUS)).unwrap(),
            used.len(),
        )
    }

    /// Makes a chain available that is in a table of its own.
    pub(crate) fn run_indirect(&self, descriptors: &[Descriptor]) -> (u8, u32) {
        for (index, descriptor) in (0..).zip(descriptors) {
            let address = GuestAddress(TABLE + 16 * index);
            self.memory.write_obj(*descriptor, address).unwrap();
        }
        let len_bytes = u32::try_from(16 * descriptors.len()).unwrap();
        self.run(&[Descriptor::new(TABLE, len_bytes, INDIRECT, 0)])
    }

    pub(crate) fn run_with_data(
        &self,
        kind: u32,
        sector: u64,
        len_bytes: u32,
        flags: u16,
    ) -> (u8, u32) {
        self.header(kind, sector).run(&with_data(len_bytes, flags))
    }

    pub(crate) fn fill_disk(&self, byte: u8) {
        self.memory
            .write_slice(&[byte; 1024], GuestAddress(DATA))
            .unwrap();
        assert_eq!(self.run_with_data(OVERWRITE, 3, 1024, 0), (OK, 1));
        self.memory
            .write_slice(&[0; 1024], GuestAddress(DATA))
            .unwrap();
    }

    pub(crate) fn bytes(&self, address: u64, len_bytes: usize) -> Vec<u8> {
        let mut bytes = vec![0; len_bytes];
        self.memory
            .read_slice(&mut bytes, GuestAddress(address))
            .unwrap();
        bytes
    }
}

/// A chain with a header, one buffer of data and a status.
pub(crate) fn with_data(len_bytes: u32, flags: u16) -> [Descriptor; 3] {
    [
        Descriptor::new(HEADER, 16, NEXT, 1),
        Descriptor::new(DATA, len_bytes, NEXT | flags, 2),
        Descriptor::new(STATUS, 1, WRITE, 0),
    ]
}
