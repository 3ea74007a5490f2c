// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a stream access has to answer, and what it did answer, in terms that all forms of it share.

use std::io::ErrorKind;

use guest_memory_core::{GuestMemoryError as Error, Operation};
use guest_memory_volatile::VolatileMemoryError;

use super::ends::Flow;
use super::toy::{Call, What};

/// What keeps an access from going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// There is no memory; the access began at this address.
    Hole(u64),
    ReadOnly,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    /// With one call of the stream, or one for each batch.
    UpTo,
    Exactly,
}

/// Why an access failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    NoMemory(u64),
    OutOfBounds,
    ReadOnly,
    Stream(ErrorKind),
    /// Memory or stream ended.
    Short,
}

/// An error in short: the bytes that were moved, and why no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) completed: usize,
    pub(super) cause: Cause,
}

fn told(completed: usize, cause: Cause) -> Told {
    Told { completed, cause }
}

/// An access by address, as its errors have to name it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) operation: Operation,
    pub(super) addr: u64,
    pub(super) count: usize,
}

impl Request {
    /// Shortens an error of an access by address.
    ///
    /// # Panics
    ///
    /// When it names another access, or is one that none of these can have.
    pub(super) fn shorten(&self, error: &Error) -> Told {
        let is_this = |operation, addr: u64, count| {
            let named = (operation, addr, count);
            assert_eq!(named, (self.operation, self.addr, self.count), "{error:?}");
        };
        match error {
            Error::InvalidGuestAddress(address) => told(0, Cause::NoMemory(address.0)),
            Error::IOError(cause) => told(0, Cause::Stream(cause.kind())),
            Error::PartialBuffer {
                expected,
                completed,
            } => {
                assert_eq!(*expected, self.count, "{error:?}");
                told(*completed, Cause::Short)
            }
            Error::Access {
                operation,
                address,
                length,
                completed,
                source,
            } => {
                is_this(*operation, address.0, *length);
                told(*completed, shorten(source, usize::MAX).cause)
            }
            Error::Interrupted {
                operation,
                address,
                length,
                completed,
                source,
            } => {
                is_this(*operation, address.0, *length);
                let Error::Access { source, .. } = &**source else {
                    panic!("{error:?}");
                };
                told(*completed, shorten(source, usize::MAX).cause)
            }
            _ => panic!("{error:?}"),
        }
    }
}

/// Shortens an error of an access to a slice or to many, of `expected` bytes.
///
/// # Panics
///
/// When it is one that none of these can have.
pub(super) fn shorten(error: &VolatileMemoryError, wanted: usize) -> Told {
    match error {
        VolatileMemoryError::OutOfBounds { .. } | VolatileMemoryError::Overflow { .. } => {
            told(0, Cause::OutOfBounds)
        }
        VolatileMemoryError::ReadOnly { .. } => told(0, Cause::ReadOnly),
        VolatileMemoryError::IOError(cause) => told(0, Cause::Stream(cause.kind())),
        VolatileMemoryError::PartialStream {
            expected,
            completed,
            source,
        } => {
            assert_eq!(*expected, wanted, "{error:?}");
            told(*completed, Cause::Stream(source.kind()))
        }
        _ => panic!("{error:?}"),
    }
}

/// What an access meets: how many bytes are asked for, how many are there, and what comes after them.
#[derive(Clone, Debug)]
pub(super) struct Meeting {
    pub(super) count: usize,
    pub(super) reach: usize,
    pub(super) obstacle: Option<Obstacle>,
    /// Whether it is one by address, which names the end of a stream in another way than slices do.
    pub(super) is_by_address: bool,
    /// What the end of the stream is to those who wanted more.
    pub(super) end: ErrorKind,
}

impl Meeting {
    /// Checks the answer of an access that moves all bytes or fails.
    ///
    /// # Panics
    ///
    /// When it is not what the stream and the memory make it.
    pub(super) fn settle_exact(&self, found: Result<(), Told>, flow: &Flow) -> bool {
        let calls = flow.calls.as_deref().unwrap_or_default();
        let expected = match calls.last() {
            Some(Call {
                what: What::Lied, ..
            }) => Err(told(
                flow.moved.len(),
                Cause::Stream(ErrorKind::InvalidData),
            )),
            _ => self.exact(flow),
        };
        assert_eq!(found, expected, "{self:?} with {flow:?}");
        let done = match expected {
            Ok(()) => self.count,
            Err(told) => told.completed,
        };
        assert_eq!(
            flow.moved.len(),
            done,
            "bytes moved, {self:?} with {flow:?}"
        );
        // Whoever takes all slices as one stretch is not called after a lie.
        let is_lie = |call: &Call| call.what == What::Lied;
        let lies = calls.iter().filter(|call| is_lie(call)).count();
        assert!(!flow.is_vectored || lies <= 1, "{flow:?}");
        found.is_ok()
    }

    /// What an access that moves all bytes or fails comes to, whatever the portions.
    fn exact(&self, flow: &Flow) -> Result<(), Told> {
        if self.count == 0 {
            return Ok(());
        }
        if self.reach < self.count && (self.reach == 0 || !self.is_by_address) {
            return Err(told(0, self.first_obstacle()));
        }
        if flow.limit < self.reach {
            return Err(told(flow.limit, self.end_of(flow)));
        }
        match self.obstacle {
            None => Ok(()),
            Some(Obstacle::Hole(_)) => Err(told(self.reach, Cause::Short)),
            Some(Obstacle::ReadOnly) => Err(told(self.reach, Cause::ReadOnly)),
        }
    }

    /// Checks the answer of an access that ends where the stream gives less than asked for.
    ///
    /// # Panics
    ///
    /// When it is not what the stream and the memory make it.
    pub(super) fn settle_up_to(
        &self,
        found: Result<usize, Told>,
        flow: &Flow,
        batch: impl Fn(usize) -> usize,
    ) -> bool {
        let moved = flow.moved.len();
        let lied = Err(told(moved, Cause::Stream(ErrorKind::InvalidData)));
        let expected = match &flow.calls {
            _ if self.count == 0 => Ok(0),
            _ if self.reach == 0 => Err(told(0, self.first_obstacle())),
            // It moves what it can.
            None => {
                assert_eq!(moved, self.reach.min(flow.limit), "{self:?} with {flow:?}");
                self.after(moved)
            }
            Some(calls) => {
                self.check_calls(calls, flow, batch);
                match calls.last().expect("there is something to move").what {
                    What::Moved(_) => self.after(moved),
                    // Not by whoever takes all slices as one stretch: it had no byte when it was interrupted.
                    What::Interrupted if moved > 0 && !flow.is_vectored => Ok(moved),
                    What::Interrupted => panic!("not tried again: {flow:?}"),
                    What::Failed if moved > 0 => Ok(moved),
                    What::Failed => Err(told(0, self.failure_of(flow))),
                    // Before the first byte it is an error; later one may also leave it for the next call.
                    What::Lied if moved > 0 && found == Ok(moved) => Ok(moved),
                    What::Lied => lied,
                }
            }
        };
        assert_eq!(found, expected, "{self:?} with {flow:?}");
        if self.reach == 0 || self.count == 0 {
            let is_called = flow.calls.as_ref().is_some_and(|calls| !calls.is_empty());
            assert!(!is_called && moved == 0, "{flow:?}");
        }
        found.is_ok()
    }

    /// Checks the answer of one call of a stream for many slices.
    ///
    /// # Panics
    ///
    /// When it is not what the stream and the memory make it.
    pub(super) fn settle_one_call(&self, found: Result<usize, Told>, flow: &Flow) -> bool {
        let moved = flow.moved.len();
        let last = flow.calls.as_ref().map(|calls| calls.last());
        let expected = match last {
            _ if self.reach < self.count => Err(told(0, self.first_obstacle())),
            None => Ok(self.reach.min(flow.limit)),
            Some(Some(call)) if moved == 0 => match call.what {
                What::Moved(_) => Ok(0),
                What::Interrupted => Err(told(0, Cause::Stream(ErrorKind::Interrupted))),
                What::Lied => Err(told(0, Cause::Stream(ErrorKind::InvalidData))),
                What::Failed => Err(told(0, self.failure_of(flow))),
            },
            Some(_) => Ok(moved),
        };
        assert_eq!(found, expected, "{self:?} with {flow:?}");
        assert_eq!(found.unwrap_or_default(), moved, "{self:?} with {flow:?}");
        found.is_ok()
    }

    /// Checks that each call but the last gave all that it was asked for, and that it was asked for the right number.
    fn check_calls(&self, calls: &[Call], flow: &Flow, batch: impl Fn(usize) -> usize) {
        let mut done = 0;
        for (index, call) in calls.iter().enumerate() {
            let is_last = index + 1 == calls.len();
            assert!(
                (1..=self.reach - done).contains(&call.given),
                "{call:?} after {done} bytes, {self:?} with {flow:?}"
            );
            if flow.is_vectored {
                assert_eq!(call.given, batch(done), "after {done} bytes, {flow:?}");
            }
            match call.what {
                What::Moved(moved) => {
                    assert!(is_last || moved == call.given, "goes on after {call:?}");
                    done += moved;
                }
                What::Interrupted => {}
                What::Lied | What::Failed => assert!(is_last, "goes on after {call:?}"),
            }
        }
        let is_full = calls
            .last()
            .is_some_and(|call| call.what == What::Moved(call.given));
        assert!(
            !is_full || done == self.reach,
            "ends early, {self:?} with {flow:?}"
        );
    }

    /// The answer after the last bytes.
    fn after(&self, moved: usize) -> Result<usize, Told> {
        match self.obstacle {
            Some(Obstacle::ReadOnly) if moved == self.reach => Err(told(moved, Cause::ReadOnly)),
            _ => Ok(moved),
        }
    }

    fn first_obstacle(&self) -> Cause {
        match self.obstacle {
            Some(Obstacle::Hole(addr)) if self.is_by_address => Cause::NoMemory(addr),
            Some(Obstacle::Hole(_)) => Cause::OutOfBounds,
            _ => Cause::ReadOnly,
        }
    }

    fn end_of(&self, flow: &Flow) -> Cause {
        let is_end = flow.failure.is_none_or(|failure| failure.is_end());
        if is_end && self.is_by_address {
            Cause::Short
        } else {
            self.failure_of(flow)
        }
    }

    fn failure_of(&self, flow: &Flow) -> Cause {
        Cause::Stream(flow.failure.map_or(self.end, |failure| failure.kind()))
    }
}
