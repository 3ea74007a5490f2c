// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Scripts over windows on one buffer, next to its bytes and the pages of its dirty bitmaps: windows of windows, read-only
//! ones, empty ones, such that overlap or mark another bitmap, at any alignment.

mod accesses;
mod atomics;
mod copies;
mod number;
mod types;
mod window;

use std::num::NonZeroUsize;

use arbitrary::Arbitrary;
use guest_memory_bitmap::{AtomicBitmap, Bitmap};
use guest_memory_volatile::{ByteValued, VolatileMemory, VolatileSlice};

use self::accesses::Access;
use self::atomics::Atomic;
use self::copies::Copy;
use self::number::Number;
use self::types::FILL;
use self::window::{Kind, LOGS, Slice, Twin, Window, settle, unless};
use crate::pages::Pages;
use crate::pattern::pattern;

/// Names of the operations, as [`run_with`] reports them.
pub const OPERATIONS: [&str; 44] = [
    "harvest",
    "whole",
    "subslice",
    "get_slice",
    "offset",
    "split_at",
    "into_read_only",
    "replace_bitmap",
    "write",
    "read",
    "write_slice",
    "read_slice",
    "poke_slice",
    "peek_slice",
    "write_obj",
    "read_obj",
    "poke",
    "peek",
    "VolatileRef::store",
    "VolatileRef::try_store",
    "VolatileRef::load",
    "VolatileRef::try_load",
    "store_le",
    "load_le",
    "load",
    "store",
    "compare_exchange",
    "read_modify_write",
    "get_atomic_ref",
    "VolatileRef::load_atomic",
    "VolatileRef::store_atomic",
    "VolatileRef::compare_exchange",
    "VolatileRef::read_modify_write",
    "copy_to",
    "copy_from",
    "copy_to_volatile_slice",
    "fill",
    "zero",
    "is_zero",
    "VolatileArrayRef::try_load",
    "VolatileArrayRef::try_store",
    "VolatileArrayRef::copy_to",
    "VolatileArrayRef::copy_from",
    "VolatileArrayRef::copy_to_volatile_slice",
];

/// Words of the buffer: several of the steps in which long copies go.
const WORDS: usize = 560;

/// Bytes of the buffer on either side of the first window that are watched, at least.
const AROUND: usize = 16;

/// Windows that a script works on.
const WINDOWS: usize = 4;

/// What a script begins with.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Setup {
    /// How the window is aligned.
    skew: u8,
    len: u16,
    page_shifts: [u8; LOGS],
    /// How many bytes the second bitmap has.
    second_len: u16,
    is_read_only: bool,
}

/// An operation as the fuzzer makes it.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Op {
    /// Puts a part of one window in the place of another.
    Cut {
        from: u8,
        to: u8,
        cut: Cut,
    },
    Access(u8, Access),
    Atomic(u8, Atomic),
    Copy(u8, Copy),
    /// Makes the bitmaps clean.
    Harvest,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Cut {
    /// The whole buffer again.
    Whole,
    Subslice(Number, Number),
    GetSlice(Number, Number),
    Offset(Number),
    SplitAt(Number, Side),
    ReadOnly,
    /// Marks the bitmap of that number, from that offset on.
    ReplaceBitmap(u8, u16),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Side {
    Start,
    End,
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
    let mut words = [0u64; WORDS];
    let buffer = ByteValued::as_mut_slice(&mut words);
    buffer.fill(FILL);
    let start = AROUND + usize::from(setup.skew) % AROUND;
    let len = usize::from(setup.len) % (WORDS * 8 - 3 * AROUND);
    buffer[start..][..len].copy_from_slice(&pattern(0, len));

    let lens = [len, usize::from(setup.second_len)];
    let logs = std::array::from_fn(|log| {
        let page_size = 1 << (setup.page_shifts[log] % 8);
        let page_size = NonZeroUsize::new(page_size).expect("a power of two");
        AtomicBitmap::new(lens[log], page_size)
    });
    let mut twin = Twin {
        bytes: pattern(0, len),
        logs: std::array::from_fn(|log| Pages::new(lens[log], logs[log].page_size().get())),
    };
    let slice = VolatileSlice::from(&mut buffer[start..][..len]);
    let slice = slice.replace_bitmap(logs[0].slice_at(0));
    run_on(
        slice,
        setup.is_read_only,
        data,
        &logs,
        &mut twin,
        &mut report,
    );

    let (before, rest) = buffer.split_at(start);
    let (window, after) = rest.split_at(len);
    assert!(window == twin.bytes, "the bytes after the script");
    assert!(
        before.iter().chain(after).all(|&byte| byte == FILL),
        "around the window"
    );
}

fn run_on<'a>(
    slice: Slice<'a>,
    is_read_only: bool,
    data: &[u8],
    logs: &'a [AtomicBitmap; LOGS],
    twin: &mut Twin,
    report: &mut impl FnMut(&'static str, bool),
) {
    let whole = Window {
        slice: if is_read_only {
            slice.into_read_only()
        } else {
            slice
        },
        at: 0,
        len: slice.len(),
        is_read_only,
        log: 0,
        log_at: 0,
    };
    let mut windows = [whole; WINDOWS];
    super::for_each_operation(data, |operation: Op| {
        let _named = super::Named(&operation);
        let nth = |index: u8| usize::from(index) % WINDOWS;
        let (name, succeeded) = match operation {
            Op::Cut { from, to, cut } => {
                let window = windows[nth(from)];
                cut_off(cut, window, whole, logs, &mut windows[nth(to)])
            }
            Op::Access(window, access) => access.run(&windows[nth(window)], twin),
            Op::Atomic(window, atomic) => atomic.run(&windows[nth(window)], twin),
            Op::Copy(window, copy) => copy.run(&windows[nth(window)], &windows, twin),
            Op::Harvest => {
                for (log, pages) in logs.iter().zip(&mut twin.logs) {
                    pages.compare(&log.harvest());
                    pages.clear();
                }
                ("harvest", true)
            }
        };
        report(name, succeeded);
        compare(slice, logs, twin);
    });
}

/// Makes a window of another one and puts it into `to`, if it can be made.
fn cut_off<'a>(
    cut: Cut,
    mut window: Window<'a>,
    whole: Window<'a>,
    logs: &'a [AtomicBitmap; LOGS],
    to: &mut Window<'a>,
) -> (&'static str, bool) {
    let slice = window.slice;
    let (name, succeeded) = match cut {
        Cut::Whole => {
            window = whole;
            ("whole", true)
        }
        Cut::Subslice(offset, count) => {
            let (offset, count) = (offset.of(&window), count.of(&window));
            let part = slice.subslice(offset, count);
            ("subslice", window.narrow_to(part, offset, count))
        }
        Cut::GetSlice(offset, count) => {
            let (offset, count) = (offset.of(&window), count.of(&window));
            let end = slice.compute_end_offset(offset, count);
            let flaws = window.flaws(offset, count, Kind::Read);
            settle(end, unless(flaws).map(|()| offset.wrapping_add(count)));
            let part = slice.get_slice(offset, count);
            // The trait's method borrows the slice, so a window made by it does not outlive this.
            let mut probe = window;
            let succeeded = probe.narrow_to(part, offset, count);
            ("get_slice", succeeded)
        }
        Cut::Offset(offset) => {
            let offset = offset.of(&window);
            let rest = window.len.saturating_sub(offset);
            (
                "offset",
                window.narrow_to(slice.offset(offset), offset, rest),
            )
        }
        Cut::SplitAt(mid, side) => {
            let mid = mid.of(&window);
            let rest = window.len.saturating_sub(mid);
            let parts = slice.split_at(mid);
            let succeeded = match side {
                Side::Start => window.narrow_to(parts.map(|parts| parts.0), 0, mid),
                Side::End => window.narrow_to(parts.map(|parts| parts.1), mid, rest),
            };
            ("split_at", succeeded)
        }
        Cut::ReadOnly => {
            window.slice = slice.into_read_only();
            window.is_read_only = true;
            ("into_read_only", true)
        }
        Cut::ReplaceBitmap(log, offset) => {
            let (log, offset) = (usize::from(log) % LOGS, usize::from(offset));
            window.slice = slice.replace_bitmap(logs[log].slice_at(offset));
            (window.log, window.log_at) = (log, offset);
            ("replace_bitmap", true)
        }
    };
    if succeeded {
        *to = window;
    }
    (name, succeeded)
}

fn compare(slice: Slice<'_>, logs: &[AtomicBitmap; LOGS], twin: &Twin) {
    let mut bytes = vec![0; slice.len()];
    assert_eq!(slice.copy_to(&mut bytes), bytes.len());
    if bytes != twin.bytes {
        let differs = |&at: &usize| bytes[at] != twin.bytes[at];
        let at = (0..bytes.len()).find(differs).unwrap_or_default();
        panic!(
            "the byte at {at:#x} is {:#04x}, not {:#04x}",
            bytes[at], twin.bytes[at]
        );
    }
    for (log, pages) in logs.iter().zip(&twin.logs) {
        // A copy is taken apart, so that the marks stay.
        pages.compare_pages(&log.clone().harvest());
    }
}
