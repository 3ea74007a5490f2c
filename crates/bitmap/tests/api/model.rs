// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Random scripts of operations on an `AtomicBitmap` and on a set of page numbers, compared after
//! each step.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use guest_memory_bitmap::{AtomicBitmap, Bitmap, MarkOrdering};
use proptest::prelude::*;

/// The naive twin: which pages are dirty, with all sums in numbers that cannot overflow.
struct Model {
    byte_size: u128,
    page_size: u128,
    dirty: BTreeSet<usize>,
}

impl Model {
    fn page_count(&self) -> usize {
        (0_usize..)
            .find(|page| *page as u128 * self.page_size >= self.byte_size)
            .unwrap()
    }

    /// The pages that share a byte with `[start, start + len)`.
    fn pages_in(&self, start: u128, len: usize) -> Vec<usize> {
        let end = start + len as u128;
        (0..self.page_count())
            .filter(|page| {
                let page_start = *page as u128 * self.page_size;
                len > 0 && page_start < end && start < page_start + self.page_size
            })
            .collect()
    }

    fn set(&mut self, start: u128, len: usize) {
        self.dirty.extend(self.pages_in(start, len));
    }

    fn reset(&mut self, start: u128, len: usize) {
        for page in self.pages_in(start, len) {
            self.dirty.remove(&page);
        }
    }

    fn words(&self) -> Vec<u64> {
        let mut words = vec![0; self.page_count().div_ceil(64)];
        for page in &self.dirty {
            words[page / 64] |= 1 << (page % 64);
        }
        words
    }
}

#[derive(Clone, Debug)]
enum Operation {
    SetBit(usize),
    ResetBit(usize),
    SetRange(usize, usize),
    ResetRange(usize, usize),
    /// Two base offsets, then the offset and length of the mark.
    MarkInSlice(usize, usize, usize, usize),
    Enlarge(usize),
    Clone,
    GetAndReset,
    Harvest,
    Reset,
    /// Marks a range while tracking is off.
    MarkUntracked(usize, usize),
}

/// Addresses and lengths around a bitmap: inside, at the edges of words, past the end, at the top.
fn offset(page_size: usize, byte_size: usize) -> BoxedStrategy<usize> {
    let around =
        move |center: usize| (0_usize..=2).prop_map(move |by| (center + by).saturating_sub(1));
    prop_oneof![
        4 => 0..=byte_size + 2 * page_size,
        2 => (0_usize..6).prop_flat_map(move |word| around(word * 64 * page_size)),
        1 => around(byte_size),
        1 => (0..=2 * page_size).prop_map(|below| usize::MAX - below),
        1 => any::<usize>(),
    ]
    .boxed()
}

fn length(page_size: usize, byte_size: usize) -> BoxedStrategy<usize> {
    prop_oneof![
        2 => 0_usize..4,
        3 => 0..=3 * page_size,
        3 => offset(page_size, byte_size),
    ]
    .boxed()
}

fn operation(page_size: usize, byte_size: usize) -> impl Strategy<Value = Operation> {
    let offset = || offset(page_size, byte_size);
    let length = || length(page_size, byte_size);
    let page = || prop_oneof![9 => 0..400_usize, 1 => any::<usize>()];
    prop_oneof![
        2 => page().prop_map(Operation::SetBit),
        2 => page().prop_map(Operation::ResetBit),
        4 => (offset(), length()).prop_map(|(start, len)| Operation::SetRange(start, len)),
        4 => (offset(), length()).prop_map(|(start, len)| Operation::ResetRange(start, len)),
        4 => (offset(), offset(), offset(), length())
            .prop_map(|(one, two, start, len)| Operation::MarkInSlice(one, two, start, len)),
        1 => (0..=70 * page_size).prop_map(Operation::Enlarge),
        1 => Just(Operation::Clone),
        1 => Just(Operation::GetAndReset),
        1 => Just(Operation::Harvest),
        1 => (offset(), length()).prop_map(|(start, len)| Operation::MarkUntracked(start, len)),
        1 => Just(Operation::Reset),
    ]
}

/// Page size, byte size (up to 300 pages, mostly not whole ones) and a script.
fn case() -> impl Strategy<Value = (usize, usize, Vec<Operation>)> {
    (0_u32..=16, 0_usize..=300)
        .prop_flat_map(|(shift, pages)| {
            let page_size = 1_usize << shift;
            let missing = 0..page_size;
            let byte_size =
                missing.prop_map(move |bytes| (pages * page_size).saturating_sub(bytes));
            (Just(page_size), byte_size)
        })
        .prop_flat_map(|(page_size, byte_size)| {
            let script = prop::collection::vec(operation(page_size, byte_size), 0..24);
            (Just(page_size), Just(byte_size), script)
        })
}

fn apply(operation: &Operation, bitmap: &mut AtomicBitmap, model: &mut Model) {
    match *operation {
        Operation::SetBit(page) => {
            bitmap.set_bit(page);
            if page < model.page_count() {
                model.dirty.insert(page);
            }
        }
        Operation::ResetBit(page) => {
            bitmap.reset_bit(page);
            model.dirty.remove(&page);
        }
        Operation::SetRange(start, len) => {
            bitmap.set_addr_range(start, len);
            model.set(start as u128, len);
        }
        Operation::ResetRange(start, len) => {
            bitmap.reset_addr_range(start, len);
            model.reset(start as u128, len);
        }
        Operation::MarkInSlice(one, two, start, len) => {
            let base = one as u128 + two as u128;
            let slice = bitmap.slice_at(one).slice_at(two);
            slice.mark_dirty(start, len);
            model.set(base + start as u128, len);

            let tracked = model.byte_size.saturating_sub(base);
            assert_eq!(
                slice.tracked_bytes().map(|bytes| bytes as u128),
                Some(tracked)
            );
            let page = (base + start as u128) / model.page_size;
            let dirty = usize::try_from(page).is_ok_and(|page| model.dirty.contains(&page));
            assert_eq!(slice.dirty_at(start), dirty);
        }
        Operation::Enlarge(additional) => {
            bitmap.enlarge(additional);
            model.byte_size += additional as u128;
        }
        Operation::Clone => *bitmap = bitmap.clone(),
        Operation::GetAndReset => {
            assert_eq!(bitmap.get_and_reset(), model.words());
            model.dirty.clear();
        }
        Operation::Harvest => {
            let pages = bitmap.harvest();
            assert_eq!(pages.words(), model.words());
            assert!(pages.pages().eq(model.dirty.iter().copied()));
            model.dirty.clear();
        }
        Operation::Reset => {
            bitmap.reset();
            model.dirty.clear();
        }
        Operation::MarkUntracked(start, len) => {
            bitmap.stop_tracking();
            bitmap.mark_dirty(start, len);
            bitmap.start_tracking();
        }
    }
}

fn compare(bitmap: &AtomicBitmap, model: &Model) {
    let page_count = model.page_count();
    assert_eq!(bitmap.len(), page_count);
    assert_eq!(bitmap.byte_size() as u128, model.byte_size);
    for page in 0..page_count + 70 {
        let dirty = model.dirty.contains(&page);
        assert_eq!(bitmap.is_bit_set(page), dirty, "page {page}");
        let first = page * bitmap.page_size().get();
        let last = first + (bitmap.page_size().get() - 1);
        assert_eq!(bitmap.is_addr_set(first), dirty, "address {first}");
        assert_eq!(bitmap.dirty_at(last), dirty, "offset {last}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn atomic_bitmap_behaves_as_a_set_of_pages(
        (page_size, byte_size, script) in case(),
        ordering in prop_oneof![Just(MarkOrdering::preferred()), Just(MarkOrdering::Symmetric)],
    ) {
        let mut bitmap = AtomicBitmap::new(byte_size, NonZeroUsize::new(page_size).unwrap())
            .with_ordering(ordering)
            .unwrap();
        let mut model = Model {
            byte_size: byte_size as u128,
            page_size: page_size as u128,
            dirty: BTreeSet::new(),
        };
        for operation in &script {
            apply(operation, &mut bitmap, &mut model);
            compare(&bitmap, &model);
        }
        assert_eq!(bitmap.get_and_reset(), model.words());
        assert!(bitmap.get_and_reset().iter().all(|word| *word == 0));
    }
}
