// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which guest addresses a flat memory has places for, and where in this process they are.

use std::sync::Arc;

use guest_memory_core::{GuestAddress, GuestUsize};

use super::error::FlatMemoryError;
use crate::Alignment;
use crate::backing::base_page_size;
use crate::mapping::MAX_SIZE;
use crate::space::Space;

/// Addresses of the guest and the space that is reserved for them.
///
/// Host addresses leave the same remainder as guest addresses when divided by the alignment, or by any power of two below.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) base: GuestAddress,
    pub(super) len_bytes: GuestUsize,
    pub(super) alignment: Alignment,
    pub(super) page_size: usize,
    pub(super) space: Arc<Space>,
}

impl Span {
    /// Reserves the addresses, aligned at least as asked.
    pub(super) fn reserve(
        base: GuestAddress,
        len_bytes: GuestUsize,
        asked: Alignment,
    ) -> Result<Self, FlatMemoryError> {
        let too_large = || FlatMemoryError::SpanTooLarge {
            base,
            span: len_bytes,
        };
        let refused = |source| FlatMemoryError::Reserve {
            span: len_bytes,
            source,
        };
        let to_last = len_bytes.checked_sub(1).ok_or(FlatMemoryError::ZeroSpan)?;
        base.0.checked_add(to_last).ok_or_else(too_large)?;
        let page_size = base_page_size().map_err(|error| refused(std::io::Error::other(error)))?;
        if !base.0.is_multiple_of(page_size as u64) {
            return Err(FlatMemoryError::UnalignedBase { base, page_size });
        }
        let host_bytes = usize::try_from(len_bytes)
            .ok()
            .and_then(|len| len.checked_next_multiple_of(page_size))
            .filter(|&len| len <= MAX_SIZE)
            .ok_or_else(too_large)?;
        let alignment = [asked, alignment_for(host_bytes), page_alignment(page_size)]
            .into_iter()
            .max()
            .unwrap_or(asked);
        let remainder = base.0 & (alignment.bytes() as u64).wrapping_sub(1);
        let remainder = usize::try_from(remainder).map_err(|_| too_large())?;
        let space = Space::reserve(host_bytes, alignment, remainder, page_size)
            .ok_or_else(too_large)?
            .map_err(refused)?;
        Ok(Self {
            base,
            len_bytes,
            alignment,
            page_size,
            space: Arc::new(space),
        })
    }

    /// Returns the offset of `[start, start + size)`, if the span has all of it.
    pub(super) fn offset_of(&self, start: GuestAddress, size: usize) -> Option<usize> {
        let offset = start.0.checked_sub(self.base.0)?;
        let end = offset.checked_add(size as u64)?;
        (end <= self.len_bytes).then_some(())?;
        usize::try_from(offset).ok()
    }

    /// Makes the error of a region that the span does not have.
    pub(super) fn outside(&self, start: GuestAddress, size: usize) -> FlatMemoryError {
        FlatMemoryError::OutsideSpan {
            start,
            size,
            base: self.base,
            span: self.len_bytes,
        }
    }

    /// Returns the guest address at an offset.
    pub(super) fn address_at(&self, offset: usize) -> GuestAddress {
        // Does not wrap: what has an offset is in the span.
        GuestAddress(self.base.0.wrapping_add(offset as u64))
    }
}

/// So that the largest pages fit that the memory may have.
fn alignment_for(len_bytes: usize) -> Alignment {
    if len_bytes >= Alignment::ONE_GIB.bytes() {
        Alignment::ONE_GIB
    } else {
        Alignment::TWO_MIB
    }
}

/// That of a page, which is a power of two.
fn page_alignment(page_size: usize) -> Alignment {
    Alignment::new(page_size).unwrap_or(Alignment::TWO_MIB)
}
