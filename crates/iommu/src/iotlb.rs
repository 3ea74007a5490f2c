// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The table of what device addresses (IOVAs) are mapped to.

use std::iter::FusedIterator;
use std::ops::Deref;

use guest_memory_core::{FaultCause, GuestAddress, IovaRange, Permissions, TranslationError};

use crate::mapping::{MappedRange, Mapping};
use crate::table::Table;

/// What device addresses (IOVAs) are mapped to, and what a device may do there.
///
/// Neighbouring mappings whose targets go on and whose permissions are the same are one. A copy shares what neither
/// side changes afterwards.
///
/// No address or length panics; ranges may end at 2^64.
///
/// # Examples
///
/// ```
/// use guest_memory_core::{GuestAddress, Permissions};
/// use guest_memory_iommu::{Iotlb, MappedRange};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut iotlb = Iotlb::new();
/// iotlb.set_mapping(GuestAddress(0x1000), GuestAddress(0x8000), 0x2000, Permissions::ReadWrite)?;
/// iotlb.invalidate_mapping(GuestAddress(0x1800), 0x400);
///
/// let base = GuestAddress(0x8c10);
/// let found = Iotlb::lookup(&iotlb, GuestAddress(0x1c10), 16, Permissions::Read);
/// assert!(found.is_ok_and(|pieces| pieces.eq([MappedRange { base, length: 16 }])));
/// let fails = Iotlb::lookup(&iotlb, GuestAddress(0x17f8), 16, Permissions::Read).err().ok_or("a hole")?;
/// assert_eq!(fails.misses[0].base, GuestAddress(0x1800));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Iotlb {
    table: Table,
}

impl Iotlb {
    /// Makes a table without a mapping.
    pub fn new() -> Self {
        Self::default()
    }

    /// Maps `[iova, iova + length)` to `[map_to, map_to + length)`, in place of whatever it was mapped to.
    ///
    /// Addresses and length are bytes; nothing has to be aligned. Parts of older mappings outside of the range stay. A `length` of 0 changes nothing. With [`Permissions::No`] the
    /// range is mapped and every access refused.
    ///
    /// # Errors
    ///
    /// [`TranslationError::IommuMisconfigured`] if one of the ranges reaches past 2^64; nothing has changed then.
    pub fn set_mapping(
        &mut self,
        iova: GuestAddress,
        map_to: GuestAddress,
        length: usize,
        perm: Permissions,
    ) -> Result<(), TranslationError> {
        let Some(length_less_one) = length.checked_sub(1) else {
            return Ok(());
        };
        let last_of = |start: GuestAddress| start.0.checked_add(length_less_one as u64);
        let (Some(last), Some(_)) = (last_of(iova), last_of(map_to)) else {
            let reason = format!(
                "a mapping of {length} bytes from iova {iova} to gpa {map_to} reaches past 2^64"
            );
            return Err(TranslationError::IommuMisconfigured { reason });
        };
        let mapping = Mapping {
            first: iova,
            last: GuestAddress(last),
            target: map_to,
            allowed: perm,
        };
        self.table.replace(iova.0, last, Some(mapping));
        Ok(())
    }

    /// Maps `[iova, iova + length)` to nothing; parts of mappings outside of it stay.
    ///
    /// A range that reaches past 2^64 ends there. A `length` of 0 changes nothing.
    pub fn invalidate_mapping(&mut self, iova: GuestAddress, length: usize) {
        if let Some(length_less_one) = length.checked_sub(1) {
            let last = iova.0.saturating_add(length_less_one as u64);
            self.table.replace(iova.0, last, None);
        }
    }

    /// Removes all mappings.
    pub fn invalidate_all(&mut self) {
        self.table = Table::default();
    }

    /// Translates `[iova, iova + length)`: the ranges of guest memory that it is mapped to, in order.
    ///
    /// `this` is any pointer to the table, a lock's guard for instance; the iterator keeps it. A `length` of 0 is no
    /// range and succeeds.
    ///
    /// # Errors
    ///
    /// All parts that are not mapped, or not for such an access ([`IotlbFails::into_error`] makes a fault of them). A range
    /// that reaches past 2^64 is one miss.
    #[inline]
    pub fn lookup<D: Deref<Target = Iotlb>>(
        this: D,
        iova: GuestAddress,
        length: usize,
        access: Permissions,
    ) -> Result<IotlbIterator<D>, IotlbFails> {
        let nothing = MappedRange {
            base: GuestAddress(0),
            length: 0,
        };
        let ahead = this.first_mapped(iova, length, access).unwrap_or(nothing);
        if ahead.length != length && !this.is_mapped(iova.0, ahead.length, length, access) {
            return Err(this.fails(iova.0, length, access));
        }
        Ok(IotlbIterator {
            iotlb: this,
            ahead,
            iova: iova.0,
            left: length,
            access,
        })
    }

    /// Returns what the start of `[iova, iova + length)` is mapped to, as much as one mapping has.
    ///
    /// `None` if the first byte is not mapped for such an access, or if `length` is 0.
    #[inline]
    pub fn first_mapped(
        &self,
        iova: GuestAddress,
        length: usize,
        access: Permissions,
    ) -> Option<MappedRange> {
        let mapping = self.table.find(iova.0)?;
        (length > 0 && mapping.allowed.allow(access)).then(|| mapping.resolve(iova.0, length))
    }

    /// Returns the mapping with `iova` in it.
    #[inline]
    pub(crate) fn find(&self, iova: GuestAddress) -> Option<&Mapping> {
        self.table.find(iova.0)
    }

    /// Walks over the mappings by ascending IOVA.
    ///
    /// # Examples
    ///
    /// ```
    /// # use guest_memory_core::{GuestAddress, Permissions};
    /// # use guest_memory_iommu::{Error, Iotlb};
    /// # fn main() -> Result<(), Error> {
    /// let mut iotlb = Iotlb::new();
    /// iotlb.set_mapping(GuestAddress(0x1000), GuestAddress(0x8000), 0x1000, Permissions::Read)?;
    /// // This one goes on where that one ends, on both sides: together they are one.
    /// iotlb.set_mapping(GuestAddress(0x2000), GuestAddress(0x9000), 0x1000, Permissions::Read)?;
    /// let bounds: Vec<_> = iotlb.mappings().map(|mapping| (mapping.first, mapping.last)).collect();
    /// assert_eq!(bounds, [(GuestAddress(0x1000), GuestAddress(0x2fff))]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn mappings(&self) -> impl Iterator<Item = Mapping> {
        self.table.iter().copied()
    }

    /// Says whether an access is mapped, by several mappings of which the first has so many bytes, at least one.
    #[inline(never)]
    fn is_mapped(
        &self,
        mut iova: u64,
        mut here: usize,
        mut length: usize,
        access: Permissions,
    ) -> bool {
        while here > 0 {
            length = length.saturating_sub(here);
            let next = iova.checked_add(here as u64);
            let Some(next) = next.filter(|_| length > 0) else {
                break;
            };
            iova = next;
            let piece = self.first_mapped(GuestAddress(iova), length, access);
            here = piece.map_or(0, |piece| piece.length);
        }
        length == 0
    }

    /// Finds all that is wrong with an access of at least one byte.
    #[cold]
    #[inline(never)]
    fn fails(&self, iova: u64, length: usize, access: Permissions) -> IotlbFails {
        let mut fails = IotlbFails::default();
        let length_less_one = length.saturating_sub(1) as u64;
        let Some(last) = iova.checked_add(length_less_one) else {
            let base = GuestAddress(iova);
            fails.misses.push(IovaRange { base, length });
            return fails;
        };
        let mut next = Some(iova);
        while let Some(here) = next.filter(|&here| here <= last) {
            let mapping = self.table.at_or_above(here);
            let end = match mapping {
                Some(mapping) if mapping.first.0 <= here => {
                    let end = u64::min(mapping.last.0, last);
                    if !mapping.allowed.allow(access) {
                        add(&mut fails.access_fails, here, end);
                    }
                    end
                }
                Some(mapping) if mapping.first.0 <= last => {
                    let end = mapping.first.0.saturating_sub(1);
                    add(&mut fails.misses, here, end);
                    end
                }
                _ => {
                    add(&mut fails.misses, here, last);
                    last
                }
            };
            next = end.checked_add(1);
        }
        fails
    }
}

/// Adds `[first, last]`, which is part of a range with a length, to ranges that end below or right before it.
fn add(ranges: &mut Vec<IovaRange>, first: u64, last: u64) {
    let bytes = last.wrapping_sub(first).saturating_add(1);
    let length = usize::try_from(bytes).unwrap_or(usize::MAX);
    if let Some(before) = ranges.last_mut()
        && before.base.0.checked_add(before.length as u64) == Some(first)
    {
        before.length = before.length.saturating_add(length);
        return;
    }
    let base = GuestAddress(first);
    ranges.push(IovaRange { base, length });
}

/// Why a range cannot be translated: all parts of it that are refused, by ascending address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IotlbFails {
    /// Parts that are not mapped.
    pub misses: Vec<IovaRange>,
    /// Parts that are mapped, but not for such an access.
    pub access_fails: Vec<IovaRange>,
}

impl IotlbFails {
    /// Makes a [`Fault`](TranslationError::Fault) of the first part that is refused to such an access.
    ///
    /// If no part is, which [`Iotlb::lookup`] never returns, it is about 0 bytes at address 0.
    pub fn into_error(self, access: Permissions) -> TranslationError {
        let miss = self.misses.into_iter().next();
        let fail = self.access_fails.into_iter().next();
        let is_miss = match (&miss, &fail) {
            (Some(miss), Some(fail)) => miss.base <= fail.base,
            (miss, _) => miss.is_some(),
        };
        let (range, cause) = match is_miss {
            true => (miss, FaultCause::NotMapped),
            false => (fail, FaultCause::NotAllowed),
        };
        let nowhere = IovaRange {
            base: GuestAddress(0),
            length: 0,
        };
        TranslationError::Fault {
            iova_range: range.unwrap_or(nowhere),
            access,
            cause,
        }
    }
}

/// A walk over the ranges of guest memory that a range of IOVAs is mapped to; made by [`Iotlb::lookup`].
#[derive(Clone, Debug)]
pub struct IotlbIterator<D: Deref<Target = Iotlb>> {
    iotlb: D,
    /// The first piece, before it was given out.
    ahead: MappedRange,
    iova: u64,
    left: usize,
    access: Permissions,
}

impl<D: Deref<Target = Iotlb>> Iterator for IotlbIterator<D> {
    type Item = MappedRange;

    #[inline]
    fn next(&mut self) -> Option<MappedRange> {
        if self.left == 0 {
            return None;
        }
        let mut piece = self.ahead;
        self.ahead.length = 0;
        if piece.length == 0 {
            let iova = GuestAddress(self.iova);
            // All of it was found before; this is for pointers that give another table each time.
            let Some(found) = self.iotlb.first_mapped(iova, self.left, self.access) else {
                self.left = 0;
                return None;
            };
            piece = found;
        }
        self.iova = self.iova.wrapping_add(piece.length as u64);
        self.left = self.left.saturating_sub(piece.length);
        Some(piece)
    }
}

impl<D: Deref<Target = Iotlb>> FusedIterator for IotlbIterator<D> {}

#[cfg(test)]
mod tests;
