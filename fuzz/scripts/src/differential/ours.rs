// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The subject on this library.

mod names {
    pub(super) use guest_memory_bitmap::{AtomicBitmap, Bitmap, BitmapSlice};
    pub(super) use guest_memory_core::{
        Bytes, GuestAddress, GuestMemory, GuestMemoryRegion, MemoryRegionAddress,
    };
    pub(super) use guest_memory_mmap::{GuestMemoryMmap, GuestRegionMmap, MmapRegionBuilder};
    pub(super) use guest_memory_volatile::{
        ByteValued, ReadVolatile, VolatileMemory, VolatileMemoryError, VolatileSlice, WriteVolatile,
    };

    use guest_memory_core::{GuestMemoryError, GuestRegionCollectionError};

    use crate::differential::transcript::Failure;

    pub(super) fn guest_failure(error: &GuestMemoryError) -> Failure {
        match error {
            GuestMemoryError::InvalidGuestAddress(address) => Failure::NoMemory(address.0),
            GuestMemoryError::GuestAddressOverflow => Failure::Overflow,
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
            GuestMemoryError::Access {
                completed,
                source: VolatileMemoryError::IOError(error),
                ..
            } => Failure::Stream {
                completed: *completed,
                kind: error.kind(),
            },
            GuestMemoryError::Access { source, .. } | GuestMemoryError::VolatileMemory(source) => {
                volatile_failure(source)
            }
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
            VolatileMemoryError::PartialStream {
                completed, source, ..
            } => Failure::Stream {
                completed: *completed,
                kind: source.kind(),
            },
            error => Failure::Other(error.to_string()),
        }
    }

    pub(super) fn map_failure(error: &GuestRegionCollectionError) -> Failure {
        match error {
            GuestRegionCollectionError::NoMemoryRegion => Failure::NoRegion,
            GuestRegionCollectionError::MemoryRegionOverlap => Failure::RegionOverlap,
            GuestRegionCollectionError::UnsortedMemoryRegions => Failure::UnsortedRegions,
            GuestRegionCollectionError::EmptyRegion { .. } => Failure::EmptyRegion,
            GuestRegionCollectionError::RegionPastEnd { .. } => Failure::RegionPastEnd,
            error => Failure::Other(error.to_string()),
        }
    }
}

#[path = "both/access.rs"]
mod access;
#[path = "both/subject.rs"]
mod subject;

pub(super) use subject::Subject;
