// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Slices as the kernel wants them, without a heap allocation.
//!
//! Slices without a bitmap are `iovec`s already and go to the kernel where they stand. Others are converted, some at a
//! time, on the stack.
#![expect(unsafe_code, reason = "reads slices as iovecs, whose layout they have")]

use core::mem::{MaybeUninit, offset_of};

use guest_memory_bitmap::BitmapSlice;
use libc::iovec;

use crate::slice::VolatileSlice;
use crate::span::HostSpan;

/// Most slices that are converted for one system call: 1 KiB on the stack.
pub(super) const CONVERTED_MAX: usize = 64;

/// Most slices that the kernel takes in one system call (`IOV_MAX`).
pub(super) const STRAIGHT_MAX: usize = 1024;

const _: () = {
    assert!(size_of::<VolatileSlice<'_, ()>>() == size_of::<iovec>());
    assert!(align_of::<VolatileSlice<'_, ()>>() == align_of::<iovec>());
    assert!(size_of::<HostSpan<'_>>() == size_of::<iovec>());
    assert!(VolatileSlice::<'_, ()>::OFFSET_OF_SPAN == 0);
    assert!(HostSpan::OFFSET_OF_BASE == offset_of!(iovec, iov_base));
    assert!(HostSpan::OFFSET_OF_LEN == offset_of!(iovec, iov_len));
};

/// Calls `call` with as many of the first slices as go at once; slice `i` becomes `iovec` `i`.
pub(super) fn with_iovecs<B: BitmapSlice, T>(
    bufs: &[VolatileSlice<'_, B>],
    call: impl FnOnce(&[iovec]) -> T,
) -> T {
    match straight(bufs) {
        Some(iovecs) => call(iovecs),
        None => converted(bufs, call),
    }
}

/// Returns the slices themselves if they are `iovec`s: with no bitmap and no flag in the length.
fn straight<'s, B: BitmapSlice>(bufs: &'s [VolatileSlice<'_, B>]) -> Option<&'s [iovec]> {
    let bufs = bufs.get(..STRAIGHT_MAX).unwrap_or(bufs);
    let has_layout = size_of::<VolatileSlice<'_, B>>() == size_of::<iovec>()
        && VolatileSlice::<'_, B>::OFFSET_OF_SPAN == 0;
    if !has_layout || bufs.iter().any(VolatileSlice::is_read_only) {
        return None;
    }
    // SAFETY:
    // - the pointer is that of a slice of as many elements of the same size (just compared), whose alignment is a
    //   multiple of the span's, which is that of an `iovec` (asserted above), and is borrowed for `'s`;
    // - each element starts with its span, and that has the `iovec`'s size: there is nothing else in it. Its address
    //   and length stand where an `iovec` has them (asserted above) and are initialised, and any address and length
    //   are a valid `iovec`;
    // - nobody changes them during `'s`: a span has no interior mutability, and a bitmap without a size no bytes.
    Some(unsafe { core::slice::from_raw_parts(bufs.as_ptr().cast::<iovec>(), bufs.len()) })
}

/// Calls `call` with `iovec`s made of the first slices.
fn converted<B: BitmapSlice, T>(
    bufs: &[VolatileSlice<'_, B>],
    call: impl FnOnce(&[iovec]) -> T,
) -> T {
    let mut array = [const { MaybeUninit::<iovec>::uninit() }; CONVERTED_MAX];
    let mut count = 0usize;
    for (place, buf) in array.iter_mut().zip(bufs) {
        place.write(iovec {
            iov_base: buf.span().base().cast(),
            iov_len: buf.len(),
        });
        count = count.saturating_add(1);
    }
    let (made, _) = array.split_at(count);
    // SAFETY: the loop wrote the first `count` elements.
    call(unsafe { made.assume_init_ref() })
}
