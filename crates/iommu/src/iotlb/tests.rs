// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The table next to a naive one: an entry for each unit of the address space.

use std::collections::BTreeMap;

use guest_memory_core::Permissions::{No, Read, ReadWrite, Write};
use proptest::prelude::*;

use super::*;

/// Where a script takes place: unit `n` is `[base + (n << shift), base + ((n + 1) << shift))`.
#[derive(Clone, Copy, Debug)]
struct Scale {
    base: u64,
    shift: u32,
    units: u64,
}

/// The first bytes there are.
const BOTTOM: Scale = Scale {
    base: 0,
    shift: 0,
    units: 48,
};
/// The last bytes there are.
const TOP: Scale = Scale {
    base: u64::MAX - 47,
    shift: 0,
    units: 48,
};
/// All there is, where lengths are as long as addresses.
#[cfg(target_pointer_width = "64")]
const ALL: Scale = Scale {
    base: 0,
    shift: 58,
    units: 64,
};
/// More pages than a chunk has mappings.
const MANY: Scale = Scale {
    base: 1 << 40,
    shift: 12,
    units: 1024,
};

impl Scale {
    /// First address of a unit; 2^64 and more for units past the end.
    fn address(self, unit: u64) -> u128 {
        u128::from(self.base) + (u128::from(unit) << self.shift)
    }

    fn iova(self, unit: u64) -> GuestAddress {
        GuestAddress(u64::try_from(self.address(unit)).unwrap())
    }

    fn bytes(self, units: u64) -> usize {
        usize::try_from(u128::from(units) << self.shift).unwrap_or(usize::MAX)
    }

    fn fits(self, unit: u64, units: u64) -> bool {
        self.address(unit) + self.bytes(units) as u128 <= 1 << 64
    }

    fn range(self, start: u64, end: u64) -> IovaRange {
        IovaRange {
            base: self.iova(start),
            length: self.bytes(end - start),
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Set {
        unit: u64,
        target: u64,
        units: u64,
        allowed: Permissions,
    },
    Invalidate {
        unit: u64,
        units: u64,
    },
    InvalidateFrom {
        unit: u64,
    },
    InvalidateAll,
    Lookup {
        unit: u64,
        units: u64,
        access: Permissions,
    },
}

/// Target and permissions of each unit that is mapped.
type Model = BTreeMap<u64, (u64, Permissions)>;

fn permissions() -> impl Strategy<Value = Permissions> {
    prop::sample::select(vec![No, Read, Write, ReadWrite, ReadWrite])
}

fn op(scale: Scale) -> impl Strategy<Value = Op> {
    let unit = 0..scale.units;
    // The target is often the unit itself, or one further, so that neighbours go on.
    let target = prop_oneof![
        2 => Just(None),
        1 => unit.clone().prop_map(Some),
    ];
    prop_oneof![
        6 => (unit.clone(), target, 0..=scale.units / 4, permissions()).prop_map(|(unit, target, units, allowed)| {
            Op::Set { unit, target: target.unwrap_or(unit), units, allowed }
        }),
        3 => (unit.clone(), 0..=scale.units / 3).prop_map(|(unit, units)| Op::Invalidate { unit, units }),
        1 => unit.clone().prop_map(|unit| Op::InvalidateFrom { unit }),
        1 => Just(Op::InvalidateAll),
        6 => (unit, 0..scale.units, permissions())
            .prop_map(|(unit, units, access)| Op::Lookup { unit, units, access }),
    ]
}

fn apply(op: &Op, scale: Scale, iotlb: &mut Iotlb, model: &mut Model) {
    match *op {
        Op::Set {
            unit,
            target,
            units,
            allowed,
        } => {
            let length = scale.bytes(units);
            let result = iotlb.set_mapping(scale.iova(unit), scale.iova(target), length, allowed);
            let fits = scale.fits(unit, units) && scale.fits(target, units);
            assert_eq!(result.is_ok(), fits || units == 0, "{result:?}");
            if fits {
                model.extend((0..units).map(|n| (unit + n, (target + n, allowed))));
            }
        }
        Op::Invalidate { unit, units } => {
            iotlb.invalidate_mapping(scale.iova(unit), scale.bytes(units));
            model.retain(|at, _| !(unit..unit + units).contains(at));
        }
        Op::InvalidateFrom { unit } => {
            iotlb.invalidate_mapping(scale.iova(unit), usize::MAX);
            // All but one byte of what there is above.
            if unit == 0 && scale.base == 0 && scale.shift > 0 {
                iotlb.invalidate_mapping(GuestAddress(u64::MAX), 1);
            }
            model.retain(|&at, _| at < unit);
        }
        Op::InvalidateAll => {
            iotlb.invalidate_all();
            model.clear();
        }
        Op::Lookup {
            unit,
            units,
            access,
        } => lookup(scale, unit, units, access, iotlb, model),
    }
}

/// Runs of units that go on from one to the next, as the table should have them: start, end, target, permissions.
fn runs(model: &Model, start: u64, end: u64) -> Vec<(u64, u64, u64, Permissions)> {
    let mut runs: Vec<(u64, u64, u64, Permissions)> = Vec::new();
    for (&unit, &(target, allowed)) in model.range(start..end) {
        match runs.last_mut() {
            Some(run) if run.1 == unit && run.2 + (run.1 - run.0) == target && run.3 == allowed => {
                run.1 += 1;
            }
            _ => runs.push((unit, unit + 1, target, allowed)),
        }
    }
    runs
}

/// Ranges of units for which `is_one` holds.
fn stretches(scale: Scale, start: u64, end: u64, is_one: impl Fn(u64) -> bool) -> Vec<IovaRange> {
    let mut found: Vec<(u64, u64)> = Vec::new();
    for unit in (start..end).filter(|&unit| is_one(unit)) {
        match found.last_mut() {
            Some(last) if last.1 == unit => last.1 += 1,
            _ => found.push((unit, unit + 1)),
        }
    }
    found
        .into_iter()
        .map(|(start, end)| scale.range(start, end))
        .collect()
}

fn lookup(scale: Scale, unit: u64, units: u64, access: Permissions, iotlb: &Iotlb, model: &Model) {
    let (iova, length) = (scale.iova(unit), scale.bytes(units));
    let end = unit + units;
    let found = Iotlb::lookup(iotlb, iova, length, access);
    let first = iotlb.first_mapped(iova, length, access);
    if !scale.fits(unit, units) {
        let fails = found.expect_err("past the end");
        let misses = vec![IovaRange { base: iova, length }];
        assert_eq!(
            fails,
            IotlbFails {
                misses,
                access_fails: vec![]
            }
        );
        return;
    }
    let misses = stretches(scale, unit, end, |at| !model.contains_key(&at));
    let access_fails = stretches(scale, unit, end, |at| {
        model.get(&at).is_some_and(|entry| !entry.1.allow(access))
    });
    let pieces: Vec<MappedRange> = runs(model, unit, end)
        .into_iter()
        .map(|(start, end, target, _)| MappedRange {
            base: scale.iova(target),
            length: scale.bytes(end - start),
        })
        .collect();
    match found {
        Ok(found) => {
            assert!(misses.is_empty() && access_fails.is_empty());
            assert_eq!(found.collect::<Vec<_>>(), pieces);
        }
        Err(fails) => {
            assert!(!misses.is_empty() || !access_fails.is_empty());
            let error = fails.clone().into_error(access);
            let range = error.iova_range().cloned().expect("a range");
            let firsts = misses.first().into_iter().chain(access_fails.first());
            assert_eq!(Some(&range), firsts.min_by_key(|range| range.base));
            assert_eq!(
                fails,
                IotlbFails {
                    misses,
                    access_fails
                }
            );
        }
    }
    let allowed = model.get(&unit).is_some_and(|entry| entry.1.allow(access));
    assert_eq!(first, pieces.first().copied().filter(|_| allowed));
}

fn compare(scale: Scale, iotlb: &Iotlb, model: &Model) {
    iotlb.table.check();
    let expected: Vec<Mapping> = runs(model, 0, u64::MAX)
        .into_iter()
        .map(|(start, end, target, allowed)| Mapping {
            first: scale.iova(start),
            last: GuestAddress(u64::try_from(scale.address(end) - 1).unwrap()),
            target: scale.iova(target),
            allowed,
        })
        .collect();
    assert_eq!(iotlb.mappings().collect::<Vec<_>>(), expected);
}

fn run(scale: Scale, mut iotlb: Iotlb, mut model: Model, ops: &[Op]) {
    for op in ops {
        let before: Vec<_> = iotlb.mappings().collect();
        let copy = iotlb.clone();
        apply(op, scale, &mut iotlb, &mut model);
        compare(scale, &iotlb, &model);
        assert!(
            copy.mappings().eq(before),
            "the change went through to a copy"
        );
    }
}

fn ops(scale: Scale, most: usize) -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(scale), 1..most)
}

proptest! {
    #[test]
    fn table_of_the_first_bytes_is_the_page_table(ops in ops(BOTTOM, 24)) {
        run(BOTTOM, Iotlb::new(), Model::new(), &ops);
    }

    #[test]
    fn table_of_the_last_bytes_is_the_page_table(ops in ops(TOP, 24)) {
        run(TOP, Iotlb::new(), Model::new(), &ops);
    }

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn table_of_everything_is_the_page_table(ops in ops(ALL, 24)) {
        run(ALL, Iotlb::new(), Model::new(), &ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn table_of_many_pages_is_the_page_table(ops in ops(MANY, 24)) {
        let mut iotlb = Iotlb::new();
        let mut model = Model::new();
        // Every page to one of its own, none going on from the one before.
        for unit in 0..MANY.units {
            let target = MANY.units - 1 - unit;
            let op = Op::Set { unit, target, units: 1, allowed: ReadWrite };
            apply(&op, MANY, &mut iotlb, &mut model);
        }
        compare(MANY, &iotlb, &model);
        run(MANY, iotlb, model, &ops);
    }
}

// Where lengths are shorter than addresses no half is one length.
#[cfg(target_pointer_width = "64")]
#[test]
fn both_halves_of_the_address_space_become_one_mapping() {
    let mut iotlb = Iotlb::new();
    let half = 1usize << 63;
    let upper = GuestAddress(1 << 63);
    iotlb
        .set_mapping(GuestAddress(0), GuestAddress(0), half, ReadWrite)
        .unwrap();
    iotlb.set_mapping(upper, upper, half, ReadWrite).unwrap();
    assert_eq!(iotlb.mappings().count(), 1);
    let first = iotlb.first_mapped(GuestAddress(0), usize::MAX, Read);
    assert_eq!(first.unwrap().length, usize::MAX);
    let last = iotlb.first_mapped(GuestAddress(u64::MAX), usize::MAX, Read);
    let base = GuestAddress(u64::MAX);
    assert_eq!(last, Some(MappedRange { base, length: 1 }));
    iotlb.invalidate_mapping(GuestAddress(1), usize::MAX);
    assert_eq!(iotlb.mappings().count(), 1);
    assert_eq!(iotlb.mappings().next().unwrap().last, GuestAddress(0));
}

#[test]
fn a_mapping_past_the_end_is_refused_and_changes_nothing() {
    let mut iotlb = Iotlb::new();
    let top = GuestAddress(u64::MAX);
    let late = GuestAddress(u64::MAX - usize::MAX as u64 + 2);
    for (iova, target, length) in [
        (top, GuestAddress(0), 2),
        (GuestAddress(0), top, 2),
        (late, GuestAddress(0), usize::MAX),
        (top, top, usize::MAX),
    ] {
        let result = iotlb.set_mapping(iova, target, length, Read);
        assert!(matches!(
            result,
            Err(TranslationError::IommuMisconfigured { .. })
        ));
    }
    assert_eq!(iotlb.mappings().count(), 0);
    iotlb.set_mapping(top, top, 1, Read).unwrap();
    assert!(Iotlb::lookup(&iotlb, top, 1, Read).is_ok());
    assert!(Iotlb::lookup(&iotlb, top, 2, Read).is_err());
}

#[test]
fn an_empty_range_changes_nothing_and_is_always_found() {
    let mut iotlb = Iotlb::new();
    for iova in [GuestAddress(0), GuestAddress(u64::MAX)] {
        iotlb.set_mapping(iova, iova, 0, ReadWrite).unwrap();
        iotlb.invalidate_mapping(iova, 0);
        let found = Iotlb::lookup(&iotlb, iova, 0, ReadWrite).unwrap();
        assert_eq!(found.count(), 0);
        assert_eq!(iotlb.first_mapped(iova, 0, No), None);
    }
    assert_eq!(iotlb.mappings().count(), 0);
}
