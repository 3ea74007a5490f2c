// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A socket whose peer delivers bytes in dribs and drabs, over three regions: every byte lands where it belongs and
//! every count is true, whatever interrupts the calls between.
#![cfg(all(feature = "mmap", target_os = "linux"))]
#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests may unwrap as tests do"
)]
#![expect(unsafe_code, reason = "sends signals to a thread")]

mod delivery;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use delivery::{LAYOUTS, START, Script, Step, ranges};
use guest_memory::bitmap::BitmapSlice;
use guest_memory::{
    Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap, ReadVolatile, VolatileMemoryError,
    VolatileMemoryResult, VolatileSlice, WriteVolatile,
};

const SEEDS: u64 = 10_000;

fn memories() -> [GuestMemoryMmap; LAYOUTS.len()] {
    std::array::from_fn(|layout| {
        let ranges = ranges(layout);
        let ranges: Vec<_> = ranges
            .into_iter()
            .map(|(start, len)| (GuestAddress(start), len))
            .collect();
        GuestMemoryMmap::from_ranges(&ranges).unwrap()
    })
}

fn content(memory: &GuestMemoryMmap, layout: usize) -> Vec<u8> {
    let mut bytes = vec![0; LAYOUTS[layout].iter().sum()];
    memory.read_slice(&mut bytes, GuestAddress(START)).unwrap();
    bytes
}

fn fill(memory: &GuestMemoryMmap, bytes: &[u8]) {
    memory.write_slice(bytes, GuestAddress(START)).unwrap();
}

/// One end of a socket; the other end does what the script says before each call.
struct Peer {
    script: Script,
    socket: UnixStream,
    far: Option<UnixStream>,
    /// Bytes that went into the far end, or were taken from it.
    passed: usize,
    /// Bytes that the calls have moved.
    moved: usize,
}

impl Peer {
    fn new(seed: u64) -> Self {
        let (socket, far) = UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        Self {
            script: Script::of_seed(seed),
            socket,
            far: Some(far),
            passed: 0,
            moved: 0,
        }
    }

    /// Lets the far end deliver; an interruption is the call's answer.
    fn before_read(&mut self) -> VolatileMemoryResult<()> {
        match self.script.step() {
            Step::Interrupt => {
                return Err(VolatileMemoryError::IOError(ErrorKind::Interrupted.into()));
            }
            Step::Nothing => {}
            Step::Deliver(most) => {
                let left = &self.script.bytes[self.passed..];
                let portion = &left[..most.min(left.len())];
                if portion.is_empty() {
                    self.far = None;
                } else if let Some(far) = &mut self.far {
                    far.write_all(portion).unwrap();
                    self.passed += portion.len();
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, result: VolatileMemoryResult<usize>) -> VolatileMemoryResult<usize> {
        if let Ok(count) = result {
            self.moved += count;
        }
        result
    }
}

impl ReadVolatile for Peer {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        buf: &mut VolatileSlice<'_, B>,
    ) -> VolatileMemoryResult<usize> {
        self.before_read()?;
        let result = self.socket.read_volatile(buf);
        self.count(result)
    }

    fn read_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &mut [VolatileSlice<'_, B>],
    ) -> VolatileMemoryResult<usize> {
        self.before_read()?;
        let result = self.socket.read_vectored_volatile(bufs);
        self.count(result)
    }
}

/// Takes no more than the script's portion of what it is given, through the socket.
impl WriteVolatile for Peer {
    fn write_volatile<B: BitmapSlice>(
        &mut self,
        buf: &VolatileSlice<'_, B>,
    ) -> VolatileMemoryResult<usize> {
        self.write_vectored_volatile(std::slice::from_ref(buf))
    }

    fn write_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &[VolatileSlice<'_, B>],
    ) -> VolatileMemoryResult<usize> {
        let mut left = match self.script.step() {
            Step::Interrupt => {
                return Err(VolatileMemoryError::IOError(ErrorKind::Interrupted.into()));
            }
            Step::Nothing => {
                return Err(VolatileMemoryError::IOError(ErrorKind::WouldBlock.into()));
            }
            Step::Deliver(most) => most.min(self.script.bytes.len() - self.passed),
        };
        let mut portion = Vec::new();
        for buf in bufs {
            let here = left.min(buf.len());
            portion.push(buf.subslice(0, here)?);
            left -= here;
        }
        let result = self.socket.write_vectored_volatile(&portion);
        self.passed += *result.as_ref().unwrap_or(&0);
        self.count(result)
    }
}

/// What an exact access says of its bytes: how many, and whether it succeeded.
fn moved_exactly(result: Result<(), GuestMemoryError>, count: usize, is_end: bool) -> usize {
    match result {
        Ok(()) => count,
        Err(GuestMemoryError::PartialBuffer {
            expected,
            completed,
        }) => {
            assert!(is_end, "there is more to come");
            assert_eq!(expected, count);
            completed
        }
        Err(GuestMemoryError::IOError(error)) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            0
        }
        Err(GuestMemoryError::Access {
            completed,
            length,
            source: VolatileMemoryError::IOError(error),
            ..
        }) => {
            assert_eq!((length, error.kind()), (count, ErrorKind::WouldBlock));
            assert!(completed > 0);
            completed
        }
        Err(error) => panic!("{error}"),
    }
}

/// What an access up to a count says of its bytes, and whether there will be no more.
fn moved_up_to(result: Result<usize, GuestMemoryError>) -> (usize, bool) {
    match result {
        Ok(count) => (count, count == 0),
        Err(GuestMemoryError::IOError(error)) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            (0, false)
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn bytes_from_a_socket_land_one_after_the_other() {
    let memories = memories();
    let mut ended_early = 0;
    for seed in 0..SEEDS {
        let mut peer = Peer::new(seed);
        let memory = &memories[peer.script.layout];
        let count = peer.script.count;
        let is_exact = seed % 2 == 0;
        let mut done = 0;
        while done < count {
            let addr = GuestAddress(peer.script.address() + done as u64);
            let before = peer.moved;
            let (moved, is_end) = if is_exact {
                let result = memory.read_exact_volatile_from(addr, &mut peer, count - done);
                let is_end = peer.far.is_none() && peer.moved == peer.script.bytes.len();
                (moved_exactly(result, count - done, is_end), is_end)
            } else {
                moved_up_to(memory.read_volatile_from(addr, &mut peer, count - done))
            };
            assert_eq!(moved, peer.moved - before, "seed {seed}");
            done += moved;
            assert_eq!(
                content(memory, peer.script.layout),
                peer.script.model(done),
                "seed {seed} after {done} bytes"
            );
            if is_end {
                assert_eq!(done, peer.script.bytes.len().min(count), "seed {seed}");
                ended_early += usize::from(done < count);
                break;
            }
        }
        fill(memory, &vec![0; content(memory, peer.script.layout).len()]);
    }
    assert!(ended_early > 0, "no seed had an end");
}

#[test]
fn bytes_go_to_a_socket_one_after_the_other() {
    let memories = memories();
    for seed in 0..SEEDS {
        let mut peer = Peer::new(seed);
        let memory = &memories[peer.script.layout];
        // What is to be sent stands where the bytes of a read would land.
        let count = peer.script.count.min(peer.script.bytes.len());
        if count == 0 {
            continue;
        }
        fill(memory, &peer.script.model(count));
        let is_exact = seed % 2 == 0;
        let mut done = 0;
        while done < count {
            let addr = GuestAddress(peer.script.address() + done as u64);
            let before = peer.moved;
            let moved = if is_exact {
                let result = memory.write_all_volatile_to(addr, &mut peer, count - done);
                moved_exactly(result, count - done, false)
            } else {
                moved_up_to(memory.write_volatile_to(addr, &mut peer, count - done)).0
            };
            assert_eq!(moved, peer.moved - before, "seed {seed}");
            done += moved;
        }
        let mut far = peer.far.take().unwrap();
        drop(peer.socket);
        let mut received = Vec::new();
        far.read_to_end(&mut received).unwrap();
        assert_eq!(received, peer.script.bytes[..count], "seed {seed}");
    }
}

/// A signal handler that does nothing but interrupt.
extern "C" fn nothing(_signal: libc::c_int) {}

#[test]
fn signals_and_a_slow_peer_misplace_nothing() {
    // SAFETY: a plain C struct; all zeroes is a valid value of each of its fields.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as *const () as libc::sighandler_t;
    // SAFETY: the action is initialised without SA_RESTART, its handler does nothing; no old one is asked for.
    let installed =
        unsafe { libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut()) };
    assert_eq!(installed, 0);

    let memories = memories();
    // SAFETY: no preconditions.
    let reader = unsafe { libc::pthread_self() };
    for seed in 0..100 {
        let mut script = Script::of_seed(seed);
        let memory = &memories[script.layout];
        let (mut socket, mut far) = UnixStream::pair().unwrap();
        let (bytes, address, count) = (script.bytes.clone(), script.address(), script.count);
        let wanted = count.min(bytes.len());
        let result = std::thread::scope(|scope| {
            let script = &mut script;
            let writer = scope.spawn(move || {
                let mut left = bytes.as_slice();
                while !left.is_empty() {
                    let (portion, rest) = left.split_at(script.portion().min(left.len()));
                    // SAFETY: the reader waits for this thread at the end of the scope, so it is alive.
                    unsafe { libc::pthread_kill(reader, libc::SIGUSR2) };
                    std::thread::sleep(std::time::Duration::from_micros(50));
                    // SAFETY: as above.
                    unsafe { libc::pthread_kill(reader, libc::SIGUSR2) };
                    far.write_all(portion).unwrap();
                    left = rest;
                }
            });
            let result = memory.read_exact_volatile_from(GuestAddress(address), &mut socket, count);
            writer.join().unwrap();
            result
        });
        assert_eq!(moved_exactly(result, count, wanted < count), wanted);
        assert_eq!(
            content(memory, script.layout),
            script.model(wanted),
            "seed {seed}"
        );
        fill(memory, &vec![0; content(memory, script.layout).len()]);
    }
}
