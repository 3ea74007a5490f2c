// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Volatile slices in the suite that is open to everyone's memory.
#![cfg(feature = "std")]
#![expect(unsafe_code, reason = "makes slices that are tracked")]

use std::num::NonZeroUsize;
use std::sync::Arc;

use guest_memory_bitmap::{ArcSlice, AtomicBitmap, Bitmap};
use guest_memory_conformance::{Config, bytes, bytes_ext};
use guest_memory_volatile::VolatileSlice;

/// Returns zero bytes aligned to eight; leaked, as the slices under test borrow them.
fn memory(len: usize) -> &'static mut [u8] {
    let bytes = vec![0u8; len + 8].leak();
    let padding = bytes.as_ptr().align_offset(8);
    &mut bytes[padding..][..len]
}

fn offset(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn tracked(len: usize, page_size: NonZeroUsize) -> VolatileSlice<'static, ArcSlice<AtomicBitmap>> {
    let bitmap = AtomicBitmap::new(len, page_size);
    let bytes = memory(len);
    // SAFETY: the leaked borrow keeps the bytes mapped, initialised and to the slice alone for
    // good; a Rust slice is at most `isize::MAX` bytes long and does not wrap.
    unsafe {
        VolatileSlice::with_bitmap(
            bytes.as_mut_ptr(),
            len,
            ArcSlice::new(Arc::new(bitmap), 0),
            None,
        )
    }
}

#[test]
fn untracked_slice_behaves() {
    bytes::check(|len| VolatileSlice::from(memory(len)), offset);
    bytes_ext::check(|len| VolatileSlice::from(memory(len)), offset);
}

#[test]
fn tracked_slice_behaves() {
    for page_size in [1, 32, 4096] {
        let page_size = NonZeroUsize::new(page_size).unwrap();
        bytes::check_with(
            Config::default(),
            |len| tracked(len, page_size),
            offset,
            |slice, offset| slice.bitmap().mark_dirty(offset, 1),
            |slice, offset| slice.bitmap().dirty_at(offset),
        );
        bytes_ext::check_with(
            Config::default(),
            |len| tracked(len, page_size),
            offset,
            |slice, offset| slice.bitmap().mark_dirty(offset, 1),
            |slice, offset| slice.bitmap().dirty_at(offset),
        );
    }
}

#[test]
fn slice_cut_from_a_larger_one_behaves() {
    let page_size = NonZeroUsize::new(32).unwrap();
    let cut = |len| {
        let whole = tracked(len + 96, page_size);
        whole.subslice(64, len).unwrap()
    };
    bytes::check_with(
        Config::default(),
        cut,
        offset,
        |slice, offset| slice.bitmap().mark_dirty(offset, 1),
        |slice, offset| slice.bitmap().dirty_at(offset),
    );
    bytes_ext::check_with(
        Config::default(),
        cut,
        offset,
        |slice, offset| slice.bitmap().mark_dirty(offset, 1),
        |slice, offset| slice.bitmap().dirty_at(offset),
    );
}
