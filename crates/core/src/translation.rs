// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What can go wrong when a device's address (IOVA) is translated.
//!
//! Nothing here translates. The types are here so that the error of an access can carry them.

use alloc::string::String;
use core::fmt;

use crate::guest_address::GuestAddress;
use crate::permissions::Permissions;

/// A range of a device's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IovaRange {
    /// The first address.
    pub base: GuestAddress,
    /// Bytes in it.
    pub length: usize,
}

/// Error of an IOMMU: an access that it does not translate, or a mapping that it does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TranslationError {
    /// The range cannot be translated, for a reason that is put in words.
    ///
    /// It is for IOMMUs of others; one whose translation ends before the range does is said to be wrong by it.
    #[error("cannot translate {} bytes at iova {}: {reason}", iova_range.length, iova_range.base)]
    CannotResolve {
        /// What was to be translated.
        iova_range: IovaRange,
        /// Why it cannot be.
        reason: String,
    },
    /// The range is mapped, but not to one range of guest memory, which was asked for.
    #[error(
        "{} bytes at iova {} are not mapped in one piece, only the first {continuous_length} are",
        iova_range.length, iova_range.base
    )]
    Fragmented {
        /// What was to be translated.
        iova_range: IovaRange,
        /// Bytes from its start on that are in one piece.
        continuous_length: usize,
    },
    /// A mapping that makes no sense, or an IOMMU that is not set up.
    #[error("iommu misconfigured: {reason}")]
    IommuMisconfigured {
        /// What is wrong.
        reason: String,
    },
    /// A device may not access the range.
    #[error(
        "{} of {} bytes at iova {} refused: {cause}",
        verb(*access), iova_range.length, iova_range.base
    )]
    Fault {
        /// The first stretch of the access that is refused; what comes before it could be accessed.
        iova_range: IovaRange,
        /// What the device wanted to do.
        access: Permissions,
        /// Why it may not.
        cause: FaultCause,
    },
}

/// Why a device may not access a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultCause {
    /// Nothing is mapped there.
    NotMapped,
    /// The mapping does not allow the access.
    NotAllowed,
    /// It is mapped to an address where the guest has no memory.
    NoMemory {
        /// Where the range is mapped to.
        target: GuestAddress,
    },
}

impl TranslationError {
    /// Returns the range that the error is about; none for a mapping.
    pub fn iova_range(&self) -> Option<&IovaRange> {
        match self {
            Self::CannotResolve { iova_range, .. }
            | Self::Fragmented { iova_range, .. }
            | Self::Fault { iova_range, .. } => Some(iova_range),
            Self::IommuMisconfigured { .. } => None,
        }
    }
}

impl fmt::Display for FaultCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMapped => f.write_str("not mapped"),
            Self::NotAllowed => f.write_str("not allowed by the mapping"),
            Self::NoMemory { target } => write!(f, "mapped to gpa {target}, where no memory is"),
        }
    }
}

fn verb(access: Permissions) -> &'static str {
    match access {
        Permissions::No => "translation",
        Permissions::Read => "read",
        Permissions::Write => "write",
        Permissions::ReadWrite => "read and write",
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn messages_give_access_address_length_and_cause() {
        let iova_range = IovaRange {
            base: GuestAddress(0x2000),
            length: 16,
        };
        let fault = |access, cause| TranslationError::Fault {
            iova_range: iova_range.clone(),
            access,
            cause,
        };
        for (error, message) in [
            (
                fault(Permissions::Write, FaultCause::NotAllowed),
                "write of 16 bytes at iova 0x2000 refused: not allowed by the mapping",
            ),
            (
                fault(
                    Permissions::Read,
                    FaultCause::NoMemory {
                        target: GuestAddress(0x30),
                    },
                ),
                "read of 16 bytes at iova 0x2000 refused: mapped to gpa 0x30, where no memory is",
            ),
            (
                TranslationError::Fragmented {
                    iova_range: iova_range.clone(),
                    continuous_length: 8,
                },
                "16 bytes at iova 0x2000 are not mapped in one piece, only the first 8 are",
            ),
        ] {
            assert_eq!(error.to_string(), message);
            assert_eq!(error.iova_range(), Some(&iova_range));
        }
    }
}
