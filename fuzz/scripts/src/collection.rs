// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Scripts that build, grow, shrink and search a region collection, next to a `BTreeMap`: empty
//! regions, neighbours, overlaps, one byte, regions that end at 2^64 and past it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arbitrary::Arbitrary;
use guest_memory_core::{
    GuestAddress, GuestMemory, GuestMemoryRegion, GuestMemoryRegionBytes, GuestRegionCollection,
    GuestRegionCollectionError, GuestUsize, MemoryRegionAddress,
};

/// Names of the operations, as [`run_with`] reports them.
pub const OPERATIONS: [&str; 4] = [
    "insert_region",
    "remove_region",
    "from_regions",
    "find_region",
];

/// Regions in one list for `from_regions`; longer lists are cut.
const MAX_LISTED: usize = 8;

/// A region without memory: a start and a length.
#[derive(Clone, Copy, Debug)]
struct Range {
    start: u64,
    len: u64,
}

impl GuestMemoryRegion for Range {
    type B = ();

    fn len(&self) -> GuestUsize {
        self.len
    }

    fn start_addr(&self) -> GuestAddress {
        GuestAddress(self.start)
    }

    fn bitmap(&self) -> &() {
        &()
    }
}

impl GuestMemoryRegionBytes for Range {}

/// An operation as the fuzzer makes it.
#[derive(Arbitrary, Debug)]
enum Op {
    Insert(RawRange),
    /// Removes the region of that number, if the collection has so many.
    RemoveKnown {
        index: u8,
    },
    Remove(RawRange),
    FromRegions(Vec<RawRange>),
    Find(Point),
    /// Looks around the borders of the region of that number.
    FindBorder {
        index: u8,
        distance: i8,
        is_end: bool,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct RawRange {
    start: Point,
    len: Extent,
}

/// An address: low ones and those near the top meet more often than others.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Point {
    Low(u8),
    BelowTop(u8),
    Any(u64),
}

/// A length in bytes.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Extent {
    Short(u8),
    ToTop,
    Any(u64),
}

impl Point {
    fn address(self) -> u64 {
        match self {
            Point::Low(address) => address.into(),
            Point::BelowTop(less) => u64::MAX - u64::from(less),
            Point::Any(address) => address,
        }
    }
}

impl RawRange {
    fn range(self) -> Range {
        let start = self.start.address();
        let len = match self.len {
            Extent::Short(len) => u64::from(len) % 16,
            // The whole address space has a length that does not fit; it becomes an empty range.
            Extent::ToTop => 0u64.wrapping_sub(start),
            Extent::Any(len) => len,
        };
        Range { start, len }
    }
}

type Collection = GuestRegionCollection<Range>;

/// The naive twin: lengths by start.
type Model = BTreeMap<u64, u64>;

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
    let mut collection = Collection::new();
    let mut model = Model::new();
    super::for_each_operation(data, |operation: Op| {
        let (name, succeeded) = apply(&operation, &mut collection, &mut model);
        report(name, succeeded);
        compare(&operation, &collection, &model);
    });
}

fn apply(operation: &Op, collection: &mut Collection, model: &mut Model) -> (&'static str, bool) {
    match operation {
        Op::Insert(raw) => ("insert_region", insert(raw.range(), collection, model)),
        Op::RemoveKnown { index } => {
            let known = nth(model, *index);
            let succeeded = known.is_some_and(|range| remove(range, collection, model));
            ("remove_region", succeeded)
        }
        Op::Remove(raw) => ("remove_region", remove(raw.range(), collection, model)),
        Op::FromRegions(raw) => {
            let ranges: Vec<_> = raw.iter().take(MAX_LISTED).map(|raw| raw.range()).collect();
            ("from_regions", from_regions(&ranges, collection, model))
        }
        Op::Find(point) => ("find_region", find(point.address(), collection, model)),
        Op::FindBorder {
            index,
            distance,
            is_end,
        } => {
            let Some(range) = nth(model, *index) else {
                return ("find_region", false);
            };
            let border = if *is_end {
                range.start.wrapping_add(range.len)
            } else {
                range.start
            };
            let address = border.wrapping_add_signed((*distance).into());
            ("find_region", find(address, collection, model))
        }
    }
}

fn nth(model: &Model, index: u8) -> Option<Range> {
    let (&start, &len) = model.iter().nth(index.into())?;
    Some(Range { start, len })
}

/// Returns the first address past a range, which may be 2^64 or more.
fn end(range: Range) -> u128 {
    u128::from(range.start) + u128::from(range.len)
}

fn overlaps(one: Range, other: Range) -> bool {
    u128::from(one.start) < end(other) && u128::from(other.start) < end(one)
}

/// Says whether an error names a fault that the ranges have, tried one after the other.
fn is_deserved(error: &GuestRegionCollectionError, ranges: &[Range]) -> bool {
    match *error {
        GuestRegionCollectionError::NoMemoryRegion => ranges.is_empty(),
        GuestRegionCollectionError::EmptyRegion { start } => ranges
            .iter()
            .any(|range| range.len == 0 && range.start_addr() == start),
        GuestRegionCollectionError::RegionPastEnd { start, len } => ranges
            .iter()
            .any(|&range| end(range) > 1 << 64 && range.start_addr() == start && range.len == len),
        GuestRegionCollectionError::UnsortedMemoryRegions => {
            !ranges.is_sorted_by_key(|range| range.start)
        }
        GuestRegionCollectionError::MemoryRegionOverlap => {
            pairs(ranges).any(|(a, b)| overlaps(a, b))
        }
        _ => false,
    }
}

fn pairs(ranges: &[Range]) -> impl Iterator<Item = (Range, Range)> {
    let rest = |index: usize| ranges.iter().skip(index + 1);
    ranges
        .iter()
        .enumerate()
        .flat_map(move |(index, &a)| rest(index).map(move |&b| (a, b)))
}

/// Tells whether ranges make a collection.
fn is_valid(ranges: &[Range]) -> bool {
    let is_each_valid = |range: &Range| range.len > 0 && end(*range) <= 1 << 64;
    !ranges.is_empty()
        && ranges.iter().all(is_each_valid)
        && ranges.is_sorted_by_key(|range| range.start)
        && !pairs(ranges).any(|(a, b)| overlaps(a, b))
}

fn insert(range: Range, collection: &mut Collection, model: &mut Model) -> bool {
    // The list that the new collection would be made of, sorted as inserting does.
    let mut ranges: Vec<_> = model
        .iter()
        .map(|(&start, &len)| Range { start, len })
        .collect();
    ranges.push(range);
    ranges.sort_by_key(|range| range.start);
    match collection.insert_region(Arc::new(range)) {
        Ok(grown) => {
            assert!(is_valid(&ranges), "inserted {range:x?} into {model:x?}");
            assert_eq!(
                collection.num_regions(),
                model.len(),
                "the old collection changed"
            );
            *collection = grown;
            model.insert(range.start, range.len);
            true
        }
        Err(error) => {
            assert!(
                !is_valid(&ranges),
                "{error:?} for {range:x?} into {model:x?}"
            );
            assert!(
                is_deserved(&error, &ranges),
                "{error:?} for {range:x?} into {model:x?}"
            );
            false
        }
    }
}

fn remove(range: Range, collection: &mut Collection, model: &mut Model) -> bool {
    let is_known = model.get(&range.start) == Some(&range.len);
    match collection.remove_region(GuestAddress(range.start), range.len) {
        Ok((shrunk, removed)) => {
            assert!(
                is_known,
                "removed {removed:x?} for {range:x?} from {model:x?}"
            );
            let found = (removed.start, removed.len);
            assert_eq!(
                found,
                (range.start, range.len),
                "another region was removed"
            );
            assert_eq!(
                collection.num_regions(),
                model.len(),
                "the old collection changed"
            );
            *collection = shrunk;
            model.remove(&range.start);
            true
        }
        Err(error) => {
            let is_right = matches!(error, GuestRegionCollectionError::NoMemoryRegion);
            assert!(
                !is_known && is_right,
                "{error:?} for {range:x?} from {model:x?}"
            );
            false
        }
    }
}

fn from_regions(ranges: &[Range], collection: &mut Collection, model: &mut Model) -> bool {
    match Collection::from_regions(ranges.to_vec()) {
        Ok(made) => {
            assert!(is_valid(ranges), "made a collection of {ranges:x?}");
            *collection = made;
            *model = ranges
                .iter()
                .map(|range| (range.start, range.len))
                .collect();
            true
        }
        Err(error) => {
            assert!(!is_valid(ranges), "{error:?} for {ranges:x?}");
            assert!(is_deserved(&error, ranges), "{error:?} for {ranges:x?}");
            false
        }
    }
}

fn find(address: u64, collection: &Collection, model: &Model) -> bool {
    let holds = |range: &Range| range.start <= address && u128::from(address) < end(*range);
    let below = model.range(..=address).next_back();
    let expected = below
        .map(|(&start, &len)| Range { start, len })
        .filter(holds);

    let at = GuestAddress(address);
    let found = collection
        .find_region(at)
        .map(|range| (range.start, range.len));
    let wanted = expected.map(|range| (range.start, range.len));
    assert_eq!(found, wanted, "find_region({address:#x}) in {model:x?}");
    assert_eq!(
        collection.address_in_range(at),
        expected.is_some(),
        "address_in_range"
    );
    let found = collection
        .to_region_addr(at)
        .map(|(range, offset)| (range.start, offset));
    let wanted = expected.map(|range| (range.start, MemoryRegionAddress(address - range.start)));
    assert_eq!(found, wanted, "to_region_addr({address:#x}) in {model:x?}");

    expected.is_some()
}

fn compare(operation: &Op, collection: &Collection, model: &Model) {
    let found = collection.iter().map(|range| (range.start, range.len));
    let wanted = model.iter().map(|(&start, &len)| (start, len));
    assert!(
        found.eq(wanted),
        "the regions after {operation:x?} are {collection:x?}, not {model:x?}"
    );
    assert_eq!(
        collection.num_regions(),
        model.len(),
        "num_regions after {operation:x?}"
    );
    if let Some(last) = model.last_key_value() {
        let wanted = GuestAddress(last.0 + (last.1 - 1));
        assert_eq!(
            collection.last_addr(),
            wanted,
            "last_addr after {operation:x?}"
        );
    }
}
