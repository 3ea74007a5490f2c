// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A range of addresses that several mappings share, and who has which part of it.
#![expect(unsafe_code, reason = "puts memory into a reservation")]

use std::collections::BTreeMap;
use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Alignment;
use crate::reservation::{Contents, Reservation};

/// Addresses for mappings side by side, with inaccessible pages before and behind them.
///
/// # Invariants
///
/// 1. `[first, first + len_bytes)` of the reservation, whole pages, is the space, and at least a page stands before and behind it.
/// 2. A range is in `taken` as long as there is a [`Place`] for it, and none of them overlap. All other addresses
///    of the space are vacant, and nobody fills or vacates them.
#[derive(Debug)]
pub(crate) struct Space {
    reservation: Reservation,
    first: usize,
    len_bytes: usize,
    /// Start and end of the places, as offsets from the start of the space.
    taken: Mutex<BTreeMap<usize, usize>>,
}

/// A vacant part of a space that is set aside for whoever has this value.
#[derive(Debug)]
pub(crate) struct Place {
    space: Arc<Space>,
    offset: usize,
    len_bytes: usize,
    /// Whether the addresses cannot be used again: there may be memory in them.
    is_spoilt: bool,
}

/// A part of a space with memory in it, which goes when this is dropped.
#[derive(Debug)]
pub(crate) struct FilledPlace {
    place: Place,
}

/// Why there is no place: somebody has one from this offset on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Taken {
    pub(crate) offset: usize,
    pub(crate) len_bytes: usize,
}

impl Space {
    /// Reserves `len_bytes` bytes of addresses, whole pages, the first of which leaves `remainder` when divided by the alignment.
    ///
    /// `None` if so many bytes have no number. The alignment is at least a page, and the remainder, whole pages, below it.
    pub(crate) fn reserve(
        len_bytes: usize,
        alignment: Alignment,
        remainder: usize,
        page_size: usize,
    ) -> Option<io::Result<Self>> {
        // A page on either side, and room to choose the first address.
        let around = alignment.bytes().checked_add(page_size)?;
        let reserved_bytes = len_bytes.checked_add(around)?;
        let reservation = match Reservation::vacant(reserved_bytes) {
            Ok(reservation) => reservation,
            Err(error) => return Some(Err(error)),
        };
        let start = reservation.start().as_ptr().addr();
        Some(Ok(Self {
            reservation,
            first: first_offset(start, page_size, alignment, remainder),
            len_bytes,
            taken: Mutex::default(),
        }))
    }

    /// Returns the first address.
    pub(crate) fn start(&self) -> NonNull<u8> {
        // SAFETY: by invariant 1 the offset is within the reservation, to whose start it can be added.
        unsafe { self.reservation.start().add(self.first) }
    }

    /// Sets `[offset, offset + len_bytes)` aside, whole pages; `None` if that is not in the space.
    pub(crate) fn take(
        self: &Arc<Self>,
        offset: usize,
        len_bytes: usize,
    ) -> Option<Result<Place, Taken>> {
        let end = offset.checked_add(len_bytes)?;
        if end > self.len_bytes {
            return None;
        }
        let mut taken = self.taken();
        // The last one that starts before the end is the only one that can reach in.
        let before = taken.range(..end).next_back();
        if let Some((&start, &before_end)) = before
            && before_end > offset
        {
            return Some(Err(Taken {
                offset: start,
                len_bytes: before_end.saturating_sub(start),
            }));
        }
        taken.insert(offset, end);
        Some(Ok(Place {
            space: Arc::clone(self),
            offset,
            len_bytes,
            is_spoilt: false,
        }))
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<usize, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the least offset from `start`, at least a page, whose address leaves `remainder` when divided by the alignment. It is
/// below a page plus the alignment.
fn first_offset(start: usize, page_size: usize, alignment: Alignment, remainder: usize) -> usize {
    // Modulo a power of two it does not matter that a difference wraps.
    let lowest = start.wrapping_add(page_size);
    let up = remainder.wrapping_sub(lowest) & alignment.bytes().wrapping_sub(1);
    page_size.saturating_add(up)
}

impl Place {
    /// Returns the offset from the start of the space.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// Returns the length in bytes.
    pub(crate) fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Puts memory into the place. After an error the place is vacant and given back, or given up if somebody else may have it.
    ///
    /// # Safety
    ///
    /// The flags must name no fixed address.
    pub(crate) unsafe fn fill(mut self, contents: &Contents<'_>) -> io::Result<FilledPlace> {
        let offset = self.offset_in_reservation();
        let reservation = &self.space.reservation;
        // SAFETY: by invariant 2 of the space the place is vacant and left to this value; the caller vouches for the flags.
        match unsafe { reservation.fill(offset, self.len_bytes, contents) } {
            Ok(_) => Ok(FilledPlace { place: self }),
            Err(error) => {
                self.is_spoilt = reservation.has_lost(offset, self.len_bytes);
                Err(error)
            }
        }
    }

    fn offset_in_reservation(&self) -> usize {
        // Does not saturate: the place is within the reservation.
        self.space.first.saturating_add(self.offset)
    }
}

impl FilledPlace {
    /// Returns the address of the first byte.
    pub(crate) fn start(&self) -> NonNull<u8> {
        // SAFETY: the place is within its space, thus within a reservation, to whose start such an offset can be added.
        unsafe { self.place.space.start().add(self.place.offset) }
    }
}

impl Drop for FilledPlace {
    fn drop(&mut self) {
        let place = &mut self.place;
        let (offset, reservation) = (place.offset_in_reservation(), &place.space.reservation);
        // SAFETY: this value filled the place, and whoever used the memory borrowed what owns this value.
        let vacated = unsafe { reservation.vacate(offset, place.len_bytes) };
        // With an error the addresses are given up.
        place.is_spoilt = vacated.is_err();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_spoilt {
            self.space.taken().remove(&self.offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backing::base_page_size;
    use proptest::prelude::*;

    fn space(pages: usize) -> Arc<Space> {
        let page = base_page_size().unwrap();
        let alignment = Alignment::new(page).unwrap();
        let space = Space::reserve(pages * page, alignment, 0, page);
        Arc::new(space.unwrap().unwrap())
    }

    #[test]
    fn the_first_address_is_aligned_with_a_page_on_either_side() {
        let page = base_page_size().unwrap();
        for log2 in page.ilog2()..31 {
            let alignment = Alignment::new(1 << log2).unwrap();
            for remainder in [0, page, (1 << log2) - page] {
                let remainder = remainder % (1 << log2);
                let space = Space::reserve(3 * page, alignment, remainder, page);
                let space = space.unwrap().unwrap();
                assert_eq!(space.start().as_ptr().addr() % (1 << log2), remainder);
                assert!(space.first >= page);
                let with_guard = space.reservation.place(space.first, 4 * page);
                assert!(with_guard.is_some());
            }
        }
        assert!(Space::reserve(usize::MAX - page, Alignment::TWO_MIB, 0, page).is_none());
    }

    #[test]
    fn a_low_address_is_as_good_as_a_high_one() {
        let page = 4096;
        for start in [page, 5 * page, 1 << 20, 0x7000_0000, 0xf000_0000] {
            for remainder in [0, page, (1 << 30) - page] {
                let offset = first_offset(start, page, Alignment::ONE_GIB, remainder);
                assert_eq!((start + offset) % (1 << 30), remainder);
                assert!(
                    (page..=1 << 30).contains(&offset),
                    "{start:#x} {remainder:#x}"
                );
            }
        }
    }

    #[test]
    fn what_cannot_be_filled_can_be_taken_again() {
        let page = base_page_size().unwrap();
        let space = space(2);
        let directory = std::fs::File::open("/").unwrap();
        let contents = Contents {
            prot: libc::PROT_READ,
            flags: libc::MAP_SHARED,
            file: Some((&directory, 0)),
        };
        let place = space.take(page, page).unwrap().unwrap();
        // SAFETY: the flags name no fixed address.
        let error = unsafe { place.fill(&contents) }.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        let _again = space.take(page, page).unwrap().unwrap();
    }

    proptest! {
        #[test]
        fn places_do_not_overlap_and_come_back(
            takes in prop::collection::vec((0usize..12, 1usize..6, any::<bool>()), 0..24),
        ) {
            let page = base_page_size().unwrap();
            let space = space(12);
            let mut places: Vec<Place> = Vec::new();
            for (offset, len, gives_back) in takes {
                let (offset, len_bytes) = (offset * page, len * page);
                let overlaps = |place: &Place| {
                    place.offset < offset + len_bytes && offset < place.offset + place.len_bytes
                };
                let is_taken = places.iter().any(overlaps);
                match space.take(offset, len_bytes) {
                    None => prop_assert!(offset + len_bytes > 12 * page),
                    Some(Ok(place)) => {
                        prop_assert!(!is_taken);
                        places.push(place);
                    }
                    Some(Err(Taken { offset: start, len_bytes: taken_bytes })) => {
                        let named = (start, taken_bytes);
                        let is_there = |place: &Place| {
                            overlaps(place) && (place.offset, place.len_bytes) == named
                        };
                        prop_assert!(places.iter().any(is_there));
                    }
                }
                if gives_back && !places.is_empty() {
                    places.swap_remove(offset / page % places.len());
                }
            }
        }
    }
}
