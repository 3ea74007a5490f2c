// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One mapping: a range of IOVAs and where it goes.

use guest_memory_core::{GuestAddress, Permissions};

/// A range of IOVAs that is mapped to a range of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The first IOVA.
    pub first: GuestAddress,
    /// The last IOVA, inclusive, so that a mapping may end at 2^64; not below `first`.
    pub last: GuestAddress,
    /// The guest-physical address that the first IOVA is mapped to; those behind it follow in step.
    pub target: GuestAddress,
    /// What a device may do there; with [`Permissions::No`] nothing.
    pub allowed: Permissions,
}

/// A range of guest memory that a range of IOVAs is mapped to: a piece of a translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedRange {
    /// The first guest-physical address. Whether the guest has memory there, the table does not know.
    pub base: GuestAddress,
    /// Bytes in it.
    pub length: usize,
}

impl Mapping {
    /// A mapping of nothing.
    pub(crate) const NONE: Self = Self {
        first: GuestAddress(1),
        last: GuestAddress(0),
        target: GuestAddress(0),
        allowed: Permissions::No,
    };

    /// Says whether `iova` is in it.
    #[inline(always)]
    pub(crate) fn holds(&self, iova: u64) -> bool {
        self.first.0 <= iova && iova <= self.last.0
    }

    /// Returns where `[iova, iova + length)` is mapped to, as far as it is in here; `iova` must be, and `length` not 0.
    #[inline(always)]
    pub(crate) fn resolve(&self, iova: u64, length: usize) -> MappedRange {
        let room_less_one = self.last.0.wrapping_sub(iova);
        // What does not fit in a `usize` is more than anyone asks for.
        let room = usize::try_from(room_less_one).map_or(usize::MAX, |room| room.saturating_add(1));
        MappedRange {
            base: GuestAddress(self.target_of(iova)),
            length: usize::min(length, room),
        }
    }

    /// Returns what is left of it below `first`.
    pub(crate) fn below(&self, first: u64) -> Option<Self> {
        let last = first.checked_sub(1)?;
        (self.first.0 <= last).then(|| Self {
            last: GuestAddress(u64::min(self.last.0, last)),
            ..*self
        })
    }

    /// Returns what is left of it above `last`.
    pub(crate) fn above(&self, last: u64) -> Option<Self> {
        let first = u64::max(self.first.0, last.checked_add(1)?);
        (first <= self.last.0).then(|| Self {
            first: GuestAddress(first),
            target: GuestAddress(self.target_of(first)),
            ..*self
        })
    }

    /// Returns this and the next one as one, if that says the same.
    pub(crate) fn joined(&self, next: &Self) -> Option<Self> {
        let goes_on = self.last.0.checked_add(1) == Some(next.first.0)
            && self.target_of(self.last.0).checked_add(1) == Some(next.target.0)
            && self.allowed == next.allowed;
        goes_on.then_some(Self {
            last: next.last,
            ..*self
        })
    }

    /// Returns what an IOVA in here is mapped to.
    #[inline(always)]
    fn target_of(&self, iova: u64) -> u64 {
        self.target.0.wrapping_add(iova.wrapping_sub(self.first.0))
    }
}
