// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A flat memory of any layout against a naive twin: what each byte is, and what may be done with it.

use std::num::NonZeroUsize;

use guest_memory_bitmap::{AtomicBitmap, Bitmap, DirtyLog};
use guest_memory_core::{
    Bytes, GuestAddress, GuestDirtyPages, GuestMemoryError, GuestMemoryResult, IoMemory,
    Permissions,
};
use guest_memory_mmap::{FlatGuestMemory, FlatGuestMemoryBuilder, MmapRegionBuilder, Protection};
use proptest::prelude::*;

/// The system's pages may be larger, but not here.
const PAGE: usize = 4096;
const BASE: u64 = 3 << 32;

/// A hole, and the region behind it, in pages.
#[derive(Clone, Debug)]
struct Piece {
    hole: usize,
    pages: usize,
    protection: Protection,
    is_changeable: bool,
}

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let protection = prop_oneof![
        6 => Just(Protection::ReadWrite),
        2 => Just(Protection::ReadOnly),
        1 => Just(Protection::NoAccess),
    ];
    let hole = prop_oneof![4 => Just(0usize), 2 => 1usize..4, 1 => 4usize..64];
    let piece = (hole, 1usize..4, protection, prop::bool::weighted(0.1));
    let piece = piece.prop_map(|(hole, pages, protection, is_changeable)| Piece {
        hole,
        pages,
        protection,
        is_changeable,
    });
    prop::collection::vec(piece, 0..12)
}

#[derive(Clone, Debug)]
enum Step {
    Write {
        at: usize,
        len: usize,
        byte: u8,
    },
    Read {
        at: usize,
        len: usize,
    },
    /// Removes the region that this picks.
    Unplug {
        pick: usize,
    },
    /// Puts such a region at a page.
    Plug {
        page: usize,
        piece: Piece,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Mostly at a border, in pages that mostly exist.
    let at = prop_oneof![
        3 => (0usize..80, -20isize..20).prop_map(|(page, nudge)| (page * PAGE).wrapping_add_signed(nudge)),
        1 => 0usize..80 * PAGE,
        1 => any::<usize>(),
    ];
    let len = prop_oneof![4 => 0usize..40, 1 => 0usize..6 * PAGE];
    let piece = pieces().prop_filter_map("a piece", |pieces| pieces.into_iter().next());
    let step = prop_oneof![
        4 => (at.clone(), len.clone(), any::<u8>()).prop_map(|(at, len, byte)| Step::Write { at, len, byte }),
        4 => (at, len).prop_map(|(at, len)| Step::Read { at, len }),
        1 => any::<usize>().prop_map(|pick| Step::Unplug { pick }),
        1 => (0usize..80, piece).prop_map(|(page, piece)| Step::Plug { page, piece }),
    ];
    prop::collection::vec(step, 1..24)
}

/// The naive twin: a protection for each page, if there is memory, and the bytes.
struct Twin {
    pages: Vec<Option<Protection>>,
    bytes: Vec<u8>,
    dirty: Vec<bool>,
    /// First page and number of pages of each region, by ascending page.
    regions: Vec<(usize, usize)>,
}

impl Twin {
    fn plug(&mut self, page: usize, piece: &Piece) {
        self.pages[page..page + piece.pages].fill(Some(piece.protection));
        self.bytes[page * PAGE..(page + piece.pages) * PAGE].fill(0);
        self.regions.push((page, piece.pages));
        self.regions.sort_unstable();
    }

    fn unplug(&mut self, number: usize) -> usize {
        let (page, pages) = self.regions.remove(number);
        self.pages[page..page + pages].fill(None);
        self.dirty[page..page + pages].fill(false);
        page
    }

    fn protection(&self, at: usize) -> Option<Protection> {
        *self.pages.get(at / PAGE)?
    }

    /// Returns how many of `len` bytes can be accessed, and whether a hole or an end comes next rather than a refusal.
    fn reach(&self, at: usize, len: usize, access: Permissions) -> (usize, bool) {
        for done in 0..len {
            match at.checked_add(done).and_then(|at| self.protection(at)) {
                None => return (done, true),
                Some(protection) if access.has_write() && !protection.is_writable() => {
                    return (done, false);
                }
                Some(protection) if !protection.is_readable() => return (done, false),
                Some(_) => {}
            }
        }
        (len, true)
    }
}

fn region(piece: &Piece) -> MmapRegionBuilder {
    let builder = MmapRegionBuilder::new(piece.pages * PAGE).with_protection(piece.protection);
    if piece.is_changeable {
        builder.with_changeable_protection()
    } else {
        builder
    }
}

fn build(pieces: &[Piece]) -> (FlatGuestMemory<AtomicBitmap>, Twin) {
    let page_count = pieces
        .iter()
        .map(|piece| piece.hole + piece.pages)
        .sum::<usize>()
        .max(80)
        + 4;
    let span = page_count * PAGE;
    let mut twin = Twin {
        pages: vec![None; page_count],
        bytes: vec![0; span],
        dirty: vec![false; page_count],
        regions: Vec::new(),
    };
    let bitmap = AtomicBitmap::new(span, NonZeroUsize::new(PAGE).expect("not zero"));
    let mut builder =
        FlatGuestMemoryBuilder::new_with_bitmap(span as u64, bitmap).with_base(GuestAddress(BASE));
    let mut page = 0;
    for piece in pieces {
        page += piece.hole;
        builder = builder.with_region(address(page * PAGE), region(piece));
        twin.plug(page, piece);
        page += piece.pages;
    }
    (builder.build().expect("a flat memory"), twin)
}

fn address(at: usize) -> GuestAddress {
    GuestAddress(BASE.wrapping_add(at as u64))
}

/// Asserts that an access of `len` bytes came as far as the twin says, for the reason that it says.
fn assert_outcome(outcome: &GuestMemoryResult<usize>, at: usize, len: usize, reach: (usize, bool)) {
    match (outcome, reach) {
        (Ok(done), (expected, true)) if expected > 0 || len == 0 => assert_eq!(*done, expected),
        (Err(GuestMemoryError::InvalidGuestAddress(hole)), (0, true)) => {
            assert_eq!(*hole, address(at))
        }
        (Err(GuestMemoryError::Access { completed: 0, .. }), (0, false)) => {}
        (Err(GuestMemoryError::Interrupted { completed, .. }), (expected, false)) => {
            assert_eq!(*completed, expected);
        }
        other => panic!("{other:?}"),
    }
}

/// Compares all that can be read, and all marks.
fn assert_same(memory: &FlatGuestMemory<AtomicBitmap>, twin: &Twin) {
    for (page, protection) in twin.pages.iter().enumerate() {
        let mut bytes = [0u8; PAGE];
        let read = memory.read_slice(&mut bytes, address(page * PAGE));
        let is_readable = protection.is_some_and(Protection::is_readable);
        assert_eq!(read.is_ok(), is_readable, "page {page}");
        assert!(
            !is_readable || bytes == twin.bytes[page * PAGE..][..PAGE],
            "page {page}"
        );
        let dirty = memory.bitmap().dirty_at(page * PAGE);
        assert!(
            protection.is_none() || dirty == twin.dirty[page],
            "page {page}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_memory_of_any_layout_does_what_the_twin_does(pieces in pieces(), steps in steps()) {
        let (mut memory, mut twin) = build(&pieces);
        for step in steps {
            match step {
                Step::Write { at, len, byte } => {
                    let outcome = memory.write(&vec![byte; len], address(at));
                    let reach = twin.reach(at, len, Permissions::Write);
                    assert_outcome(&outcome, at, len, reach);
                    let (done, _) = reach;
                    if done > 0 {
                        twin.bytes[at..at + done].fill(byte);
                        twin.dirty[at / PAGE..=(at + done - 1) / PAGE].fill(true);
                    }
                    prop_assert_eq!(memory.check_range(address(at), len, Permissions::Write), done == len);
                }
                Step::Read { at, len } => {
                    let mut buffer = vec![0u8; len];
                    let outcome = memory.read(&mut buffer, address(at));
                    let reach = twin.reach(at, len, Permissions::Read);
                    assert_outcome(&outcome, at, len, reach);
                    let (done, _) = reach;
                    prop_assert!(done == 0 || buffer[..done] == twin.bytes[at..at + done]);
                    prop_assert!(buffer[done..].iter().all(|&byte| byte == 0));
                    // Of the same regions, found one by one.
                    let mut others = vec![0u8; len];
                    let outcome = memory.regions().read(&mut others, address(at));
                    assert_outcome(&outcome, at, len, reach);
                    prop_assert_eq!(buffer, others);
                }
                Step::Unplug { pick } => {
                    if twin.regions.is_empty() {
                        continue;
                    }
                    let page = twin.unplug(pick % twin.regions.len());
                    memory = memory.with_region_removed(address(page * PAGE)).unwrap().0;
                }
                Step::Plug { page, piece } => {
                    let end = page + piece.pages;
                    let is_free = twin.pages[page..end].iter().all(Option::is_none);
                    let plugged = memory.with_region_inserted(address(page * PAGE), region(&piece));
                    prop_assert_eq!(plugged.is_ok(), is_free);
                    if let Ok(plugged) = plugged {
                        memory = plugged;
                        // What was marked before the region came may still be.
                        for marked in page..end {
                            twin.dirty[marked] = memory.bitmap().dirty_at(marked * PAGE);
                        }
                        twin.plug(page, &piece);
                    }
                }
            }
            assert_same(&memory, &twin);
        }
        let mut pages = GuestDirtyPages::default();
        memory.harvest_into(&mut pages);
        for (page, dirty) in twin.dirty.iter().enumerate() {
            let is_expected = *dirty && twin.pages[page].is_some();
            prop_assert_eq!(pages.contains(address(page * PAGE)), is_expected, "page {}", page);
        }
    }

    #[test]
    fn neighbours_are_as_few_slices_as_their_protections_allow(pieces in pieces()) {
        let (memory, twin) = build(&pieces);
        let mut expected = Vec::new();
        let mut page = 0;
        let mut before: Option<&Piece> = None;
        for piece in &pieces {
            page += piece.hole;
            let joins = before.is_some_and(|before| {
                piece.hole == 0
                    && before.protection == piece.protection
                    && !before.is_changeable
                    && !piece.is_changeable
            });
            if piece.protection.is_readable() {
                match expected.last_mut() {
                    Some((_, pages)) if joins => *pages += piece.pages,
                    _ => expected.push((page, piece.pages)),
                }
            }
            page += piece.pages;
            before = Some(piece);
        }
        for (start, pages) in expected {
            let (at, len) = (start * PAGE, pages * PAGE);
            let (reach, _) = twin.reach(at, len, Permissions::Read);
            prop_assert_eq!(reach, len);
            let slice = memory.get_slices(address(at), len, Permissions::Read).unwrap().next();
            let slice = slice.unwrap().unwrap();
            prop_assert_eq!(slice.len(), len);
            prop_assert_eq!(slice.ptr_guard().as_ptr(), memory.as_ptr().wrapping_add(at).cast_const());
        }
    }
}
