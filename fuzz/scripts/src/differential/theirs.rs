// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The subject on `vm-memory`.
#![expect(
    clippy::duplicate_mod,
    reason = "the same files for both libraries are the point"
)]
#![expect(deprecated, reason = "what is deprecated there is compared as well")]

mod names {
    pub(super) use vm_memory::bitmap::{AtomicBitmap, Bitmap, BitmapSlice};
    pub(super) use vm_memory::mmap::MmapRegionBuilder;
    pub(super) use vm_memory::{
        ByteValued, Bytes, GuestAddress, GuestMemoryBackend as GuestMemory, GuestMemoryMmap,
        GuestMemoryRegion, GuestRegionMmap, MemoryRegionAddress, ReadVolatile, VolatileMemory,
        VolatileMemoryError, VolatileSlice, WriteVolatile,
    };

    use vm_memory::{GuestMemoryError, GuestRegionCollectionError};

    use crate::differential::transcript::Failure;

    pub(super) fn guest_failure(error: &GuestMemoryError) -> Failure {
        match error {
            GuestMemoryError::InvalidGuestAddress(address) => Failure::NoMemory(address.0),
            GuestMemoryError::GuestAddressOverflow => Failure::Overflow,
            GuestMemoryError::InvalidBackendAddress => Failure::Backend,
            GuestMemoryError::PartialBuffer {
                expected,
                completed,
            } => Failure::Partial {
                expected: *expected,
                completed: *completed,
            },
            GuestMemoryError::IOError(error) => Failure::Stream {
                completed: 0,
                kind: error.kind(),
            },
            GuestMemoryError::CallbackOutOfRange => Failure::CallbackOutOfRange,
            error => Failure::Other(error.to_string()),
        }
    }

    pub(super) fn volatile_failure(error: &VolatileMemoryError) -> Failure {
        match error {
            VolatileMemoryError::OutOfBounds { .. } => Failure::OutOfBounds,
            VolatileMemoryError::Overflow { .. } => Failure::Overflow,
            VolatileMemoryError::TooBig { .. } => Failure::TooBig,
            VolatileMemoryError::Misaligned { .. } => Failure::Misaligned,
            VolatileMemoryError::PartialBuffer {
                expected,
                completed,
            } => Failure::Partial {
                expected: *expected,
                completed: *completed,
            },
            VolatileMemoryError::IOError(error) => Failure::Stream {
                completed: 0,
                kind: error.kind(),
            },
        }
    }

    pub(super) fn map_failure(error: &GuestRegionCollectionError) -> Failure {
        match error {
            GuestRegionCollectionError::NoMemoryRegion => Failure::NoRegion,
            GuestRegionCollectionError::MemoryRegionOverlap => Failure::RegionOverlap,
            GuestRegionCollectionError::UnsortedMemoryRegions => Failure::UnsortedRegions,
        }
    }
}

#[path = "both/access.rs"]
mod access;
#[path = "both/subject.rs"]
mod subject;

pub(super) use subject::Subject;
