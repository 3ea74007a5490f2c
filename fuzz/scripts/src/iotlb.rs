// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Scripts that map, unmap and translate IOVAs, next to a plain list of mappings: one byte, all there is, neighbours
//! that go on, ranges that end at 2^64 and past it.

use arbitrary::Arbitrary;
use guest_memory_core::{GuestAddress, IovaRange, Permissions};
use guest_memory_iommu::{Iotlb, IotlbFails, MappedRange};

/// Names of the operations, as [`run_with`] reports them.
pub const OPERATIONS: [&str; 5] = [
    "set_mapping",
    "invalidate_mapping",
    "invalidate_all",
    "lookup",
    "first_mapped",
];

/// An operation as the fuzzer makes it.
#[derive(Arbitrary, Debug)]
enum Op {
    Set {
        iova: Point,
        target: Target,
        len: Extent,
        allowed: Access,
    },
    /// Maps many ranges, each to the next place but one, so that the table becomes long.
    SetMany {
        iova: Point,
        count: u8,
        step: u8,
        allowed: Access,
    },
    Invalidate {
        iova: Point,
        len: Extent,
    },
    InvalidateAll,
    Lookup {
        iova: Point,
        len: Extent,
        access: Access,
    },
    /// Looks around the borders of the mapping of that number.
    LookupBorder {
        index: u8,
        distance: i8,
        is_end: bool,
        len: Extent,
        access: Access,
    },
}

/// An address: low ones and those near the top meet more often than others.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Point {
    Low(u8),
    BelowTop(u8),
    Any(u64),
}

/// What a range is mapped to.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Target {
    Same,
    Shifted(u8),
    At(Point),
}

/// A length in bytes.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Extent {
    Short(u8),
    Half,
    Most,
    Any(u64),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Access {
    No,
    Read,
    Write,
    ReadWrite,
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

impl Target {
    fn address(self, iova: u64) -> u64 {
        match self {
            Target::Same => iova,
            Target::Shifted(bytes) => iova.wrapping_add(bytes.into()),
            Target::At(point) => point.address(),
        }
    }
}

impl Extent {
    fn bytes(self) -> u64 {
        match self {
            Extent::Short(len) => u64::from(len) % 64,
            Extent::Half => 1 << 63,
            Extent::Most => u64::MAX,
            Extent::Any(len) => len,
        }
    }
}

impl Access {
    fn permissions(self) -> Permissions {
        match self {
            Access::No => Permissions::No,
            Access::Read => Permissions::Read,
            Access::Write => Permissions::Write,
            Access::ReadWrite => Permissions::ReadWrite,
        }
    }
}

/// A mapping of the naive twin: `[start, end)` to what starts at `target`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    start: u128,
    end: u128,
    target: u128,
    allowed: Permissions,
}

/// Mappings by address; none goes on from the one before.
#[derive(Debug, Default)]
struct Model(Vec<Entry>);

/// One past the last address.
const END: u128 = 1 << 64;

impl Model {
    fn unmap(&mut self, start: u128, end: u128) {
        if start >= end {
            return;
        }
        let cut = |entry: Entry| {
            let below = Entry {
                end: entry.end.min(start),
                ..entry
            };
            let from = entry.start.max(end);
            let above = Entry {
                start: from,
                target: entry.target + (from - entry.start),
                ..entry
            };
            [below, above]
        };
        let parts = self.0.drain(..).flat_map(cut);
        self.0 = parts.filter(|entry| entry.start < entry.end).collect();
    }

    fn map(&mut self, entry: Entry) {
        self.unmap(entry.start, entry.end);
        self.0.push(entry);
        self.0.sort_by_key(|entry| entry.start);
        let mut joined: Vec<Entry> = Vec::new();
        for entry in self.0.drain(..) {
            match joined.last_mut() {
                Some(last)
                    if last.end == entry.start
                        && last.target + (last.end - last.start) == entry.target
                        && last.allowed == entry.allowed =>
                {
                    last.end = entry.end;
                }
                _ => joined.push(entry),
            }
        }
        self.0 = joined;
    }
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
    let mut iotlb = Iotlb::new();
    let mut model = Model::default();
    super::for_each_operation(data, |operation: Op| {
        // A copy shares what does not change: it must not see what does.
        let copy = iotlb.clone();
        let before: Vec<_> = copy.mappings().collect();
        apply(&operation, &mut iotlb, &mut model, &mut report);
        compare(&operation, &iotlb, &model);
        assert!(
            copy.mappings().eq(before),
            "{operation:x?} went through to a copy"
        );
    });
}

fn apply(
    operation: &Op,
    iotlb: &mut Iotlb,
    model: &mut Model,
    report: &mut impl FnMut(&'static str, bool),
) {
    match *operation {
        Op::Set {
            iova,
            target,
            len,
            allowed,
        } => {
            let iova = iova.address();
            let (target, len) = (target.address(iova), len.bytes());
            let succeeded = set(iova, target, len, allowed.permissions(), iotlb, model);
            report("set_mapping", succeeded);
        }
        Op::SetMany {
            iova,
            count,
            step,
            allowed,
        } => {
            let len = u64::from(step) + 1;
            for number in 0..u64::from(count) % 200 {
                let iova = iova.address().wrapping_add(number * len);
                let target = number * 2 * len;
                let succeeded = set(iova, target, len, allowed.permissions(), iotlb, model);
                report("set_mapping", succeeded);
            }
        }
        Op::Invalidate { iova, len } => {
            let (iova, len) = (iova.address(), len.bytes());
            iotlb.invalidate_mapping(GuestAddress(iova), length(len));
            let end = u128::from(iova) + u128::from(len);
            model.unmap(iova.into(), end.min(END));
            report("invalidate_mapping", true);
        }
        Op::InvalidateAll => {
            iotlb.invalidate_all();
            model.0.clear();
            report("invalidate_all", true);
        }
        Op::Lookup { iova, len, access } => {
            lookup(iova.address(), len.bytes(), access, iotlb, model, report);
        }
        Op::LookupBorder {
            index,
            distance,
            is_end,
            len,
            access,
        } => {
            let Some(entry) = model.0.get(usize::from(index)) else {
                return;
            };
            let border = if is_end { entry.end } else { entry.start };
            // 2^64 becomes 0.
            let border = u64::try_from(border).unwrap_or(0);
            let iova = border.wrapping_add_signed(distance.into());
            lookup(iova, len.bytes(), access, iotlb, model, report);
        }
    }
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn set(
    iova: u64,
    target: u64,
    len: u64,
    allowed: Permissions,
    iotlb: &mut Iotlb,
    model: &mut Model,
) -> bool {
    let result = iotlb.set_mapping(
        GuestAddress(iova),
        GuestAddress(target),
        length(len),
        allowed,
    );
    let end_of = |start: u64| u128::from(start) + u128::from(len);
    let is_valid = len == 0 || (end_of(iova) <= END && end_of(target) <= END);
    assert_eq!(
        result.is_ok(),
        is_valid,
        "{len:#x} bytes at {iova:#x} to {target:#x}"
    );
    if is_valid && len > 0 {
        model.map(Entry {
            start: iova.into(),
            end: end_of(iova),
            target: target.into(),
            allowed,
        });
    }
    is_valid
}

fn lookup(
    iova: u64,
    len: u64,
    access: Access,
    iotlb: &Iotlb,
    model: &Model,
    report: &mut impl FnMut(&'static str, bool),
) {
    let (at, access) = (GuestAddress(iova), access.permissions());
    let (pieces, fails) = expected(iova, len, access, model);
    let found = Iotlb::lookup(iotlb, at, length(len), access);
    report("lookup", found.is_ok());
    match found {
        Ok(found) => {
            assert_eq!(fails, IotlbFails::default(), "found {len:#x} at {iova:#x}");
            assert_eq!(found.collect::<Vec<_>>(), pieces, "{len:#x} at {iova:#x}");
        }
        Err(found) => assert_eq!(found, fails, "{len:#x} at {iova:#x}"),
    }

    let holds = |entry: &&Entry| (entry.start..entry.end).contains(&u128::from(iova));
    let entry = model.0.iter().find(holds);
    let entry = entry.filter(|entry| entry.allowed.allow(access) && len > 0);
    let wanted = entry.map(|entry| cut(entry, iova.into(), u128::from(iova) + u128::from(len)));
    let found = iotlb.first_mapped(at, length(len), access);
    report("first_mapped", found.is_some());
    assert_eq!(found, wanted, "the start of {len:#x} at {iova:#x}");
}

/// The part of an entry that is in `[start, end)`.
fn cut(entry: &Entry, start: u128, end: u128) -> MappedRange {
    let from = entry.start.max(start);
    let base = entry.target + (from - entry.start);
    MappedRange {
        base: GuestAddress(u64::try_from(base).expect("a target")),
        length: usize::try_from(entry.end.min(end) - from).expect("part of a length"),
    }
}

fn expected(
    iova: u64,
    len: u64,
    access: Permissions,
    model: &Model,
) -> (Vec<MappedRange>, IotlbFails) {
    let (start, end) = (u128::from(iova), u128::from(iova) + u128::from(len));
    let mut fails = IotlbFails::default();
    if end > END {
        let base = GuestAddress(iova);
        let length = length(len);
        fails.misses.push(IovaRange { base, length });
        return (Vec::new(), fails);
    }
    let mut pieces = Vec::new();
    // The end of the last stretch without permission, to which the next one may be added.
    let mut refused_to = None;
    let mut here = start;
    let in_range = model
        .0
        .iter()
        .filter(|entry| start < end && entry.start < end && start < entry.end);
    for entry in in_range {
        push(&mut fails.misses, here, entry.start);
        let (from, to) = (entry.start.max(start), entry.end.min(end));
        if entry.allowed.allow(access) {
            pieces.push(cut(entry, start, end));
        } else if refused_to == Some(from) {
            let last = fails.access_fails.last_mut().expect("the one before");
            last.length += usize::try_from(to - from).expect("part of a length");
            refused_to = Some(to);
        } else {
            push(&mut fails.access_fails, from, to);
            refused_to = Some(to);
        }
        here = to;
    }
    push(&mut fails.misses, here, end);
    (pieces, fails)
}

/// Adds a range if it is not empty.
fn push(ranges: &mut Vec<IovaRange>, start: u128, end: u128) {
    if start < end {
        ranges.push(IovaRange {
            base: GuestAddress(u64::try_from(start).expect("an address")),
            length: usize::try_from(end - start).expect("part of a length"),
        });
    }
}

fn compare(operation: &Op, iotlb: &Iotlb, model: &Model) {
    let found = iotlb.mappings().map(|mapping| Entry {
        start: mapping.first.0.into(),
        end: u128::from(mapping.last.0) + 1,
        target: mapping.target.0.into(),
        allowed: mapping.allowed,
    });
    assert!(
        found.eq(model.0.iter().copied()),
        "the mappings after {operation:x?} are {iotlb:x?}, not {model:x?}"
    );
}
