// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use guest_memory_bitmap::{AtomicBitmap, Bitmap, RefSlice};

use super::*;
use crate::error::Error;

const PAGE: usize = 64;

fn bitmap(len: usize) -> AtomicBitmap {
    AtomicBitmap::new(len, NonZeroUsize::new(PAGE).expect("not zero"))
}

/// A slice over `backing` that marks `log`.
fn tracked<'a>(
    backing: &'a mut [u8],
    log: &'a AtomicBitmap,
) -> VolatileSlice<'a, RefSlice<'a, AtomicBitmap>> {
    let len = backing.len();
    // SAFETY: exclusively borrowed for the slice's lifetime.
    unsafe { VolatileSlice::with_bitmap(backing.as_mut_ptr(), len, log.slice_at(0), None) }
}

fn dirty_pages(log: &AtomicBitmap) -> Vec<usize> {
    (0..log.len())
        .filter(|&page| log.is_bit_set(page))
        .collect()
}

#[test]
fn layout_is_that_of_an_iovec() {
    use core::mem::offset_of;
    assert_eq!(size_of::<VolatileSlice<'_>>(), size_of::<libc::iovec>());
    assert_eq!(align_of::<VolatileSlice<'_>>(), align_of::<libc::iovec>());
    let mut backing = [0u8; 24];
    let slice = VolatileSlice::from(backing.as_mut_slice());
    // SAFETY: same size and alignment as asserted, and both are an address and a length.
    let iovec: libc::iovec = unsafe { core::mem::transmute(slice) };
    assert_eq!(
        (iovec.iov_base.cast(), iovec.iov_len),
        (slice.ptr_guard_mut().as_ptr(), 24)
    );
    assert_eq!(offset_of!(libc::iovec, iov_base), 0);
}

#[test]
fn slices_cross_threads() {
    fn send_and_sync<T: Send + Sync>() {}
    send_and_sync::<VolatileSlice<'_>>();
    send_and_sync::<VolatileSlice<'_, RefSlice<'_, AtomicBitmap>>>();
}

#[test]
fn parts_end_where_the_whole_ends() {
    let mut backing = [0u8; 100];
    let slice = VolatileSlice::from(backing.as_mut_slice());
    assert_eq!(slice.subslice(10, 90).expect("fits").len(), 90);
    assert_eq!(slice.subslice(100, 0).expect("empty at the end").len(), 0);
    assert!(matches!(
        slice.subslice(10, 91),
        Err(Error::OutOfBounds { addr: 101 })
    ));
    assert!(matches!(
        slice.subslice(101, 0),
        Err(Error::OutOfBounds { addr: 101 })
    ));
    assert!(matches!(
        slice.subslice(usize::MAX, 2),
        Err(Error::Overflow {
            base: usize::MAX,
            offset: 2
        })
    ));
    assert_eq!(slice.offset(100).expect("the end").len(), 0);
    assert!(matches!(
        slice.offset(101),
        Err(Error::OutOfBounds { addr: 101 })
    ));
    let (start, end) = slice.split_at(30).expect("fits");
    assert_eq!((start.len(), end.len()), (30, 70));
    assert!(slice.split_at(101).is_err());
    assert_eq!(slice.compute_end_offset(40, 60).expect("the end"), 100);
    assert!(slice.compute_end_offset(40, 61).is_err());
}

#[test]
fn writes_mark_the_pages_they_touch_and_no_other() {
    let mut backing = vec![0u8; 8 * PAGE];
    let log = bitmap(backing.len());
    let slice = tracked(&mut backing, &log);
    slice.write_obj(1u8, PAGE - 1).expect("fits");
    assert_eq!(dirty_pages(&log), [0]);
    slice
        .write_slice(&[1; PAGE + 2], 3 * PAGE - 1)
        .expect("fits");
    assert_eq!(dirty_pages(&log), [0, 2, 3, 4]);
    log.reset();
    let part = slice.offset(6 * PAGE).expect("fits");
    part.store(5u32, 0, Ordering::Relaxed).expect("aligned");
    assert_eq!(dirty_pages(&log), [6]);
    part.get_ref::<u16>(PAGE).expect("fits").store(7);
    assert_eq!(dirty_pages(&log), [6, 7]);
    log.reset();
    slice
        .offset(PAGE - 2)
        .expect("fits")
        .copy_from(&[1u16, 2, 3]);
    assert_eq!(dirty_pages(&log), [0, 1]);
    log.reset();
    slice.copy_to_volatile_slice(slice.subslice(2 * PAGE, 1).expect("fits"));
    assert_eq!(dirty_pages(&log), [2]);
}

#[test]
fn reads_mark_nothing() {
    let mut backing = vec![0u8; 2 * PAGE];
    let log = bitmap(backing.len());
    let slice = tracked(&mut backing, &log);
    slice.read_obj::<u64>(0).expect("fits");
    slice.read_slice(&mut [0; PAGE], 5).expect("fits");
    slice.load::<u32>(8, Ordering::Acquire).expect("aligned");
    slice.copy_to(&mut [0u16; 9]);
    slice.get_ref::<u64>(9).expect("fits").load();
    assert!(dirty_pages(&log).is_empty());
}

#[test]
fn an_atomic_reference_marks_when_it_is_handed_out() {
    let mut backing = vec![0u64; 4 * PAGE / 8];
    let log = bitmap(4 * PAGE);
    let slice = tracked(backing.as_mut_slice_of_bytes(), &log);
    let counter = slice
        .get_atomic_ref::<AtomicU64>(2 * PAGE)
        .expect("aligned");
    counter.fetch_add(3, Ordering::Relaxed);
    assert_eq!(dirty_pages(&log), [2]);
    assert!(matches!(
        slice.get_atomic_ref::<AtomicU32>(1),
        Err(Error::Misaligned { alignment: 4, .. })
    ));
}

/// The bytes of words, which makes alignment sure.
trait Words {
    fn as_mut_slice_of_bytes(&mut self) -> &mut [u8];
}

impl Words for Vec<u64> {
    fn as_mut_slice_of_bytes(&mut self) -> &mut [u8] {
        let len = self.len() * 8;
        // SAFETY: the vector's own bytes, borrowed exclusively; any bytes are words.
        unsafe { core::slice::from_raw_parts_mut(self.as_mut_ptr().cast(), len) }
    }
}

#[test]
fn what_does_not_fit_is_done_in_part_and_counted() {
    let mut backing = [0u8; 10];
    let slice = VolatileSlice::from(backing.as_mut_slice());
    assert_eq!(slice.write(&[1; 8], 6).expect("4 fit"), 4);
    assert!(matches!(
        slice.write_slice(&[2; 8], 7),
        Err(Error::PartialBuffer {
            expected: 8,
            completed: 3
        })
    ));
    let mut buf = [9u8; 8];
    assert_eq!(slice.read(&mut buf, 5).expect("5 are there"), 5);
    assert_eq!(buf, [0, 1, 2, 2, 2, 9, 9, 9]);
    assert!(matches!(
        slice.read_slice(&mut buf, 9),
        Err(Error::PartialBuffer {
            expected: 8,
            completed: 1
        })
    ));
    for addr in [10, 11, usize::MAX] {
        assert!(
            matches!(slice.write(&[1], addr), Err(Error::OutOfBounds { addr: at }) if at == addr)
        );
        assert!(
            matches!(slice.read(&mut [1], addr), Err(Error::OutOfBounds { addr: at }) if at == addr)
        );
        assert!(matches!(
            slice.write_obj(1u16, addr),
            Err(Error::OutOfBounds { .. })
        ));
        assert!(matches!(
            slice.read_obj::<u16>(addr),
            Err(Error::OutOfBounds { .. })
        ));
        assert_eq!(slice.write(&[], addr).expect("nothing to do"), 0);
        assert_eq!(slice.read(&mut [], addr).expect("nothing to do"), 0);
        slice.write_slice(&[], addr).expect("nothing to do");
        slice.read_slice(&mut [], addr).expect("nothing to do");
    }
}

#[test]
fn a_misaligned_atomic_is_refused() {
    let mut backing = vec![0u64; 4];
    let slice = VolatileSlice::from(backing.as_mut_slice_of_bytes());
    slice.store(1u64, 8, Ordering::Release).expect("aligned");
    assert_eq!(slice.load::<u64>(8, Ordering::Acquire).expect("aligned"), 1);
    for offset in 9..16 {
        assert!(matches!(
            slice.store(1u64, offset, Ordering::Release),
            Err(Error::Misaligned { alignment: 8, .. })
        ));
        assert!(matches!(
            slice.load::<u64>(offset, Ordering::Acquire),
            Err(Error::Misaligned { alignment: 8, .. })
        ));
    }
    assert!(matches!(
        slice.load::<u64>(25, Ordering::Acquire),
        Err(Error::OutOfBounds { addr: 33 })
    ));
}

#[test]
fn read_only_memory_is_read_and_never_written() {
    let mut backing = vec![0x0101_0101_0101_0101_u64; 4];
    let writable = VolatileSlice::from(backing.as_mut_slice_of_bytes());
    let slice = writable.into_read_only();
    assert!(slice.is_read_only() && !writable.is_read_only());
    assert_eq!(slice.len(), 32);
    let part = slice.subslice(8, 16).expect("fits");
    assert!(part.is_read_only() && slice.offset(3).expect("fits").is_read_only());

    assert!(matches!(
        part.write(&[1], 2),
        Err(Error::ReadOnly { addr: 2 })
    ));
    assert!(matches!(
        part.write_slice(&[1; 3], 2),
        Err(Error::ReadOnly { addr: 2 })
    ));
    assert!(matches!(
        part.write_slice(&[1; 30], 2),
        Err(Error::ReadOnly { addr: 2 })
    ));
    assert!(matches!(
        part.write_obj(5u32, 4),
        Err(Error::ReadOnly { addr: 4 })
    ));
    assert!(matches!(
        part.store(5u32, 4, Ordering::Relaxed),
        Err(Error::ReadOnly { addr: 4 })
    ));
    assert!(matches!(
        part.get_atomic_ref::<AtomicU32>(4),
        Err(Error::ReadOnly { addr: 4 })
    ));
    assert!(matches!(
        part.read_volatile_from(3, &mut [1u8, 2].as_slice(), 2),
        Err(Error::ReadOnly { addr: 3 })
    ));
    part.copy_from(&[0u8; 8]);
    part.get_array_ref::<u16>(0, 4).expect("fits").store(1, 0);
    writable
        .subslice(0, 8)
        .expect("fits")
        .copy_to_volatile_slice(part);

    assert_eq!(
        part.read_obj::<u64>(0).expect("fits"),
        0x0101_0101_0101_0101
    );
    assert_eq!(
        part.load::<u16>(2, Ordering::Relaxed).expect("aligned"),
        0x0101
    );
    assert!(backing.iter().all(|&word| word == 0x0101_0101_0101_0101));
}

#[test]
fn elements_are_copied_whole() {
    let mut backing = [0u8; 11];
    let slice = VolatileSlice::from(backing.as_mut_slice());
    slice.copy_from(&[0x0101_0101_u32, 0x0202_0202, 0x0303_0303]);
    let mut out = [0u32; 3];
    assert_eq!(slice.copy_to(&mut out), 2);
    assert_eq!(out, [0x0101_0101, 0x0202_0202, 0]);
    assert_eq!(backing[8..], [0; 3]);
}

#[test]
fn references_need_alignment_and_write_access() {
    let mut backing = vec![0u64; 2];
    let slice = VolatileSlice::from(backing.as_mut_slice_of_bytes());
    // SAFETY: nobody else uses the memory while the reference lives.
    *unsafe { slice.aligned_as_mut::<u32>(4) }.expect("aligned") = 77;
    // SAFETY: nobody writes the memory while the reference lives.
    let value = unsafe { slice.aligned_as_ref::<u32>(4) }.expect("aligned");
    assert_eq!(*value, 77);
    // SAFETY: no reference comes out.
    let misaligned = unsafe { slice.aligned_as_ref::<u32>(5) };
    assert!(matches!(
        misaligned,
        Err(Error::Misaligned { alignment: 4, .. })
    ));
    let read_only = slice.into_read_only();
    // SAFETY: no reference comes out.
    let refused = unsafe { read_only.aligned_as_mut::<u32>(4) };
    assert!(matches!(refused, Err(Error::ReadOnly { addr: 4 })));
}

/// Hands out one byte less than asked for.
struct Liar(std::cell::UnsafeCell<[u8; 16]>);

impl VolatileMemory for Liar {
    type B = ();

    fn len(&self) -> usize {
        16
    }

    fn get_slice(&self, offset: usize, count: usize) -> Result<VolatileSlice<'_>> {
        // SAFETY: the array is only used through slices, within its bounds.
        let whole = unsafe { VolatileSlice::new(self.0.get().cast(), 16) };
        whole.subslice(offset, count.saturating_sub(1))
    }
}

#[test]
fn memory_that_lies_about_a_length_is_an_error() {
    let liar = Liar(std::cell::UnsafeCell::new([0; 16]));
    assert!(matches!(
        liar.get_ref::<u64>(0),
        Err(Error::SliceLength {
            expected: 8,
            actual: 7
        })
    ));
    assert!(liar.get_array_ref::<u16>(0, 4).is_err());
    assert!(liar.get_atomic_ref::<AtomicU64>(0).is_err());
    // SAFETY: no reference comes out.
    assert!(unsafe { liar.aligned_as_ref::<u64>(0) }.is_err());
}
