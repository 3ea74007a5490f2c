// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Chains as a driver would make them, and as none should.
#![expect(clippy::unwrap_used, reason = "tests may unwrap, in helpers too")]

#[path = "requests/guest.rs"]
mod guest;

use blk::request::Buffers;
use blk::{Disk, serve};
use guest::*;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::bitmap::Bitmap;
use vm_memory::{GuestAddress, GuestMemoryBackend};

#[test]
fn what_was_written_is_read_and_the_pages_are_marked() {
    let guest = Guest::new();
    guest.fill_disk(7);
    guest.header(READ, 3);
    let region = guest.memory.iter().next().unwrap();
    let pages = region.bitmap().pages();
    pages.reset();
    let answer = guest.run(&with_data(1024, WRITE));
    assert_eq!(answer, (OK, 1025));
    assert_eq!(guest.bytes(DATA, 1024), [7; 1024]);
    let dirty: Vec<usize> = (0..pages.len())
        .filter(|&page| pages.is_bit_set(page))
        .collect();
    let (rings, status, data) = (0, 0x11, 0x20);
    assert_eq!(dirty, [rings, status, data]);
}

#[test]
fn data_that_the_device_only_reads_stays_clean() {
    let guest = Guest::new();
    assert_eq!(guest.run_with_data(OVERWRITE, 0, 512, 0), (OK, 1));
    let region = guest.memory.iter().next().unwrap();
    assert!(region.bitmap().dirty_at(0x1_1fff));
    assert!(!region.bitmap().dirty_at(0x2_0000));
}

#[test]
fn header_data_and_status_may_be_cut_anywhere() {
    let guest = Guest::new();
    guest.fill_disk(9);
    let answer = guest.header(READ, 3).run(&[
        Descriptor::new(HEADER, 5, NEXT, 1),
        Descriptor::new(HEADER + 5, 0, NEXT, 2),
        Descriptor::new(HEADER + 5, 11, NEXT, 3),
        Descriptor::new(DATA, 100, NEXT | WRITE, 4),
        Descriptor::new(DATA + 0x1000, 411, NEXT | WRITE, 5),
        Descriptor::new(STATUS - 1, 2, WRITE, 0),
    ]);
    assert_eq!(answer, (OK, 513));
    assert_eq!(guest.bytes(DATA, 101), [[9; 100].as_slice(), &[0]].concat());
    assert_eq!(guest.bytes(DATA + 0x1000, 411), [9; 411]);
    assert_eq!(guest.bytes(STATUS - 1, 1), [9]);
}

#[test]
fn an_indirect_table_is_followed() {
    let guest = Guest::new();
    guest.fill_disk(5);
    let answer = guest.header(READ, 4).run_indirect(&with_data(512, WRITE));
    assert_eq!(answer, (OK, 513));
    assert_eq!(guest.bytes(DATA, 512), [5; 512]);
}

#[test]
fn the_name_is_cut_to_the_room_there_is() {
    let guest = Guest::new();
    assert_eq!(guest.run_with_data(GET_ID, 0, 20, WRITE), (OK, 21));
    assert_eq!(guest.bytes(DATA, 20), guest.disk.id());
    let guest = Guest::new();
    assert_eq!(guest.run_with_data(GET_ID, 0, 3, WRITE), (OK, 4));
    assert_eq!(guest.bytes(DATA, 4), *b"ram\0");
}

#[test]
fn flush_needs_no_data_and_unknown_kinds_are_unsupported() {
    let guest = Guest::new();
    let bare = [
        Descriptor::new(HEADER, 16, NEXT, 1),
        Descriptor::new(STATUS, 1, WRITE, 0),
    ];
    assert_eq!(guest.header(FLUSH, 0).run(&bare), (OK, 1));
    assert_eq!(guest.header(0x7777, 0).run(&bare), (UNSUPPORTED, 0));
}

#[test]
fn ranges_that_leave_the_disk_are_io_errors() {
    let sectors = DISK_LEN_BYTES as u64 / 512;
    for sector in [sectors, sectors - 1, u64::MAX, u64::MAX / 512, 1 << 55] {
        assert_eq!(
            Guest::new().run_with_data(READ, sector, 1024, WRITE),
            (IO_ERROR, 0)
        );
        assert_eq!(
            Guest::new().run_with_data(OVERWRITE, sector, 1024, 0),
            (IO_ERROR, 0)
        );
    }
}

#[test]
fn parts_of_sectors_are_io_errors() {
    assert_eq!(
        Guest::new().run_with_data(READ, 0, 511, WRITE),
        (IO_ERROR, 0)
    );
    assert_eq!(
        Guest::new().run_with_data(OVERWRITE, 0, 513, 0),
        (IO_ERROR, 0)
    );
}

#[test]
fn buffers_outside_memory_are_io_errors() {
    for address in [
        MEMORY_LEN_BYTES as u64 - 256,
        MEMORY_LEN_BYTES as u64,
        u64::MAX - 3,
    ] {
        for flags in [0, WRITE] {
            let kind = if flags == WRITE { READ } else { OVERWRITE };
            let answer = Guest::new().header(kind, 0).run(&[
                Descriptor::new(HEADER, 16, NEXT, 1),
                Descriptor::new(address, 512, NEXT | flags, 2),
                Descriptor::new(STATUS, 1, WRITE, 0),
            ]);
            assert_eq!(answer, (IO_ERROR, 0), "{address:#x}");
        }
    }
    for address in [
        MEMORY_LEN_BYTES as u64 - 8,
        MEMORY_LEN_BYTES as u64,
        u64::MAX - 3,
    ] {
        let answer = Guest::new().run(&[
            Descriptor::new(address, 16, NEXT, 1),
            Descriptor::new(STATUS, 1, WRITE, 0),
        ]);
        assert_eq!(answer, (IO_ERROR, 0), "header at {address:#x}");
    }
}

#[test]
fn a_short_header_is_an_io_error() {
    let answer = Guest::new().header(FLUSH, 0).run(&[
        Descriptor::new(HEADER, 15, NEXT, 1),
        Descriptor::new(STATUS, 1, WRITE, 0),
    ]);
    assert_eq!(answer, (IO_ERROR, 0));
    assert_eq!(
        Guest::new().run(&[Descriptor::new(STATUS, 1, WRITE, 0)]),
        (IO_ERROR, 0)
    );
}

#[test]
fn a_chain_that_does_not_end_or_is_out_of_order_is_not_executed() {
    let status = Descriptor::new(STATUS, 1, NEXT | WRITE, 0);
    let header = Descriptor::new(HEADER, 16, NEXT, 1);
    let looped = [header, status];
    assert_eq!(Guest::new().header(FLUSH, 0).run(&looped), (IO_ERROR, 0));
    let beyond = [header, Descriptor::new(STATUS, 1, NEXT | WRITE, 4000)];
    assert_eq!(Guest::new().header(FLUSH, 0).run(&beyond), (IO_ERROR, 0));
    let backwards = [
        Descriptor::new(STATUS, 1, NEXT | WRITE, 1),
        Descriptor::new(HEADER, 16, 0, 0),
    ];
    assert_eq!(Guest::new().header(FLUSH, 0).run(&backwards), (IO_ERROR, 0));
}

#[test]
fn a_chain_without_room_for_a_status_is_ignored() {
    let header = Descriptor::new(HEADER, 16, 0, 0);
    assert_eq!(Guest::new().header(FLUSH, 0).run(&[header]), (UNTOUCHED, 0));
    let header = Descriptor::new(HEADER, 16, NEXT, 1);
    let empty = Descriptor::new(STATUS, 0, WRITE, 0);
    assert_eq!(
        Guest::new().header(FLUSH, 0).run(&[header, empty]),
        (UNTOUCHED, 0)
    );
    let nowhere = Descriptor::new(u64::MAX, 2, WRITE, 0);
    assert_eq!(
        Guest::new().header(FLUSH, 0).run(&[header, nowhere]),
        (UNTOUCHED, 0)
    );
}

#[test]
fn an_available_ring_outside_memory_has_no_chains() {
    let guest = Guest::new();
    let mut queue = Queue::new(16).unwrap();
    queue
        .try_set_avail_ring_address(GuestAddress(1 << 40))
        .unwrap();
    queue.set_ready(true);
    let count = serve(
        &mut queue,
        &guest.memory,
        &guest.disk,
        &mut Buffers::default(),
    );
    assert_eq!(count.unwrap(), 0);
}
