// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A range of addresses that belongs to us, whether or not there is memory behind it.
//!
//! Memory is put into a reservation without `MAP_FIXED`: if that fails, nobody can say whether the place is still ours or has
//! been unmapped, and perhaps taken by another thread. Instead memory is mapped elsewhere, where a failure leaves nothing
//! behind, and then moved into its place.
#![expect(unsafe_code, reason = "owns address space")]

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use crate::mapping::MAX_SIZE;
use crate::sys;

/// Nothing is set aside for addresses without memory.
const VACANT_FLAGS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;

/// Addresses without memory.
const VACANT: Contents<'_> = Contents {
    prot: libc::PROT_NONE,
    flags: VACANT_FLAGS,
    file: None,
};

/// What is to be mapped, as mmap takes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contents<'a> {
    /// An OR of `PROT_*`.
    pub(crate) prot: i32,
    /// An OR of `MAP_*` that names no fixed address.
    pub(crate) flags: i32,
    /// A file and where in it to start.
    pub(crate) file: Option<(&'a File, libc::off64_t)>,
}

impl Contents<'_> {
    /// Maps `len_bytes` bytes; with an address there or not at all.
    ///
    /// # Safety
    ///
    /// The flags must name no fixed address.
    unsafe fn map(&self, at: Option<NonNull<u8>>, len_bytes: usize) -> io::Result<NonNull<u8>> {
        let (file, offset) = self
            .file
            .map_or((None, 0), |(file, at)| (Some(file.as_fd()), at));
        match at {
            // SAFETY: the caller rules out fixed addresses.
            None => unsafe { sys::mmap(len_bytes, self.prot, self.flags, file, offset) },
            // SAFETY: the caller rules out other fixed addresses.
            Some(at) => unsafe { sys::mmap_at(at, len_bytes, self.prot, self.flags, file, offset) },
        }
    }

    /// Says whether the same comes out if vacant addresses are merely made accessible.
    fn is_vacant_but_for_protection(&self) -> bool {
        self.file.is_none() && self.flags == VACANT_FLAGS
    }
}

/// A range of addresses, unmapped as a whole on drop.
///
/// # Invariants
///
/// 1. Every byte of `[start, start + len_bytes)` that is not `lost` is mapped, by this reservation or what was put into it,
///    and nobody else unmaps or replaces any of it, nor what is left of the last page.
/// 2. `start + len_bytes` does not wrap, and `len_bytes <= isize::MAX`, so that an offset up to it can be added to `start`.
#[derive(Debug)]
pub(crate) struct Reservation {
    start: NonNull<u8>,
    len_bytes: usize,
    /// Ranges of offsets that may belong to somebody else now, from a failed attempt to fill or vacate them. Empty but for bad
    /// luck.
    lost: Mutex<Vec<(usize, usize)>>,
}

impl Reservation {
    /// Maps `len_bytes` bytes of the given contents, and nothing around them.
    ///
    /// # Safety
    ///
    /// The flags of the contents must name no fixed address.
    pub(crate) unsafe fn of(contents: &Contents<'_>, len_bytes: usize) -> io::Result<Self> {
        // Where addresses have 32 bits a process may have more than that.
        if len_bytes > MAX_SIZE {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        // SAFETY: the caller vouches for the flags.
        let start = unsafe { contents.map(None, len_bytes) }?;
        Ok(Self::new(start, len_bytes))
    }

    /// Reserves `len_bytes` bytes of addresses without memory.
    pub(crate) fn vacant(len_bytes: usize) -> io::Result<Self> {
        // SAFETY: the flags name no fixed address.
        unsafe { Self::of(&VACANT, len_bytes) }
    }

    /// Takes over what somebody else mapped.
    ///
    /// # Safety
    ///
    /// The range must be mapped, must not wrap nor exceed `isize::MAX` bytes, and nobody else may unmap or replace any page of it
    /// from now on.
    pub(crate) unsafe fn adopt(start: NonNull<u8>, len_bytes: usize) -> Self {
        Self::new(start, len_bytes)
    }

    fn new(start: NonNull<u8>, len_bytes: usize) -> Self {
        Self {
            start,
            len_bytes,
            lost: Mutex::new(Vec::new()),
        }
    }

    /// Returns the first address.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Returns the address `offset` bytes after the start, if `len_bytes` bytes follow it.
    pub(crate) fn place(&self, offset: usize, len_bytes: usize) -> Option<NonNull<u8>> {
        let end = offset.checked_add(len_bytes)?;
        // SAFETY: `offset` is at most the length, and by invariant 2 that much can be added.
        (end <= self.len_bytes).then(|| unsafe { self.start.add(offset) })
    }

    /// Puts memory in the place of `[offset, offset + len_bytes)`, where there is none.
    ///
    /// Offset and length must be whole pages, of the contents. After an error the place is vacant again, or [lost](Self::has_lost).
    ///
    /// # Safety
    ///
    /// The place must be vacant, and nobody else may fill or vacate it meanwhile. The flags must name no fixed address.
    pub(crate) unsafe fn fill(
        &self,
        offset: usize,
        len_bytes: usize,
        contents: &Contents<'_>,
    ) -> io::Result<NonNull<u8>> {
        let place = self
            .place(offset, len_bytes)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        if contents.is_vacant_but_for_protection() {
            // SAFETY: the place is ours by invariant 1 and vacant, so that nothing relies on its protection.
            return unsafe { sys::mprotect(place, len_bytes, contents.prot) }.map(|()| place);
        }
        // SAFETY: the caller rules out fixed addresses.
        let elsewhere = unsafe { contents.map(None, len_bytes) }?;
        // SAFETY: what is moved is new and known to nobody else, thus apart from the place; that is ours by invariant 1, vacant,
        // and left to us alone by the caller, so that nobody uses what is replaced.
        if unsafe { sys::mremap_over(elsewhere, len_bytes, place) }.is_ok() {
            return Ok(place);
        }
        // Huge pages could not be moved before Linux 5.16; the place has been unmapped then.
        // First what others could take, or that they have.
        let occupied = self.occupy(offset, len_bytes, place);
        // SAFETY: new and known to nobody else.
        unsafe { sys::munmap(elsewhere, len_bytes) }?;
        occupied?;
        // SAFETY: `occupy` has just mapped it for us, and nobody uses what is vacant.
        unsafe { sys::munmap(place, len_bytes) }?;
        // SAFETY: the caller rules out other fixed addresses.
        unsafe { contents.map(Some(place), len_bytes) }.inspect_err(|_| {
            // The first error counts.
            let _ = self.occupy(offset, len_bytes, place);
        })
    }

    /// Reserves a place again that has been unmapped, or notes that somebody else was faster.
    fn occupy(&self, offset: usize, len_bytes: usize, place: NonNull<u8>) -> io::Result<()> {
        // SAFETY: the flags name no fixed address.
        let occupied = unsafe { VACANT.map(Some(place), len_bytes) };
        if occupied.is_err() {
            self.lose(offset, len_bytes);
        }
        occupied.map(|_| ())
    }

    /// Notes that somebody else may have an address of `[offset, offset + len_bytes)`.
    fn lose(&self, offset: usize, len_bytes: usize) {
        let end = offset.saturating_add(len_bytes);
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.push((offset, end));
    }

    /// Says whether somebody else may have an address of `[offset, offset + len_bytes)`.
    pub(crate) fn has_lost(&self, offset: usize, len_bytes: usize) -> bool {
        let end = offset.saturating_add(len_bytes);
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.iter()
            .any(|&(lost_start, lost_end)| lost_start < end && offset < lost_end)
    }

    /// Takes the memory out of `[offset, offset + len_bytes)`; the addresses stay reserved.
    ///
    /// After an error nobody can say whether they are still ours, so that they are given up, with what is there.
    ///
    /// # Safety
    ///
    /// The place must hold what [`fill`](Self::fill) put there, and nothing may use it any more.
    pub(crate) unsafe fn vacate(&self, offset: usize, len_bytes: usize) -> io::Result<()> {
        let place = self
            .place(offset, len_bytes)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        // SAFETY: the place is ours by invariant 1, and nothing uses it any more.
        unsafe { sys::mmap_over(place, len_bytes, libc::PROT_NONE, VACANT_FLAGS) }
            .inspect_err(|_| self.lose(offset, len_bytes))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let lost = self.lost.get_mut().unwrap_or_else(PoisonError::into_inner);
        lost.sort_unstable();
        lost.push((self.len_bytes, self.len_bytes));
        let mut offset = 0usize;
        for &(start, end) in lost.iter() {
            if start > offset {
                // SAFETY: `offset` is below `start`, which is at most the length, and by invariant 2 that much can be added.
                let place = unsafe { self.start.add(offset) };
                // An error leaves the range mapped: a leak is all that can be done about it here.
                // SAFETY: by invariant 1 it is ours; whoever used it borrowed what owns this value, or vouched for it when
                // taking a raw pointer.
                let _ = unsafe { sys::munmap(place, start.saturating_sub(offset)) };
            }
            offset = offset.max(end);
        }
    }
}

// SAFETY: the value is an address and a length that no thread is special for; the calls work from any thread.
unsafe impl Send for Reservation {}
// SAFETY: a shared reference reads fields, one of which has a lock; `fill` and `vacate` leave exclusion to their callers.
unsafe impl Sync for Reservation {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::smaps::protections_in;
    use std::fs;

    #[test]
    fn what_is_filled_can_be_used_and_its_surroundings_cannot() {
        let page = sys::page_size().unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(page as u64).unwrap();
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let table = [
            (VACANT_FLAGS, None, "rw-p"),
            (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, None, "rw-p"),
            (libc::MAP_SHARED | libc::MAP_ANONYMOUS, None, "rw-s"),
            (libc::MAP_SHARED, Some((&file, 0)), "rw-s"),
        ];
        for (flags, file, shown) in table {
            let contents = Contents { prot, flags, file };
            let reservation = Reservation::vacant(3 * page).unwrap();
            let start = reservation.start().as_ptr().addr();
            // SAFETY: the place is vacant, and the flags name no fixed address.
            let place = unsafe { reservation.fill(page, page, &contents) }.unwrap();
            assert_eq!(place.as_ptr().addr(), start + page);
            assert!(
                protections_in(start, page)
                    .iter()
                    .all(|prot| prot == "---p")
            );
            assert_eq!(protections_in(start + page, page), [shown]);
            assert!(
                protections_in(start + 2 * page, page)
                    .iter()
                    .all(|prot| prot == "---p")
            );
            // SAFETY: filled above, and not used.
            unsafe { reservation.vacate(page, page) }.unwrap();
            assert!(
                protections_in(start, 3 * page)
                    .iter()
                    .all(|prot| prot == "---p")
            );
            drop(reservation);
            assert_eq!(protections_in(start, 3 * page), [""; 0]);
        }
    }

    #[test]
    fn what_cannot_be_filled_stays_reserved() {
        let page = sys::page_size().unwrap();
        let directory = fs::File::open("/").unwrap();
        let contents = Contents {
            prot: libc::PROT_READ,
            flags: libc::MAP_SHARED,
            file: Some((&directory, 0)),
        };
        let reservation = Reservation::vacant(3 * page).unwrap();
        let start = reservation.start().as_ptr().addr();
        // SAFETY: the place is vacant, and the flags name no fixed address.
        let error = unsafe { reservation.fill(page, page, &contents) }.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        assert!(
            protections_in(start, 3 * page)
                .iter()
                .all(|prot| prot == "---p")
        );
        // SAFETY: the range is outside, so that nothing happens.
        let error = unsafe { reservation.fill(2 * page, 2 * page, &contents) }.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        drop(reservation);
        assert_eq!(protections_in(start, 3 * page), [""; 0]);
    }
}
