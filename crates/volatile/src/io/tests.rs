// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
#![expect(unsafe_code, reason = "makes a tracked slice over a local buffer")]

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Cursor, Read, Seek, Write};
use std::os::unix::net::UnixStream;

use guest_memory_bitmap::{AtomicBitmap, Bitmap};

use super::*;

/// A stream that answers as told: a count of bytes to move, or an error.
struct Scripted(VecDeque<std::result::Result<usize, ErrorKind>>);

impl Scripted {
    fn new(script: &[std::result::Result<usize, ErrorKind>]) -> Self {
        Self(script.iter().copied().collect())
    }

    fn step(&mut self) -> Result<usize> {
        match self.0.pop_front() {
            Some(Ok(count)) => Ok(count),
            Some(Err(kind)) => Err(Error::IOError(kind.into())),
            None => Ok(0),
        }
    }
}

impl ReadVolatile for Scripted {
    fn read_volatile<B: BitmapSlice>(&mut self, buf: &mut VolatileSlice<'_, B>) -> Result<usize> {
        let count = self.step()?;
        buf.write(&vec![0xab; count], 0)?;
        Ok(count)
    }
}

impl WriteVolatile for Scripted {
    fn write_volatile<B: BitmapSlice>(&mut self, _buf: &VolatileSlice<'_, B>) -> Result<usize> {
        self.step()
    }
}

#[test]
fn exact_reads_go_on_after_short_ones_and_interruptions() {
    let mut backing = [0u8; 10];
    let mut memory = VolatileSlice::from(backing.as_mut_slice());
    let script = [Ok(3), Err(ErrorKind::Interrupted), Ok(1), Ok(6)];
    Scripted::new(&script)
        .read_exact_volatile(&mut memory)
        .expect("ten bytes");
    Scripted::new(&script)
        .write_all_volatile(&memory)
        .expect("ten bytes");
    assert_eq!(backing, [0xab; 10]);
}

#[test]
fn an_error_says_how_many_bytes_were_moved() {
    let mut backing = [0u8; 10];
    let mut memory = VolatileSlice::from(backing.as_mut_slice());
    let cases = [
        (
            vec![Ok(3), Ok(0)],
            3,
            ErrorKind::UnexpectedEof,
            ErrorKind::WriteZero,
        ),
        (
            vec![Ok(3), Ok(4), Err(ErrorKind::WouldBlock)],
            7,
            ErrorKind::WouldBlock,
            ErrorKind::WouldBlock,
        ),
        (
            vec![Ok(5), Ok(6)],
            5,
            ErrorKind::InvalidData,
            ErrorKind::InvalidData,
        ),
    ];
    for (script, moved, reading, writing) in cases {
        let read = Scripted::new(&script)
            .read_exact_volatile(&mut memory)
            .expect_err("fails");
        assert!(
            matches!(read, Error::PartialStream { expected: 10, completed, source }
            if completed == moved && source.kind() == reading)
        );
        let written = Scripted::new(&script)
            .write_all_volatile(&memory)
            .expect_err("fails");
        assert!(
            matches!(written, Error::PartialStream { expected: 10, completed, source }
            if completed == moved && source.kind() == writing)
        );
    }
    let at_once = Scripted::new(&[])
        .read_exact_volatile(&mut memory)
        .expect_err("ends");
    assert!(matches!(at_once, Error::IOError(source) if source.kind() == ErrorKind::UnexpectedEof));
}

#[test]
fn a_stream_that_claims_too_much_is_an_error() {
    let mut backing = [0u8; 4];
    let memory = VolatileSlice::from(backing.as_mut_slice());
    assert!(
        memory
            .read_volatile_from(0, &mut Scripted::new(&[Ok(9)]), 4)
            .is_err()
    );
    assert!(
        memory
            .write_volatile_to(2, &mut Scripted::new(&[Ok(3)]), 2)
            .is_err()
    );
}

#[test]
fn interrupted_calls_are_repeated_by_offset_access() {
    let mut backing = [0u8; 4];
    let memory = VolatileSlice::from(backing.as_mut_slice());
    let mut stream = Scripted::new(&[Err(ErrorKind::Interrupted), Ok(2)]);
    assert_eq!(
        memory
            .read_volatile_from(1, &mut stream, 9)
            .expect("two bytes"),
        2
    );
    assert_eq!(backing, [0, 0xab, 0xab, 0]);
}

#[test]
fn buffers_are_sources() {
    let mut backing = [0u8; 4];
    let mut memory = VolatileSlice::from(backing.as_mut_slice());
    let mut bytes: &[u8] = &[1, 2, 3, 4, 5];
    assert_eq!(bytes.read_volatile(&mut memory).expect("reads"), 4);
    assert_eq!(bytes, [5]);
    assert_eq!(bytes.read_volatile(&mut memory).expect("reads"), 1);
    assert_eq!(bytes.read_volatile(&mut memory).expect("is at its end"), 0);
    assert_eq!(
        std::io::empty()
            .read_volatile(&mut memory)
            .expect("is at its end"),
        0
    );
    let mut cursor = Cursor::new(vec![6, 7, 8]);
    cursor.set_position(1);
    assert_eq!(cursor.read_volatile(&mut memory).expect("reads"), 2);
    assert_eq!(cursor.position(), 3);
    cursor.set_position(u64::MAX);
    assert_eq!(cursor.read_volatile(&mut memory).expect("is at its end"), 0);
    assert_eq!(cursor.position(), u64::MAX);
    assert_eq!(backing, [7, 8, 3, 4]);
}

#[test]
fn buffers_are_destinations() {
    let mut backing = [1u8, 2, 3, 4];
    let memory = VolatileSlice::from(backing.as_mut_slice());
    let mut vector = vec![0];
    assert_eq!(vector.write_volatile(&memory).expect("grows"), 4);
    assert_eq!(vector, [0, 1, 2, 3, 4]);
    let mut array = [0u8; 6];
    let mut rest = array.as_mut_slice();
    assert_eq!(rest.write_volatile(&memory).expect("fits"), 4);
    assert_eq!(rest.write_volatile(&memory).expect("fits in part"), 2);
    assert_eq!(rest.write_volatile(&memory).expect("is full"), 0);
    assert_eq!(array, [1, 2, 3, 4, 1, 2]);
    let mut cursor = Cursor::new(array.as_mut_slice());
    cursor.set_position(3);
    assert_eq!(cursor.write_volatile(&memory).expect("fits in part"), 3);
    assert_eq!(cursor.position(), 6);
    assert_eq!(array, [1, 2, 3, 1, 2, 3]);
    assert_eq!(
        std::io::sink().write_volatile(&memory).expect("takes all"),
        4
    );
    assert_eq!(
        std::io::stdout()
            .write_volatile(&memory.subslice(0, 0).expect("empty"))
            .expect("nothing"),
        0
    );
}

/// Writes `[1, 2, 3, 4]` through `writer`, then reads them back through `reader`, and looks at the
/// dirty log.
fn round_trip<W: WriteVolatile, R: ReadVolatile>(
    mut writer: W,
    turn: impl FnOnce(),
    mut reader: R,
) {
    let mut source = [1u8, 2, 3, 4];
    writer
        .write_all_volatile(&VolatileSlice::from(source.as_mut_slice()))
        .expect("writes");
    turn();
    let mut target = [0u8; 8];
    let log = AtomicBitmap::new(8, core::num::NonZeroUsize::new(4).expect("not zero"));
    {
        let len = target.len();
        // SAFETY: exclusively borrowed while the slice lives.
        let memory =
            unsafe { VolatileSlice::with_bitmap(target.as_mut_ptr(), len, log.slice_at(0), None) };
        reader
            .read_exact_volatile(&mut memory.subslice(4, 4).expect("fits"))
            .expect("reads");
        let refused = reader.read_volatile(&mut memory.into_read_only());
        assert!(matches!(refused, Err(Error::ReadOnly { addr: 0 })));
    }
    assert_eq!(target, [0, 0, 0, 0, 1, 2, 3, 4]);
    assert_eq!((log.is_bit_set(0), log.is_bit_set(1)), (false, true));
}

#[test]
fn descriptors_of_every_kind_read_and_write() {
    let mut file = tempfile::tempfile().expect("a temporary file");
    let handle = file.try_clone().expect("a second handle");
    let rewind = || {
        let mut file = &file;
        file.rewind().expect("seeks");
    };
    round_trip(&file, rewind, handle.try_clone().expect("a third handle"));
    file.rewind().expect("seeks");
    let borrowed = std::os::fd::AsFd::as_fd(&handle);
    let rewind = || {
        let mut file = &file;
        file.rewind().expect("seeks");
    };
    round_trip(
        borrowed,
        rewind,
        std::os::fd::OwnedFd::from(handle.try_clone().expect("a handle")),
    );
    let mut content = Vec::new();
    file.rewind().expect("seeks");
    file.read_to_end(&mut content).expect("reads");
    assert_eq!(content, [1, 2, 3, 4]);

    let (one, two) = UnixStream::pair().expect("a socket pair");
    round_trip(one, || (), two);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    round_trip(writer, || (), reader);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let client = std::net::TcpStream::connect(listener.local_addr().expect("its address"))
        .expect("connects");
    let (server, _) = listener.accept().expect("accepts");
    round_trip(client, || (), server);
}

#[test]
fn an_error_of_the_kernel_keeps_its_errno() {
    let mut backing = [0u8; 4];
    let mut memory = VolatileSlice::from(backing.as_mut_slice());
    let mut directory = File::open("/").expect("opens");
    let error = directory
        .read_volatile(&mut memory)
        .expect_err("a directory has no bytes");
    assert!(matches!(error, Error::IOError(source) if source.raw_os_error() == Some(libc::EISDIR)));
    let (one, two) = UnixStream::pair().expect("a socket pair");
    one.set_nonblocking(true).expect("non-blocking");
    let error = (&one)
        .read_volatile(&mut memory)
        .expect_err("nothing there");
    assert!(matches!(error, Error::IOError(source) if source.kind() == ErrorKind::WouldBlock));
    drop(two);
    assert_eq!((&one).read_volatile(&mut memory).expect("is at its end"), 0);
}

#[test]
fn child_pipes_carry_guest_bytes() {
    let mut child = std::process::Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("starts cat");
    let (stdin, stdout) = (
        child.stdin.take().expect("piped"),
        child.stdout.take().expect("piped"),
    );
    let mut stderr = std::io::stderr();
    stderr.flush().expect("flushes");
    round_trip(stdin, || (), stdout);
    assert!(child.wait().expect("ends").success());
}

/// A signal handler that does nothing but interrupt.
extern "C" fn nothing(_signal: libc::c_int) {}

#[test]
fn a_signal_gets_a_thread_out_of_a_read() {
    use std::sync::atomic::{AtomicBool, Ordering};

    // SAFETY: a plain C struct; all zeroes is a valid value of each of its fields.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as *const () as libc::sighandler_t;
    // SAFETY: the action is initialised without SA_RESTART, its handler does nothing; no old one is asked for.
    let installed =
        unsafe { libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut()) };
    assert_eq!(installed, 0);

    let (reader, _writer) = std::io::pipe().expect("a pipe");
    let is_out = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // SAFETY: no preconditions.
        let thread = unsafe { libc::pthread_self() };
        let is_out = &is_out;
        scope.spawn(move || {
            while !is_out.load(Ordering::Relaxed) {
                std::thread::sleep(std::time::Duration::from_millis(5));
                // SAFETY: the thread waits for this one at the end of the scope, so it is alive.
                unsafe { libc::pthread_kill(thread, libc::SIGUSR2) };
            }
        });
        let mut backing = [0u8; 4];
        let mut memory = VolatileSlice::from(backing.as_mut_slice());
        let mut reader = reader;
        let interrupted = reader.read_volatile(&mut memory);
        is_out.store(true, Ordering::Relaxed);
        assert!(
            matches!(interrupted, Err(Error::IOError(error)) if error.kind() == ErrorKind::Interrupted)
        );
    });
}

#[test]
fn a_socket_whose_peer_is_gone_is_an_error_and_no_signal() {
    let (one, two) = UnixStream::pair().expect("a socket pair");
    drop(two);
    let mut backing = [0u8; 4];
    let memory = VolatileSlice::from(backing.as_mut_slice());
    // SAFETY: sets the disposition that a host program in C has.
    let old = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let results = [
        (&one).write_volatile(&memory),
        (&one).write_vectored_volatile(&[memory, memory]),
    ];
    // SAFETY: puts back what was there.
    unsafe { libc::signal(libc::SIGPIPE, old) };
    for result in results {
        assert!(
            matches!(result, Err(Error::IOError(error)) if error.kind() == ErrorKind::BrokenPipe)
        );
    }
}

#[test]
fn a_cursor_on_a_vector_writes_over_and_beyond() {
    let mut backing = [9u8, 8, 7];
    let memory = VolatileSlice::from(backing.as_mut_slice());
    let mut cursor = Cursor::new(vec![1u8, 2, 3]);
    cursor.set_position(2);
    assert_eq!(cursor.write_volatile(&memory).expect("grows"), 3);
    assert_eq!(
        (cursor.position(), cursor.into_inner()),
        (5, vec![1, 2, 9, 8, 7])
    );
}

#[test]
fn a_vector_that_cannot_grow_is_an_error() {
    let len = isize::MAX.cast_unsigned();
    let base = std::ptr::without_provenance_mut(4096);
    // SAFETY: not a valid guest range, but no byte of it is touched: there is no room for a copy.
    let memory = unsafe { VolatileSlice::new(base, len) };
    let mut vector = vec![1u8];
    let refused = vector.write_volatile(&memory).expect_err("too large");
    assert!(matches!(refused, Error::IOError(error) if error.kind() == ErrorKind::OutOfMemory));
    assert_eq!(vector, [1]);
}

#[test]
fn a_source_without_bytes_refuses_read_only_memory_as_others_do() {
    let mut backing = [7u8; 4];
    let mut slice = VolatileSlice::from(backing.as_mut_slice()).into_read_only();
    let none: &[u8] = &[];
    for told in [
        std::io::empty().read_volatile(&mut slice),
        { none }.read_volatile(&mut slice),
        Cursor::new(none).read_volatile(&mut slice),
    ] {
        assert!(matches!(told, Err(Error::ReadOnly { addr: 0 })), "{told:?}");
    }
}

#[test]
fn an_empty_stream_access_succeeds_everywhere() {
    let mut backing = [0u8; 4];
    let memory = VolatileSlice::from(backing.as_mut_slice()).into_read_only();
    let mut stream = Scripted::new(&[]);
    assert_eq!(
        memory
            .read_volatile_from(9, &mut stream, 0)
            .expect("nothing to do"),
        0
    );
    assert_eq!(
        memory
            .write_volatile_to(9, &mut stream, 0)
            .expect("nothing to do"),
        0
    );
    memory
        .read_exact_volatile_from(9, &mut stream, 0)
        .expect("nothing to do");
    memory
        .write_all_volatile_to(9, &mut stream, 0)
        .expect("nothing to do");
    memory.write_slice(&[], 0).expect("nothing to do");
}
