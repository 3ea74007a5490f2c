// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Every access that runs into a page without access says where it stopped, and what came before it arrived.
#![cfg(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(
        target_arch = "aarch64",
        all(target_arch = "x86_64", target_feature = "sse2")
    ),
    not(any(miri, guest_memory_portable))
))]
#![expect(
    unsafe_code,
    reason = "maps pages without access and makes slices over them"
)]

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

use guest_memory_bitmap::{ArcSlice, AtomicBitmap, Bitmap};
use guest_memory_volatile::{
    AtomicAccess, ByteValued, FaultKind, VolatileMemoryError, VolatileMemoryResult, VolatileSlice,
    fault,
};

/// Two pages, the second of which cannot be accessed, or not be written.
struct Pages {
    base: *mut u8,
    page: usize,
}

impl Pages {
    /// Maps the pages, without access to the second, and installs the handlers.
    fn new() -> Self {
        Self::with_second(libc::PROT_NONE)
    }

    /// Maps the pages, fills the first with a pattern, and sets the protection of the second.
    fn with_second(protection: libc::c_int) -> Self {
        fault::install().expect("the handlers are new or there");
        assert!(fault::is_installed());
        // SAFETY: asks for a number only.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) })
            .expect("a page has a size");
        // SAFETY: a new anonymous mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                2 * page,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(base, libc::MAP_FAILED);
        let pages = Self {
            base: base.cast(),
            page,
        };
        let all: Vec<u8> = (0..2 * page).map(pattern).collect();
        pages
            .slice()
            .write_slice(&all, 0)
            .expect("both pages can be written");
        let second = base.wrapping_byte_add(page);
        // SAFETY: the second page of the mapping above, on which there is no reference.
        assert_eq!(unsafe { libc::mprotect(second, page, protection) }, 0);
        pages
    }

    /// Returns both pages.
    fn slice(&self) -> VolatileSlice<'_> {
        // SAFETY: mapped and initialised for as long as `self` lives, without references, and small. The second page
        // is the exception that the handlers are for.
        unsafe { VolatileSlice::new(self.base, 2 * self.page) }
    }

    /// Returns a slice of both pages that notes each written byte.
    fn tracked(&self) -> VolatileSlice<'_, ArcSlice<AtomicBitmap>> {
        let bitmap = AtomicBitmap::new(2 * self.page, NonZeroUsize::MIN);
        // SAFETY: as in `slice`.
        unsafe {
            VolatileSlice::with_bitmap(
                self.base,
                2 * self.page,
                ArcSlice::new(Arc::new(bitmap), 0),
                None,
            )
        }
    }

    /// Returns bytes of the first page.
    fn bytes(&self, range: Range<usize>) -> Vec<u8> {
        let mut bytes = vec![0; range.len()];
        self.slice()
            .read_slice(&mut bytes, range.start)
            .expect("the first page is there");
        bytes
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping of `with_second`, which nobody uses any more.
        unsafe { libc::munmap(self.base.cast(), 2 * self.page) };
    }
}

/// The byte that stands at an offset at first.
fn pattern(offset: usize) -> u8 {
    u8::try_from(offset % 251).expect("below 251") | 1
}

/// The bytes that stand in a range at first.
fn patterns(range: Range<usize>) -> Vec<u8> {
    range.map(pattern).collect()
}

/// Checks that an access stopped at offset `addr` after `completed` bytes.
#[track_caller]
fn assert_fault<T: std::fmt::Debug>(
    result: VolatileMemoryResult<T>,
    addr: usize,
    completed: usize,
) {
    match result {
        Err(VolatileMemoryError::Fault {
            addr: stopped,
            completed: moved,
            kind: FaultKind::Protection | FaultKind::NotMapped,
        }) => assert_eq!((stopped, moved), (addr, completed)),
        other => panic!("no fault at {addr:#x} after {completed} bytes, but {other:?}"),
    }
}

/// Distances from the second page at which accesses begin: all alignments, and more than one block of a long copy.
fn distances() -> impl Iterator<Item = usize> {
    (0..=40).chain([
        63, 64, 65, 127, 128, 135, 200, 511, 512, 600, 1024, 1500, 2051,
    ])
}

#[test]
fn a_write_of_bytes_stops_at_the_page() {
    for distance in distances() {
        for beyond in [1, 2, 7, 8, 100, 1000] {
            let pages = Pages::new();
            let start = pages.page - distance;
            let data = vec![0xee; distance + beyond];
            assert_fault(
                pages.slice().write_slice(&data, start),
                pages.page,
                distance,
            );
            assert_eq!(pages.bytes(start..pages.page), vec![0xee; distance]);
            assert_eq!(pages.bytes(0..start), patterns(0..start));
            assert_fault(pages.slice().write(&data, start), pages.page, distance);
        }
    }
}

#[test]
fn a_read_of_bytes_stops_at_the_page() {
    let pages = Pages::new();
    for distance in distances() {
        for beyond in [1, 2, 7, 8, 100, 1000] {
            let start = pages.page - distance;
            let mut data = vec![0xee; distance + beyond];
            assert_fault(
                pages.slice().read_slice(&mut data, start),
                pages.page,
                distance,
            );
            let (before, behind) = data.split_at(distance);
            assert_eq!(before, patterns(start..pages.page));
            assert_eq!(behind, vec![0xee; beyond]);
            assert_fault(pages.slice().read(&mut data, start), pages.page, distance);
        }
    }
}

#[test]
fn elements_stop_at_the_page() {
    let pages = Pages::new();
    for distance in [0, 2, 30, 500] {
        let start = pages.page - distance;
        let part = pages.slice().offset(start).unwrap();
        let mut elements = vec![0u16; 400];
        assert_fault(part.try_copy_to(&mut elements), distance, distance);
        for (index, element) in elements.iter().take(distance / 2).enumerate() {
            let at = start + 2 * index;
            assert_eq!(*element, u16::from_ne_bytes([pattern(at), pattern(at + 1)]));
        }
        assert_fault(part.try_copy_from(&[0x5a5au16; 400]), distance, distance);
        assert_eq!(pages.bytes(start..pages.page), vec![0x5a; distance]);
        pages
            .slice()
            .write_slice(&patterns(start..pages.page), start)
            .unwrap();
    }
}

fn check_object<T: ByteValued>(value: T) {
    let bytes = value.as_slice();
    for distance in 0..bytes.len() {
        let pages = Pages::new();
        let start = pages.page - distance;
        let read = pages.slice().read_obj::<T>(start).map(drop);
        assert_fault(read, pages.page, distance);
        assert_eq!(pages.bytes(0..pages.page), patterns(0..pages.page));
        assert_fault(pages.slice().write_obj(value, start), pages.page, distance);
        assert_eq!(pages.bytes(start..pages.page), bytes[..distance]);
        assert_eq!(pages.bytes(0..start), patterns(0..start));
    }
}

#[test]
fn objects_stop_at_the_page() {
    check_object(0xa1u8);
    check_object(0xa1b2u16);
    check_object(0xa1b2_c3d4u32);
    check_object(0xa1b2_c3d4_e5f6_0718u64);
    check_object(0xa1b2_c3d4_e5f6_0718_2930_4a5b_6c7d_8e9fu128);
    check_object([1u8, 2, 3]);
    check_object([1u8, 2, 3, 4, 5]);
    check_object([1u16, 2, 3]);
    check_object([1u8, 2, 3, 4, 5, 6, 7]);
    check_object([1u8, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
}

fn check_atomic<T: AtomicAccess + std::fmt::Debug>(value: T) {
    let pages = Pages::new();
    let slice = pages.slice();
    let page = pages.page;
    for at in [page, 2 * page - size_of::<T>()] {
        for order in [Relaxed, Acquire, SeqCst] {
            assert_fault(slice.load::<T>(at, order), at, 0);
        }
        for order in [Relaxed, Release, SeqCst] {
            assert_fault(slice.store(value, at, order), at, 0);
        }
        for order in [Relaxed, Acquire, Release, AcqRel, SeqCst] {
            assert_fault(slice.swap(value, at, order), at, 0);
            assert_fault(slice.fetch_add(value, at, order), at, 0);
            assert_fault(slice.fetch_and(value, at, order), at, 0);
            assert_fault(slice.fetch_or(value, at, order), at, 0);
            assert_fault(slice.fetch_xor(value, at, order), at, 0);
            for failure in [Relaxed, Acquire, SeqCst] {
                let exchanged = slice.compare_exchange(value, value, at, order, failure);
                assert_fault(exchanged, at, 0);
            }
        }
    }
    // The last one of the first page is there.
    let last = page - size_of::<T>();
    slice
        .store(value, last, SeqCst)
        .expect("the first page is there");
    slice
        .load::<T>(last, Acquire)
        .expect("the first page is there");
}

#[test]
fn atomics_do_nothing_on_the_page() {
    check_atomic(0xa1u8);
    check_atomic(0xa1b2u16);
    check_atomic(0xa1b2_c3d4u32);
    check_atomic(0xa1b2_c3d4_e5f6_0718u64);
    check_atomic(-3i8);
    check_atomic(-3i16);
    check_atomic(-3i32);
    check_atomic(-3i64);
}

fn check_atomic_of_read_only_page<T>(value: T, expected: T)
where
    T: AtomicAccess + std::fmt::Debug + PartialEq,
{
    let pages = Pages::with_second(libc::PROT_READ);
    let slice = pages.slice();
    let at = pages.page;
    assert_eq!(
        slice.load::<T>(at, Acquire).expect("the page can be read"),
        expected
    );
    assert_fault(slice.store(value, at, Relaxed), at, 0);
    assert_fault(slice.store(value, at, Release), at, 0);
    assert_fault(slice.store(value, at, SeqCst), at, 0);
    assert_fault(slice.swap(value, at, SeqCst), at, 0);
    assert_fault(slice.fetch_add(value, at, SeqCst), at, 0);
    assert_fault(slice.fetch_and(value, at, SeqCst), at, 0);
    assert_fault(slice.fetch_or(value, at, SeqCst), at, 0);
    assert_fault(slice.fetch_xor(value, at, SeqCst), at, 0);
    let exchanged = slice.compare_exchange(expected, value, at, SeqCst, SeqCst);
    assert_fault(exchanged, at, 0);
    assert_eq!(
        slice.load::<T>(at, Acquire).expect("the page can be read"),
        expected
    );
}

#[test]
fn a_page_that_may_be_read_only_keeps_its_words() {
    let page = Pages::new().page;
    let bytes: [u8; 8] = std::array::from_fn(|index| pattern(page + index));
    let [a, b, c, d, ..] = bytes;
    check_atomic_of_read_only_page(0xe5u8, a);
    check_atomic_of_read_only_page(0xe5e5u16, u16::from_ne_bytes([a, b]));
    check_atomic_of_read_only_page(0xe5e5_e5e5u32, u32::from_ne_bytes([a, b, c, d]));
    check_atomic_of_read_only_page(0xe5e5_e5e5_e5e5_e5e5u64, u64::from_ne_bytes(bytes));
}

#[test]
fn a_fill_stops_at_the_page() {
    for distance in distances() {
        for beyond in [1, 7, 8, 100, 1100] {
            let pages = Pages::new();
            let start = pages.page - distance;
            let part = pages.slice().subslice(start, distance + beyond).unwrap();
            assert_fault(part.fill(0xee), distance, distance);
            assert_eq!(pages.bytes(start..pages.page), vec![0xee; distance]);
            assert_eq!(pages.bytes(0..start), patterns(0..start));
        }
    }
}

#[test]
fn a_search_for_anything_but_zero_stops_at_the_page() {
    let pages = Pages::new();
    pages
        .slice()
        .subslice(0, pages.page)
        .unwrap()
        .zero()
        .unwrap();
    for distance in distances() {
        for beyond in [1, 7, 8, 100] {
            let start = pages.page - distance;
            let part = pages.slice().subslice(start, distance + beyond).unwrap();
            assert_fault(part.is_zero(), distance, distance);
        }
        if distance > 0 {
            // What is not zero before the page is found without it.
            let part = pages.slice().offset(pages.page - distance).unwrap();
            part.store(1u8, distance - 1, Relaxed).unwrap();
            assert!(!part.is_zero().unwrap());
            part.store(0u8, distance - 1, Relaxed).unwrap();
        }
    }
}

#[test]
fn a_copy_between_slices_stops_at_the_page_of_either() {
    for distance in distances() {
        for elsewhere in 0..9 {
            let pages = Pages::new();
            let page = pages.page;
            let start = page - distance;
            let far = pages.slice().subslice(elsewhere, distance + 33).unwrap();
            let near = pages.slice().subslice(start, distance + 33).unwrap();
            if elsewhere + distance + 33 > start {
                continue;
            }
            let expected = patterns(elsewhere..elsewhere + distance);
            assert_fault(far.try_copy_to_volatile_slice(near), distance, distance);
            assert_eq!(pages.bytes(start..page), expected);
            pages
                .slice()
                .write_slice(&patterns(start..page), start)
                .unwrap();
            let near = pages.slice().subslice(start, distance + 33).unwrap();
            assert_fault(near.try_copy_to_volatile_slice(far), distance, distance);
            assert_eq!(
                pages.bytes(elsewhere..elsewhere + distance),
                patterns(start..page)
            );
        }
    }
}

/// Shifts between overlapping slices: alike and unlike in alignment, within and beyond a block.
const SHIFTS: [usize; 12] = [1, 3, 7, 8, 9, 16, 24, 56, 64, 100, 120, 520];

#[test]
fn an_overlapping_copy_downwards_stops_at_the_page_of_the_source() {
    for distance in distances() {
        for shift in SHIFTS {
            let pages = Pages::new();
            let start = pages.page - distance;
            let source = pages.slice().subslice(start, distance + 700).unwrap();
            let target = pages
                .slice()
                .subslice(start - shift, distance + 700)
                .unwrap();
            assert_fault(
                source.try_copy_to_volatile_slice(target),
                distance,
                distance,
            );
            let mut expected = patterns(0..pages.page);
            expected.copy_within(start.., start - shift);
            assert!(
                pages.bytes(0..pages.page) == expected,
                "{distance} before the page, by {shift}"
            );
        }
    }
}

#[test]
fn an_overlapping_copy_downwards_stops_at_the_page_of_the_target() {
    for distance in distances() {
        for shift in SHIFTS {
            // The source goes on in the page that cannot be written.
            let pages = Pages::with_second(libc::PROT_READ);
            let page = pages.page;
            let start = page - distance;
            let target = pages.slice().subslice(start, distance + 700).unwrap();
            let source = pages
                .slice()
                .subslice(start + shift, distance + 700)
                .unwrap();
            assert_fault(
                source.try_copy_to_volatile_slice(target),
                distance,
                distance,
            );
            let mut expected = patterns(0..2 * page);
            expected.copy_within(start + shift..page + shift, start);
            assert!(
                pages.bytes(0..2 * page) == expected,
                "{distance} before the page, by {shift}"
            );
        }
    }
}

#[test]
fn an_overlapping_copy_upwards_stops_at_the_page_and_marks_what_it_wrote() {
    for distance in distances().filter(|distance| *distance > 0) {
        for shift in SHIFTS {
            let pages = Pages::new();
            let page = pages.page;
            let whole = pages.tracked();
            // The target begins within the source or behind it, and its last `shift` bytes are not there.
            let (start, len) = (page - distance - shift, distance + shift);
            let source = whole.subslice(start, len).unwrap();
            let target = whole.subslice(start + shift, len).unwrap();
            let copied = source.try_copy_to_volatile_slice(target);
            let Err(VolatileMemoryError::Fault {
                addr, completed, ..
            }) = copied
            else {
                panic!("no fault, but {copied:?}");
            };
            // It goes from the end on, in pieces, and stops in the first that reaches the page.
            assert!((distance..len).contains(&addr), "stopped at {addr:#x}");
            if shift >= len {
                assert_eq!((addr, completed), (distance, distance));
            } else {
                assert_eq!(completed, 0);
            }
            let before = patterns(0..page);
            for (offset, (now, was)) in pages.bytes(0..page).iter().zip(&before).enumerate() {
                if now != was {
                    assert!(offset >= start + shift);
                    assert_eq!(*now, pattern(offset - shift));
                    assert!(whole.bitmap().dirty_at(offset), "{offset:#x} is not marked");
                }
            }
        }
    }
}

#[test]
fn an_overlapping_copy_upwards_stops_at_the_page_of_the_source() {
    for distance in distances() {
        for shift in SHIFTS {
            let pages = Pages::new();
            let start = pages.page - distance - shift;
            let len = distance + shift + 40;
            let source = pages.slice().subslice(start, len).unwrap();
            let target = pages.slice().subslice(start + shift, len).unwrap();
            let copied = source.try_copy_to_volatile_slice(target);
            assert!(
                matches!(copied, Err(VolatileMemoryError::Fault { .. })),
                "{copied:?}"
            );
        }
    }
}

#[test]
fn faults_of_several_threads_do_not_mix() {
    std::thread::scope(|scope| {
        for distance in 1..=8 {
            scope.spawn(move || {
                let pages = Pages::new();
                for _ in 0..200 {
                    let start = pages.page - distance;
                    let copied = pages.slice().write_slice(&[7; 64], start);
                    assert_fault(copied, pages.page, distance);
                }
            });
        }
    });
}
