// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Volatile slices and the crate's streams in the suites that are open to everyone's.
#![cfg(all(feature = "std", unix))]
#![expect(unsafe_code, reason = "makes slices that are tracked")]

use std::cell::RefCell;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::num::NonZeroUsize;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use guest_memory_bitmap::{ArcSlice, AtomicBitmap, Bitmap, BitmapSlice};
use guest_memory_conformance::streams::{self, Ends};
use guest_memory_conformance::{Config, bytes, bytes_ext, copy, mark_order, volatile_memory};
use guest_memory_volatile::{VolatileMemoryError, VolatileSlice, WriteVolatile};

/// The addresses of all that is leaked. A leak checker sees here that it is not lost.
static LEAKED: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// Returns zero bytes aligned to eight; leaked, as the slices under test borrow them.
fn memory(len: usize) -> &'static mut [u8] {
    let bytes = vec![0u8; len + 8].leak();
    LEAKED
        .lock()
        .expect("nobody panics with it")
        .push(bytes.as_ptr().addr());
    let padding = bytes.as_ptr().align_offset(8);
    &mut bytes[padding..][..len]
}

fn offset(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn tracked(len: usize, page_size: NonZeroUsize) -> VolatileSlice<'static, ArcSlice<AtomicBitmap>> {
    let bitmap = AtomicBitmap::new(len, page_size);
    let bytes = memory(len);
    // SAFETY: the leaked borrow keeps the bytes mapped, initialised and to the slice alone for
    // good; a Rust slice is at most `isize::MAX` bytes long and does not wrap.
    unsafe {
        VolatileSlice::with_bitmap(
            bytes.as_mut_ptr(),
            len,
            ArcSlice::new(Arc::new(bitmap), 0),
            None,
        )
    }
}

#[test]
fn untracked_slice_behaves() {
    bytes::check(|len| VolatileSlice::from(memory(len)), offset);
    bytes_ext::check(|len| VolatileSlice::from(memory(len)), offset);
}

#[test]
fn tracked_slice_behaves() {
    for page_size in [1, 32, 4096] {
        let page_size = NonZeroUsize::new(page_size).unwrap();
        bytes::check_with(
            Config::default(),
            |len| tracked(len, page_size),
            offset,
            |slice, offset| slice.bitmap().mark_dirty(offset, 1),
            |slice, offset| slice.bitmap().dirty_at(offset),
        );
        bytes_ext::check_with(
            Config::default(),
            |len| tracked(len, page_size),
            offset,
            |slice, offset| slice.bitmap().mark_dirty(offset, 1),
            |slice, offset| slice.bitmap().dirty_at(offset),
        );
    }
}

#[test]
fn slice_cut_from_a_larger_one_behaves() {
    let page_size = NonZeroUsize::new(32).unwrap();
    let cut = |len| {
        let whole = tracked(len + 96, page_size);
        whole.subslice(64, len).unwrap()
    };
    bytes::check_with(
        Config::default(),
        cut,
        offset,
        |slice, offset| slice.bitmap().mark_dirty(offset, 1),
        |slice, offset| slice.bitmap().dirty_at(offset),
    );
    bytes_ext::check_with(
        Config::default(),
        cut,
        offset,
        |slice, offset| slice.bitmap().mark_dirty(offset, 1),
        |slice, offset| slice.bitmap().dirty_at(offset),
    );
}

#[test]
fn slice_is_volatile_memory() {
    let untracked = Config::default().untracked();
    volatile_memory::check_with(untracked, |len| VolatileSlice::from(memory(len)));
    for page_size in [1, 32, 4096] {
        let page_size = NonZeroUsize::new(page_size).unwrap();
        volatile_memory::check(|len| tracked(len, page_size));
    }
    let page_size = NonZeroUsize::new(32).unwrap();
    volatile_memory::check(|len| tracked(len + 96, page_size).subslice(64, len).unwrap());
}

#[test]
fn every_copy_moves_its_bytes_and_marks_them() {
    let page_size = NonZeroUsize::new(32).unwrap();
    copy::check(|len| VolatileSlice::from(memory(len)), offset);
    copy::check_with(
        Config::default(),
        |len| tracked(len, page_size),
        offset,
        |slice, offset| slice.bitmap().mark_dirty(offset, 1),
        |slice, offset| slice.bitmap().dirty_at(offset),
    );
}

#[test]
fn copies_between_windows_arrive_as_if_read_first() {
    let page_size = NonZeroUsize::new(32).unwrap();
    copy::check_within(
        Config::default(),
        |len| tracked(len, page_size),
        offset,
        |slice, offset| slice.bitmap().mark_dirty(offset, 1),
        |slice, offset| slice.bitmap().dirty_at(offset),
        |slice, from, to, len| {
            let source = slice.subslice(from, len)?;
            source.try_copy_to_volatile_slice(slice.subslice(to, len)?)
        },
    );
}

#[test]
fn no_aligned_word_is_torn() {
    copy::check_untorn(
        Config::default(),
        |len| VolatileSlice::from(memory(len)),
        offset,
    );
}

#[test]
fn every_write_marks_after_its_data() {
    mark_order::check(
        |len, witness| VolatileSlice::from(memory(len)).replace_bitmap(witness.slice_at(0)),
        offset,
    );
}

/// Makes a file of these bytes that stands at its start.
fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).expect("room for some bytes");
    file.rewind().expect("a file has a position");
    file
}

/// Returns the first `len` bytes of a file and leaves it where it stands.
fn start_of(mut file: &File, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let at = file.stream_position().expect("a file has a position");
    file.rewind().expect("a file has a position");
    let start = file.take(len as u64).read_to_end(&mut bytes);
    start.expect("a file that can be read");
    file.seek(SeekFrom::Start(at))
        .expect("a file has a position");
    bytes
}

#[test]
fn buffers_are_sources() {
    streams::check_source(|bytes| {
        let kept = memory(bytes.len());
        kept.copy_from_slice(bytes);
        &*kept
    });
    streams::check_source(|bytes| Cursor::new(bytes.to_vec()));
    streams::check_source_at(<[u8]>::to_vec);
}

#[test]
fn buffers_are_sinks() {
    let take_all = |make: fn(usize) -> Vec<u8>| {
        streams::check_sink_with(Config::default(), Ends::Never, make, Vec::clone);
    };
    take_all(|_| Vec::new());
    take_all(Vec::with_capacity);
    streams::check_sink_with(
        Config::default(),
        Ends::Never,
        |_| Cursor::new(Vec::new()),
        |cursor: &Cursor<Vec<u8>>| cursor.get_ref().clone(),
    );
    streams::check_sink(
        |room| Cursor::new(memory(room)),
        |cursor: &Cursor<&mut [u8]>| {
            cursor.get_ref()[..usize::try_from(cursor.position()).unwrap()].to_vec()
        },
    );
}

#[test]
fn files_are_sources_and_sinks() {
    let config = Config::default().cases(128);
    streams::check_source_with(config, Ends::WithNothing, file_of);
    streams::check_source_at_with(config, file_of);
    let taken = |file: &File| start_of(file, usize::MAX);
    streams::check_sink_with(config, Ends::Never, |_| file_of(&[]), taken);
    streams::check_sink_at_with(config, Ends::Never, |_| file_of(&[]), start_of);
}

#[test]
fn sockets_are_sources() {
    let config = Config::default().cases(128);
    streams::check_source_with(config, Ends::WithNothing, |bytes| {
        let (mut peer, socket) = UnixStream::pair().unwrap();
        peer.write_all(bytes).unwrap();
        socket
    });
}

/// A socket, and what its peer has read so far.
struct Socket {
    near: UnixStream,
    peer: RefCell<(UnixStream, Vec<u8>)>,
}

impl WriteVolatile for Socket {
    fn write_volatile<B: BitmapSlice>(
        &mut self,
        buf: &VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        self.near.write_volatile(buf)
    }

    fn write_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &[VolatileSlice<'_, B>],
    ) -> Result<usize, VolatileMemoryError> {
        self.near.write_vectored_volatile(bufs)
    }
}

#[test]
fn sockets_are_sinks() {
    let make = |_| {
        let (near, peer) = UnixStream::pair().unwrap();
        peer.set_nonblocking(true).unwrap();
        let peer = (peer, Vec::new()).into();
        Socket { near, peer }
    };
    let taken = |socket: &Socket| {
        let mut peer = socket.peer.borrow_mut();
        let (peer, bytes) = &mut *peer;
        // Ends with an error when there is no more for now.
        let _ = peer.read_to_end(bytes);
        bytes.clone()
    };
    streams::check_sink_with(Config::default().cases(128), Ends::Never, make, taken);
}
