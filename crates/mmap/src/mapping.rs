// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The memory behind a region: where it lies, and who unmaps it.
#![expect(unsafe_code, reason = "owns mappings")]

use std::io;
use std::ptr::NonNull;

use crate::Protection;
use crate::error::MmapRegionError;
use crate::placement::Placement;
use crate::reservation::{Contents, Reservation};
use crate::space::{FilledPlace, Place};
use crate::sys;

/// Flags that name the address of a mapping.
const FIXED_FLAGS: i32 = libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE;
/// The most bytes that one object can have.
pub(crate) const MAX_SIZE: usize = isize::MAX.cast_unsigned();

/// A range of mapped memory.
///
/// # Invariants
///
/// 1. `[start, start + len_bytes)` stays mapped while this lives, with the protection that its region knows.
/// 2. `0 < len_bytes <= isize::MAX` and `start + len_bytes` does not wrap.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len_bytes: usize,
    keeper: Keeper,
}

/// What keeps memory mapped.
#[derive(Debug)]
enum Keeper {
    /// Somebody else.
    Stranger,
    /// A reservation of its own, perhaps with guard pages around the memory, that is unmapped when this is dropped.
    Own { _reservation: Reservation },
    /// A place in a range of addresses that others use too.
    Common { _place: FilledPlace },
}

impl Mapping {
    /// Maps `size` bytes, of pages of `page_size` bytes.
    pub(crate) fn map(
        size: usize,
        contents: &Contents<'_>,
        page_size: usize,
        placement: &Placement,
    ) -> Result<Self, MmapRegionError> {
        check_size(size)?;
        check_flags(contents)?;
        let Some(layout) = placement.layout(size, page_size)? else {
            // SAFETY: the flags name no fixed address, as just checked.
            let reservation = unsafe { Reservation::of(contents, size) };
            let reservation = reservation.map_err(MmapRegionError::Mmap)?;
            // The invariants: 1 is what mmap promises, 2 was checked but for the wrap, which the kernel's address space
            // excludes.
            return Ok(Self {
                start: reservation.start(),
                len_bytes: size,
                keeper: Keeper::Own {
                    _reservation: reservation,
                },
            });
        };
        let reservation =
            Reservation::vacant(layout.reserved_bytes).map_err(MmapRegionError::Mmap)?;
        let offset = layout.offset(reservation.start().as_ptr().addr());
        // SAFETY: the reservation is new and vacant, nobody else has it, and the flags name no fixed address.
        let start = unsafe { reservation.fill(offset, layout.mapped_bytes, contents) };
        Ok(Self {
            start: start.map_err(MmapRegionError::Mmap)?,
            len_bytes: size,
            keeper: Keeper::Own {
                _reservation: reservation,
            },
        })
    }

    /// Maps `size` bytes at a place that was set aside for them, of as many whole pages.
    pub(crate) fn map_in(
        place: Place,
        size: usize,
        contents: &Contents<'_>,
    ) -> Result<Self, MmapRegionError> {
        check_size(size)?;
        check_flags(contents)?;
        if place.len_bytes() < size {
            return Err(MmapRegionError::TooLarge { size });
        }
        // SAFETY: the flags name no fixed address, as just checked.
        let place = unsafe { place.fill(contents) }.map_err(MmapRegionError::Mmap)?;
        Ok(Self {
            start: place.start(),
            len_bytes: size,
            keeper: Keeper::Common { _place: place },
        })
    }

    /// Uses memory that somebody else mapped, and leaves it mapped when it is dropped.
    ///
    /// # Safety
    ///
    /// `[start, start + size)` must stay mapped, with the protection that its region knows, until the mapping is dropped.
    pub(crate) unsafe fn external(
        start: NonNull<u8>,
        size: usize,
    ) -> Result<Self, MmapRegionError> {
        check_size(size)?;
        if start.as_ptr().addr().checked_add(size).is_none() {
            return Err(MmapRegionError::InvalidPointer);
        }
        Ok(Self {
            start,
            len_bytes: size,
            keeper: Keeper::Stranger,
        })
    }

    /// Takes over memory that somebody else mapped: from now on it is unmapped on drop.
    ///
    /// # Safety
    ///
    /// Nobody else may unmap or replace any page of it, from now on. It must be memory of [`external`](Self::external).
    pub(crate) unsafe fn take_over(&mut self) {
        // SAFETY: mapped by this type's invariant 1, which by invariant 2 neither wraps nor exceeds `isize::MAX`; left to us
        // alone, as the caller vouches.
        let reservation = unsafe { Reservation::adopt(self.start, self.len_bytes) };
        self.keeper = Keeper::Own {
            _reservation: reservation,
        };
    }

    /// Returns the address of the first byte.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Returns the same, for those who want to know that it is not null.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Returns the length in bytes.
    pub(crate) fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Says whether the memory is unmapped on drop.
    pub(crate) fn is_owned(&self) -> bool {
        !matches!(self.keeper, Keeper::Stranger)
    }

    /// Changes the protection of whole pages, `[offset, offset + len_bytes)`. Of memory that is unmapped on drop the range may also
    /// end with the mapping.
    ///
    /// # Safety
    ///
    /// Nobody may rely on a protection that is taken away from these pages; invariant 1 is up to the caller.
    pub(crate) unsafe fn protect(
        &self,
        offset: usize,
        len_bytes: usize,
        protection: Protection,
    ) -> io::Result<()> {
        if offset
            .checked_add(len_bytes)
            .is_none_or(|end| end > self.len_bytes)
        {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // SAFETY: `offset` is at most the length, as just checked, and by invariant 2 that much can be added.
        let start = unsafe { self.start.add(offset) };
        // SAFETY: the range is part of a mapping that is ours to manage, or that its owner let a region manage; the caller
        // vouches for those who use it.
        unsafe { sys::mprotect(start, len_bytes, protection.prot()) }
    }
}

// SAFETY: the value is an address and a length that no thread is special for; munmap works from any thread.
unsafe impl Send for Mapping {}
// SAFETY: through a shared reference the fields are only read.
unsafe impl Sync for Mapping {}

/// Checks that a mapping of `size` bytes makes sense.
pub(crate) fn check_size(size: usize) -> Result<(), MmapRegionError> {
    match size {
        0 => Err(MmapRegionError::ZeroSize),
        1..=MAX_SIZE => Ok(()),
        _ => Err(MmapRegionError::TooLarge { size }),
    }
}

fn check_flags(contents: &Contents<'_>) -> Result<(), MmapRegionError> {
    if contents.flags & FIXED_FLAGS != 0 {
        return Err(MmapRegionError::MapFixed);
    }
    Ok(())
}
