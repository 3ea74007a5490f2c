// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What can go wrong when volatile memory is accessed.

use crate::copy::Fault;
use crate::fault::last_kind;
use crate::fault_kind::FaultKind;

/// Error of an access to volatile memory. Offsets count from the start of the memory accessed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The access reaches past the end of the memory.
    #[error("offset {addr:#x} is out of bounds")]
    OutOfBounds {
        /// First offset that is out of bounds, or the end of the access.
        addr: usize,
    },
    /// The end of the access is not representable.
    #[error("offset {base:#x} plus {offset:#x} overflows")]
    Overflow {
        /// Where the access starts.
        base: usize,
        /// What was added to it.
        offset: usize,
    },
    /// The elements together exceed the address space.
    #[error("{nelements} elements of {size} bytes exceed the address space")]
    TooBig {
        /// Number of elements.
        nelements: usize,
        /// Size of one element, in bytes.
        size: usize,
    },
    /// The access needs an alignment that its address does not have.
    #[error("host address {addr:#x} is not aligned to {alignment} bytes")]
    Misaligned {
        /// Host address of the access.
        addr: usize,
        /// Required alignment, in bytes.
        alignment: usize,
    },
    /// The memory is mapped read-only and the access would write it.
    #[error("write at offset {addr:#x} of read-only memory")]
    ReadOnly {
        /// Offset of the first byte that would have been written.
        addr: usize,
    },
    /// The memory is mapped without read access, so it cannot be used at all.
    #[error("access at offset {addr:#x} of memory that is mapped without read access")]
    NotReadable {
        /// Offset of the first byte of the access.
        addr: usize,
    },
    /// The memory ended before the whole buffer was moved.
    #[error("{completed} of {expected} bytes moved before the memory ended")]
    PartialBuffer {
        /// Bytes that the access wanted.
        expected: usize,
        /// Bytes that were moved.
        completed: usize,
    },
    /// A page of the memory could not be accessed.
    #[error("memory fault at offset {addr:#x} after {completed} bytes: {kind}")]
    Fault {
        /// Offset of the first byte that could not be accessed.
        addr: usize,
        /// Bytes that were moved before.
        completed: usize,
        /// What the operating system said.
        kind: FaultKind,
    },
    /// A memory gave out a window of another length than it was asked for.
    #[error("memory gave a window of {actual} bytes where {expected} were asked for")]
    SliceLength {
        /// Bytes that were asked for.
        expected: usize,
        /// Bytes that the window has.
        actual: usize,
    },
    /// The stream on the other side failed before any byte was moved.
    #[cfg(feature = "std")]
    #[error("stream failed")]
    IOError(#[from] std::io::Error),
    /// The stream on the other side failed or ended after some bytes were moved.
    #[cfg(feature = "std")]
    #[error("stream failed after {completed} of {expected} bytes")]
    PartialStream {
        /// Bytes that the access wanted.
        expected: usize,
        /// Bytes that were moved.
        completed: usize,
        /// What the stream said.
        source: std::io::Error,
    },
}

impl Error {
    /// Makes the error of an access from offset `start` on that stopped at a page.
    #[cold]
    pub(crate) fn fault(start: usize, fault: Fault) -> Self {
        Self::Fault {
            // Within the memory, so it does not wrap.
            addr: start.wrapping_add(fault.completed),
            completed: fault.completed,
            kind: last_kind(),
        }
    }

    /// Returns how many elements were moved before an access stopped.
    #[cold]
    pub(crate) fn completed_elements<T>(&self) -> usize {
        match self {
            Self::Fault { completed, .. } => completed.checked_div(size_of::<T>()).unwrap_or(0),
            _ => 0,
        }
    }
}

/// Result of an access to volatile memory.
pub type Result<T> = core::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_give_addresses_in_hex_and_sizes_in_decimal() {
        let table = [
            (
                Error::OutOfBounds { addr: 0x1f },
                "offset 0x1f is out of bounds",
            ),
            (
                Error::Overflow {
                    base: 0x10,
                    offset: 0x20,
                },
                "offset 0x10 plus 0x20 overflows",
            ),
            (
                Error::PartialBuffer {
                    expected: 16,
                    completed: 4,
                },
                "4 of 16 bytes moved before the memory ended",
            ),
            (
                Error::ReadOnly { addr: 0x40 },
                "write at offset 0x40 of read-only memory",
            ),
            (
                Error::Fault {
                    addr: 0x1000,
                    completed: 12,
                    kind: FaultKind::System,
                },
                "memory fault at offset 0x1000 after 12 bytes: a system call could not access it",
            ),
        ];
        for (error, message) in table {
            assert_eq!(error.to_string(), message);
        }
    }

    #[cfg(feature = "std")]
    #[test]
    fn a_stream_error_stays_reachable_as_source() {
        use std::error::Error as _;
        let cause = || std::io::Error::from_raw_os_error(5);
        let partial = Error::PartialStream {
            expected: 8,
            completed: 3,
            source: cause(),
        };
        for error in [Error::from(cause()), partial] {
            let source = error.source().expect("a cause");
            let io = source
                .downcast_ref::<std::io::Error>()
                .expect("an io::Error");
            assert_eq!(io.raw_os_error(), Some(5));
        }
    }
}
