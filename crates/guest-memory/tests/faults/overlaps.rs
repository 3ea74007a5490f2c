// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Copies between slices that overlap, with a page on the way that cannot be accessed.

use std::ops::Range;

use guest_memory::{FaultKind, VolatileMemoryError};

use crate::holes::{Holed, hole};

/// Where a copy starts, where it goes, how long it is.
#[derive(Clone, Copy, Debug)]
struct Copy {
    source: usize,
    target: usize,
    len: usize,
}

impl Copy {
    fn run(self, holed: &Holed) -> (usize, usize, FaultKind) {
        let source = holed.slice(self.source..self.source + self.len);
        let target = holed.slice(self.target..self.target + self.len);
        match source.try_copy_to_volatile_slice(target) {
            Err(VolatileMemoryError::Fault {
                addr,
                completed,
                kind,
            }) => (addr, completed, kind),
            other => panic!("{self:?}: {other:?}"),
        }
    }

    /// Offsets in the copy of what cannot be accessed: of the source, of the target.
    fn holes(self) -> [Range<usize>; 2] {
        let hole = |start: usize| {
            let at = |address: usize| address.saturating_sub(start).min(self.len);
            at(hole().start)..at(hole().end)
        };
        [hole(self.source), hole(self.target)]
    }
}

/// Distances of a target from its source: alike and unlike alignments, within and beyond vectors and chunks.
const DISTANCES: [usize; 18] = [
    1, 3, 8, 9, 16, 24, 32, 40, 64, 65, 72, 128, 130, 256, 500, 512, 520, 1500,
];

#[test]
fn a_copy_down_stops_where_its_source_has_no_access() {
    copies_down(libc::PROT_NONE, 0);
}

/// A page that can be read but not written stops the copy later, when the target comes to it.
#[test]
fn a_copy_down_stops_where_its_target_cannot_be_written() {
    copies_down(libc::PROT_READ, 1);
}

/// Copies to lower addresses; `side` is the one that stops them, 0 the source, 1 the target.
fn copies_down(prot: i32, side: usize) {
    for distance in DISTANCES {
        for before in (0..80).chain([200, 512, 1000]) {
            for len in [before + 1, before + 8, before + 100, before + 900] {
                let mut holed = Holed::with_hole(prot);
                let first = hole().start - before;
                let (source, target) = match side {
                    0 => (first, first - distance),
                    _ => (first + distance, first),
                };
                let copy = Copy {
                    source,
                    target,
                    len,
                };
                let data = holed.model()[source..source + before].to_vec();
                let told = copy.run(&holed);
                assert_eq!(told, (before, before, FaultKind::Protection), "{copy:?}");
                holed.expect(target, &data);
                holed.check(target..target + before, &copy);
            }
        }
    }
}

/// Such a copy goes from the last byte to the first. What it counts are bytes at the end; it may stop a little before the
/// page, as it moves chunks, and have written bytes of the last chunk that it does not count, but marks all that it wrote.
#[test]
fn a_copy_up_marks_and_counts_what_it_wrote_behind_a_page_without_access() {
    for distance in DISTANCES {
        for behind in (0..80).chain([200, 512, 1000]) {
            for len in [behind + 1, behind + 8, behind + 100, behind + 900] {
                // The end of the source, then of the target, is `behind` bytes behind the hole.
                for source_end in [
                    hole().end + behind,
                    hole().end + behind - distance.min(behind),
                ] {
                    let mut holed = Holed::new();
                    let source = source_end - len;
                    let copy = Copy {
                        source,
                        target: source + distance,
                        len,
                    };
                    if copy.holes().iter().all(Range::is_empty) {
                        continue;
                    }
                    check_copy_up(&mut holed, copy);
                }
            }
        }
    }
}

/// The target ends within the page, so that the bytes before the page come first in the chunk that is refused.
#[test]
fn a_copy_up_that_ends_in_a_page_without_access_marks_what_it_wrote() {
    for distance in DISTANCES {
        for inside in [1, 2, 7, 8, 9, 40, 300] {
            for len in [inside + 1, inside + 30, inside + 700] {
                // The source must overlap the target and end before the hole.
                if distance < inside || distance >= len {
                    continue;
                }
                let mut holed = Holed::new();
                let target = hole().start + inside - len;
                let copy = Copy {
                    source: target - distance,
                    target,
                    len,
                };
                check_copy_up(&mut holed, copy);
            }
        }
    }
}

fn check_copy_up(holed: &mut Holed, copy: Copy) {
    let data = holed.model()[copy.source..copy.source + copy.len].to_vec();
    let (at, completed, kind) = copy.run(holed);
    assert_eq!(kind, FaultKind::Protection, "{copy:?}");
    let is_in_hole = copy.holes().iter().any(|hole| hole.contains(&at));
    assert!(is_in_hole, "{copy:?}: byte {at} can be accessed");
    let done = copy.len - completed..copy.len;
    for index in done {
        let at = copy.target + index;
        assert!(
            holed.is_marked(at),
            "{copy:?}: byte {at} was counted and is not marked"
        );
    }
    holed.check_marked(copy.target, &data, &copy);
}
