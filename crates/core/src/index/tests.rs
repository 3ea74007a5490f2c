// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The index at its edges; random ones against a map stand below.

use super::*;
use alloc::collections::BTreeMap;
use proptest::prelude::*;

fn made(bounds: &[(u64, u64)]) -> Result<RegionIndex, OutOfOrder> {
    RegionIndex::new(bounds.iter().copied().map(Ok))
}

fn index(bounds: &[(u64, u64)]) -> RegionIndex {
    made(bounds).expect("in order")
}

/// The place and the offset at which an address is found; what is said of the first region must agree.
fn found(index: &RegionIndex, addr: u64) -> Option<(usize, u64)> {
    let found = index.find(addr);
    if let Some(first) = index.entries.first() {
        let in_first = found.filter(|&(place, _)| place == first.place);
        let offset = index.offset_in_first(addr);
        assert_eq!(offset, in_first.map(|(_, offset)| offset), "{addr}");
    }
    found
}

/// As [`found`], of a span.
fn found_span(index: &RegionIndex, addr: u64, count: u64) -> Option<(usize, u64)> {
    let found = index.find_span(addr, count);
    if let Some(offset) = index.offset_in_first(addr).filter(|_| index.len() > 0) {
        assert_eq!(
            index.first_has(offset, count),
            found.is_some(),
            "{addr} {count}"
        );
    }
    found
}

#[test]
fn an_address_is_found_in_its_region_only() {
    let tables: [&[(u64, u64)]; 5] = [
        &[],
        &[(10, 19)],
        &[(0, u64::MAX)],
        &[(0, 0), (1, 1), (3, u64::MAX - 1), (u64::MAX, u64::MAX)],
        &[(5, 9), (10, 14), (20, 29)],
    ];
    let probes = (0..40).chain(u64::MAX - 3..=u64::MAX);
    for bounds in tables {
        let index = index(bounds);
        for addr in probes.clone() {
            let expected = bounds
                .iter()
                .position(|&(start, last)| start <= addr && addr <= last)
                .map(|number| (number, addr - bounds[number].0));
            assert_eq!(found(&index, addr), expected, "{addr} in {bounds:?}");
        }
    }
}

#[test]
fn a_span_is_found_if_one_region_has_all_of_it() {
    let index = index(&[(5, 9), (10, 14), (20, u64::MAX)]);
    for (addr, count, expected) in [
        (5, 0, None),
        (5, 5, Some((0, 0))),
        (5, 6, None),
        (9, 1, Some((0, 4))),
        (9, 2, None),
        (10, 5, Some((1, 0))),
        (12, 4, None),
        (15, 1, None),
        (20, u64::MAX - 19, Some((2, 0))),
        (21, u64::MAX - 19, None),
        (u64::MAX, 1, Some((2, u64::MAX - 20))),
        (u64::MAX, u64::MAX, None),
    ] {
        let found = found_span(&index, addr, count);
        assert_eq!(found, expected, "{addr} {count}");
    }
}

#[test]
fn regions_out_of_order_are_refused() {
    for (second, error) in [
        ((5, 7), OutOfOrder::Unsorted),
        ((10, 30), OutOfOrder::Overlap),
        ((19, 30), OutOfOrder::Overlap),
    ] {
        let refused = made(&[(10, 19), second]);
        assert_eq!(refused.expect_err("refused"), error);
    }
    assert_eq!(index(&[(10, 19), (20, 30)]).len(), 2);
}

#[test]
fn a_region_is_inserted_in_its_place_or_not_at_all() {
    let index = index(&[(10, 19), (30, 39)]);
    for (start, last) in [
        (0, 10),
        (19, 19),
        (15, 16),
        (20, 30),
        (9, 40),
        (39, u64::MAX),
    ] {
        let refused = index.with(start, last, 7);
        assert_eq!(refused.err(), Some(OutOfOrder::Overlap), "{start} {last}");
    }
    let index = index.with(20, 29, 7).expect("fits");
    let index = index.with(0, 9, 8).expect("fits");
    let index = index.with(40, u64::MAX, 9).expect("fits");
    assert_eq!(found(&index, 25), Some((7, 5)));
    assert_eq!(found(&index, 3), Some((8, 3)));
    let index = index.without(2);
    assert_eq!(found(&index, 25), None);
    assert_eq!(found(&index, 35), Some((1, 5)));
}

#[test]
fn holes_are_what_no_region_has() {
    type Bounds = &'static [(u64, u64)];
    let tables: [(Bounds, Bounds); 5] = [
        (&[], &[(0, u64::MAX)]),
        (&[(0, u64::MAX)], &[]),
        (&[(10, 19)], &[(0, 9), (20, u64::MAX)]),
        (&[(0, 4), (5, 9), (11, u64::MAX)], &[(10, 10)]),
        (
            &[(1, 1), (u64::MAX, u64::MAX)],
            &[(0, 0), (2, u64::MAX - 1)],
        ),
    ];
    for (bounds, gaps) in tables {
        let index = index(bounds);
        assert!(index.gaps().eq(gaps.iter().copied()), "{bounds:?}");
    }
}

/// The naive twin: last address and place by first address.
type Model = BTreeMap<u64, (u64, usize)>;

fn in_model(model: &Model, addr: u64) -> Option<(usize, u64)> {
    let (start, (last, place)) = model.range(..=addr).next_back()?;
    (addr <= *last).then_some((*place, addr - start))
}

/// Addresses of all magnitudes, crowded at the ends.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        2 => 0_u64..2000,
        2 => (0_u64..300).prop_map(|slot| 1 << 32 | slot << 27),
        1 => any::<u64>(),
        1 => (0_u64..200).prop_map(|below| u64::MAX - below),
    ]
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0_u64), 3 => 0_u64..40, 3 => Just((1 << 27) - 1), 1 => any::<u64>()]
}

proptest! {
    #[test]
    fn an_index_behaves_as_a_map_of_bounds(
        script in prop::collection::vec((address(), length(), 0..4_u8, any::<prop::sample::Index>()), 0..120),
        probes in prop::collection::vec(address(), 40),
    ) {
        let mut model = Model::new();
        let mut index = RegionIndex::default();
        for (place, (start, len_less_one, what, pick)) in script.into_iter().enumerate() {
            if what == 0 && !model.is_empty() {
                let number = pick.index(model.len());
                let start = *model.keys().nth(number).unwrap();
                let (last, _) = model.remove(&start).unwrap();
                if let Some(len) = (last - start).checked_add(1) {
                    prop_assert_eq!(index.find_exact(start, len), Some(number));
                    prop_assert_eq!(index.find_exact(start, len - 1), None);
                }
                index = index.without(number);
                continue;
            }
            let last = start.saturating_add(len_less_one);
            let is_free = model.iter().all(|(&other, &(other_last, _))| last < other || other_last < start);
            match index.with(start, last, place) {
                Ok(with) => {
                    prop_assert!(is_free);
                    model.insert(start, (last, place));
                    index = with;
                }
                Err(_) => prop_assert!(!is_free),
            }
        }
        // One that grew and one that was made at once are the same.
        let bounds: Vec<(u64, u64)> = model.iter().map(|(&start, &(last, _))| (start, last)).collect();
        let made = made(&bounds).unwrap();
        let edges = bounds.iter().flat_map(|&(start, last)| {
            [start.wrapping_sub(1), start, start.wrapping_add(1), last.wrapping_sub(1), last, last.wrapping_add(1)]
        });
        for addr in probes.into_iter().chain(edges) {
            let expected = in_model(&model, addr);
            prop_assert_eq!(found(&index, addr), expected, "{}", addr);
            let number = bounds.iter().position(|&(start, last)| start <= addr && addr <= last);
            prop_assert_eq!(found(&made, addr).map(|(place, _)| place), number);
            for count in [1, 2, 1 << 20] {
                let is_in = expected.is_some() && addr.checked_add(count - 1).is_some_and(|last| {
                    in_model(&model, last).map(|found| found.0) == expected.map(|found| found.0)
                });
                let span = found_span(&index, addr, count);
                prop_assert_eq!(span, expected.filter(|_| is_in));
            }
        }
    }
}
