// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The suite for the order of data and marks: a write marks after its data is there.
//!
//! A mark that comes first can be harvested before the data: whoever copies the page then copies the old bytes, and nothing
//! says that new ones came. What the suite holds every write of a [`Bytes`] or [`BytesExt`] to:
//!
//! * when the last mark of a byte is made, what the write makes of that byte is in memory;
//! * each byte that was written has been marked, also by a write or stream that fails in the middle.
//!
//! The implementor's memory has to take its dirty bitmap from outside, since the suite's own is what looks. It reads the
//! memory from within [`mark_dirty`](Bitmap::mark_dirty), so a lock that a write holds while it marks must not be needed for a read.

use std::fmt::{self, Debug};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, PoisonError};

use guest_memory_bitmap::{ArcSlice, Bitmap, WithBitmapSlice};
use guest_memory_core::{Bytes, BytesExt};

use crate::config::guarded;
use crate::stream::{Flow, Pipe};

/// Length in bytes of the memory that is written.
const LEN: usize = 256;

/// What looks at the memory for a bitmap: returns `len` bytes from `offset` on, as far as there are.
type Look = Box<dyn Fn(usize, usize) -> Vec<u8> + Send + Sync>;

/// A dirty bitmap that looks at the memory each time something is marked.
#[derive(Clone, Default)]
pub struct Witness {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    look: Mutex<Option<Arc<Look>>>,
    /// What each byte was when it was marked last, for those that were.
    seen: Mutex<Vec<Option<u8>>>,
}

impl Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness").finish_non_exhaustive()
    }
}

impl WithBitmapSlice<'_> for Witness {
    type S = ArcSlice<Self>;
}

impl Bitmap for Witness {
    fn mark_dirty(&self, offset: usize, len: usize) {
        let look = lock(&self.shared.look).clone();
        let bytes = look.map(|look| look(offset, len)).unwrap_or_default();
        let mut seen = lock(&self.shared.seen);
        if seen.len() < offset + bytes.len() {
            seen.resize(offset + bytes.len(), None);
        }
        for (place, byte) in seen[offset..].iter_mut().zip(bytes) {
            *place = Some(byte);
        }
    }

    fn dirty_at(&self, offset: usize) -> bool {
        lock(&self.shared.seen)
            .get(offset)
            .is_some_and(Option::is_some)
    }

    fn slice_at(&self, offset: usize) -> ArcSlice<Self> {
        ArcSlice::new(Arc::new(self.clone()), offset)
    }
}

impl Witness {
    fn forget(&self) {
        lock(&self.shared.seen).clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Checks the memory that `make` returns for a length in bytes and the bitmap that it is to mark; `address` makes an address of an
/// offset.
///
/// # Panics
///
/// When one does not behave; the message names the method and the byte.
///
/// # Examples
///
/// ```
/// use guest_memory_conformance::mark_order;
/// use guest_memory_core::{GuestAddress, MemoryRegionAddress};
/// use guest_memory_mmap::{GuestRegionMmap, MmapRegionBuilder};
///
/// mark_order::check(
///     |len, witness| {
///         let mapping = MmapRegionBuilder::new_with_bitmap(len, witness).build().expect("mapped memory");
///         GuestRegionMmap::new(mapping, GuestAddress(0)).expect("an end by 2^64")
///     },
///     MemoryRegionAddress,
/// );
/// ```
pub fn check<A, T>(
    make: impl Fn(usize, Witness) -> T,
    address: impl Fn(u64) -> A + Copy + Send + Sync + 'static,
) where
    T: BytesExt<A> + Send + Sync + 'static,
    T::E: Debug,
{
    run(&make, address, &plain_writes());
    run(&make, address, &extended_writes());
}

/// Checks memory that has the methods of [`Bytes`] alone, as [`check`] does.
///
/// # Panics
///
/// As [`check`].
///
/// # Examples
///
/// ```
/// use guest_memory_conformance::mark_order;
/// use guest_memory_core::GuestAddress;
/// use guest_memory_mmap::{GuestMemoryMmap, GuestRegionMmap, MmapRegionBuilder};
///
/// mark_order::check_bytes(
///     |len, witness| {
///         let mapping = MmapRegionBuilder::new_with_bitmap(len, witness).build().expect("mapped memory");
///         let region = GuestRegionMmap::new(mapping, GuestAddress(0)).expect("an end by 2^64");
///         GuestMemoryMmap::from_regions(vec![region]).expect("one region")
///     },
///     GuestAddress,
/// );
/// ```
pub fn check_bytes<A, T>(
    make: impl Fn(usize, Witness) -> T,
    address: impl Fn(u64) -> A + Copy + Send + Sync + 'static,
) where
    T: Bytes<A> + Send + Sync + 'static,
    T::E: Debug,
{
    run(&make, address, &plain_writes());
}

/// A way to write: its name, and what it does at an address of 16.
type Write<T, A> = (&'static str, fn(&T, &dyn Fn(u64) -> A));

const AT: u64 = 16;

fn plain_writes<A, T: Bytes<A>>() -> Vec<Write<T, A>> {
    vec![
        ("write", |memory, at| {
            ignore(memory.write(&[7; 30], at(AT + 1)))
        }),
        ("write cut at the end", |memory, at| {
            ignore(memory.write(&[7; 30], at(LEN as u64 - 5)));
        }),
        ("write_slice", |memory, at| {
            ignore(memory.write_slice(&[7; 100], at(AT)))
        }),
        ("write_slice that fails at the end", |memory, at| {
            ignore(memory.write_slice(&[7; 30], at(LEN as u64 - 9)));
        }),
        ("write_obj", |memory, at| {
            ignore(memory.write_obj(u64::MAX, at(AT)))
        }),
        ("write_obj, not aligned", |memory, at| {
            ignore(memory.write_obj(u32::MAX, at(AT + 1)));
        }),
        ("store", |memory, at| {
            ignore(memory.store(u32::MAX, at(AT), SeqCst))
        }),
        ("read_volatile_from", |memory, at| {
            ignore(memory.read_volatile_from(at(AT), &mut &[7u8; 50][..], 40));
        }),
        ("read_exact_volatile_from", |memory, at| {
            let mut source = Pipe::new(vec![7; 50], Flow::Dribble(9));
            ignore(memory.read_exact_volatile_from(at(AT), &mut source, 40));
        }),
        (
            "read_exact_volatile_from a source that breaks",
            |memory, at| {
                let mut source = Pipe::new(vec![7; 50], Flow::FailAfter(21));
                ignore(memory.read_exact_volatile_from(at(AT), &mut source, 40));
            },
        ),
    ]
}

fn extended_writes<A, T: BytesExt<A>>() -> Vec<Write<T, A>> {
    vec![
        ("compare_exchange", |memory, at| {
            ignore(memory.compare_exchange(0u32, 7, at(AT), SeqCst, SeqCst));
        }),
        ("swap", |memory, at| {
            ignore(memory.swap(7u64, at(AT), SeqCst))
        }),
        ("fetch_add", |memory, at| {
            ignore(memory.fetch_add(7u16, at(AT), SeqCst))
        }),
        ("fetch_and", |memory, at| {
            ignore(memory.store(u32::MAX, at(AT), SeqCst));
            ignore(memory.fetch_and(7u32, at(AT), SeqCst));
        }),
        ("fetch_or", |memory, at| {
            ignore(memory.fetch_or(7u8, at(AT), SeqCst))
        }),
        ("fetch_xor", |memory, at| {
            ignore(memory.fetch_xor(7u32, at(AT), SeqCst))
        }),
        ("fill", |memory, at| ignore(memory.fill(7, at(AT), 99))),
        ("fill that fails at the end", |memory, at| {
            ignore(memory.fill(7, at(LEN as u64 - 9), 99));
        }),
        ("zero", |memory, at| {
            ignore(memory.fill(7, at(AT), 99));
            ignore(memory.zero(at(AT + 3), 90));
        }),
        ("store_le", |memory, at| {
            ignore(memory.store_le(7u32, at(AT), SeqCst))
        }),
    ]
}

/// What a method returns is for other suites to check.
fn ignore<T, E>(_: Result<T, E>) {}

fn run<A, T>(
    make: &impl Fn(usize, Witness) -> T,
    address: impl Fn(u64) -> A + Copy + Send + Sync + 'static,
    writes: &[Write<T, A>],
) where
    T: Bytes<A> + Send + Sync + 'static,
    T::E: Debug,
{
    for (name, write) in writes {
        if let Err(reason) = guarded(name, || one(make, address, write)) {
            panic!("mark order conformance: {reason}");
        }
    }
}

fn one<A, T>(
    make: &impl Fn(usize, Witness) -> T,
    address: impl Fn(u64) -> A + Copy + Send + Sync + 'static,
    write: &fn(&T, &dyn Fn(u64) -> A),
) -> Result<(), String>
where
    T: Bytes<A> + Send + Sync + 'static,
    T::E: Debug,
{
    let witness = Witness::default();
    let memory = Arc::new(make(LEN, witness.clone()));
    // A weak one: the memory holds the witness.
    let seen_by_marks = Arc::downgrade(&memory);
    let look: Look = Box::new(move |offset, len| {
        let Some(memory) = seen_by_marks.upgrade() else {
            return Vec::new();
        };
        let mut bytes = vec![0; len.min(LEN.saturating_sub(offset))];
        // What cannot be read does not equal what was written, and is told as that.
        let read = memory.read(&mut bytes, address(offset as u64));
        bytes.truncate(read.unwrap_or(0));
        bytes
    });
    *lock(&witness.shared.look) = Some(Arc::new(look));
    witness.forget();

    let before = all_of(&*memory, address)?;
    write(&memory, &address);
    let after = all_of(&*memory, address)?;
    if before == after {
        return Err("nothing was written, expected some bytes".into());
    }
    let seen = lock(&witness.shared.seen).clone();
    for (offset, (before, after)) in before.iter().zip(&after).enumerate() {
        match seen.get(offset).copied().flatten() {
            Some(byte) if byte != *after => {
                return Err(format!(
                    "the byte at offset {offset} was {byte:#04x} when it was marked last, expected {after:#04x}: \
                     the mark came before the data"
                ));
            }
            None if before != after => {
                return Err(format!(
                    "the byte at offset {offset} was written, expected a mark"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn all_of<A, T>(memory: &T, address: impl Fn(u64) -> A) -> Result<Vec<u8>, String>
where
    T: Bytes<A>,
    T::E: Debug,
{
    let mut bytes = vec![0; LEN];
    memory
        .read_slice(&mut bytes, address(0))
        .map_err(|error| format!("reading it all: {error:?}"))?;
    Ok(bytes)
}
