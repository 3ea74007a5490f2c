// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From an address to a value that is changed in one step, and to stretches of equal bytes.

use guest_memory_volatile::{AtomicAccess, VolatileMemoryResult, VolatileSlice};

use crate::access::{all, request, walk_on, whole_or_why};
use crate::error::{Operation, Result};
use crate::permissions::Permissions;
use crate::reach::Reach;

/// Applies an atomic operation to the slice of a value.
#[inline(always)]
pub(crate) fn on_value<'m, T: Reach<'m>, V: AtomicAccess, R>(
    target: T,
    addr: T::Address,
    apply: impl FnOnce(&VolatileSlice<'m, T::Bitmap>) -> VolatileMemoryResult<R>,
) -> Result<R> {
    let length = size_of::<V>();
    let slice = match target.whole(addr, length, Permissions::Write) {
        Some(slice) => slice,
        None => whole_or_why(target, Operation::Update, addr, length)?,
    };
    apply(&slice).map_err(|cause| request(target, Operation::Update, addr, length).failed(0, cause))
}

/// Writes `value` to each of `count` bytes.
pub(crate) fn fill<'m, T: Reach<'m>>(
    target: T,
    value: u8,
    addr: T::Address,
    count: usize,
) -> Result<()> {
    let completed = walk_on(target, Operation::Fill, addr, count, 0, |slice, _| {
        slice.fill(value).map(|()| slice.len())
    });
    all(completed?, count)
}

/// Says whether `count` bytes are all zero.
pub(crate) fn is_zero<'m, T: Reach<'m>>(target: T, addr: T::Address, count: usize) -> Result<bool> {
    let mut is_zero = true;
    let completed = walk_on(target, Operation::Read, addr, count, 0, |slice, _| {
        is_zero = slice.is_zero()?;
        // Nothing of the first slice that is not ends the walk.
        Ok(if is_zero { slice.len() } else { 0 })
    })?;
    if !is_zero {
        return Ok(false);
    }
    all(completed, count).map(|()| true)
}

/// Writes `BytesExt` in terms of the functions here; `$reach` makes the [`Reach`] of `self`.
macro_rules! bytes_ext_by_reach {
    ($address:ty, $reach:path) => {
        #[inline(always)]
        fn compare_exchange<T: guest_memory_volatile::AtomicAccess>(
            &self,
            current: T,
            new: T,
            addr: $address,
            success: core::sync::atomic::Ordering,
            failure: core::sync::atomic::Ordering,
        ) -> $crate::error::Result<core::result::Result<T, T>> {
            $crate::update::on_value::<_, T, _>($reach(self), addr, |slice| {
                slice.compare_exchange(current, new, 0, success, failure)
            })
        }

        #[inline(always)]
        fn swap<T: guest_memory_volatile::AtomicAccess>(
            &self,
            val: T,
            addr: $address,
            order: core::sync::atomic::Ordering,
        ) -> $crate::error::Result<T> {
            $crate::update::on_value::<_, T, _>($reach(self), addr, |slice| {
                slice.swap(val, 0, order)
            })
        }

        #[inline(always)]
        fn fetch_add<T: guest_memory_volatile::AtomicAccess>(
            &self,
            val: T,
            addr: $address,
            order: core::sync::atomic::Ordering,
        ) -> $crate::error::Result<T> {
            $crate::update::on_value::<_, T, _>($reach(self), addr, |slice| {
                slice.fetch_add(val, 0, order)
            })
        }

        #[inline(always)]
        fn fetch_and<T: guest_memory_volatile::AtomicAccess>(
            &self,
            val: T,
            addr: $address,
            order: core::sync::atomic::Ordering,
        ) -> $crate::error::Result<T> {
            $crate::update::on_value::<_, T, _>($reach(self), addr, |slice| {
                slice.fetch_and(val, 0, order)
            })
        }

        #[inline(always)]
        fn fetch_or<T: guest_memory_volatile::AtomicAccess>(
            &self,
            val: T,
            addr: $address,
            order: core::sync::atomic::Ordering,
        ) -> $crate::error::Result<T> {
            $crate::update::on_value::<_, T, _>($reach(self), addr, |slice| {
                slice.fetch_or(val, 0, order)
            })
        }

        #[inline(always)]
        fn fetch_xor<T: guest_memory_volatile::AtomicAccess>(
            &self,
            val: T,
            addr: $address,
            order: core::sync::atomic::Ordering,
        ) -> $crate::error::Result<T> {
            $crate::update::on_value::<_, T, _>($reach(self), addr, |slice| {
                slice.fetch_xor(val, 0, order)
            })
        }

        fn fill(&self, value: u8, addr: $address, count: usize) -> $crate::error::Result<()> {
            $crate::update::fill($reach(self), value, addr, count)
        }

        fn is_zero(&self, addr: $address, count: usize) -> $crate::error::Result<bool> {
            $crate::update::is_zero($reach(self), addr, count)
        }
    };
}
pub(crate) use bytes_ext_by_reach;
