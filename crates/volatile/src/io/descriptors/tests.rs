// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
#![expect(unsafe_code, reason = "makes slices over mappings and local buffers")]

use core::num::NonZeroUsize;
use std::io::{Read, Seek, SeekFrom, Write};

use guest_memory_bitmap::{AtomicBitmap, Bitmap, RefSlice};

use super::*;
use crate::io::At;
use crate::io::iovec::{CONVERTED_MAX, STRAIGHT_MAX};

/// Memory with a dirty bitmap of four bytes to the page.
struct Tracked {
    bytes: Vec<u8>,
    log: AtomicBitmap,
}

impl Tracked {
    fn new(len: usize) -> Self {
        Self {
            bytes: vec![0; len],
            log: AtomicBitmap::new(len, NonZeroUsize::new(4).expect("not zero")),
        }
    }

    /// Slices of these lengths, one behind the other.
    fn cut(&mut self, lens: &[usize]) -> Vec<VolatileSlice<'_, RefSlice<'_, AtomicBitmap>>> {
        assert!(lens.iter().sum::<usize>() <= self.bytes.len());
        let base = self.bytes.as_mut_ptr();
        let len = self.bytes.len();
        // SAFETY: exclusively borrowed for as long as the slice lives.
        let whole = unsafe { VolatileSlice::with_bitmap(base, len, self.log.slice_at(0), None) };
        let mut at = 0;
        lens.iter()
            .map(|&len| {
                at += len;
                whole.subslice(at - len, len).expect("fits")
            })
            .collect()
    }

    fn dirty(&self) -> Vec<usize> {
        (0..self.bytes.len() / 4)
            .filter(|page| self.log.dirty_at(page * 4))
            .collect()
    }
}

/// A file of the bytes 0, 1, 2 and so on, at its start.
fn file(len: usize) -> (File, Vec<u8>) {
    let bytes: Vec<u8> = (0..=250).cycle().take(len).collect();
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(&bytes).expect("writes");
    file.rewind().expect("seeks");
    (file, bytes)
}

fn untracked<'a>(mut memory: &'a mut [u8], lens: &[usize]) -> Vec<VolatileSlice<'a>> {
    let mut slices = Vec::new();
    for &len in lens {
        let (slice, rest) = memory.split_at_mut(len);
        slices.push(VolatileSlice::from(slice));
        memory = rest;
    }
    slices
}

#[test]
fn many_slices_travel_with_and_without_a_bitmap() {
    let lens = [3, 0, 2, 4, 0];
    let (file, bytes) = file(9);
    let mut plain = [0u8; 9];
    let mut slices = untracked(&mut plain, &lens);
    let count = (&file).read_vectored_volatile(&mut slices);
    assert_eq!(count.expect("all"), 9);
    let mut tracked = Tracked::new(12);
    let count = file.read_vectored_volatile_at(&mut tracked.cut(&lens), 0);
    assert_eq!(count.expect("all"), 9);
    assert_eq!((&plain[..], &tracked.bytes[..9]), (&*bytes, &*bytes));
    assert_eq!(tracked.dirty(), [0, 1, 2]);

    let (mut one, two) = UnixStream::pair().expect("a socket pair");
    let count = (&two).write_vectored_volatile(&untracked(&mut plain, &lens));
    assert_eq!(count.expect("all"), 9);
    let mut slices = tracked.cut(&lens);
    slices[2] = slices[2].into_read_only();
    let count = (&two).write_vectored_volatile(&slices);
    assert_eq!(count.expect("all"), 9);
    // The flag in its length makes a slice no `iovec`.
    let read_only = untracked(&mut plain, &lens).into_iter();
    let read_only: Vec<_> = read_only.map(VolatileSlice::into_read_only).collect();
    let count = (&two).write_vectored_volatile(&read_only);
    assert_eq!(count.expect("all"), 9);
    drop(two);
    let mut through = Vec::new();
    one.read_to_end(&mut through).expect("reads");
    assert_eq!(through, bytes.repeat(3));
}

#[test]
fn exactly_the_bytes_that_came_are_marked() {
    for count in 0..=16 {
        let (file, bytes) = file(count);
        let mut memory = Tracked::new(32);
        let came = (&file).read_vectored_volatile(&mut memory.cut(&[3, 0, 5, 4, 8]));
        assert_eq!(came.expect("a count"), count);
        assert_eq!(memory.bytes[..count], bytes);
        assert_eq!(memory.dirty(), (0..count.div_ceil(4)).collect::<Vec<_>>());
    }
    // After a failure, all that the call was given.
    let (one, _two) = UnixStream::pair().expect("a socket pair");
    one.set_nonblocking(true).expect("non-blocking");
    let mut memory = Tracked::new(32);
    let failed = (&one).read_vectored_volatile(&mut memory.cut(&[0, 5, 3]));
    assert!(matches!(failed, Err(Error::IOError(error)) if error.kind() == ErrorKind::WouldBlock));
    assert_eq!(memory.dirty(), [0, 1]);
}

#[test]
fn more_slices_than_go_at_once_are_a_short_count() {
    let lens = [3; 100];
    let (file, bytes) = file(300);
    let mut memory = Tracked::new(300);
    let came = file.read_vectored_volatile_at(&mut memory.cut(&lens), 0);
    assert_eq!(came.expect("a part"), 3 * CONVERTED_MAX);
    assert_eq!(memory.dirty().len(), 3 * CONVERTED_MAX / 4);
    let exactly = file.read_exact_vectored_volatile_at(&mut memory.cut(&lens), 0);
    exactly.expect("all");
    assert_eq!(memory.bytes, bytes);

    let lens = [1; 1100];
    let (file, bytes) = self::file(1100);
    let mut memory = [0u8; 1100];
    let came = file.read_vectored_volatile_at(&mut untracked(&mut memory, &lens), 0);
    assert_eq!(came.expect("a part"), STRAIGHT_MAX);
    let exactly = (&file).read_exact_vectored_volatile(&mut untracked(&mut memory, &lens));
    exactly.expect("all");
    assert_eq!(memory[..], bytes);
    let target = tempfile::tempfile().expect("a temporary file");
    let all = (&target).write_all_vectored_volatile(&untracked(&mut memory, &lens));
    all.expect("all");
    let mut back = Vec::new();
    (&target).rewind().expect("seeks");
    (&target).read_to_end(&mut back).expect("reads");
    assert_eq!(back, bytes);
}

#[test]
fn empty_slices_in_front_are_no_end() {
    let mut lens = [0; 2000];
    lens[1999] = 4;
    let (file, bytes) = file(4);
    let mut memory = [0u8; 4];
    let came = (&file).read_vectored_volatile(&mut untracked(&mut memory, &lens));
    assert_eq!(came.expect("all"), 4);
    assert_eq!(memory[..], bytes);
    let mut memory = Tracked::new(4);
    let came = file.read_vectored_volatile_at(&mut memory.cut(&lens), 1);
    assert_eq!(came.expect("a part"), 3);
}

#[test]
fn nothing_to_move_makes_no_call() {
    let (one, two) = UnixStream::pair().expect("a socket pair");
    drop(one);
    let mut none: [VolatileSlice<'_>; 0] = [];
    assert_eq!((&two).read_vectored_volatile(&mut none).expect("none"), 0);
    // A call would say that the peer is gone.
    let slices = untracked(&mut [], &[0, 0]);
    assert_eq!((&two).write_vectored_volatile(&slices).expect("none"), 0);
}

#[test]
fn a_read_only_slice_is_refused_before_anything_is_read() {
    let (file, _) = file(8);
    let mut memory = [0u8; 8];
    let mut slices = untracked(&mut memory, &[2, 2, 4]);
    slices[1] = slices[1].into_read_only();
    let refused = (&file).read_vectored_volatile(&mut slices);
    assert!(matches!(refused, Err(Error::ReadOnly { addr: 2 })));
    let refused = file.read_exact_vectored_volatile_at(&mut slices, 0);
    assert!(matches!(refused, Err(Error::ReadOnly { addr: 2 })));
    assert_eq!((&file).stream_position().expect("a position"), 0);
    let refused = file.read_volatile_at(&mut slices[1], 0);
    assert!(matches!(refused, Err(Error::ReadOnly { addr: 0 })));
}

#[test]
fn positioned_access_leaves_the_position_alone() {
    let (mut file, bytes) = file(20);
    file.seek(SeekFrom::Start(5)).expect("seeks");
    let mut memory = [0u8; 9];
    let mut slices = untracked(&mut memory, &[4, 5]);
    let exactly = file.read_exact_vectored_volatile_at(&mut slices, 11);
    exactly.expect("nine bytes");
    file.write_all_vectored_volatile_at(&slices, 1)
        .expect("nine bytes");
    file.write_all_volatile_at(&slices[0], 18)
        .expect("four bytes");
    let mut four = [0u8; 4];
    let mut slice = VolatileSlice::from(four.as_mut_slice());
    file.read_exact_volatile_at(&mut slice, 8)
        .expect("four bytes");
    assert_eq!(memory[..], bytes[11..]);
    assert_eq!(four, [18, 19, 10, 11]);
    assert_eq!(file.stream_position().expect("a position"), 5);
    let mut content = Vec::new();
    file.rewind().expect("seeks");
    file.read_to_end(&mut content).expect("reads");
    let expected = [&bytes[..1], &bytes[11..], &bytes[10..18], &bytes[11..15]];
    assert_eq!(content, expected.concat());

    // A failure says how far it came, an end is an end.
    let mut memory = [0u8; 9];
    let mut slices = untracked(&mut memory, &[4, 5]);
    let ended = file.read_exact_vectored_volatile_at(&mut slices, 16);
    assert!(
        matches!(ended, Err(Error::PartialStream { expected: 9, completed: 6, source })
            if source.kind() == ErrorKind::UnexpectedEof)
    );
    let by_reference = &file;
    let ended = (&by_reference).read_exact_volatile_at(&mut slices[0], 22);
    assert!(
        matches!(ended, Err(Error::IOError(error)) if error.kind() == ErrorKind::UnexpectedEof)
    );
    let mut rest = At::new(&file, 17);
    assert_eq!(rest.read_vectored_volatile(&mut slices).expect("five"), 5);
    assert_eq!(rest.offset(), 22);
    assert_eq!(
        rest.read_vectored_volatile(&mut slices).expect("its end"),
        0
    );
    let owned = OwnedFd::from(file);
    let came = owned.as_fd().read_volatile_at(&mut slices[0], 20);
    assert_eq!(came.expect("two bytes"), 2);
}

#[test]
fn offsets_beyond_those_of_a_file_are_refused() {
    let (file, _) = file(4);
    let mut memory = [7u8; 4];
    let mut slices = untracked(&mut memory, &[1, 3]);
    for offset in [1 << 63, u64::MAX - 1, u64::MAX] {
        let results = [
            file.read_volatile_at(&mut slices[1], offset),
            file.read_vectored_volatile_at(&mut slices, offset),
            file.write_volatile_at(&slices[1], offset),
            file.write_vectored_volatile_at(&slices, offset),
        ];
        for result in results {
            assert!(
                matches!(result, Err(Error::IOError(error)) if error.kind() == ErrorKind::InvalidInput)
            );
        }
    }
    // The last offset that a file can have; the bytes would lie beyond it.
    let last = i64::MAX.cast_unsigned();
    assert!(file.write_vectored_volatile_at(&slices, last).is_err());
    let bytes: &[u8] = &[1, 2, 3];
    let came = bytes.read_vectored_volatile_at(&mut slices, u64::MAX);
    assert_eq!(came.expect("is at its end"), 0);
    let came = bytes.to_vec().read_vectored_volatile_at(&mut slices, 1);
    assert_eq!(came.expect("two bytes"), 2);
    assert_eq!(memory, [2, 3, 7, 7]);
    assert_eq!(file.metadata().expect("its length").len(), 4);
}

/// Two pages, the second of which may not be accessed.
struct Guarded {
    base: *mut u8,
    page: usize,
}

impl Guarded {
    fn new() -> Self {
        // SAFETY: no preconditions.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).expect("a page has a size");
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, wherever the kernel likes.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), 2 * page, protection, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED);
        let base = base.cast::<u8>();
        // SAFETY: within the mapping.
        let second = unsafe { base.add(page) };
        // SAFETY: a page of the mapping just made, which nothing refers to.
        let done = unsafe { libc::mprotect(second.cast(), page, libc::PROT_NONE) };
        assert_eq!(done, 0);
        Self { base, page }
    }

    /// The last four bytes of the first page, and the second one.
    fn slices(&self) -> [VolatileSlice<'_>; 2] {
        // SAFETY: within the mapping.
        let last = unsafe { self.base.add(self.page - 4) };
        // SAFETY: mapped while `self` lives. What must not be accessed is only given to the kernel, which checks.
        let whole = unsafe { VolatileSlice::new(last, self.page + 4) };
        let (front, rest) = whole.split_at(4).expect("fits");
        [front, rest]
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `new`; the slices on it borrow `self`.
        unsafe { libc::munmap(self.base.cast(), 2 * self.page) };
    }
}

/// Returns what a fault of a system call says.
fn fault<T: std::fmt::Debug>(result: Result<T>) -> (usize, usize) {
    match result {
        Err(Error::Fault {
            addr,
            completed,
            kind: FaultKind::System,
        }) => (addr, completed),
        other => panic!("no fault of a system call: {other:?}"),
    }
}

#[test]
fn memory_that_the_kernel_cannot_access_is_a_fault() {
    let guarded = Guarded::new();
    let [front, rest] = guarded.slices();
    let (file, bytes) = file(64);
    assert_eq!(fault((&file).read_volatile(&mut rest.clone())), (0, 0));
    assert_eq!(fault(file.read_volatile_at(&mut rest.clone(), 8)), (0, 0));
    assert_eq!(fault((&file).write_volatile(&rest)), (0, 0));
    let (one, _two) = UnixStream::pair().expect("a socket pair");
    assert_eq!(fault((&one).write_volatile(&rest)), (0, 0));
    assert_eq!(fault((&one).write_vectored_volatile(&[rest])), (0, 0));

    // With bytes before it: the count first, then the fault, counted from the start.
    let mut slices = [front, rest];
    let came = file.read_vectored_volatile_at(&mut slices, 8);
    assert_eq!(came.expect("what could be accessed"), 4);
    assert_eq!(
        front.read_obj::<[u8; 4]>(0).expect("fits")[..],
        bytes[8..12]
    );
    let exactly = file.read_exact_vectored_volatile_at(&mut slices, 8);
    assert_eq!(fault(exactly), (4, 4));
    assert_eq!(fault((&file).write_all_vectored_volatile(&slices)), (4, 4));
}
