// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What an access that stops at a page says, leaves behind and marks, byte by byte.
#![cfg(all(
    feature = "fault-guard",
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(miri)
))]
#![expect(unsafe_code, reason = "maps pages, and slices over them")]

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;

use guest_memory_bitmap::{AtomicBitmap, Bitmap, RefSlice};
use guest_memory_volatile::{VolatileMemoryError as Error, VolatileSlice, fault};

const SEQ: Ordering = Ordering::SeqCst;

/// Pages under test. The page size is asked for, as it need not be 4096.
const PAGES: usize = 4;

struct Pages {
    base: *mut u8,
    page: usize,
    bitmap: AtomicBitmap,
}

impl Pages {
    /// Maps pages whose bytes count up, with a bitmap that tracks each byte.
    fn new() -> Self {
        fault::install().expect("this target has the guard");
        // SAFETY: asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).expect("a size");
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping where the kernel likes.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), PAGES * page, access, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED);
        let pages = Self {
            base: base.cast(),
            page,
            bitmap: AtomicBitmap::new(PAGES * page, NonZeroUsize::MIN),
        };
        let bytes: Vec<u8> = (0..PAGES * page).map(byte_at).collect();
        pages.slice().copy_from(&bytes);
        pages.bitmap.reset();
        pages
    }

    /// Changes what may be done with one page.
    fn protect(&self, index: usize, access: libc::c_int) {
        // SAFETY: within the mapping.
        let at = unsafe { self.base.add(index * self.page) };
        // SAFETY: a page of the mapping, of which there are no references.
        let changed = unsafe { libc::mprotect(at.cast(), self.page, access) };
        assert_eq!(changed, 0);
    }

    fn slice(&self) -> VolatileSlice<'_, RefSlice<'_, AtomicBitmap>> {
        // SAFETY: the bytes are mapped for as long as `self` and nobody's else; those that cannot be accessed are what
        // the guard is for.
        unsafe {
            VolatileSlice::with_bitmap(self.base, PAGES * self.page, self.bitmap.slice_at(0), None)
        }
    }

    fn part(&self, start: usize, len: usize) -> VolatileSlice<'_, RefSlice<'_, AtomicBitmap>> {
        self.slice().subslice(start, len).expect("fits")
    }

    /// Makes all pages accessible and returns the bytes.
    fn bytes(&self) -> Vec<u8> {
        for index in 0..PAGES {
            self.protect(index, libc::PROT_READ | libc::PROT_WRITE);
        }
        let mut bytes = vec![0; PAGES * self.page];
        self.slice().copy_to(&mut bytes);
        bytes
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; no slice outlives `self`.
        unsafe { libc::munmap(self.base.cast(), PAGES * self.page) };
    }
}

/// Counts up with a period that is no power of two, and never 0.
fn byte_at(index: usize) -> u8 {
    u8::try_from(index % 251).expect("less than 251") + 1
}

/// Checks that exactly the bytes that changed are marked, or a few around them whose new value is the old one.
fn each_change_is_marked(pages: &Pages, what: &str) -> Vec<u8> {
    let bytes = pages.bytes();
    for (offset, &byte) in bytes.iter().enumerate() {
        let is_changed = byte != byte_at(offset);
        let is_marked = pages.bitmap.dirty_at(offset);
        assert!(
            is_marked || !is_changed,
            "{what}: offset {offset:#x} changed unmarked"
        );
    }
    bytes
}

#[test]
fn a_fill_stops_at_a_page_having_written_and_marked_all_before_it() {
    let pages = Pages::new();
    let page = pages.page;
    for before in (0..80).chain([127, 128, 1000, 1023, 1024, 1031, page]) {
        for behind in [1, 2, 7, 8, 9, 64, 1024, page] {
            pages.protect(1, libc::PROT_READ | libc::PROT_WRITE);
            let bytes: Vec<u8> = (0..page).map(byte_at).collect();
            pages.part(0, page).copy_from(&bytes);
            pages.bitmap.reset();
            pages.protect(1, libc::PROT_READ);
            let error = pages.part(page - before, before + behind).fill(0);
            let Err(Error::Fault {
                addr, completed, ..
            }) = error
            else {
                panic!("{error:?}");
            };
            assert_eq!((addr, completed), (before, before), "{before} {behind}");
            let bytes = pages.bytes();
            for offset in 0..2 * page {
                let is_filled = (page - before..page).contains(&offset);
                assert_eq!(
                    bytes[offset] == 0,
                    is_filled,
                    "{before} {behind}: {offset:#x}"
                );
                assert_eq!(
                    pages.bitmap.dirty_at(offset),
                    is_filled,
                    "{before} {behind}: {offset:#x}"
                );
            }
        }
    }
}

#[test]
fn a_search_stops_at_a_page_unless_a_byte_before_it_is_not_zero() {
    let pages = Pages::new();
    let page = pages.page;
    for before in (0..80).chain([127, 128, 1000]) {
        pages.protect(1, libc::PROT_READ | libc::PROT_WRITE);
        pages.part(0, 2 * page).zero().expect("accessible");
        pages.protect(1, libc::PROT_NONE);
        for behind in [1, 7, 8, 64, 100] {
            let part = pages.part(page - before, before + behind);
            let error = part.is_zero();
            assert!(
                matches!(error, Err(Error::Fault { addr, completed, .. }) if (addr, completed) == (before, before)),
                "{before} {behind}: {error:?}"
            );
            for other in 0..before {
                part.store(1u8, other, SEQ).expect("accessible");
                assert!(
                    !part.is_zero().expect("ends before the page"),
                    "{before} {behind} {other}"
                );
                part.store(0u8, other, SEQ).expect("accessible");
            }
        }
    }
}

#[test]
fn an_atomic_on_such_a_page_does_and_marks_nothing() {
    let pages = Pages::new();
    let at = pages.page + 8;
    for access in [libc::PROT_NONE, libc::PROT_READ] {
        pages.protect(1, access);
        let slice = pages.slice();
        let results = [
            slice.store(7u16, at, SEQ),
            slice.store(7u32, at, Ordering::Relaxed),
            slice.store(7u64, at, Ordering::Release),
            slice.swap(7u8, at, SEQ).map(drop),
            slice.fetch_add(7u16, at, SEQ).map(drop),
            slice.fetch_and(7u32, at, SEQ).map(drop),
            slice.fetch_or(7u64, at, SEQ).map(drop),
            slice.fetch_xor(7i64, at, SEQ).map(drop),
            slice.compare_exchange(7u32, 8, at, SEQ, SEQ).map(drop),
            slice.store_le(7u32, at, SEQ),
        ];
        for (index, result) in results.into_iter().enumerate() {
            assert!(
                matches!(result, Err(Error::Fault { addr, completed: 0, .. }) if addr == at),
                "{index}: {result:?}"
            );
        }
        if access == libc::PROT_NONE {
            assert!(matches!(
                slice.load_le::<u32>(at, SEQ),
                Err(Error::Fault { .. })
            ));
        }
        let bytes = pages.bytes();
        assert!(
            bytes
                .iter()
                .enumerate()
                .all(|(offset, &byte)| byte == byte_at(offset))
        );
        assert!((0..PAGES * pages.page).all(|offset| !pages.bitmap.dirty_at(offset)));
    }
}

#[test]
fn a_copy_between_slices_that_stops_leaves_no_byte_changed_and_unmarked() {
    let page = Pages::new().page;
    // Source, target, length; the target's second page cannot be written. Forwards, backwards, aligned alike or not.
    for (from, to, len) in [
        (0, page - 24, 600),
        (0, page - 24, page + 900),
        (page - 700, page - 600, 700),
        (page - 700, page - 597, 1300),
        (page - 300, page - 200, page),
        (1, page - 8, 500),
        (3 * page, page - 40, 600),
        (page - 40 + 8, page - 40, 300),
        (page - 96 + 24, page - 96, 300),
        (page - 40 + 3, page - 40, 300),
    ] {
        let pages = Pages::new();
        pages.protect(1, libc::PROT_READ);
        let source = pages.part(from, len);
        let result = source.try_copy_to_volatile_slice(pages.part(to, len));
        let what = format!("{from:#x} to {to:#x}, {len}: {result:?}");
        let Err(Error::Fault { completed, .. }) = result else {
            panic!("{what}");
        };
        let bytes = each_change_is_marked(&pages, &what);
        // Backwards, the bytes at the end were copied.
        let is_backwards = from < to && to < from + len;
        let done = if is_backwards {
            len - completed..len
        } else {
            0..completed
        };
        for index in done {
            assert_eq!(
                bytes[to + index],
                byte_at(from + index),
                "{what}: index {index}"
            );
        }
    }
}
