// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One value for a whole range, and the search for a byte that is not zero.

use crate::access::{all, walk_on};
use crate::error::{Operation, Result};
use crate::permissions::Permissions;
use crate::reach::Reach;

#[inline(always)]
pub(crate) fn fill<'m, T: Reach<'m>>(
    target: T,
    value: u8,
    addr: T::Address,
    count: usize,
) -> Result<()> {
    match target.whole(addr, count, Permissions::Write) {
        // Its length is what is filled, and may be a lie.
        Some(slice) if slice.len() == count && slice.fill(value).is_ok() => Ok(()),
        _ => fill_crossing(target, value, addr, count),
    }
}

#[inline(always)]
pub(crate) fn is_zero<'m, T: Reach<'m>>(target: T, addr: T::Address, count: usize) -> Result<bool> {
    let slice = target.whole(addr, count, Permissions::Read);
    match slice.filter(|slice| slice.len() == count) {
        Some(slice) => match slice.is_zero() {
            Ok(answer) => Ok(answer),
            Err(_) => is_zero_crossing(target, addr, count),
        },
        None => is_zero_crossing(target, addr, count),
    }
}

#[cold]
#[inline(never)]
fn fill_crossing<'m, T: Reach<'m>>(
    target: T,
    value: u8,
    addr: T::Address,
    count: usize,
) -> Result<()> {
    let completed = walk_on(target, Operation::Fill, addr, count, 0, |slice, _| {
        slice.fill(value).map(|()| slice.len())
    })?;
    all(completed, count)
}

#[cold]
#[inline(never)]
fn is_zero_crossing<'m, T: Reach<'m>>(target: T, addr: T::Address, count: usize) -> Result<bool> {
    let mut found = false;
    let completed = walk_on(target, Operation::IsZero, addr, count, 0, |slice, _| {
        found = !slice.is_zero()?;
        // What lies behind is not looked at.
        Ok(if found { 0 } else { slice.len() })
    })?;
    if found {
        return Ok(false);
    }
    all(completed, count).map(|()| true)
}
