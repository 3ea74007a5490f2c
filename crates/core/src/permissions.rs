// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What an access does, and what memory allows.

use core::ops::{BitAnd, BitOr};

use guest_memory_bitmap::BitmapSlice;
use guest_memory_volatile::{VolatileMemoryError, VolatileSlice};

use crate::error::{Operation, Request, Result};
use crate::guest_address::GuestAddress;

/// What an access does, or what memory allows.
///
/// ```
/// use guest_memory_core::Permissions;
///
/// let mapping = Permissions::Read;
/// assert!(mapping.allow(Permissions::Read) && !mapping.allow(Permissions::ReadWrite));
/// assert_eq!(mapping | Permissions::Write, Permissions::ReadWrite);
/// assert_eq!(mapping & Permissions::Write, Permissions::No);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Permissions {
    /// Nothing.
    No = 0,
    /// Reading.
    Read = 1,
    /// Writing.
    Write = 2,
    /// Reading and writing.
    ReadWrite = 3,
}

impl Permissions {
    /// Says whether all of `access` is allowed by these permissions; [`No`](Self::No) always is.
    #[inline]
    pub fn allow(&self, access: Self) -> bool {
        *self & access == access
    }

    /// Says whether writing is among them.
    #[inline]
    pub fn has_write(&self) -> bool {
        self.allow(Self::Write)
    }

    /// Lets a slice pass that allows this access; `address` is where it starts, for the error.
    #[inline]
    pub(crate) fn check<'a, B: BitmapSlice>(
        self,
        slice: VolatileSlice<'a, B>,
        address: GuestAddress,
    ) -> Result<VolatileSlice<'a, B>> {
        if self.has_write() && slice.is_read_only() {
            let request = Request {
                operation: Operation::Write,
                address,
                length: slice.len(),
            };
            return Err(request.failed(0, VolatileMemoryError::ReadOnly { addr: 0 }));
        }
        Ok(slice)
    }

    #[inline]
    fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::No,
            1 => Self::Read,
            2 => Self::Write,
            _ => Self::ReadWrite,
        }
    }
}

impl BitOr for Permissions {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self::from_bits(self as u8 | other as u8)
    }
}

impl BitAnd for Permissions {
    type Output = Self;

    #[inline]
    fn bitand(self, other: Self) -> Self {
        Self::from_bits(self as u8 & other as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Permissions::{No, Read, ReadWrite, Write};

    #[test]
    fn permissions_allow_their_parts() {
        for (have, allowed) in [
            (No, vec![No]),
            (Read, vec![No, Read]),
            (Write, vec![No, Write]),
            (ReadWrite, vec![No, Read, Write, ReadWrite]),
        ] {
            for access in [No, Read, Write, ReadWrite] {
                assert_eq!(
                    have.allow(access),
                    allowed.contains(&access),
                    "{have:?} {access:?}"
                );
            }
        }
        assert_eq!(Read | Write, ReadWrite);
        assert_eq!(ReadWrite & Write, Write);
        assert!(ReadWrite.has_write() && Write.has_write() && !Read.has_write() && !No.has_write());
    }
}
