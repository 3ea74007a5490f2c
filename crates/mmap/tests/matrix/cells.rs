// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The columns of the matrix: what is done to a region. Each panics if what comes of it is not what must.

use guest_memory_core::{Bytes, GuestMemoryRegion, MemoryRegionAddress};
use guest_memory_mmap::{
    BackingKind, DiscardError, DiscardMethod, DiscardReads, Prefault, Protection, Sharing,
};
use guest_memory_volatile::VolatileMemory;

use crate::child::signal_of_write;
use crate::fork::exchange_with_child;
use crate::pages::PAGE;
use crate::subject::{Discard, Ground, Subject};

/// A column of the matrix.
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) check: fn(&mut Subject, &Ground),
}

pub(crate) const COLUMNS: [Column; 8] = [
    column("read", |subject, _| read(subject)),
    column("write", |subject, _| write(subject)),
    column("dirty", |subject, _| dirty(subject)),
    column("discard", |subject, ground| discard(subject, ground)),
    column("prefault", |subject, ground| prefault(subject, ground)),
    column("protect", protect),
    column("guard", |subject, ground| guard(subject, ground)),
    column("fork", |subject, ground| fork(subject, ground)),
];

const fn column(name: &'static str, check: fn(&mut Subject, &Ground)) -> Column {
    Column { name, check }
}

/// The region is what it was asked to be.
pub(crate) fn is_as_described(subject: &Subject) {
    let (region, expected) = (&subject.region, &subject.expected);
    assert_eq!(region.backing(), expected.kind);
    assert_eq!(region.sharing(), expected.sharing);
    assert_eq!(region.page_size(), expected.page_size);
    assert!(region.as_ptr().addr().is_multiple_of(expected.page_size));
    assert!(subject.dirty_pages().is_empty());
}

/// What somebody else writes is read by the region, which marks nothing.
fn read(subject: &Subject) {
    assert_eq!(subject.read(PAGE), subject.first_value());
    for (place, value) in subject.places().into_iter().zip(0xdead_beef_0123_0001..) {
        assert_eq!(subject.read(place), subject.first_value());
        subject.others_write(place, value);
        assert_eq!(subject.read(place), value, "at {place:#x}");
    }
    assert_eq!(subject.read(PAGE), subject.first_value());
    let past_the_end = MemoryRegionAddress(subject.region.size() as u64 - 7);
    assert!(subject.region.read_obj::<u64>(past_the_end).is_err());
    assert!(subject.dirty_pages().is_empty());
}

/// What the region writes is read by somebody else, unless it is private to the region.
fn write(subject: &Subject) {
    let is_private_to_the_region = matches!(subject.expected.discard, Discard::FileContent);
    for (place, value) in subject.places().into_iter().zip(0xdead_beef_0123_0001..) {
        assert_eq!(subject.others_read(place), subject.first_value());
        subject.write(place, value);
        assert_eq!(subject.read(place), value);
        let expected = match is_private_to_the_region {
            true => subject.first_value(),
            false => value,
        };
        assert_eq!(subject.others_read(place), expected, "at {place:#x}");
    }
    assert_eq!(subject.read(PAGE), subject.first_value());
    let past_the_end = MemoryRegionAddress(subject.region.size() as u64 - 7);
    assert!(subject.region.write_obj(0u64, past_the_end).is_err());
}

/// Exactly the pages that are written are marked.
fn dirty(subject: &Subject) {
    let size = subject.region.size();
    assert!(subject.dirty_pages().is_empty());
    subject.write(5 * PAGE, 1);
    assert_eq!(subject.dirty_pages(), [5]);
    // Over the end of a page, and at both ends of the region.
    subject.write(8 * PAGE - 1, 2);
    subject.write(0, 3);
    subject.write(size - 8, 4);
    let last = size / PAGE - 1;
    assert_eq!(subject.dirty_pages(), [0, 5, 7, 8, last]);
    for place in subject.places() {
        subject.read(place);
    }
    assert_eq!(subject.dirty_pages(), [0, 5, 7, 8, last]);
}

/// The second half of the memory, or all if that is one page, goes back to the system, and reads as documented.
fn discard(subject: &Subject, ground: &Ground) {
    let size = subject.region.size();
    let page_size = subject.expected.page_size;
    let start = if size > page_size { size / 2 } else { 0 };
    let value = subject.fill();
    let gone = start..size;
    GuestMemoryRegion::bitmap(&subject.region).reset();
    assert!(subject.dirty_pages().is_empty());
    assert_eq!(subject.page_table(0..size).used, size);

    let unused_before = ground.unused_pages();
    let (blocks_before, method) = match subject.expected.discard {
        Discard::Zero(method) => (None, method),
        Discard::ZeroAndBlocks(method) => (Some(subject.blocks()), method),
        Discard::FileContent => (None, DiscardMethod::DontNeed),
        Discard::Refused => {
            let error = subject
                .region
                .discard(start, gone.len())
                .expect_err("memory of somebody else or of a device");
            let is_right = match subject.expected.kind {
                // The kernel punches no holes in devices.
                BackingKind::Dax => matches!(error, DiscardError::System { .. }),
                _ => matches!(error, DiscardError::External),
            };
            assert!(is_right, "{error:?}");
            assert_eq!(subject.read(start), value);
            assert!(subject.dirty_pages().is_empty());
            return;
        }
    };
    let report = subject
        .region
        .discard(start, gone.len())
        .expect("a discard");
    assert_eq!(report.discarded, gone);
    assert_eq!((report.unaligned_head, report.unaligned_tail), (0, 0));
    assert_eq!(report.method, method);
    assert_eq!(report.freed, Some(gone.len()));
    assert_eq!(report.back_to_pool, unused_before.is_some());

    // The memory is gone, before anything touches it.
    assert_eq!(subject.page_table(gone.clone()).used, 0);
    let is_private_to_the_region = matches!(subject.expected.discard, Discard::FileContent);
    if !is_private_to_the_region {
        assert_eq!(subject.in_memory(gone.clone()), 0);
    }
    let pages = gone.len() / page_size;
    assert_eq!(
        ground.unused_pages(),
        unused_before.map(|before| before + pages)
    );
    if let Some(before) = blocks_before {
        assert_eq!(before - subject.blocks(), gone.len() as u64 / 512);
    }

    // What it reads as, and what was left alone.
    let (content, reads) = match is_private_to_the_region {
        true => (subject.first_value(), DiscardReads::FileContent),
        false => (0, DiscardReads::Zero),
    };
    assert_eq!(report.reads, reads);
    for page in gone.clone().step_by(page_size) {
        assert_eq!(subject.read(page), content);
    }
    for page in (0..start).step_by(page_size) {
        assert_eq!(subject.read(page), value);
    }
    let discarded: Vec<usize> = (start / PAGE..size / PAGE).collect();
    assert_eq!(subject.dirty_pages(), discarded);
    // It can be used again.
    subject.write(start, !value);
    assert_eq!(subject.read(start), !value);
}

/// All pages are there, of the region's own where they are to be, and nothing is marked.
fn prefault(subject: &Subject, ground: &Ground) {
    let size = subject.region.size();
    let unused_before = ground.unused_pages();
    assert_eq!(subject.page_table(0..size).used, 0);
    let report = subject
        .region
        .prefault(&Prefault::new())
        .expect("all pages");
    assert_eq!(report.populated, size);
    let own = match subject.expected.sharing {
        Sharing::Private => size,
        Sharing::Shared => 0,
    };
    let page_table = subject.page_table(0..size);
    assert_eq!((page_table.used, page_table.own), (size, own));
    assert!(subject.region.is_resident(0, size).expect("an answer"));
    let pages = size / subject.expected.page_size;
    assert_eq!(
        ground.unused_pages(),
        unused_before.map(|before| before - pages)
    );
    assert!(subject.dirty_pages().is_empty());
    for place in subject.places() {
        assert_eq!(subject.read(place), subject.first_value());
    }
}

/// Read-only memory refuses writes, memory without access reads as well, and all is as before after a change back.
fn protect(subject: &mut Subject, ground: &Ground) {
    let size = subject.region.size();
    let place = subject.places()[1];
    let at = MemoryRegionAddress(place as u64);
    subject.write(place, 1);
    let stray = |subject: &Subject| signal_of_write(ground.turn(), subject.at(place));

    subject
        .region
        .set_protection(0, size, Protection::ReadOnly)
        .expect("read-only memory");
    assert_eq!(subject.region.protection(0, size), Protection::ReadOnly);
    assert!(subject.region.write_obj(2u64, at).is_err());
    assert_eq!(subject.read(place), 1);
    assert_eq!(stray(subject), Some(libc::SIGSEGV));

    subject
        .region
        .set_protection(0, size, Protection::NoAccess)
        .expect("memory without access");
    assert!(subject.region.read_obj::<u64>(at).is_err());
    assert!(subject.region.write_obj(2u64, at).is_err());
    assert_eq!(stray(subject), Some(libc::SIGSEGV));

    subject
        .region
        .set_protection(0, size, Protection::ReadWrite)
        .expect("memory as before");
    assert_eq!(subject.read(place), 1);
    subject.write(place, 3);
    assert_eq!(subject.read(place), 3);
    assert_eq!(stray(subject), None);
}

/// Past either end there is no access, by a stray pointer or through the library; memory of the caller's stands alone.
fn guard(subject: &Subject, ground: &Ground) {
    let size = subject.region.size();
    let expected = match subject.expected.has_guard_pages {
        true => Some(libc::SIGSEGV),
        false => None,
    };
    let start = subject.region.as_ptr();
    let signal = |address| signal_of_write(ground.turn(), address);
    assert_eq!(signal(start), None);
    assert_eq!(signal(subject.at(size - 1)), None);
    assert_eq!(signal(start.wrapping_add(size)), expected);
    assert_eq!(signal(start.wrapping_sub(1)), expected);
    let slice = VolatileMemory::as_volatile_slice(&*subject.region);
    assert!(slice.write_obj(1u8, size).is_err());
    assert!(VolatileMemory::get_slice(&*subject.region, size - 1, 2).is_err());
    assert!(
        subject
            .region
            .write_obj(1u8, MemoryRegionAddress(size as u64))
            .is_err()
    );
}

/// A child has what the parent wrote; what the child writes is seen if the memory is shared.
fn fork(subject: &Subject, ground: &Ground) {
    let last = subject.region.size() - 8;
    subject.write(0, 1);
    // The other place is one that nobody touched before the child.
    for (place, before) in [(0, 1), (last, subject.first_value())] {
        exchange_with_child(ground.turn(), subject.at(place), before, 2);
        let after = match subject.expected.sharing {
            Sharing::Private => before,
            Sharing::Shared => 2,
        };
        assert_eq!(subject.read(place), after, "at {place:#x}");
    }
}
