// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What can go wrong when a flat memory is made or changed.

use std::io;

use guest_memory_core::{GuestAddress, GuestRegionCollectionError, GuestUsize};

use crate::MmapRegionError;

/// Error of building a flat memory, or of plugging and unplugging a region. Sizes are in bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlatMemoryError {
    /// The span has no bytes.
    #[error("the flat memory spans no bytes")]
    ZeroSpan,
    /// The span reaches past 2^64, or is more than one object can have.
    #[error("a flat memory cannot span {span} bytes from gpa {base} on")]
    SpanTooLarge {
        /// The first address.
        base: GuestAddress,
        /// The size of the span.
        span: GuestUsize,
    },
    /// The first address is not at a page.
    #[error("the flat memory's base, gpa {base}, is no multiple of a page of {page_size} bytes")]
    UnalignedBase {
        /// The first address.
        base: GuestAddress,
        /// Size of a page.
        page_size: usize,
    },
    /// The system has no such range of addresses to spare.
    #[error("cannot reserve {span} bytes of addresses")]
    Reserve {
        /// The size of the span.
        span: GuestUsize,
        /// What the system said.
        source: io::Error,
    },
    /// The dirty bitmap cannot record writes to the end of the span.
    #[error("dirty bitmap tracks {tracked} bytes of a flat memory that spans {span} bytes")]
    BitmapTooShort {
        /// Bytes from the start that the bitmap can record.
        tracked: usize,
        /// The size of the span.
        span: GuestUsize,
    },
    /// A region does not lie in the span.
    #[error(
        "region of {size} bytes at gpa {start} does not fit into the flat memory of {span} bytes from gpa {base} on"
    )]
    OutsideSpan {
        /// The region's first address.
        start: GuestAddress,
        /// The region's size.
        size: usize,
        /// The memory's first address.
        base: GuestAddress,
        /// The size of its span.
        span: GuestUsize,
    },
    /// A region does not start at a page of the memory it is made of.
    #[error(
        "region of {size} bytes at gpa {start} must start at a multiple of {multiple} bytes, such as {below} or {above}"
    )]
    UnalignedRegion {
        /// The region's first address.
        start: GuestAddress,
        /// The region's size.
        size: usize,
        /// The page, or the alignment that was asked for.
        multiple: usize,
        /// The last address below that would do.
        below: GuestAddress,
        /// The first address above that would do.
        above: GuestAddress,
    },
    /// The memory as a whole is aligned to less than a region needs.
    #[error(
        "region of {size} bytes at gpa {start} needs host addresses aligned to {multiple} bytes; the flat memory is aligned \
         to {alignment}"
    )]
    AlignmentTooSmall {
        /// The region's first address.
        start: GuestAddress,
        /// The region's size.
        size: usize,
        /// The page, or the alignment that was asked for.
        multiple: usize,
        /// What the memory is aligned to:
        /// [`with_alignment`](crate::FlatGuestMemoryBuilder::with_alignment) makes it more.
        alignment: usize,
    },
    /// Two regions share an address.
    #[error(
        "region of {size} bytes at gpa {start} overlaps the one of {other_size} bytes at gpa {other_start}"
    )]
    Overlap {
        /// The region's first address.
        start: GuestAddress,
        /// The region's size.
        size: usize,
        /// The first address of the one that is there.
        other_start: GuestAddress,
        /// Its size.
        other_size: GuestUsize,
    },
    /// Somebody still has a region that this memory does not have: one that was removed, or one that was plugged into another
    /// memory of the same origin.
    #[error(
        "region of {size} bytes at gpa {start} would lie where {other_size} bytes at gpa {other_start} are still mapped \
         for a region of another version of the memory"
    )]
    StillMapped {
        /// The region's first address.
        start: GuestAddress,
        /// The region's size.
        size: usize,
        /// The first address of the one that is there.
        other_start: GuestAddress,
        /// What is mapped for it, in whole pages.
        other_size: usize,
    },
    /// A region's memory cannot be had.
    #[error("cannot map the region of {size} bytes at gpa {start}")]
    Region {
        /// The region's first address.
        start: GuestAddress,
        /// The region's size.
        size: usize,
        /// Why.
        source: Box<MmapRegionError>,
    },
    /// No region starts at the address.
    #[error("no region starts at gpa {start}")]
    NoRegion {
        /// The address.
        start: GuestAddress,
    },
    /// The regions make no memory.
    #[error(transparent)]
    Collection(#[from] GuestRegionCollectionError),
}
