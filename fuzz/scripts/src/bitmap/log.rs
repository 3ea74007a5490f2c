// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A log that several readers harvest, and its naive twin: one set of pages for the log and one for each reader.

use std::cell::RefCell;

use guest_memory_bitmap::{AtomicBitmap, Bitmap, DirtyLog, DirtyPages, Reader, Readers};

use crate::pages::Pages;

/// More readers than this do not join.
const MAX_READERS: usize = 6;

/// A log whose bitmap can be exchanged for one of another size under its readers.
#[derive(Debug)]
struct Log(RefCell<AtomicBitmap>);

impl DirtyLog for Log {
    type Pages = DirtyPages;

    fn start_tracking(&self) {
        self.0.borrow().start_tracking();
    }

    fn stop_tracking(&self) {
        self.0.borrow().stop_tracking();
    }

    fn is_tracking(&self) -> bool {
        self.0.borrow().is_tracking()
    }

    fn empty_pages(&self) -> DirtyPages {
        self.0.borrow().empty_pages()
    }

    fn harvest_into(&self, pages: &mut DirtyPages) {
        self.0.borrow().harvest_into(pages);
    }
}

/// The log under test with its readers, and what each has to find.
#[derive(Debug)]
pub(super) struct Shared {
    readers: Readers<Log>,
    marks: Pages,
    is_tracking: bool,
    /// Whether it was tracking before the first of the readers came.
    was_tracking: bool,
    seats: Vec<Seat>,
}

#[derive(Debug)]
struct Seat {
    reader: Reader<Log>,
    unseen: Pages,
}

impl Shared {
    pub(super) fn new(bitmap: AtomicBitmap) -> Self {
        let marks = Pages::new(bitmap.byte_size(), bitmap.page_size().get());
        Self {
            readers: Readers::new(Log(RefCell::new(bitmap))),
            marks,
            is_tracking: true,
            was_tracking: false,
            seats: Vec::new(),
        }
    }

    pub(super) fn marks(&self) -> &Pages {
        &self.marks
    }

    /// Marks the bytes `[offset, offset + len)`, in the subject by `mark`.
    pub(super) fn mark(&mut self, offset: usize, len: usize, mark: impl FnOnce(&AtomicBitmap)) {
        self.with_bitmap(mark);
        if self.is_tracking {
            let end = offset as u128 + len as u128;
            self.marks.set_bytes(offset as u128..end, true);
        }
    }

    /// Marks a page by its number.
    pub(super) fn set_bit(&mut self, page: usize) {
        self.with_bitmap(|bitmap| bitmap.set_bit(page));
        if self.is_tracking {
            self.marks.set(page, true);
        }
    }

    pub(super) fn reset_bit(&mut self, page: usize) {
        self.with_bitmap(|bitmap| bitmap.reset_bit(page));
        self.marks.set(page, false);
    }

    pub(super) fn reset_range(&mut self, offset: usize, len: usize) {
        self.with_bitmap(|bitmap| bitmap.reset_addr_range(offset, len));
        let end = offset as u128 + len as u128;
        self.marks.set_bytes(offset as u128..end, false);
    }

    pub(super) fn reset(&mut self) {
        self.with_bitmap(AtomicBitmap::reset);
        self.marks.clear();
    }

    pub(super) fn get_and_reset(&mut self) {
        let words = self.with_bitmap(AtomicBitmap::get_and_reset);
        assert_eq!(words, self.marks.take().words(), "get_and_reset");
    }

    /// Harvests past the readers, which must not be there for that.
    pub(super) fn harvest_into(&mut self, pages: &mut (DirtyPages, Pages)) -> bool {
        if !self.seats.is_empty() {
            return false;
        }
        self.with_bitmap(|bitmap| bitmap.harvest_into(&mut pages.0));
        pages.1 = self.marks.take();
        true
    }

    pub(super) fn start_tracking(&mut self) {
        self.with_bitmap(AtomicBitmap::start_tracking);
        self.is_tracking = true;
    }

    pub(super) fn stop_tracking(&mut self) {
        self.with_bitmap(AtomicBitmap::stop_tracking);
        self.is_tracking = false;
    }

    pub(super) fn enlarge(&mut self, additional: usize) {
        self.readers.log().0.borrow_mut().enlarge(additional);
        self.marks.enlarge(additional);
    }

    /// Puts what `change` makes of a copy of the bitmap in its place.
    pub(super) fn change_copy(
        &mut self,
        change: impl FnOnce(AtomicBitmap) -> Option<AtomicBitmap>,
    ) -> bool {
        let copy = self.with_bitmap(AtomicBitmap::clone);
        let changed = change(copy);
        let is_changed = changed.is_some();
        if let Some(changed) = changed {
            self.readers.log().0.replace(changed);
        }
        is_changed
    }

    /// Puts another bitmap, clean and tracking, in place of the one that is there.
    pub(super) fn replace(&mut self, bitmap: AtomicBitmap) {
        self.marks = Pages::new(bitmap.byte_size(), bitmap.page_size().get());
        self.is_tracking = true;
        self.readers.log().0.replace(bitmap);
    }

    pub(super) fn join(&mut self) -> bool {
        if self.seats.len() == MAX_READERS {
            return false;
        }
        if self.seats.is_empty() {
            self.was_tracking = self.is_tracking;
            self.is_tracking = true;
        }
        let earlier = self.marks.take();
        self.hand_out(&earlier);
        self.seats.push(Seat {
            reader: self.readers.join(),
            unseen: self.marks.clone(),
        });
        true
    }

    pub(super) fn leave(&mut self, which: usize) -> bool {
        let Some(which) = self.seat(which) else {
            return false;
        };
        self.seats.remove(which);
        if self.seats.is_empty() && !self.was_tracking {
            self.is_tracking = false;
        }
        true
    }

    /// Harvests by one of the readers.
    pub(super) fn read_into(&mut self, which: usize, pages: &mut (DirtyPages, Pages)) -> bool {
        let Some(which) = self.seat(which) else {
            return false;
        };
        self.seats[which].reader.harvest_into(&mut pages.0);
        let taken = self.marks.take();
        self.hand_out(&taken);
        pages.1 = self.seats[which].unseen.take();
        true
    }

    /// Compares the log with its twin.
    ///
    /// # Panics
    ///
    /// When they differ.
    pub(super) fn compare(&self) {
        let bitmap = self.readers.log().0.borrow();
        let marks = &self.marks;
        assert_eq!(bitmap.is_tracking(), self.is_tracking, "is_tracking");
        assert_eq!(bitmap.byte_size(), marks.byte_size(), "byte_size");
        assert_eq!(bitmap.page_size().get(), marks.page_size(), "page_size");
        assert_eq!(bitmap.len(), marks.page_count(), "len");
        assert_eq!(bitmap.is_empty(), marks.page_count() == 0, "is_empty");
        assert_eq!(bitmap.tracked_bytes(), Some(marks.byte_size()));
        // A copy is taken apart, so that the marks stay.
        marks.compare(&bitmap.clone().harvest());
        for page in marks.samples() {
            let is_marked = marks.contains(page);
            assert_eq!(bitmap.is_bit_set(page), is_marked, "page {page}");
            if let Some(first) = page.checked_mul(marks.page_size()) {
                let last = first + (marks.page_size() - 1);
                assert_eq!(bitmap.is_addr_set(first), is_marked, "at {first:#x}");
                assert_eq!(bitmap.dirty_at(last), is_marked, "at {last:#x}");
            }
        }
    }

    /// Gives each reader what one of them, or a new one, took.
    fn hand_out(&mut self, taken: &Pages) {
        for seat in &mut self.seats {
            seat.unseen.fit_to(taken);
            seat.unseen.add(taken);
        }
    }

    fn seat(&self, which: usize) -> Option<usize> {
        which.checked_rem(self.seats.len())
    }

    fn with_bitmap<R>(&self, call: impl FnOnce(&AtomicBitmap) -> R) -> R {
        call(&self.readers.log().0.borrow())
    }
}
