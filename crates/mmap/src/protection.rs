// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What may be done with memory.

use std::fmt;

/// What this process may do with a mapping; more is greater.
///
/// It is about this process alone: what a guest may do is up to the hypervisor.
///
/// # Examples
///
/// ```
/// use guest_memory_mmap::{MmapRegion, MmapRegionBuilder, Protection};
/// use guest_memory_volatile::VolatileMemory;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let builder = MmapRegionBuilder::new(0x1000).with_protection(Protection::ReadOnly);
/// let region: MmapRegion = builder.build()?;
/// assert!(region.get_slice(0, 8)?.write_obj(1u8, 0).is_err());
/// assert!(Protection::NoAccess < region.protection(0, 0x1000));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum Protection {
    /// Neither read nor write: the region hands out no slice. A hypervisor may still be given its address.
    NoAccess,
    /// Read only: writes are refused with an error.
    ReadOnly,
    /// Read and write.
    #[default]
    ReadWrite,
}

impl Protection {
    /// Returns the protection as `mmap` takes it, an OR of `PROT_*`.
    #[must_use]
    pub const fn prot(self) -> i32 {
        match self {
            Self::NoAccess => libc::PROT_NONE,
            Self::ReadOnly => libc::PROT_READ,
            Self::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        }
    }

    /// Returns what an OR of `PROT_*` lets the library do: without `PROT_READ` nothing, whatever the rest says.
    #[must_use]
    pub const fn from_prot(prot: i32) -> Self {
        match (prot & libc::PROT_READ != 0, prot & libc::PROT_WRITE != 0) {
            (false, _) => Self::NoAccess,
            (true, false) => Self::ReadOnly,
            (true, true) => Self::ReadWrite,
        }
    }

    /// Says whether memory can be read: all but [`NoAccess`](Self::NoAccess).
    #[must_use]
    pub const fn is_readable(self) -> bool {
        !matches!(self, Self::NoAccess)
    }

    /// Says whether memory can be written, and read as well.
    #[must_use]
    pub const fn is_writable(self) -> bool {
        matches!(self, Self::ReadWrite)
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NoAccess => "none",
            Self::ReadOnly => "read",
            Self::ReadWrite => "read-write",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protection_is_what_mmap_makes_of_it() {
        for protection in [
            Protection::NoAccess,
            Protection::ReadOnly,
            Protection::ReadWrite,
        ] {
            assert_eq!(Protection::from_prot(protection.prot()), protection);
        }
        assert_eq!(
            Protection::from_prot(libc::PROT_WRITE),
            Protection::NoAccess
        );
        assert_eq!(
            Protection::from_prot(libc::PROT_READ | libc::PROT_EXEC),
            Protection::ReadOnly
        );
    }
}
