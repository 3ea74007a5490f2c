// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Scripts over a dirty log, its readers and the sets of pages that harvests yield, next to sets of page numbers: pages of
//! one byte and of half of all addresses, lengths that are no whole pages, logs that grow or are exchanged.

mod log;
mod place;

use std::ops::Range;

use arbitrary::Arbitrary;
use guest_memory_bitmap::{AtomicBitmap, Bitmap, DirtyPages, MarkOrdering, PageSet, le_words};

use self::log::Shared;
use self::place::{Len, MAX_PAGES, PageSize, Place, Shape};
use crate::pages::Pages;

/// Names of the operations, as [`run_with`] reports them.
pub const OPERATIONS: [&str; 28] = [
    "set_addr_range",
    "mark_dirty",
    "set_bit",
    "reset_bit",
    "reset_addr_range",
    "reset",
    "get_and_reset",
    "start_tracking",
    "stop_tracking",
    "enlarge",
    "clone",
    "with_ordering",
    "try_new",
    "join",
    "leave",
    "harvest_into",
    "Reader::harvest_into",
    "DirtyPages::new",
    "insert",
    "insert_range",
    "remove_range",
    "insert_words",
    "insert_le_bytes",
    "clear",
    "union_with",
    "subtract",
    "with_page_size",
    "fit_to",
];

/// Sets of pages that a script works on, harvests included.
const SETS: usize = 3;

/// What a script begins with. The last set is the one for no bytes.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Setup {
    log: Shape,
    sets: [Shape; SETS - 1],
}

/// An operation as the fuzzer makes it.
#[derive(Arbitrary, Debug)]
enum Op {
    Log(LogOp),
    Set {
        set: u8,
        call: SetOp,
    },
    /// Harvests into a set, by a reader or past them.
    Harvest {
        set: u8,
        reader: Option<u8>,
    },
}

/// An operation on the log.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum LogOp {
    SetRange(Place, Len),
    /// Marks through a slice of a slice.
    MarkDirty {
        bases: [Place; 2],
        offset: Place,
        len: Len,
    },
    SetBit(u16),
    ResetBit(u16),
    ResetRange(Place, Len),
    Reset,
    GetAndReset,
    Start,
    Stop,
    Enlarge(Len),
    Clone,
    Reorder {
        is_symmetric: bool,
    },
    Replace(Shape),
    Join,
    Leave(u8),
}

/// An operation on a set of pages.
#[derive(Arbitrary, Debug)]
enum SetOp {
    New(Shape),
    Insert(u16),
    InsertRange(Place, Place),
    RemoveRange(Place, Place),
    InsertWords(Vec<u64>),
    InsertLeBytes(Vec<u8>),
    Clear,
    Union(u8),
    Subtract(u8),
    WithPageSize(PageSize),
    FitTo(u8),
    Clone(u8),
}

/// Runs the script in `data`.
///
/// # Panics
///
/// When an operation does something else than the model.
pub fn run(data: &[u8]) {
    run_with(data, |_, _| {});
}

/// Runs the script in `data` and reports each operation by its name and whether it succeeded.
///
/// # Panics
///
/// As [`run`].
pub fn run_with(data: &[u8], mut report: impl FnMut(&'static str, bool)) {
    let Some((setup, data)) = super::split_setup::<Setup>(data) else {
        return;
    };
    let bitmap = bitmap(setup.log.with_valid_page_size());
    let bitmap = bitmap.expect("a valid page size");
    let mut log = Shared::new(bitmap);
    let mut sets = <[(DirtyPages, Pages); SETS]>::default();
    for (set, shape) in sets.iter_mut().zip(setup.sets) {
        renew(set, shape.with_valid_page_size());
    }
    super::for_each_operation(data, |operation: Op| {
        let _named = super::Named(&operation);
        let (name, succeeded) = match &operation {
            Op::Log(operation) => on_log(*operation, &mut log),
            Op::Set { set, call } => {
                let index = usize::from(*set) % SETS;
                let done = on_set(call, index, &mut sets);
                compare(&sets[index]);
                done
            }
            Op::Harvest { set, reader } => {
                let set = &mut sets[usize::from(*set) % SETS];
                let done = match reader {
                    Some(reader) => {
                        let succeeded = log.read_into((*reader).into(), set);
                        ("Reader::harvest_into", succeeded)
                    }
                    None => ("harvest_into", log.harvest_into(set)),
                };
                compare(set);
                done
            }
        };
        report(name, succeeded);
        if !matches!(operation, Op::Set { .. }) {
            log.compare();
        }
    });
    log.compare();
    sets.iter().for_each(compare);
}

fn compare((found, twin): &(DirtyPages, Pages)) {
    twin.compare(found);
}

/// Makes a clean bitmap; `None` if the page size is refused.
fn bitmap(shape: Shape) -> Option<AtomicBitmap> {
    let page_size = shape.page_size.bytes();
    let made = AtomicBitmap::try_new(shape.byte_size(), page_size);
    assert_eq!(made.is_ok(), page_size.is_power_of_two(), "{page_size}");
    made.ok()
}

fn on_log(operation: LogOp, log: &mut Shared) -> (&'static str, bool) {
    let pages = log.marks();
    match operation {
        LogOp::SetRange(start, len) => {
            let (start, len) = (start.offset(pages), len.bytes(pages));
            log.mark(start, len, |bitmap| bitmap.set_addr_range(start, len));
            ("set_addr_range", true)
        }
        LogOp::MarkDirty { bases, offset, len } => {
            let [first, second] = bases.map(|base| base.offset(pages));
            let (offset, len) = (offset.offset(pages), len.bytes(pages));
            let at = first.saturating_add(second).saturating_add(offset);
            log.mark(at, len, |bitmap| {
                let slice = bitmap.slice_at(first).slice_at(second);
                slice.mark_dirty(offset, len);
                assert_eq!(slice.dirty_at(offset), bitmap.dirty_at(at));
            });
            ("mark_dirty", true)
        }
        LogOp::SetBit(page) => {
            log.set_bit(page.into());
            ("set_bit", true)
        }
        LogOp::ResetBit(page) => {
            log.reset_bit(page.into());
            ("reset_bit", true)
        }
        LogOp::ResetRange(start, len) => {
            log.reset_range(start.offset(pages), len.bytes(pages));
            ("reset_addr_range", true)
        }
        LogOp::Reset => {
            log.reset();
            ("reset", true)
        }
        LogOp::GetAndReset => {
            log.get_and_reset();
            ("get_and_reset", true)
        }
        LogOp::Start => {
            log.start_tracking();
            ("start_tracking", true)
        }
        LogOp::Stop => {
            log.stop_tracking();
            ("stop_tracking", true)
        }
        LogOp::Enlarge(by) => {
            let by = by.bytes(pages);
            let byte_size = pages.byte_size().saturating_add(by);
            let is_small = byte_size.div_ceil(pages.page_size()) <= MAX_PAGES;
            if is_small {
                log.enlarge(by);
            }
            ("enlarge", is_small)
        }
        LogOp::Clone => ("clone", log.change_copy(Some)),
        LogOp::Reorder { is_symmetric } => {
            let ordering = if is_symmetric {
                MarkOrdering::Symmetric
            } else {
                MarkOrdering::Asymmetric
            };
            let reordered = |bitmap: AtomicBitmap| bitmap.with_ordering(ordering).ok();
            let succeeded = log.change_copy(reordered);
            assert!(succeeded || !is_symmetric, "that one is always granted");
            ("with_ordering", succeeded)
        }
        LogOp::Replace(shape) => {
            let bitmap = bitmap(shape);
            let succeeded = bitmap.is_some();
            if let Some(bitmap) = bitmap {
                log.replace(bitmap);
            }
            ("try_new", succeeded)
        }
        LogOp::Join => ("join", log.join()),
        LogOp::Leave(which) => ("leave", log.leave(which.into())),
    }
}

fn on_set(
    operation: &SetOp,
    index: usize,
    sets: &mut [(DirtyPages, Pages); SETS],
) -> (&'static str, bool) {
    let other = match operation {
        SetOp::Union(other)
        | SetOp::Subtract(other)
        | SetOp::FitTo(other)
        | SetOp::Clone(other) => sets[usize::from(*other) % SETS].clone(),
        _ => Default::default(),
    };
    let (set, twin) = &mut sets[index];
    match operation {
        SetOp::New(shape) => ("DirtyPages::new", renew(&mut sets[index], *shape)),
        SetOp::Insert(page) => {
            set.insert((*page).into());
            twin.set((*page).into(), true);
            ("insert", true)
        }
        SetOp::InsertRange(start, end) => {
            let bytes = start.offset(twin)..end.offset(twin);
            set.insert_range(bytes.clone());
            twin.set_bytes(wide(&bytes), true);
            ("insert_range", true)
        }
        SetOp::RemoveRange(start, end) => {
            let bytes = start.offset(twin)..end.offset(twin);
            set.remove_range(bytes.clone());
            twin.remove_whole(wide(&bytes));
            ("remove_range", true)
        }
        SetOp::InsertWords(words) => {
            set.insert_words(words.iter().copied());
            insert_bits(twin, words.iter().flat_map(|word| word.to_le_bytes()));
            ("insert_words", true)
        }
        SetOp::InsertLeBytes(bytes) => {
            assert_eq!(le_words(bytes).count(), bytes.len().div_ceil(8));
            set.insert_le_bytes(bytes);
            insert_bits(twin, bytes.iter().copied());
            ("insert_le_bytes", true)
        }
        SetOp::Clear => {
            set.clear();
            twin.clear();
            ("clear", true)
        }
        SetOp::Union(_) => {
            *set |= &other.0;
            twin.unite(&other.1);
            ("union_with", true)
        }
        SetOp::Subtract(_) => {
            *set -= &other.0;
            twin.subtract(&other.1);
            ("subtract", true)
        }
        SetOp::WithPageSize(size) => {
            let succeeded = with_page_size(*size, set, twin);
            ("with_page_size", succeeded)
        }
        SetOp::FitTo(_) => {
            set.fit_to(&other.0);
            twin.fit_to(&other.1);
            ("fit_to", true)
        }
        SetOp::Clone(_) => {
            assert_eq!(*set == other.0, *twin == other.1, "{set:?} == {other:?}");
            (*set, *twin) = other;
            ("clone", true)
        }
    }
}

/// Puts an empty set in place of one, if the page size is not refused.
fn renew(set: &mut (DirtyPages, Pages), shape: Shape) -> bool {
    let (byte_size, page_size) = (shape.byte_size(), shape.page_size.bytes());
    let made = DirtyPages::new(byte_size, page_size);
    assert_eq!(made.is_ok(), page_size.is_power_of_two(), "{page_size}");
    let is_made = made.is_ok();
    if let Ok(made) = made {
        *set = (made, Pages::new(byte_size, page_size.get()));
    }
    is_made
}

fn with_page_size(size: PageSize, set: &mut DirtyPages, twin: &mut Pages) -> bool {
    let size = size.bytes();
    if twin.byte_size().div_ceil(size.get()) > MAX_PAGES {
        return false;
    }
    let made = set.with_page_size(size);
    assert_eq!(made.is_ok(), size.is_power_of_two(), "{size}");
    let Ok(made) = made else { return false };
    let mut expected = Pages::new(twin.byte_size(), size.get());
    expected.add(twin);
    (*set, *twin) = (made, expected);
    true
}

/// Adds the pages of a log of bits, lowest first.
fn insert_bits(twin: &mut Pages, bytes: impl Iterator<Item = u8>) {
    for (index, byte) in bytes.enumerate() {
        for bit in (0..8).filter(|bit| byte >> bit & 1 != 0) {
            twin.set(index * 8 + bit, true);
        }
    }
}

fn wide(bytes: &Range<usize>) -> Range<u128> {
    bytes.start as u128..bytes.end as u128
}
