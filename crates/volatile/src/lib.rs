// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Race-sound typed access to memory that somebody else writes at the same time.
//!
//! Guest memory is never ours alone: a virtual CPU, another process or a device may write any byte
//! at any moment. This crate is the one place that touches such bytes. It hands out
//! [`VolatileSlice`]s, never Rust references, and moves data through one copy engine, so that a
//! race yields old or new data but no undefined behaviour ([one case](#mixed-sizes) is open).
//!
//! # Example
//!
//! ```
//! use guest_memory_volatile::{VolatileMemory, VolatileSlice};
//!
//! # fn main() -> Result<(), guest_memory_volatile::VolatileMemoryError> {
//! let mut backing = [0u8; 64];
//! let memory = VolatileSlice::from(backing.as_mut_slice());
//!
//! memory.write_obj(0xfeed_u16, 8)?;
//! assert_eq!(memory.read_obj::<u16>(8)?, 0xfeed);
//!
//! let counter = memory.get_ref::<u32>(16)?;
//! counter.store(7);
//! assert_eq!(counter.load(), 7);
//!
//! assert!(memory.write_obj(1u64, 60).is_err());
//! # Ok(())
//! # }
//! ```
//!
//! # Main types
//!
//! * [`VolatileSlice`]: a window on guest bytes, with a dirty bitmap; [`VolatileRef`] and
//!   [`VolatileArrayRef`] are its typed forms.
//! * [`ByteValued`]: types that are plain bytes; [`endian`] has integers of a fixed byte order.
#![cfg_attr(
    feature = "std",
    doc = "* [`ReadVolatile`], [`WriteVolatile`]: files, sockets and buffers as source and destination, for",
    doc = "  one slice or many at once; [`ReadVolatileAt`], [`WriteVolatileAt`]: files at an offset."
)]
//!
//! # Valid guest range
//!
//! The contract that every unsafe constructor of this workspace refers to. A range `[addr, addr +
//! len)` is a *valid guest range* for a lifetime `'a` if, throughout `'a`:
//!
//! 1. its bytes stay mapped in this process, readable, and writable unless the slice is made
//!    read-only before anything is written through it;
//! 2. its bytes are initialised (fresh pages of the operating system are);
//! 3. no Rust reference covers any of them, except references to atomics and the references that
//!    the caller of an `unsafe` function of this workspace vouched for;
//! 4. `len` is at most `isize::MAX` and `addr + len` does not wrap.
//!
//! Others *may* write those bytes at any time: virtual CPUs, other processes, other threads through
//! this crate. What that can cost is stale or mixed data where a method says so, and nothing else.
//! An empty range is valid at every address.
//!
//! # Guarantees
//!
//! * **Width and tearing.** An access of 1, 2, 4 or 8 bytes whose host address is aligned to its size is one access of
//!   that size: it is never torn, whatever the alignment of the buffer on our side. 16 bytes aligned to 8 are two of 8.
//!   Anything longer or not aligned is cut where aligned words of 8 bytes begin, so each aligned element of up to 8 bytes
//!   is moved whole, but the copy as such is not. (On x86-64 several words move in one vector. The architecture promises
//!   that to be whole for 16 aligned bytes, for single words in wider ones the processors in use keep to it, and tests look
//!   for torn words.)
//! * **Ordering.** Plain reads, writes and copies are not ordered against other accesses. [`VolatileSlice::load`] and
//!   [`VolatileSlice::store`] are, as their ordering says; [`compare_exchange`](VolatileSlice::compare_exchange),
//!   [`swap`](VolatileSlice::swap) and the `fetch_` methods are sequentially consistent.
//! * Whatever is written through this crate's methods is marked in the slice's bitmap, after the
//!   data. What is written through a raw pointer or a reference that was handed out is not seen.
//! * Out of bounds, overflow, misalignment and writes to read-only memory are errors. A page that cannot be accessed is one
//!   as well with the feature `fault-guard` and its handlers installed; else it is the operating system's signal.
//! * Nothing panics, whatever offset, length or count is given, unless a method says so.
//! * A stream access says how many bytes moved, also when it fails, and goes on at the byte after the
//!   last one. Several slices are one system call and no allocation.
//!
//! # Mixed sizes
//!
//! On x86-64 and aarch64 every access is assembly, which the compiler cannot look into: what a race yields is the
//! machine's affair, and any mixture of sizes is defined there. Elsewhere accesses are atomics of the language. Its memory
//! model does not define atomic accesses of different sizes that race on the same bytes within one process, say a `u64`
//! written by one thread and its lower half read by another, and the engine makes them if the program's own threads do.
//! The same holds on every target for a reference from [`get_atomic_ref`](VolatileMemory::get_atomic_ref).
//!
//! # What it does not do
//!
//! It knows no guest addresses and maps no memory. It does not find out whether a range is valid: the unsafe constructors take the
//! caller's word. It gives no reference to guest bytes, unless the caller vouches for exclusive use or it is one to an atomic. It
//! orders no plain access, and holds no lock: who needs several writes to be seen together has to agree on that with the guest.
//!
//! # Cost
//!
//! An access of up to 8 bytes is a bounds check and the access itself. A copy of some words stands where it is called; long
//! ones run at `memcpy`'s speed. The fault guard costs a test of a register per access of up to 16 bytes, whether its
//! handlers are installed or not, and nothing in a longer copy.
//!
//! # Features
//!
//! * `std` (default): streams and I/O errors. Without it the crate is `no_std`.
//! * `fault-guard`: the module `fault`, whose handlers turn a page that cannot be accessed into an error (Linux on x86-64
//!   and aarch64). Without it such a page is the operating system's signal.
//! * `zerocopy`: [`ByteValued`] for types with zerocopy's derives, through a wrapper named `Plain`.

#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

#[cfg(not(target_has_atomic = "64"))]
compile_error!("guest memory needs a target with atomics of 8 bytes");

#[cfg(test)]
mod aligned;
mod array;
mod atomic_access;
mod atomic_integer;
mod byte_valued;
mod copy;
pub mod endian;
mod error;
#[cfg(feature = "fault-guard")]
pub mod fault;
#[cfg(not(feature = "fault-guard"))]
#[path = "fault/absent.rs"]
mod fault;
mod fault_kind;
#[cfg(feature = "std")]
pub mod io;
mod memory;
#[cfg(feature = "zerocopy")]
mod plain;
mod ptr_guard;
mod reference;
mod reference_atomics;
mod slice;
mod slice_atomics;
mod slice_bytes;
mod slice_endian;
mod slice_peek;
mod span;

/// Types that are nothing but their bytes; all of them are at the crate's root too.
pub mod bytes {
    pub use crate::atomic_access::AtomicAccess;
    pub use crate::atomic_integer::AtomicInteger;
    pub use crate::byte_valued::ByteValued;
    #[cfg(feature = "zerocopy")]
    pub use crate::plain::Plain;
    pub use crate::slice_endian::LittleEndian;
}

/// Windows on memory that others write, and their errors; all of them are at the crate's root too, the errors by longer names.
pub mod volatile_memory {
    pub use crate::array::VolatileArrayRef;
    pub use crate::error::{Error, Result};
    pub use crate::fault_kind::FaultKind;
    pub use crate::memory::{VolatileMemory, compute_offset};
    pub use crate::ptr_guard::{PtrGuard, PtrGuardMut};
    pub use crate::reference::VolatileRef;
    pub use crate::slice::{MmapInfo, VolatileSlice};
}

#[doc(inline)]
pub use bytes::*;
#[doc(inline)]
pub use endian::{Be16, Be32, Be64, BeSize, Le16, Le32, Le64, LeSize};
#[cfg(feature = "std")]
#[doc(inline)]
pub use io::{ReadVolatile, ReadVolatileAt, WriteVolatile, WriteVolatileAt};
#[doc(inline)]
pub use volatile_memory::{
    Error as VolatileMemoryError, FaultKind, MmapInfo, PtrGuard, PtrGuardMut,
    Result as VolatileMemoryResult, VolatileArrayRef, VolatileMemory, VolatileRef, VolatileSlice,
    compute_offset,
};
