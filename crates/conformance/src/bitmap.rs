// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The suite for a [`Bitmap`].
//!
//! What it holds a bitmap made for `len` bytes to:
//!
//! * it starts clean; a mark of `[offset, offset + n)` makes exactly the pages of that range dirty;
//! * marks past `len` mark nothing past it and do not panic, nor do sums that overflow; length 0
//!   marks nothing; what lies past the last page reads as clean;
//! * a slice at `base`, and a slice of that slice, and its clone, is the same bitmap seen from
//!   `base` on;
//! * [`Bitmap::tracked_bytes`], where it answers, covers `len` and shrinks with the base of a slice.
//!
//! [`check_concurrent`] holds one that threads share to this: what several threads mark at the same time is all marked, also where
//! the bitmap keeps their pages side by side.
//!
//! Offsets between `len` and the end of the last page are left to the implementor.

use std::sync::Barrier;
use std::thread;

use guest_memory_bitmap::{Bitmap, BitmapSlice};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::config::{Config, Tracking, expect_eq, guarded};
use crate::model::Span;
use crate::place::{Map, Spot, count, spot};

/// Pages in the longest bitmap tried: more than three words of 64.
const MAX_PAGES: usize = 200;

/// One call through slices at `bases`, each cut from the one before it.
#[derive(Clone, Debug)]
struct Operation {
    bases: Vec<usize>,
    offset: usize,
    call: Call,
}

#[derive(Clone, Copy, Debug)]
enum Call {
    MarkDirty { len: usize },
    DirtyAt,
}

#[derive(Debug)]
struct Script {
    len: usize,
    operations: Vec<Operation>,
}

/// Checks the bitmaps that `make` returns for a length in bytes.
///
/// # Panics
///
/// When one does not behave; the message names the operation and the shortest script.
///
/// # Examples
///
/// ```
/// use guest_memory_bitmap::{AtomicBitmap, NewBitmap};
///
/// guest_memory_conformance::bitmap::check(AtomicBitmap::with_len);
/// ```
pub fn check<B: Bitmap>(make: impl Fn(usize) -> B) {
    check_with(Config::default(), make);
}

/// Checks bitmaps as [`check`] does, with other settings.
///
/// # Panics
///
/// As [`check`].
pub fn check_with<B: Bitmap>(config: Config, make: impl Fn(usize) -> B) {
    let tracking = config.settle("bitmap", |len| {
        let bitmap = make(len);
        bitmap.mark_dirty(0, 1);
        move |offset| bitmap.dirty_at(offset)
    });
    config.run("bitmap", &scripts(config, tracking), |script| {
        let bitmap = guarded(&("make", script.len), || Ok(make(script.len)))?;
        let mut span = Span::new(0, script.len, tracking.page_size);
        guarded(&"a new bitmap", || compare(&bitmap, &span, tracking))?;
        for operation in &script.operations {
            guarded(operation, || {
                apply(operation, &bitmap, &mut span, tracking)?;
                compare(&bitmap, &span, tracking)
            })?;
        }
        Ok(())
    });
}

/// Checks that no mark is lost where several threads mark at once, each its own pages, which are neighbours.
///
/// # Panics
///
/// As [`check`]. What is looked for shows itself by chance: a bitmap that loses a mark may pass, but one that was seen lost was.
///
/// # Examples
///
/// ```
/// use guest_memory_bitmap::{AtomicBitmap, NewBitmap};
/// use guest_memory_conformance::{Config, bitmap};
///
/// bitmap::check_concurrent(Config::default(), AtomicBitmap::with_len);
/// ```
pub fn check_concurrent<B: Bitmap + Sync>(config: Config, make: impl Fn(usize) -> B) {
    let tracking = config.settle("bitmap", |len| {
        let bitmap = make(len);
        bitmap.mark_dirty(0, 1);
        move |offset| bitmap.dirty_at(offset)
    });
    let page_size = tracking.step();
    let len = config.round_up(PAGES_TOGETHER * page_size);
    for round in 0..ROUNDS {
        let told = guarded(&("marks of several threads, round", round), || {
            let bitmap = make(len);
            let mut span = Span::new(0, len, tracking.page_size);
            mark_together(&bitmap, page_size);
            // One page in so many is nobody's.
            let marked = (0..PAGES_TOGETHER).filter(|page| page % (THREADS + 1) < THREADS);
            marked.for_each(|page| span.mark(page * page_size, 1));
            compare(&bitmap, &span, tracking)
        });
        if let Err(reason) = told {
            panic!("bitmap conformance: {reason}");
        }
    }
}

/// Threads that mark at once.
const THREADS: usize = 2;

/// Pages that they mark: more than two words of 64.
const PAGES_TOGETHER: usize = 150;

/// How often they do.
const ROUNDS: usize = 50;

/// Has each thread mark its pages, a byte of each, all beginning at the same time.
fn mark_together<B: Bitmap + Sync>(bitmap: &B, page_size: usize) {
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for own in 0..THREADS {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                for page in (own..PAGES_TOGETHER).step_by(THREADS + 1) {
                    bitmap.mark_dirty(page * page_size, 1);
                }
            });
        }
    });
}

fn scripts(config: Config, tracking: Tracking) -> impl Strategy<Value = Script> {
    let page_size = tracking.step();
    let len = prop_oneof![
        1 => 0usize..=24,
        3 => 0..=page_size * 4,
        3 => (0..=MAX_PAGES).prop_map(move |pages| pages * page_size),
    ];
    let marked_len = prop_oneof![
        4 => count(page_size),
        1 => 0..=page_size * MAX_PAGES,
    ];
    let call = prop_oneof![
        2 => marked_len.prop_map(|len| Call::MarkDirty { len }),
        1 => Just(Call::DirtyAt),
    ];
    let operation = (vec(spot(), 0..4), spot(), call);
    (len, vec(operation, 1..20)).prop_map(move |(len, raw)| {
        let len = config.round_up(len);
        let map = Map::new(&[(0, len)], page_size);
        let resolve = |(bases, offset, call): (Vec<Spot>, Spot, Call)| Operation {
            bases: bases.iter().map(|spot| spot.find_offset(&map)).collect(),
            offset: offset.find_offset(&map),
            call,
        };
        let operations = raw.into_iter().map(resolve).collect();
        Script { len, operations }
    })
}

fn apply<B: Bitmap>(
    operation: &Operation,
    bitmap: &B,
    span: &mut Span,
    tracking: Tracking,
) -> Result<(), String> {
    let Operation {
        bases,
        offset,
        call,
    } = operation;
    // `None` when the sum does not fit in a `usize`: that lies past any end.
    let target = sum(bases).and_then(|base| base.checked_add(*offset));
    if target.is_some_and(|target| is_left_open(target, span, tracking)) {
        return Ok(());
    }
    match bases.split_first() {
        None => called(*call, *offset, bitmap, target, span),
        Some((&first, rest)) => {
            let slice = sliced(bitmap.slice_at(first), rest);
            if let (Some(whole), Some(base)) = (bitmap.tracked_bytes(), sum(bases)) {
                let expected = Some(whole.saturating_sub(base));
                expect_eq(
                    "tracked_bytes of the slice",
                    slice.tracked_bytes(),
                    expected,
                )?;
            }
            called(*call, *offset, &slice, target, span)
        }
    }
}

fn called<B: Bitmap>(
    call: Call,
    offset: usize,
    bitmap: &B,
    target: Option<usize>,
    span: &mut Span,
) -> Result<(), String> {
    match call {
        Call::MarkDirty { len } => {
            bitmap.mark_dirty(offset, len);
            if let Some(target) = target {
                span.mark(target, len);
            }
            Ok(())
        }
        Call::DirtyAt => {
            let expected = target.is_some_and(|target| span.dirty_at(target));
            expect_eq("dirty_at", bitmap.dirty_at(offset), expected)
        }
    }
}

/// Cuts a slice further, and goes on with a clone: it must be the same.
fn sliced<S: BitmapSlice>(mut slice: S, bases: &[usize]) -> S {
    for &base in bases {
        slice = slice.slice_at(base);
    }
    slice.clone()
}

fn sum(bases: &[usize]) -> Option<usize> {
    bases
        .iter()
        .try_fold(0, |sum: usize, &base| sum.checked_add(base))
}

/// Tells whether `offset` lies past the end, but still in the last page.
fn is_left_open(offset: usize, span: &Span, tracking: Tracking) -> bool {
    let whole_pages = span.len().next_multiple_of(tracking.step());
    (span.len()..whole_pages).contains(&offset)
}

fn compare<B: Bitmap>(bitmap: &B, span: &Span, tracking: Tracking) -> Result<(), String> {
    span.compare_dirty(|offset| bitmap.dirty_at(offset))?;
    let past = span.len().next_multiple_of(tracking.step());
    for offset in [past, past.saturating_mul(64), usize::MAX - 1, usize::MAX] {
        if offset >= past && bitmap.dirty_at(offset) {
            return Err(format!(
                "offset {offset:#x} past the end is dirty, expected clean"
            ));
        }
    }
    match bitmap.tracked_bytes() {
        Some(tracked) if tracked < span.len() => Err(format!(
            "tracked_bytes is {tracked}, less than the {} bytes it was made for",
            span.len()
        )),
        _ => Ok(()),
    }
}
