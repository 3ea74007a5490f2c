// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What can go wrong when guest memory is accessed.

use alloc::boxed::Box;
use core::fmt;

use guest_memory_bitmap::BitmapSlice;
use guest_memory_volatile::{FaultKind, VolatileMemoryError, VolatileSlice};

use crate::address::Address;
use crate::guest_address::GuestAddress;
use crate::translation::TranslationError;

/// Error of an access to guest memory.
///
/// ```
/// use guest_memory_core::{Bytes, GuestAddress, GuestMemoryError};
///
#[doc = include_str!("examples/two_regions.md")]
/// // Two regions of 4 KiB side by side, from 0x1000 on.
/// let memory = two_regions::<()>();
/// let nowhere = memory.write_obj(7u32, GuestAddress(0x4000));
/// assert!(matches!(nowhere, Err(GuestMemoryError::InvalidGuestAddress(GuestAddress(0x4000)))));
/// // An access that leaves memory says how far it came.
/// let cut = memory.write_slice(&[7; 16], GuestAddress(0x2ff8));
/// assert!(matches!(cut, Err(GuestMemoryError::PartialBuffer { expected: 16, completed: 8 })));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The guest has no memory at the address.
    #[error("no memory mapped at gpa {0}")]
    InvalidGuestAddress(GuestAddress),
    /// The host has no memory at the address.
    ///
    /// Nothing here makes this error: it is for memories of others.
    #[error("invalid backend address")]
    InvalidBackendAddress,
    /// The end of the access is not representable.
    #[error("guest address overflow")]
    GuestAddressOverflow,
    /// The region has no host address to give.
    #[error("the region has no host address")]
    HostAddressNotAvailable,
    /// The stream on the other side failed before any byte was moved.
    #[cfg(feature = "std")]
    #[error("stream failed")]
    IOError(#[from] std::io::Error),
    /// The memory or the stream ended before all bytes were moved.
    #[error("{completed} of {expected} bytes moved before the end")]
    PartialBuffer {
        /// Bytes that the access wanted.
        expected: usize,
        /// Bytes that were moved.
        completed: usize,
    },
    /// A callback claims to have moved more bytes than it was given.
    #[error("callback reports more bytes than it was given")]
    CallbackOutOfRange,
    /// The access failed within a region.
    #[error("{operation} of {length} bytes at gpa {address} failed after {completed} bytes")]
    Access {
        /// What was tried.
        operation: Operation,
        /// Where the access starts.
        address: GuestAddress,
        /// Bytes that the access wanted.
        length: usize,
        /// Bytes that were moved.
        completed: usize,
        /// Why it failed.
        source: VolatileMemoryError,
    },
    /// A page of the memory could not be accessed.
    #[error("memory fault at gpa {address} after {completed} bytes: {kind}")]
    Fault {
        /// Guest address of the first byte that could not be accessed.
        address: GuestAddress,
        /// Bytes that were moved before.
        completed: usize,
        /// What the operating system said.
        kind: FaultKind,
    },
    /// The rest of the access cannot be reached, for another reason than that there is no memory.
    #[error("{operation} of {length} bytes at gpa {address} stopped after {completed} bytes")]
    Interrupted {
        /// What was tried.
        operation: Operation,
        /// Where the access starts.
        address: GuestAddress,
        /// Bytes that the access wanted.
        length: usize,
        /// Bytes that were moved.
        completed: usize,
        /// Why the bytes after them cannot be reached.
        source: Box<Error>,
    },
    /// An IOMMU does not let the access pass.
    #[error(transparent)]
    IommuError(#[from] TranslationError),
    /// A region gave out a slice of another length than it was asked for.
    #[error("region gave {actual} bytes at gpa {address} where {expected} were asked for")]
    SliceLength {
        /// Where the slice was to start.
        address: GuestAddress,
        /// Bytes that were asked for.
        expected: usize,
        /// Bytes that the slice has.
        actual: usize,
    },
    /// The memory behind a region failed.
    #[error("volatile memory access failed")]
    VolatileMemory(#[source] VolatileMemoryError),
}

/// Result of an access to guest memory.
pub type Result<T> = core::result::Result<T, Error>;

impl From<VolatileMemoryError> for Error {
    fn from(error: VolatileMemoryError) -> Self {
        match error {
            #[cfg(feature = "std")]
            VolatileMemoryError::IOError(cause) => Self::IOError(cause),
            VolatileMemoryError::PartialBuffer {
                expected,
                completed,
            } => Self::PartialBuffer {
                expected,
                completed,
            },
            other => Self::VolatileMemory(other),
        }
    }
}

/// What was tried on guest memory, named from the memory's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Bytes were to be read.
    Read,
    /// Bytes were to be written.
    Write,
    /// A value was to be loaded atomically.
    Load,
    /// A value was to be stored atomically.
    Store,
    /// Bytes were to be read from a stream into the memory.
    ReadFromStream,
    /// Bytes were to be written from the memory to a stream.
    WriteToStream,
    /// A slice was to be handed out.
    Slice,
    /// A value was to be exchanged atomically if it is the expected one.
    CompareExchange,
    /// A value was to be changed atomically.
    ReadModifyWrite,
    /// Bytes were to be written, all the same.
    Fill,
    /// Bytes were to be compared with zero.
    IsZero,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Load => "atomic load",
            Self::Store => "atomic store",
            Self::ReadFromStream => "read from a stream",
            Self::WriteToStream => "write to a stream",
            Self::Slice => "slice",
            Self::CompareExchange => "atomic compare-exchange",
            Self::ReadModifyWrite => "atomic read-modify-write",
            Self::Fill => "fill",
            Self::IsZero => "search for a byte that is not zero",
        })
    }
}

/// An access as its caller asked for it: what an error tells beside the cause.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub(crate) operation: Operation,
    pub(crate) address: GuestAddress,
    pub(crate) length: usize,
}

impl Request {
    /// Makes the error of memory that failed after `completed` bytes.
    #[cold]
    pub(crate) fn failed(self, completed: usize, cause: VolatileMemoryError) -> Error {
        let Self {
            operation,
            address,
            length,
        } = self;
        let (completed, source) = match cause {
            VolatileMemoryError::Fault {
                completed: more,
                kind,
                ..
            } => {
                let completed = completed.saturating_add(more);
                return Error::Fault {
                    address: address.unchecked_add(completed as u64),
                    completed,
                    kind,
                };
            }
            #[cfg(feature = "std")]
            VolatileMemoryError::PartialStream {
                completed: more,
                source,
                ..
            } => (
                completed.saturating_add(more),
                VolatileMemoryError::IOError(source),
            ),
            #[cfg(feature = "std")]
            VolatileMemoryError::IOError(cause) if completed == 0 => return Error::IOError(cause),
            other => (completed, other),
        };
        Error::Access {
            operation,
            address,
            length,
            completed,
            source,
        }
    }

    /// Lets a slice pass that is no longer than what is left of the access, and not empty.
    pub(crate) fn check_length<'a, B: BitmapSlice>(
        self,
        slice: VolatileSlice<'a, B>,
        completed: usize,
    ) -> Result<VolatileSlice<'a, B>> {
        let left = self.length.saturating_sub(completed);
        if (1..=left).contains(&slice.len()) {
            return Ok(slice);
        }
        let address = self.address.unchecked_add(completed as u64);
        Err(Error::SliceLength {
            address,
            expected: left,
            actual: slice.len(),
        })
    }

    /// Makes the error of memory that cannot be reached after `completed` bytes.
    #[cold]
    pub(crate) fn interrupted(self, completed: usize, cause: Error) -> Error {
        if completed == 0 {
            return cause;
        }
        let Self {
            operation,
            address,
            length,
        } = self;
        Error::Interrupted {
            operation,
            address,
            length,
            completed,
            source: Box::new(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_give_operation_address_length_and_progress() {
        let request = Request {
            operation: Operation::Write,
            address: GuestAddress(0x1ff8),
            length: 16,
        };
        let failed = request.failed(8, VolatileMemoryError::ReadOnly { addr: 8 });
        assert_eq!(
            failed.to_string(),
            "write of 16 bytes at gpa 0x1ff8 failed after 8 bytes"
        );
        let interrupted = request.interrupted(8, Error::InvalidGuestAddress(GuestAddress(0x2000)));
        assert_eq!(
            interrupted.to_string(),
            "write of 16 bytes at gpa 0x1ff8 stopped after 8 bytes"
        );
        let source = std::error::Error::source(&interrupted).expect("a cause");
        assert_eq!(source.to_string(), "no memory mapped at gpa 0x2000");
    }

    #[test]
    fn conversion_keeps_cause_and_count() {
        let partial = VolatileMemoryError::PartialBuffer {
            expected: 9,
            completed: 4,
        };
        assert!(matches!(
            Error::from(partial),
            Error::PartialBuffer {
                expected: 9,
                completed: 4
            }
        ));
        let misaligned = VolatileMemoryError::Misaligned {
            addr: 0x11,
            alignment: 4,
        };
        let source = Error::from(misaligned);
        let cause = std::error::Error::source(&source).expect("a cause");
        assert_eq!(
            cause.to_string(),
            "host address 0x11 is not aligned to 4 bytes"
        );
    }

    #[test]
    fn a_fault_names_the_guest_address_of_its_byte() {
        let request = Request {
            operation: Operation::Write,
            address: GuestAddress(0x1ff8),
            length: 32,
        };
        let cause = || VolatileMemoryError::Fault {
            addr: 0x77,
            completed: 3,
            kind: FaultKind::Beyond,
        };
        let fault = request.failed(16, cause());
        assert!(matches!(
            fault,
            Error::Fault {
                address: GuestAddress(0x200b),
                completed: 19,
                kind: FaultKind::Beyond
            }
        ));
        assert_eq!(
            fault.to_string(),
            "memory fault at gpa 0x200b after 19 bytes: there is no page behind the mapping"
        );
        // Without an address there is none to tell.
        assert!(matches!(
            Error::from(cause()),
            Error::VolatileMemory(VolatileMemoryError::Fault { completed: 3, .. })
        ));
    }

    #[test]
    fn a_stream_that_fails_later_is_counted_from_the_start() {
        let request = Request {
            operation: Operation::ReadFromStream,
            address: GuestAddress(0),
            length: 32,
        };
        let cause = VolatileMemoryError::PartialStream {
            expected: 16,
            completed: 3,
            source: std::io::Error::from_raw_os_error(5),
        };
        assert!(matches!(
            request.failed(16, cause),
            Error::Access { completed: 19, source: VolatileMemoryError::IOError(error), .. }
                if error.raw_os_error() == Some(5)
        ));
    }
}
