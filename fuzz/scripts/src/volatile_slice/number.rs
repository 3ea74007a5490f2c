// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Offsets and counts as the fuzzer makes them.

use arbitrary::Arbitrary;

use super::window::Window;

/// An offset or a count, in bytes or in elements.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Number {
    Short(u8),
    Long(u16),
    /// So many less than the window has bytes, or more.
    BelowEnd(i8),
    BelowMax(u8),
}

impl Number {
    pub(super) fn of(self, window: &Window<'_>) -> usize {
        match self {
            Number::Short(number) => number.into(),
            Number::Long(number) => usize::from(number) % 0x1400,
            Number::BelowEnd(less) => window.len.wrapping_add_signed(-isize::from(less)),
            Number::BelowMax(less) => usize::MAX - usize::from(less),
        }
    }
}
