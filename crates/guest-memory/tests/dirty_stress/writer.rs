// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The writers: every way there is to write a guest's memory.
//!
//! In each page every writer has a slot of its own. Its first word only ever increases, so that a copy can be held
//! against it; the rest takes bytes of any length and alignment. The first and the last bytes of a page are
//! everybody's, so there are writes over the borders of pages and regions, and so are the last pages of the first
//! region, for writes of many pages. What several write is compared at the end only.

use std::hint;
use std::io::Cursor;
use std::sync::atomic::Ordering;
use std::thread;

use guest_memory::bitmap::BitmapSlice;
use guest_memory::{
    Address, Bytes, BytesExt, GuestAddress, GuestMemory, GuestMemoryMmap, ReadVolatile,
    VolatileMemory, VolatileSlice,
};

use crate::harvester::Shared;
use crate::{Log, PAGE, Workload, Writes};

/// Bytes at both ends of a page that are everybody's.
const SHARED_BYTES: usize = 64;
const SLOT_BYTES: usize = 64;
/// Pages at the end of the first region for writes of many pages.
const BULK_PAGES: usize = 200;

/// Where the word of a writer in a page is.
pub(crate) fn slot_of(page: usize, writer: usize) -> GuestAddress {
    // More writers than there are slots would share some, and no value could be told.
    assert!(writer < (PAGE - 2 * SHARED_BYTES) / SLOT_BYTES);
    GuestAddress((page * PAGE + SHARED_BYTES + writer * SLOT_BYTES) as u64)
}

/// Writes until it is over; returns how often.
pub(crate) fn write<L: Log>(
    memory: &GuestMemoryMmap<L>,
    shared: &Shared,
    workload: Workload,
    index: usize,
) -> u64 {
    let slotted_pages = match workload.writes {
        Writes::All => workload.region_pages[0] - BULK_PAGES,
        Writes::Words => workload.region_pages.iter().sum(),
    };
    let mut random = Random(index as u64 + 1);
    let mut last = vec![0_u64; slotted_pages];
    let mut writes = 0_u64;
    while !shared.is_over.load(Ordering::Acquire) {
        writes += 1;
        let page = if random.below(2) == 0 {
            random.below(workload.watched_pages)
        } else {
            random.below(slotted_pages)
        };
        let slot = slot_of(page, index);
        match workload.writes {
            Writes::Words => {
                last[page] = write_word(memory, slot, last[page], random.below(FAST_WAYS));
                shared.finish(page, index, last[page]);
            }
            Writes::All if random.below(4) != 0 => {
                last[page] = write_word(memory, slot, last[page], random.below(WAYS));
                shared.finish(page, index, last[page]);
            }
            Writes::All => write_bytes(memory, workload, slot, &mut random),
        }
        if writes.is_multiple_of(workload.burst) {
            let mut spins = 0_u32;
            let seen = shared.harvests.load(Ordering::Acquire);
            while shared.harvests.load(Ordering::Acquire) < seen + 2
                && !shared.is_over.load(Ordering::Acquire)
            {
                spins += 1;
                if spins.is_multiple_of(4096) {
                    thread::yield_now();
                }
                hint::spin_loop();
            }
        }
    }
    writes
}

/// Ways to write a word, of which the first ones are the fastest.
const WAYS: usize = 22;
const FAST_WAYS: usize = 3;

/// Writes a greater value than `last`, which is there, to a slot's word; returns it.
fn write_word<L: Log>(
    memory: &GuestMemoryMmap<L>,
    slot: GuestAddress,
    last: u64,
    way: usize,
) -> u64 {
    const ORDER: Ordering = Ordering::Relaxed;
    let value = last + 1;
    let bytes = value.to_ne_bytes();
    match way {
        // By guest address.
        0 => memory.write_obj(value, slot).unwrap(),
        1 => memory.store(value, slot, ORDER).unwrap(),
        2 => memory.write_slice(&bytes, slot).unwrap(),
        3 => assert_eq!(memory.write(&bytes, slot).unwrap(), bytes.len()),
        4 => assert_eq!(memory.fetch_add(1_u64, slot, ORDER).unwrap(), last),
        5 => assert_eq!(memory.swap(value, slot, ORDER).unwrap(), last),
        6 => assert_eq!(memory.fetch_xor(last ^ value, slot, ORDER).unwrap(), last),
        7 => {
            // The lowest bit that is clear.
            assert_eq!(memory.fetch_or(!last & value, slot, ORDER).unwrap(), last);
            return last | value;
        }
        8 => {
            let exchanged = memory.compare_exchange(last, value, slot, ORDER, ORDER);
            assert_eq!(exchanged.unwrap(), Ok(last));
        }
        9 => memory.store_le(value.to_le(), slot, ORDER).unwrap(),
        10 => {
            let read = memory.read_volatile_from(slot, &mut &bytes[..], bytes.len());
            assert_eq!(read.unwrap(), bytes.len());
        }
        11 => memory
            .read_exact_volatile_from(slot, &mut Cursor::new(bytes), bytes.len())
            .unwrap(),
        // By an address in the region.
        12..=14 => {
            let (region, offset) = memory.to_region_addr(slot).unwrap();
            match way {
                12 => region.write_obj(value, offset).unwrap(),
                13 => region.store(value, offset, ORDER).unwrap(),
                _ => region.write_slice(&bytes, offset).unwrap(),
            }
        }
        // Through a window.
        _ => return write_word_in_window(&memory.get_slice(slot, SLOT_BYTES).unwrap(), last, way),
    }
    value
}

fn write_word_in_window<S: BitmapSlice>(
    window: &VolatileSlice<'_, S>,
    last: u64,
    way: usize,
) -> u64 {
    let value = last + 1;
    match way {
        15 => window.copy_from(&[value]),
        16 => window.write_obj(value, 0).unwrap(),
        17 => window.get_ref(0).unwrap().store(value),
        18 => {
            let word = window.get_ref::<u64>(0).unwrap();
            word.store_atomic(value, Ordering::Relaxed).unwrap();
        }
        19 => window.get_array_ref(0, 1).unwrap().copy_from(&[value]),
        20 => {
            let mut bytes = value.to_ne_bytes();
            VolatileSlice::from(&mut bytes[..])
                .copy_to_volatile_slice(window.subslice(0, 8).unwrap());
        }
        _ => {
            let bytes = value.to_ne_bytes();
            let mut word = window.subslice(0, 8).unwrap();
            (&bytes[..]).read_exact_volatile(&mut word).unwrap();
        }
    }
    value
}

/// Writes some bytes where no copy is compared before the end.
fn write_bytes<L: Log>(
    memory: &GuestMemoryMmap<L>,
    workload: Workload,
    slot: GuestAddress,
    random: &mut Random,
) {
    let noise = [random.next().to_le_bytes()[0]; SLOT_BYTES];
    let of_slot = SLOT_BYTES - 8;
    let start = random.below(of_slot);
    let part = &noise[..1 + random.below(of_slot - start)];
    let in_slot = slot.unchecked_add(8 + start as u64);

    // Over the border after a page, which may be that of the two regions.
    let end_page = match random.below(8) {
        0 => workload.region_pages[0],
        _ => 1 + random.below(workload.region_pages.iter().sum::<usize>() - 1),
    };
    let over_border = GuestAddress((end_page * PAGE - 1 - random.below(part.len())) as u64);

    match random.below(8) {
        0 => memory.write_slice(part, in_slot).unwrap(),
        1 => memory.fill(part[0], in_slot, part.len()).unwrap(),
        2 => {
            let window = memory.get_slice(in_slot, part.len()).unwrap();
            window.copy_from(part);
        }
        3 | 4 => memory.write_slice(part, over_border).unwrap(),
        5 => memory.fill(part[0], over_border, part.len()).unwrap(),
        6 => memory
            .read_exact_volatile_from(over_border, &mut &part[..], part.len())
            .unwrap(),
        _ if random.below(64) != 0 => {
            memory.zero(in_slot, part.len()).unwrap();
        }
        _ => {
            // Leaf words from end to end.
            let page = workload.region_pages[0] - BULK_PAGES + random.below(BULK_PAGES - 150);
            let start = GuestAddress((page * PAGE + random.below(PAGE)) as u64);
            memory.fill(part[0], start, 149 * PAGE).unwrap();
        }
    }
}

/// A xorshift generator.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 11) as usize % end
    }
}
